//! Writing: operations gather, and each writer commits a batch of them as one transaction of the server.
//!
//! `writer` is the task that does it. `batch` turns operations into the columns of the server's function, `eager`
//! chooses the leases that the commit grants to this node, `reply` reads the answer and answers the callers. `in_doubt`
//! finds out whether a commit was made whose answer was lost.

pub mod batch;
pub mod eager;
pub mod in_doubt;
pub mod reply;
pub mod writer;
