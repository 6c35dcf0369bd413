//! Reads the requests in an inbox for the owner, and writes the answers.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use crate::error::StoreError;
use crate::sqlite::file::watcher::{EventCount, FileWatcher, PollIntervals};
use crate::sqlite::inbox::database::Inbox;
use crate::sqlite::inbox::request::{InboxAnswer, InboxReply, Request};
use crate::sqlite::inbox::transaction::InboxTransaction;

/// The slow polling finds a request whose notice is missing. An idle owner looks four times a second, which costs
/// almost nothing.
const INTERVALS: PollIntervals =
    PollIntervals { with_notices: Duration::from_millis(250), without_notices: Duration::from_millis(5) };

/// Reads the requests of client processes in order, and answers them.
pub struct InboxConsumer {
    store: PathBuf,
    current: Mutex<CurrentInbox>,
    /// Answers that are not on the disk yet.
    unwritten: Mutex<Vec<(i64, InboxAnswer)>>,
    watcher: FileWatcher,
    events: Arc<EventCount>,
    stopped: AtomicBool,
    backlog: i64,
}

struct CurrentInbox {
    inbox: Inbox,
    /// The position of the last request that was handed out.
    position: i64,
}

impl InboxConsumer {
    /// Opens the inbox of the store at `store`. This process must be the owner. `position_of` returns the position up
    /// to which the store has carried out the inbox of the given name.
    ///
    /// A client that sees no owner may acknowledge a request itself. It does so before this function returns, so such
    /// requests are part of the [`Self::backlog`]. The owner must carry them out before it does anything else with the
    /// store, since the client has promised their outcome.
    pub fn new(store: &Path, position_of: impl FnOnce(&str) -> Result<i64, StoreError>) -> Result<Self, StoreError> {
        let mut inbox = Inbox::open(store)?;
        let position = position_of(inbox.name())?;
        let backlog = inbox.write(|transaction| {
            answer_completed(transaction, position)?;
            transaction.last_position()
        })?;
        let events = Arc::new(EventCount::default());
        let watcher = FileWatcher::of(inbox.file(), INTERVALS, Arc::clone(&events));
        Ok(Self {
            store: store.to_owned(),
            current: Mutex::new(CurrentInbox { inbox, position }),
            unwritten: Mutex::default(),
            watcher,
            events,
            stopped: AtomicBool::new(false),
            backlog,
        })
    }

    /// The position of the last request that was in the inbox when this process became the owner; 0 without requests.
    pub fn backlog(&self) -> i64 {
        self.backlog
    }

    /// Waits for requests. Returns an empty batch after [`Self::stop`]. Each request is handed out once, and the caller
    /// must answer it.
    pub fn next_batch(&self) -> Result<Vec<Request>, StoreError> {
        loop {
            let seen = self.events.current();
            if self.stopped.load(Ordering::Acquire) {
                return Ok(Vec::new());
            }
            self.write_answers();
            let batch = self.take()?;
            if !batch.is_empty() {
                return Ok(batch);
            }
            self.watcher.wait(seen);
        }
    }

    /// The requests since the last batch, without waiting.
    pub fn take(&self) -> Result<Vec<Request>, StoreError> {
        let (mut batch, mut undecodable) = (Vec::new(), Vec::new());
        let mut current = self.current.lock();
        current.reopen_if_replaced(&self.store)?;
        for (position, request) in current.inbox.after(current.position)? {
            current.position = position;
            match request {
                Ok(request) => batch.push(request),
                Err(error) => undecodable.push((position, Err(error))),
            }
        }
        drop(current);
        if !undecodable.is_empty() {
            self.reply(undecodable);
        }
        Ok(batch)
    }

    /// Removes requests that were carried out, and writes the answers that clients wait for. If the disk does not
    /// accept the write now, the consumer tries again later.
    ///
    /// The effects of a request and its position must already be in the store's file.
    pub fn reply(&self, answers: Vec<(i64, InboxAnswer)>) {
        self.unwritten.lock().extend(answers);
        self.write_answers();
    }

    /// Ends [`Self::next_batch`], even while it waits.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Release);
        self.events.increment();
    }

    pub fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Acquire)
    }

    fn write_answers(&self) {
        let mut unwritten = self.unwritten.lock();
        if unwritten.is_empty() {
            return;
        }
        let written = self.current.lock().inbox.write(|transaction| {
            transaction.delete_old_replies()?;
            unwritten.iter().try_for_each(|(position, answer)| transaction.answer(*position, answer))
        });
        match written {
            Ok(()) => unwritten.clear(),
            Err(error) => {
                tracing::warn!(
                    target: "duroxide::store",
                    "the answers to {} requests could not be written yet: {error}",
                    unwritten.len()
                );
            }
        }
    }
}

impl CurrentInbox {
    /// Opens the file that clients find now, if the file that is open was deleted.
    fn reopen_if_replaced(&mut self, store: &Path) -> Result<(), StoreError> {
        if self.inbox.is_in_place() {
            return Ok(());
        }
        let inbox = Inbox::open(store)?;
        // A new inbox has a new name, and no request in it was carried out yet.
        let position = if inbox.name() == self.inbox.name() { self.position } else { 0 };
        *self = Self { inbox, position };
        Ok(())
    }
}

/// Answers and removes the requests up to `position`, which an earlier owner carried out and did not answer.
fn answer_completed(transaction: &InboxTransaction<'_>, position: i64) -> Result<(), StoreError> {
    transaction.delete_old_replies()?;
    let completed = transaction.positions_up_to(position)?;
    completed.into_iter().try_for_each(|position| transaction.answer(position, &Ok(InboxReply::Lost)))
}
