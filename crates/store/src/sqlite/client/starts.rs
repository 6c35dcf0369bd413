//! Starting instances from a client process: the owner decides, or without one the client, by what the store and the inbox
//! say while nobody can change either.

use crate::error::StoreError;
use crate::sqlite::client::{ClientStore, Outcome, lost};
use crate::sqlite::inbox::{Body, InboxTransaction, Replied, Reply, Request};
use crate::sqlite::read;
use crate::start::{IfExists, StartOutcome, StartRequest, decide_starts, exists};

impl ClientStore {
    /// Starts instances, all of them or none.
    pub fn start(&self, requests: &[StartRequest], if_exists: IfExists) -> Result<Vec<StartOutcome>, StoreError> {
        if requests.is_empty() {
            return Ok(Vec::new());
        }
        let body = Body::Start { requests: requests.to_vec(), if_exists };
        let submitted = self.write(|draft| {
            if self.has_owner()? {
                return Ok(Err(draft.append(&body, true)?));
            }
            let outcomes = self.decide_here(draft, requests, if_exists, None)?;
            if let Some(accepted) = accepted(requests, &outcomes) {
                draft.append(&accepted, false)?;
            }
            Ok(Ok(outcomes))
        })?;
        let position = match submitted {
            Ok(outcomes) => return Ok(outcomes),
            Err(position) => position,
        };
        loop {
            match self.wait(position)? {
                Outcome::Answered(Ok(Reply::Started(outcomes))) => return Ok(outcomes),
                Outcome::Answered(Ok(_)) => return self.believe(requests, if_exists),
                Outcome::Answered(Err(error)) => return Err(error),
                Outcome::Deserted => {
                    if let Some(outcomes) = self.decide(position, requests, if_exists)? {
                        return Ok(outcomes);
                    }
                }
            }
        }
    }

    /// Decides about a start that an owner has left behind; `None` when there is a new owner to do so.
    fn decide(
        &self,
        position: i64,
        requests: &[StartRequest],
        if_exists: IfExists,
    ) -> Result<Option<Vec<StartOutcome>>, StoreError> {
        let decided = self.write(|draft| {
            if self.has_owner()? {
                return Ok(None);
            }
            match draft.replied(position)? {
                Replied::Answered(Ok(Reply::Started(outcomes))) => return Ok(Some(Ok(outcomes))),
                Replied::Answered(Err(error)) => return Ok(Some(Err(error))),
                Replied::Waiting if self.done(draft)? < position => {}
                // The owner carried it out, and ended before it could say so.
                _ => {
                    draft.remove(position)?;
                    return Ok(Some(self.believe(requests, if_exists)));
                }
            }
            let decided = self.decide_here(draft, requests, if_exists, Some(position));
            match decided.as_ref().ok().and_then(|outcomes| accepted(requests, outcomes)) {
                Some(accepted) => draft.replace(position, &accepted)?,
                None => draft.remove(position)?,
            }
            Ok(Some(decided))
        })?;
        decided.transpose()
    }

    /// What a start came to that was carried out, but whose answer was lost: the instances say which orchestration they run.
    fn believe(&self, requests: &[StartRequest], if_exists: IfExists) -> Result<Vec<StartOutcome>, StoreError> {
        let carried_out = if if_exists == IfExists::Attach { StartOutcome::Attached } else { StartOutcome::Started };
        requests
            .iter()
            .map(|request| match self.running(&request.instance)? {
                Some(orchestration) if orchestration == request.orchestration => Ok(carried_out),
                Some(orchestration) => Err(exists(&request.instance, &orchestration)),
                None => Err(lost("started")),
            })
            .collect()
    }

    /// Whether each instance can be started, by what is in the store and what waits to come into it.
    fn decide_here(
        &self,
        draft: &InboxTransaction<'_>,
        requests: &[StartRequest],
        if_exists: IfExists,
        but: Option<i64>,
    ) -> Result<Vec<StartOutcome>, StoreError> {
        let done = self.done(draft)?;
        decide_starts(requests.iter().map(StartRequest::names), if_exists, |id| match self.running(id)? {
            None => draft.starting(id, done, but),
            running => Ok(running),
        })
    }

    /// The orchestration that an instance runs, or that a start in the store will run.
    pub fn running(&self, id: &str) -> Result<Option<String>, StoreError> {
        let status = self.readers.read("start_orchestration", |connection| read::status(connection, id))?;
        Ok(status.and_then(|status| status.orchestration.or(status.starting)))
    }

    /// As [`Self::running`], or that a start in the inbox will run.
    pub fn expected(&self, id: &str) -> Result<Option<String>, StoreError> {
        if let Some(orchestration) = self.running(id)? {
            return Ok(Some(orchestration));
        }
        let waiting = self.write(|draft| draft.starting(id, self.done(draft)?, None))?;
        // It may have come into the store between the two looks.
        if waiting.is_some() { Ok(waiting) } else { self.running(id) }
    }

    /// How many starts and messages have not come into the store yet.
    pub fn waiting_messages(&self) -> Result<usize, StoreError> {
        let mut position = self.write(|draft| self.done(draft))?;
        let mut waiting = 0;
        loop {
            let batch = self.inbox.lock().after(position)?;
            let Some((last, _)) = batch.last() else { return Ok(waiting) };
            position = *last;
            waiting +=
                batch.iter().filter_map(|(_, request)| request.as_ref().ok()).map(Request::messages).sum::<usize>();
        }
    }

    /// Up to where the store has done what the inbox asks for.
    fn done(&self, draft: &InboxTransaction<'_>) -> Result<i64, StoreError> {
        let name = draft.name()?;
        Ok(self.readers.read("read_inbox_position", |connection| read::inbox_position(connection, &name))?)
    }
}

/// What is left to do of a start that was judged here. It cannot fail any more, and must not when it is carried out.
fn accepted(requests: &[StartRequest], outcomes: &[StartOutcome]) -> Option<Body> {
    let started = requests.iter().zip(outcomes).filter(|(_, outcome)| **outcome == StartOutcome::Started);
    let requests: Vec<_> = started.map(|(request, _)| request.clone()).collect();
    (!requests.is_empty()).then_some(Body::Start { requests, if_exists: IfExists::Attach })
}
