use rusqlite::Connection;
use tokio::time::timeout;

use super::*;
use crate::sqlite::file::lock::{LockHandle, LockHolder};
use crate::sqlite::file::paths::beside;
use crate::sqlite::testing::{Folder, eventually};

fn start_of(instance: &str) -> Vec<StartRequest> {
    let (instance, orchestration) = (instance.to_owned(), "order".to_owned());
    vec![StartRequest { instance, orchestration, input: String::new(), version: None, due_ms: None }]
}

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

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_whose_lock_file_was_deleted_records_nothing_after_the_next_owner_began() {
    let folder = Folder::new();
    let path = folder.join("store.db");
    let [earlier, later] = [(); 2].map(|()| Arc::new(SqliteStore::open(&path, Durability::Full).unwrap()));
    earlier.begin_dispatching().await.unwrap();
    earlier.start(start_of("a"), IfExists::Raise).await.unwrap();
    std::fs::remove_file(beside(&path, "-lock")).unwrap();
    later.begin_dispatching().await.unwrap();

    let error = earlier.start(start_of("b"), IfExists::Raise).await.unwrap_err().to_string();

    assert!(error.contains("store.db-lock' was deleted or replaced"), "{error}");
    assert_eq!(later.running("a").await.unwrap().as_deref(), Some("order"));
    assert_eq!(later.running("b").await.unwrap(), None);
    later.start(start_of("c"), IfExists::Raise).await.unwrap();
    earlier.close().await;
    later.close().await;
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn a_standby_does_not_take_over_a_file_that_got_a_second_name() {
    let folder = Folder::new();
    let path = folder.join("store.db");
    let store = Arc::new(SqliteStore::open(&path, Durability::Full).unwrap());
    std::fs::hard_link(&path, folder.join("other.db")).unwrap();

    let error = store.begin_dispatching().await.unwrap_err().to_string();

    assert!(error.contains("has 2 names (hard links)"), "{error}");
    store.close().await;
}
