//! A job for the writer thread, and the answer to it.

use rusqlite::Connection;
use tokio::sync::oneshot;

use crate::error::Result;
use crate::sqlite::owner::disk::change::Change;
use crate::sqlite::owner::disk::effect::CommitEffect;
use crate::sqlite::owner::memory::ids::Number;

pub type WriteAnswer = oneshot::Sender<Result<()>>;
/// Receives the answer when changes are on the disk, or when they can never be.
pub type Written = oneshot::Receiver<Result<()>>;
/// A task that uses the connection alone, in separate transactions. It answers its caller itself.
pub type WriterTask = Box<dyn FnOnce(&mut Connection) + Send>;

/// Changes that reach the disk together or not at all.
pub struct WriteOperation {
    /// The instance whose deletion makes the changes void.
    pub number: Option<Number>,
    pub changes: Vec<Change>,
    pub effect: CommitEffect,
    pub answer: Option<WriteAnswer>,
}

impl WriteOperation {
    /// Changes that no caller waits for.
    pub fn without_answer(changes: Vec<Change>) -> Self {
        Self { number: None, changes, effect: CommitEffect::None, answer: None }
    }
}

pub enum WriterJob {
    Write(WriteOperation),
    Task(WriterTask),
    /// The thread answers this when all earlier jobs are on the disk or have failed, and then ends.
    Stop(crossbeam_channel::Sender<()>),
}
