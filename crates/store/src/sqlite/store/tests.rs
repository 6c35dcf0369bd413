use rusqlite::Connection;
use tokio::time::timeout;

use super::*;
use crate::sqlite::file::lock::{LockHandle, LockHolder};
use crate::sqlite::file::paths::beside;
use crate::sqlite::testing::{Folder, eventually};

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_that_is_closed_while_it_takes_over_leaves_nobody_at_work() {
    let folder = Folder::new();
    let path = folder.join("store.db");
    let store = Arc::new(SqliteStore::open(&path, Durability::Full).unwrap());
    let candidate = LockHandle::new(&path).unwrap();
    let other = candidate.try_acquire().unwrap().unwrap();
    store.begin_dispatching().await.unwrap();
    // A take-over does not come to its end while somebody else writes to the inbox.
    let inbox = Connection::open(beside(&path, "-inbox")).unwrap();
    inbox.execute_batch("BEGIN IMMEDIATE").unwrap();
    drop(other);
    eventually("the take-over", || candidate.holder().unwrap() == LockHolder::ThisProcess);

    let mut closing = tokio::spawn(async move { store.close().await });

    assert!(timeout(Duration::from_millis(300), &mut closing).await.is_err(), "it was closed while it took over");
    inbox.execute_batch("ROLLBACK").unwrap();
    closing.await.unwrap();
    assert_eq!(candidate.holder().unwrap(), LockHolder::Nobody);
}
