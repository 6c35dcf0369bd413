//! Starts instances from a client process. The owner decides whether a start is possible. Without an owner, the client
//! decides from the store and the inbox, while it prevents changes to both.

use std::collections::HashSet;
use std::sync::Arc;

use crate::error::StoreError;
use crate::listing::{InstanceCount, InstanceQuery, InstanceSummary, PageRequest};
use crate::live::LiveState;
use crate::sqlite::client::{ANSWER_TIMEOUT, ClientStore, WaitOutcome, lost};
use crate::sqlite::inbox::{Body, InboxReply, InboxTransaction, Request, RequestState};
use crate::sqlite::read;
use crate::start::{End, ExistingInstance, IfExists, StartOutcome, StartRequest, WaitingStart, decide_starts, exists};
use crate::types::InstanceState;
use crate::work_item::target;

const READ: &str = "get_instance_info";

impl ClientStore {
    /// Starts instances, all of them or none.
    pub fn start(&self, requests: &[StartRequest], if_exists: IfExists) -> Result<Vec<StartOutcome>, StoreError> {
        if requests.is_empty() {
            return Ok(Vec::new());
        }
        let body = Body::Start { requests: requests.to_vec(), if_exists };
        let submitted = self.write(|transaction| {
            if self.has_owner()? {
                return Ok(Err(transaction.append(&body, true)?));
            }
            let outcomes = self.decide_starts(transaction, requests, if_exists, None)?;
            if let Some(started) = started_requests(requests, &outcomes, if_exists) {
                transaction.append(&started, false)?;
            }
            Ok(Ok(outcomes))
        })?;
        let position = match submitted {
            Ok(outcomes) => return self.after_restarts(outcomes),
            Err(position) => position,
        };
        loop {
            match self.wait(position, ANSWER_TIMEOUT)? {
                WaitOutcome::Answered(Ok(InboxReply::Started(outcomes))) => return Ok(outcomes),
                WaitOutcome::Answered(Ok(_)) => return self.infer_outcomes(requests, if_exists),
                WaitOutcome::Answered(Err(error)) => return Err(error),
                WaitOutcome::OwnerEnded => {
                    if let Some(outcomes) = self.decide_abandoned_start(position, requests, if_exists)? {
                        return self.after_restarts(outcomes);
                    }
                }
            }
        }
    }

    /// Returns when the restarts that this client has decided are in the store: an instance that has ended would otherwise
    /// still show its end.
    fn after_restarts(&self, outcomes: Vec<StartOutcome>) -> Result<Vec<StartOutcome>, StoreError> {
        if outcomes.contains(&StartOutcome::Restarted) {
            self.catch_up()?;
        }
        Ok(outcomes)
    }

    /// Decides about a start that an owner left undecided. `None` if there is a new owner, which decides.
    fn decide_abandoned_start(
        &self,
        position: i64,
        requests: &[StartRequest],
        if_exists: IfExists,
    ) -> Result<Option<Vec<StartOutcome>>, StoreError> {
        let decided = self.write(|transaction| {
            if self.has_owner()? {
                return Ok(None);
            }
            match transaction.request_state(position)? {
                RequestState::Answered(Ok(InboxReply::Started(outcomes))) => return Ok(Some(Ok(outcomes))),
                RequestState::Answered(Err(error)) => return Ok(Some(Err(error))),
                RequestState::Waiting if self.completed_position(transaction)? < position => {}
                // The owner carried out the start, and ended before it could answer.
                _ => {
                    transaction.remove(position)?;
                    return Ok(Some(self.infer_outcomes(requests, if_exists)));
                }
            }
            let decision = self.decide_starts(transaction, requests, if_exists, Some(position));
            match decision.as_ref().ok().and_then(|outcomes| started_requests(requests, outcomes, if_exists)) {
                Some(started) => transaction.replace(position, &started)?,
                None => transaction.remove(position)?,
            }
            Ok(Some(decision))
        })?;
        decided.transpose()
    }

    /// The outcomes of a start that was carried out, but whose answer was lost. The orchestrations that the instances
    /// run show the outcomes.
    fn infer_outcomes(&self, requests: &[StartRequest], if_exists: IfExists) -> Result<Vec<StartOutcome>, StoreError> {
        let carried_out = if if_exists == IfExists::Raise { StartOutcome::Started } else { StartOutcome::Attached };
        requests
            .iter()
            .map(|request| match self.running(&request.instance)? {
                Some(orchestration) if orchestration == request.orchestration => Ok(carried_out),
                Some(orchestration) => Err(exists(&request.instance, &orchestration)),
                None => Err(lost("started")),
            })
            .collect()
    }

    /// Decides whether each instance can be started, from the store and from the requests in the inbox. It ignores the
    /// request at position `except`.
    fn decide_starts(
        &self,
        transaction: &InboxTransaction<'_>,
        requests: &[StartRequest],
        if_exists: IfExists,
        except: Option<i64>,
    ) -> Result<Vec<StartOutcome>, StoreError> {
        let completed = self.completed_position(transaction)?;
        decide_starts(requests.iter().map(StartRequest::names), if_exists, |id| match self.existing(id)? {
            None => Ok(transaction.starting(id, completed, except)?.map(ExistingInstance::running)),
            existing => Ok(existing),
        })
    }

    /// The instance, if the store has it.
    fn existing(&self, id: &str) -> Result<Option<ExistingInstance<String>>, StoreError> {
        let status = self.readers.read("start_orchestration", |connection| read::status(connection, id))?;
        Ok(status.and_then(|status| {
            let end = status.status.as_deref().and_then(End::of);
            Some(ExistingInstance { orchestration: status.orchestration.or(status.starting)?, end })
        }))
    }

    /// The orchestration that an instance runs, or that a waiting start in the store will run.
    pub fn running(&self, id: &str) -> Result<Option<String>, StoreError> {
        let status = self.readers.read("start_orchestration", |connection| read::status(connection, id))?;
        Ok(status.and_then(|status| status.orchestration.or(status.starting)))
    }

    /// As [`Self::running`], and also the orchestration that a start in the inbox will run.
    pub fn running_or_requested(&self, id: &str) -> Result<Option<String>, StoreError> {
        if let Some(orchestration) = self.running(id)? {
            return Ok(Some(orchestration));
        }
        let waiting =
            self.write(|transaction| transaction.starting(id, self.completed_position(transaction)?, None))?;
        // The owner may have moved the start into the store between the two reads.
        if waiting.is_some() { Ok(waiting) } else { self.running(id) }
    }

    /// The state of an instance whose start is in the inbox, or was in it a moment ago.
    pub fn requested_state(&self, id: &str) -> Result<Option<InstanceState>, StoreError> {
        if self.requested_start(id)?.is_some() {
            return Ok(Some(InstanceState::starting()));
        }
        // The owner may have moved the start into the store since the store was read.
        Ok(self.readers.read(READ, |connection| read::instance_state(connection, id))?)
    }

    /// The start of an instance that no turn has read yet, from the store or the inbox.
    pub fn waiting_start(&self, id: &str) -> Result<Option<WaitingStart>, StoreError> {
        let in_store = || self.readers.read(READ, |connection| read::waiting_start(connection, id));
        if let Some(start) = in_store()? {
            return Ok(Some(start));
        }
        if self.running(id)?.is_some() {
            return Ok(None);
        }
        let requested = self.requested_start(id)?;
        // The owner may have moved the start into the store between the two reads.
        if requested.is_some() { Ok(requested) } else { Ok(in_store()?) }
    }

    fn requested_start(&self, id: &str) -> Result<Option<WaitingStart>, StoreError> {
        let completed = self.completed_in_inbox()?;
        self.inbox.lock().requested_start(id, completed)
    }

    /// The ids of the instances whose starts no turn has read yet, from the inbox and the store.
    pub fn waiting_starts(&self) -> Result<Vec<String>, StoreError> {
        let completed = self.completed_in_inbox()?;
        let requested = self.inbox.lock().requested_starts(completed)?;
        // A start moves from the inbox into the store, so the store is read later.
        let mut ids = self.readers.read(READ, read::waiting_starts)?;
        let known: HashSet<String> = ids.iter().cloned().collect();
        for id in requested.into_iter().filter(|id| !known.contains(id)) {
            if self.readers.read(READ, |connection| read::status(connection, &id))?.is_none_or(|row| !row.is_known()) {
                ids.push(id);
            }
        }
        Ok(ids)
    }

    /// The summaries of a page, with the starts that were in the inbox.
    pub fn page(&self, request: &PageRequest) -> Result<Vec<InstanceSummary>, StoreError> {
        self.take_in_starts()?;
        Ok(self.readers.read("list", |connection| read::listing::page(connection, request))?)
    }

    /// How many instances of each name have each status, with the starts that were in the inbox.
    pub fn counts(&self, query: &InstanceQuery) -> Result<Vec<InstanceCount>, StoreError> {
        self.take_in_starts()?;
        Ok(self.readers.read("count", |connection| read::listing::counts(connection, query))?)
    }

    /// Returns when the starts of the inbox are in the store.
    fn take_in_starts(&self) -> Result<(), StoreError> {
        let completed = self.completed_in_inbox()?;
        let is_empty = self.inbox.lock().requested_starts(completed)?.is_empty();
        if is_empty { Ok(()) } else { self.catch_up() }
    }

    pub fn count_waiting_starts(&self) -> Result<u64, StoreError> {
        Ok(self.waiting_starts()?.len() as u64)
    }

    /// The sub-orchestrations of `parents` whose starts no turn has read yet. They are in the store, since a turn makes
    /// them.
    pub fn waiting_children(&self, parents: &[String]) -> Result<Vec<String>, StoreError> {
        Ok(self.readers.read(READ, |connection| read::waiting_children(connection, parents))?)
    }

    fn completed_in_inbox(&self) -> Result<i64, StoreError> {
        let name = Arc::clone(self.inbox.lock().name());
        Ok(self.readers.read(READ, |connection| read::inbox_position(connection, &name))?)
    }

    /// How many starts and messages are in the inbox and not yet in the store.
    pub fn waiting_messages(&self) -> Result<usize, StoreError> {
        let mut position = self.write(|transaction| self.completed_position(transaction))?;
        let mut waiting = 0;
        loop {
            let batch = self.inbox.lock().after(position)?;
            let Some((last, _)) = batch.last() else { return Ok(waiting) };
            position = *last;
            waiting +=
                batch.iter().filter_map(|(_, request)| request.as_ref().ok()).map(Request::messages).sum::<usize>();
        }
    }

    /// Adds the messages to an instance that are in the inbox and not yet in the store.
    pub fn add_requested_messages(&self, id: &str, live: &mut LiveState) -> Result<(), StoreError> {
        let mut position = self.completed_in_inbox()?;
        loop {
            let batch = self.inbox.lock().after(position)?;
            let Some((last, _)) = batch.last() else { return Ok(()) };
            position = *last;
            let bodies = batch.into_iter().filter_map(|(_, request)| Some(request.ok()?.body));
            for item in bodies.filter_map(Body::into_messages).flatten().filter(|item| target(item) == id) {
                live.add(&item);
            }
        }
    }

    /// The position of the last request that the owner has carried out.
    fn completed_position(&self, transaction: &InboxTransaction<'_>) -> Result<i64, StoreError> {
        let name = transaction.name()?;
        Ok(self.readers.read("read_inbox_position", |connection| read::inbox_position(connection, &name))?)
    }
}

/// The request for the instances that this client decided to start. It attaches to instances that run, so that it
/// cannot fail when the owner carries it out.
fn started_requests(requests: &[StartRequest], outcomes: &[StartOutcome], if_exists: IfExists) -> Option<Body> {
    let if_exists = if if_exists == IfExists::Raise { IfExists::Attach } else { if_exists };
    let started = requests.iter().zip(outcomes).filter(|(_, outcome)| **outcome != StartOutcome::Attached);
    let requests: Vec<_> = started.map(|(request, _)| request.clone()).collect();
    (!requests.is_empty()).then_some(Body::Start { requests, if_exists })
}
