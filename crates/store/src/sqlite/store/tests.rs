use rusqlite::Connection;
use tokio::time::timeout;

use super::*;
use crate::sqlite::file::lock::{LockHandle, LockHolder};
use crate::sqlite::file::paths::beside;
use crate::sqlite::testing::{Folder, eventually};

#[tokio::test(flavor = "multi_thread")]
async fn closing_a_store_waits_for_a_takeover_and_ends_it() {
    let folder = Folder::new();
    let path = folder.join("store.db");
    let store = Arc::new(SqliteStore::open(&path, Durability::Full).unwrap());
    let lock = LockHandle::new(&path).unwrap();
    let other = lock.try_acquire().unwrap().unwrap();
    store.begin_dispatching().await.unwrap();
    // The takeover cannot finish while another connection writes to the inbox.
    let inbox = Connection::open(beside(&path, "-inbox")).unwrap();
    inbox.execute_batch("BEGIN IMMEDIATE").unwrap();
    drop(other);
    eventually("the takeover", || lock.holder().unwrap() == LockHolder::ThisProcess);

    let mut closing = tokio::spawn(async move { store.close().await });

    assert!(
        timeout(Duration::from_millis(300), &mut closing).await.is_err(),
        "the store was closed during the takeover"
    );
    inbox.execute_batch("ROLLBACK").unwrap();
    closing.await.unwrap();
    assert_eq!(lock.holder().unwrap(), LockHolder::None);
}
