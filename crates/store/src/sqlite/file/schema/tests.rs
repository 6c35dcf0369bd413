use super::*;
use crate::sqlite::read;
use crate::sqlite::testing::Folder;

fn open(path: &Path) -> Result<Connection, StoreError> {
    let mut connection = Connection::open(path).unwrap();
    prepare(&mut connection, path)?;
    Ok(connection)
}

fn error_message(path: &Path) -> String {
    open(path).unwrap_err().to_string()
}

#[test]
fn a_new_file_becomes_a_store_and_opens_again() {
    let folder = Folder::new();
    let path = folder.join("new.db");
    for _ in 0..2 {
        let connection = open(&path).unwrap();
        let pragma = |name| connection.pragma_query_value(None, name, |row| row.get::<_, String>(0));
        assert_eq!(pragma("journal_mode").unwrap(), "wal");
        assert!(matches!(content(&connection).unwrap(), Content::Ours(VERSION)));
        assert_eq!(read::list(&connection, read::Page::default()).unwrap(), [""; 0]);
    }
}

#[test]
fn a_store_of_version_1_opens_with_all_its_content() {
    let folder = Folder::new();
    let path = folder.join("one.db");
    Connection::open(&path).unwrap().execute_batch(include_str!("../fixtures/version_1.sql")).unwrap();
    let connection = open(&path).unwrap();
    assert!(matches!(content(&connection).unwrap(), Content::Ours(VERSION)));
    assert_eq!(read::list(&connection, read::Page::default()).unwrap(), ["order-2", "order-1"]);
    assert_eq!(read::read(&connection, "order-1").unwrap().len(), 2);
    let status = read::status(&connection, "order-1").unwrap().unwrap();
    assert_eq!((status.status.as_deref(), status.output.as_deref()), (Some("Completed"), Some("\"done\"")));
    assert_eq!(status.custom_status.as_deref(), Some("shipped"));
    assert_eq!(read::status(&connection, "order-3").unwrap().unwrap().starting.as_deref(), Some("order"));
    assert_eq!(read::kv_value(&connection, "order-2", "total").unwrap().as_deref(), Some("12"));
    assert_eq!(read::mismatch(&connection, "order-2").unwrap().as_deref(), Some("the code changed"));
    let depths = read::queue_depths(&connection).unwrap();
    assert_eq!((depths.orchestrator_queue, depths.worker_queue), (1, 1));
    assert_eq!(read::system_metrics(&connection).unwrap().total_instances, 2);
}

#[test]
fn a_newer_store_is_refused_with_its_version() {
    let folder = Folder::new();
    let path = folder.join("newer.db");
    open(&path).unwrap().pragma_update(None, "user_version", VERSION + 1).unwrap();
    let message = error_message(&path);
    assert!(message.contains("newer version of duroxide (schema 2; this one knows schemas up to 1)"), "{message}");
}

#[test]
fn a_file_that_is_not_a_store_is_not_changed() {
    let folder = Folder::new();
    let path = folder.join("other.db");
    Connection::open(&path).unwrap().execute_batch("CREATE TABLE songs (title TEXT)").unwrap();
    let before = std::fs::read(&path).unwrap();
    assert!(error_message(&path).contains("is a SQLite database of another application"));
    assert_eq!(std::fs::read(&path).unwrap(), before);

    let path = folder.join("text.db");
    std::fs::write(&path, "no database\n".repeat(200)).unwrap();
    let before = std::fs::read(&path).unwrap();
    assert!(error_message(&path).contains("is no SQLite file at all"));
    assert_eq!(std::fs::read(&path).unwrap(), before);
}

#[test]
fn the_error_for_a_locked_database_says_so() {
    let folder = Folder::new();
    let path = folder.join("busy.db");
    let other = open(&path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let mut connection = Connection::open(&path).unwrap();
    connection.busy_timeout(std::time::Duration::ZERO).unwrap();
    let error = prepare(&mut connection, &path).unwrap_err();
    assert!(matches!(&error, StoreError::Unavailable(message) if message.contains("is locked by")), "{error}");
}
