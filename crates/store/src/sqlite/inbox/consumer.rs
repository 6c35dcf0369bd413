//! The owner's end of an inbox.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use crate::error::StoreError;
use crate::sqlite::file::watcher::{EventCount, FileWatcher, PollIntervals};
use crate::sqlite::inbox::database::Inbox;
use crate::sqlite::inbox::request::{Answer, Reply, Request};
use crate::sqlite::inbox::transaction::InboxTransaction;

/// Where notices are missed the slow look finds the request; an idle owner looks four times a second, which is next to nothing.
const PACE: PollIntervals =
    PollIntervals { beside_notices: Duration::from_millis(250), without_notices: Duration::from_millis(5) };

/// Reads what client processes ask for, in order, and answers.
pub struct InboxConsumer {
    store: PathBuf,
    opened: Mutex<Opened>,
    /// Answers that the disk has not taken yet.
    unwritten: Mutex<Vec<(i64, Answer)>>,
    tidings: FileWatcher,
    bell: Arc<EventCount>,
    stopped: AtomicBool,
    backlog: i64,
}

struct Opened {
    inbox: Inbox,
    /// Up to where requests were handed out.
    position: i64,
}

impl InboxConsumer {
    /// Opens the inbox of the store at `store`, whose ownership this process must have. `position_of` is asked up to where
    /// the store has read the inbox of that name.
    ///
    /// Whoever is told by the ownership that nobody works on the store, and acknowledges a request because of it, does so
    /// before this returns: such requests are part of the [`Self::backlog`]. They must be carried out before anything else
    /// that this process does with the store, since their outcome was promised.
    pub fn new(store: &Path, position_of: impl FnOnce(&str) -> Result<i64, StoreError>) -> Result<Self, StoreError> {
        let mut inbox = Inbox::open(store)?;
        let position = position_of(inbox.name())?;
        let backlog = inbox.write(|draft| {
            settle(draft, position)?;
            draft.last()
        })?;
        let bell = Arc::new(EventCount::default());
        let tidings = FileWatcher::of(inbox.file(), PACE, Arc::clone(&bell));
        Ok(Self {
            store: store.to_owned(),
            opened: Mutex::new(Opened { inbox, position }),
            unwritten: Mutex::default(),
            tidings,
            bell,
            stopped: AtomicBool::new(false),
            backlog,
        })
    }

    /// The position of the last request that was there when this process became the owner; 0 when there was none.
    pub fn backlog(&self) -> i64 {
        self.backlog
    }

    /// Waits for requests; none once [`Self::stop`] was called. Each is handed out once, and must be answered.
    pub fn next_batch(&self) -> Result<Vec<Request>, StoreError> {
        loop {
            let heard = self.bell.heard();
            if self.stopped.load(Ordering::Acquire) {
                return Ok(Vec::new());
            }
            self.write_answers();
            let batch = self.take()?;
            if !batch.is_empty() {
                return Ok(batch);
            }
            self.tidings.wait(heard);
        }
    }

    /// What has come in since the last batch, without waiting.
    pub fn take(&self) -> Result<Vec<Request>, StoreError> {
        let (mut batch, mut not_understood) = (Vec::new(), Vec::new());
        let mut opened = self.opened.lock();
        opened.follow(&self.store)?;
        for (position, request) in opened.inbox.after(opened.position)? {
            opened.position = position;
            match request {
                Ok(request) => batch.push(request),
                Err(error) => not_understood.push((position, Err(error))),
            }
        }
        drop(opened);
        if !not_understood.is_empty() {
            self.reply(not_understood);
        }
        Ok(batch)
    }

    /// Removes requests that were carried out, and tells those who wait. When the disk does not take it now, it does later.
    ///
    /// What a request asks for must be in the store's file before, and with it the position of the request.
    pub fn reply(&self, answers: Vec<(i64, Answer)>) {
        self.unwritten.lock().extend(answers);
        self.write_answers();
    }

    /// Ends [`Self::next_batch`], also one that waits.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Release);
        self.bell.ring();
    }

    pub fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Acquire)
    }

    fn write_answers(&self) {
        let mut unwritten = self.unwritten.lock();
        if unwritten.is_empty() {
            return;
        }
        let written = self.opened.lock().inbox.write(|draft| {
            draft.forget_old_replies()?;
            unwritten.iter().try_for_each(|(position, answer)| draft.answer(*position, answer))
        });
        match written {
            Ok(()) => unwritten.clear(),
            Err(error) => {
                tracing::warn!(target: "duroxide::store", "the answers to {} requests wait: {error}", unwritten.len());
            }
        }
    }
}

impl Opened {
    /// Goes on with the file that clients find now, should somebody have deleted the one before.
    fn follow(&mut self, store: &Path) -> Result<(), StoreError> {
        if self.inbox.is_in_place() {
            return Ok(());
        }
        let inbox = Inbox::open(store)?;
        // A new inbox has a new name: nothing of it was done.
        let position = if inbox.name() == self.inbox.name() { self.position } else { 0 };
        *self = Self { inbox, position };
        Ok(())
    }
}

/// Removes what the owner before has carried out and could not answer any more.
fn settle(draft: &InboxTransaction<'_>, position: i64) -> Result<(), StoreError> {
    draft.forget_old_replies()?;
    draft.up_to(position)?.into_iter().try_for_each(|done| draft.answer(done, &Ok(Reply::Lost)))
}
