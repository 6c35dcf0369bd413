use std::path::PathBuf;
use std::time::Duration;

use duroxide::providers::WorkItem;

use super::*;
use crate::sqlite::file::paths::beside;
use crate::sqlite::file::schema::{VERSION, prepare};
use crate::sqlite::read;
use crate::sqlite::testing::Folder;

/// The tables of the newest release, after all its migrations.
const NEWEST: &str = "
CREATE TABLE _sqlx_migrations (version BIGINT PRIMARY KEY, description TEXT NOT NULL);
CREATE TABLE instances (instance_id TEXT PRIMARY KEY, orchestration_name TEXT NOT NULL, orchestration_version TEXT,
    current_execution_id INTEGER NOT NULL DEFAULT 1, created_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP,
    updated_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP, parent_instance_id TEXT REFERENCES instances(instance_id),
    custom_status TEXT, custom_status_version INTEGER NOT NULL DEFAULT 0);
CREATE INDEX idx_instances_parent ON instances(parent_instance_id);
CREATE TABLE executions (instance_id TEXT NOT NULL, execution_id INTEGER NOT NULL,
    status TEXT NOT NULL DEFAULT 'Running', output TEXT, started_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP,
    completed_at TIMESTAMP, duroxide_version_major INTEGER, duroxide_version_minor INTEGER,
    duroxide_version_patch INTEGER, PRIMARY KEY (instance_id, execution_id));
CREATE TABLE history (instance_id TEXT NOT NULL, execution_id INTEGER NOT NULL, event_id INTEGER NOT NULL,
    event_type TEXT NOT NULL, event_data TEXT NOT NULL, created_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP,
    PRIMARY KEY (instance_id, execution_id, event_id));
CREATE TABLE orchestrator_queue (id INTEGER PRIMARY KEY AUTOINCREMENT, instance_id TEXT NOT NULL,
    work_item TEXT NOT NULL, visible_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP, lock_token TEXT, locked_until TIMESTAMP,
    created_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP, attempt_count INTEGER NOT NULL DEFAULT 0);
CREATE INDEX idx_orch_visible ON orchestrator_queue(visible_at, lock_token);
CREATE TABLE worker_queue (id INTEGER PRIMARY KEY AUTOINCREMENT, work_item TEXT NOT NULL, lock_token TEXT,
    locked_until TIMESTAMP, created_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP, attempt_count INTEGER NOT NULL DEFAULT 0,
    visible_at INTEGER NOT NULL DEFAULT 0, instance_id TEXT, execution_id TEXT, activity_id INTEGER, session_id TEXT,
    tag TEXT);
CREATE TABLE instance_locks (instance_id TEXT PRIMARY KEY, lock_token TEXT NOT NULL, locked_until INTEGER NOT NULL,
    locked_at INTEGER NOT NULL);
CREATE TABLE sessions (session_id TEXT PRIMARY KEY, worker_id TEXT NOT NULL, locked_until INTEGER NOT NULL,
    last_activity_at INTEGER NOT NULL);
CREATE TABLE kv_store (instance_id TEXT NOT NULL, key TEXT NOT NULL, value TEXT NOT NULL,
    last_updated_at_ms INTEGER NOT NULL DEFAULT 0, PRIMARY KEY (instance_id, key));
CREATE TABLE kv_delta (instance_id TEXT NOT NULL, key TEXT NOT NULL, value TEXT, last_updated_at_ms INTEGER NOT NULL,
    PRIMARY KEY (instance_id, key));
CREATE TABLE timer_queue (id INTEGER PRIMARY KEY AUTOINCREMENT, work_item TEXT NOT NULL, fire_at TIMESTAMP NOT NULL,
    lock_token TEXT, locked_until TIMESTAMP, created_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP);
";

/// The tables of the first release.
const FIRST: &str = "
CREATE TABLE instances (instance_id TEXT PRIMARY KEY, orchestration_name TEXT NOT NULL,
    orchestration_version TEXT NOT NULL, current_execution_id INTEGER NOT NULL DEFAULT 1,
    created_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP, updated_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP);
CREATE TABLE executions (instance_id TEXT NOT NULL, execution_id INTEGER NOT NULL,
    status TEXT NOT NULL DEFAULT 'Running', output TEXT, started_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP,
    completed_at TIMESTAMP, PRIMARY KEY (instance_id, execution_id));
CREATE TABLE history (instance_id TEXT NOT NULL, execution_id INTEGER NOT NULL, event_id INTEGER NOT NULL,
    event_type TEXT NOT NULL, event_data TEXT NOT NULL, created_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP,
    PRIMARY KEY (instance_id, execution_id, event_id));
CREATE TABLE orchestrator_queue (id INTEGER PRIMARY KEY AUTOINCREMENT, instance_id TEXT NOT NULL,
    work_item TEXT NOT NULL, visible_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP, lock_token TEXT, locked_until TIMESTAMP,
    created_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP);
CREATE TABLE worker_queue (id INTEGER PRIMARY KEY AUTOINCREMENT, work_item TEXT NOT NULL, lock_token TEXT,
    locked_until TIMESTAMP, created_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP);
CREATE TABLE timer_queue (id INTEGER PRIMARY KEY AUTOINCREMENT, work_item TEXT NOT NULL, fire_at TIMESTAMP NOT NULL,
    lock_token TEXT, locked_until TIMESTAMP, created_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP);
CREATE TABLE instance_locks (instance_id TEXT PRIMARY KEY, lock_token TEXT NOT NULL, locked_until INTEGER NOT NULL,
    locked_at INTEGER NOT NULL);
";

struct File {
    _folder: Folder,
    path: PathBuf,
}

/// Creates a file of the bundled provider with these tables and rows.
fn bundled(schema: &str, rows: &str) -> File {
    let folder = Folder::new();
    let path = folder.join("old.db");
    let connection = Connection::open(&path).unwrap();
    connection.pragma_update(None, "journal_mode", "wal").unwrap();
    connection.pragma_update(None, "foreign_keys", false).unwrap();
    connection.execute_batch(schema).unwrap();
    connection.execute_batch(rows).unwrap();
    File { _folder: folder, path }
}

impl File {
    fn upgraded(&self) -> Connection {
        let mut connection = Connection::open(&self.path).unwrap();
        prepare(&mut connection, &self.path).unwrap();
        connection
    }

    fn upgrade_error(&self) -> StoreError {
        let mut connection = Connection::open(&self.path).unwrap();
        prepare(&mut connection, &self.path).unwrap_err()
    }

    fn beside(&self, ending: &str) -> PathBuf {
        beside(&self.path, ending)
    }
}

/// The rows of a query as text, with bars between the columns.
fn rows(connection: &Connection, sql: &str) -> Vec<String> {
    let mut statement = connection.prepare(sql).unwrap();
    let columns = statement.column_count();
    let rows = statement.query_map([], |row| {
        let values = (0..columns).map(|column| {
            Ok(match row.get_ref(column)? {
                rusqlite::types::ValueRef::Null => "-".to_owned(),
                rusqlite::types::ValueRef::Integer(value) => value.to_string(),
                value => value.as_str()?.to_owned(),
            })
        });
        Ok(values.collect::<rusqlite::Result<Vec<String>>>()?.join("|"))
    });
    rows.unwrap().collect::<rusqlite::Result<_>>().unwrap()
}

#[test]
fn instances_keep_their_order_times_and_parents() {
    let file = bundled(
        NEWEST,
        "INSERT INTO instances VALUES
            ('younger', 'order', NULL, 2, '2024-01-02 00:00:01', NULL, 'elder', 'half', 4),
            ('elder', 'order', '2.0.0', 1, '2024-01-01 00:00:00', NULL, NULL, NULL, 0),
            ('numeric', 'order', '1.0.0', 1, 1704240000123, NULL, NULL, NULL, 0);
         INSERT INTO executions VALUES
            ('younger', 1, 'ContinuedAsNew', '5', '2024-01-02 00:00:01', 1704153602000, NULL, NULL, NULL),
            ('younger', 2, 'Running', NULL, '2024-01-02 00:00:02', NULL, 0, 1, 32),
            ('elder', 1, 'Completed', '\"done\"', '2024-01-01 00:00:00.250', 1704067200900, 0, 1, 30),
            ('numeric', 1, 'Failed', 'no', 1704240000123, NULL, NULL, NULL, NULL);",
    );
    let store = file.upgraded();
    assert_eq!(
        rows(
            &store,
            "SELECT number, id, orchestration, version, starting, execution, parent, created_ms, completed_ms, \
             custom_status, custom_status_version FROM instances"
        ),
        [
            "1|elder|order|2.0.0|-|1|-|1704067200000|1704067200900|-|0",
            "2|younger|order|-|-|2|elder|1704153601000|-|half|4",
            "3|numeric|order|1.0.0|-|1|-|1704240000123|1704240000123|-|0",
        ]
    );
    assert_eq!(
        rows(&store, "SELECT * FROM executions"),
        [
            "1|1|Completed|\"done\"|1704067200250|1704067200900|0|1|30",
            "2|1|ContinuedAsNew|5|1704153601000|1704153602000|-|-|-",
            "2|2|Running|-|1704153602000|-|0|1|32",
            "3|1|Failed|no|1704240000123|-|-|-|-",
        ]
    );
    let metrics = read::system_metrics(&store).unwrap();
    assert_eq!((metrics.total_instances, metrics.total_executions, metrics.total_events), (3, 4, 0));
    assert_eq!((metrics.running_instances, metrics.completed_instances, metrics.failed_instances), (1, 1, 1));
    assert_eq!(read::instance_info(&store, "younger").unwrap().orchestration_version, "unknown");
}

#[test]
fn histories_keep_every_byte() {
    let file = bundled(
        NEWEST,
        "INSERT INTO instances(instance_id, orchestration_name) VALUES ('a', 'order');
         INSERT INTO executions(instance_id, execution_id) VALUES ('a', 1);
         INSERT INTO history(instance_id, execution_id, event_id, event_type, event_data) VALUES
            ('a', 1, 10, 'x', '{ \"ten\": \"é\" }'), ('a', 1, 2, 'x', 'not even json'), ('a', 1, 1, 'x', '{}');",
    );
    let store = file.upgraded();
    assert_eq!(rows(&store, "SELECT * FROM events"), ["1|1|1|{}", "1|1|2|not even json", "1|1|10|{ \"ten\": \"é\" }"]);
    assert_eq!(read::system_metrics(&store).unwrap().total_events, 3);
}

#[test]
fn queues_keep_order_delay_and_attempts_and_lose_their_locks() {
    let item = |value: &WorkItem| format!("'{}'", serde_json::to_string(value).unwrap());
    let event = |instance: &str, data: &str| {
        let (instance, name, data) = (instance.to_owned(), "paid".to_owned(), data.to_owned());
        item(&WorkItem::QueueMessage { instance, name, data })
    };
    let start = WorkItem::StartOrchestration {
        instance: "new".to_owned(),
        orchestration: "order".to_owned(),
        input: "1".to_owned(),
        version: None,
        parent_instance: None,
        parent_id: None,
        parent_execution_id: None,
        execution_id: 1,
    };
    let work = |instance: &str, tag: Option<&str>| {
        item(&WorkItem::ActivityExecute {
            instance: instance.to_owned(),
            execution_id: 1,
            id: 2,
            name: "charge".to_owned(),
            input: String::new(),
            session_id: None,
            tag: tag.map(str::to_owned),
        })
    };
    let file = bundled(
        NEWEST,
        &format!(
            "INSERT INTO instances(instance_id, orchestration_name) VALUES ('a', 'order');
             INSERT INTO instance_locks VALUES ('a', 'token', 9999999999999, 0);
             INSERT INTO sessions VALUES ('s', 'w', 9999999999999, 0);
             INSERT INTO orchestrator_queue(id, instance_id, work_item, visible_at, lock_token, attempt_count) VALUES
                (7, 'a', {delayed}, 1900000000000, NULL, 0), (5, 'a', {locked}, 17, 'token', 3),
                (9, 'new', {start}, '2024-01-01 00:00:00', NULL, 0), (11, 'new', 'not readable', 0, NULL, 0),
                (12, 'orphan', {orphan}, 0, NULL, 0);
             INSERT INTO worker_queue(id, work_item, lock_token, locked_until, attempt_count, visible_at, instance_id)
                VALUES (4, {tagged}, 'token', 9999999999999, 2, 60, 'a'), (3, {plain}, NULL, NULL, 0, 0, 'gone');",
            delayed = event("a", "delayed"),
            locked = event("a", "locked"),
            start = item(&start),
            orphan = event("orphan", "early"),
            tagged = work("a", Some("gpu")),
            plain = work("gone", None),
        ),
    );
    let store = file.upgraded();
    let messages = "SELECT sequence, id, visible_ms, attempts, coalesce(data ->> '$.QueueMessage.data', 'start') \
         FROM messages JOIN instances ON number = instance ORDER BY sequence";
    assert_eq!(
        rows(&store, messages),
        ["5|a|17|3|locked", "7|a|1900000000000|0|delayed", "9|new|1704067200000|0|start", "12|orphan|0|0|early",]
    );
    let activities = "SELECT sequence, id, visible_ms, attempts, data ->> '$.ActivityExecute.tag' \
         FROM activities JOIN instances ON number = instance";
    assert_eq!(rows(&store, activities), ["3|gone|0|0|-", "4|a|60|2|gpu"]);
    let waiting = "SELECT id, orchestration, starting, execution FROM instances ORDER BY id";
    assert_eq!(rows(&store, waiting), ["a|order|-|1", "gone|-|-|1", "new|-|order|1", "orphan|-|-|1"]);
    assert_eq!(read::system_metrics(&store).unwrap().total_instances, 1);
}

#[test]
fn values_keep_the_changes_of_the_running_execution_separate() {
    let file = bundled(
        NEWEST,
        "INSERT INTO instances(instance_id, orchestration_name) VALUES ('a', 'order');
         INSERT INTO kv_store VALUES ('a', 'k', 'old', 5), ('a', 'gone', 'old', 6), ('deleted', 'k', 'v', 0);
         INSERT INTO kv_delta VALUES ('a', 'k', 'new', 7), ('a', 'gone', NULL, 8);",
    );
    let store = file.upgraded();
    assert_eq!(rows(&store, "SELECT * FROM kv"), ["1|gone|old|6", "1|k|old|5"]);
    assert_eq!(rows(&store, "SELECT * FROM kv_changes"), ["1|gone|-|8", "1|k|new|7"]);
}

#[test]
fn a_file_of_the_first_release_is_upgraded() {
    let item = r#"{"ActivityExecute":{"instance":"a","execution_id":1,"id":2,"name":"charge","input":"1"}}"#;
    let timer = r#"{"TimerFired":{"instance":"a","execution_id":1,"id":3,"fire_at_ms":1704067200000}}"#;
    let file = bundled(
        FIRST,
        &format!(
            "INSERT INTO instances VALUES ('a', 'order', '1.0.0', 1, '2024-01-01 00:00:00', '2024-01-01 00:00:00');
             INSERT INTO executions VALUES ('a', 1, 'Running', NULL, '2024-01-01 00:00:00', NULL);
             INSERT INTO worker_queue(work_item, lock_token) VALUES ('{item}', 'token'), ('nothing', NULL);
             INSERT INTO timer_queue(work_item, fire_at) VALUES ('{timer}', '2024-01-01 00:00:00');"
        ),
    );
    let store = file.upgraded();
    assert_eq!(rows(&store, "SELECT id, orchestration, created_ms FROM instances"), ["a|order|1704067200000"]);
    assert_eq!(rows(&store, "SELECT instance, attempts, data FROM activities"), [format!("1|0|{item}")]);
    assert_eq!(rows(&store, "SELECT instance, visible_ms, data FROM messages"), [format!("1|1704067200000|{timer}")]);
}

#[test]
fn no_old_table_remains() {
    let file = bundled(NEWEST, "");
    let store = file.upgraded();
    let names = "SELECT name FROM sqlite_schema WHERE name NOT LIKE 'sqlite_%' ORDER BY name";
    let fresh = Connection::open_in_memory().unwrap();
    crate::sqlite::file::schema::create(&fresh).unwrap();
    assert_eq!(rows(&store, names), rows(&fresh, names));
    assert_eq!(rows(&store, "PRAGMA user_version"), [VERSION.to_string()]);
    assert_eq!(rows(&store, "PRAGMA integrity_check"), ["ok"]);
    assert_eq!(rows(&store, "PRAGMA journal_mode"), ["wal"]);
}

#[test]
fn the_upgrade_keeps_a_copy_and_never_overwrites_one() {
    let file = bundled(NEWEST, "INSERT INTO instances(instance_id, orchestration_name) VALUES ('a', 'order');");
    std::fs::write(file.beside(".before-upgrade"), "an earlier copy").unwrap();
    std::fs::write(file.beside(".before-upgrade.unfinished"), "half of one").unwrap();
    drop(file.upgraded());
    assert_eq!(std::fs::read(file.beside(".before-upgrade")).unwrap(), b"an earlier copy");
    assert!(!file.beside(".before-upgrade.unfinished").exists());
    let copy = Connection::open(file.beside(".before-upgrade-2")).unwrap();
    assert_eq!(rows(&copy, "SELECT instance_id FROM instances"), ["a"]);
    assert_eq!(rows(&copy, "PRAGMA integrity_check"), ["ok"]);
    // An upgraded file is not upgraded again.
    drop(file.upgraded());
    assert!(!file.beside(".before-upgrade-3").exists());
}

#[cfg(unix)]
#[test]
fn the_copy_has_the_permissions_of_the_store() {
    use std::os::unix::fs::PermissionsExt as _;
    let file = bundled(NEWEST, "");
    std::fs::set_permissions(&file.path, std::fs::Permissions::from_mode(0o600)).unwrap();
    drop(file.upgraded());
    let mode = std::fs::metadata(file.beside(".before-upgrade")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn a_file_that_another_process_has_open_is_not_upgraded() {
    let file = bundled(NEWEST, "INSERT INTO instances(instance_id, orchestration_name) VALUES ('a', 'order');");
    let other = Connection::open(&file.path).unwrap();
    let instances = "SELECT instance_id FROM instances";
    assert_eq!(rows(&other, instances), ["a"]);
    let connection = Connection::open(&file.path).unwrap();
    let error = require_sole_access(&connection, &file.path, Duration::ZERO).unwrap_err();
    drop(connection);
    assert!(matches!(&error, StoreError::Unavailable(message) if message.contains("has it open")), "{error}");
    assert_eq!(rows(&other, instances), ["a"]);
    drop(other);
    assert_eq!(rows(&file.upgraded(), "SELECT id FROM instances"), ["a"]);
}

#[test]
fn an_upgrade_that_fails_leaves_the_old_file() {
    // The new table cannot hold both of these rows, so the upgrade fails half-way.
    let file = bundled(
        NEWEST,
        "INSERT INTO instances(instance_id, orchestration_name) VALUES ('a', 'order'), ('b', 'order');
         ALTER TABLE history RENAME TO history_1;
         CREATE TABLE history (instance_id, execution_id, event_id, event_data);
         INSERT INTO history VALUES ('a', 1, 1, '{}'), ('a', 1, 1, '{}');",
    );
    let _ = file.upgrade_error();
    let old = Connection::open(&file.path).unwrap();
    assert_eq!(rows(&old, "SELECT instance_id FROM instances"), ["a", "b"]);
    assert_eq!(rows(&old, "PRAGMA user_version"), ["0"]);
}

#[test]
fn a_process_that_dies_during_the_upgrade_leaves_the_old_file() {
    let file = bundled(NEWEST, "INSERT INTO instances(instance_id, orchestration_name) VALUES ('a', 'order');");
    let mut connection = Connection::open(&file.path).unwrap();
    require_sole_access(&connection, &file.path, Duration::ZERO).unwrap();
    connection.pragma_update(None, "foreign_keys", false).unwrap();
    // Without a cache, all changes reach the file before the commit.
    connection.pragma_update(None, "cache_size", 1).unwrap();
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).unwrap();
    convert(&transaction).unwrap();
    // A new process finds the files as they are on the disk at this moment.
    let folder = Folder::new();
    for ending in ["", "-journal"] {
        std::fs::copy(file.beside(ending), folder.join(format!("dead.db{ending}"))).unwrap();
    }
    let found = Connection::open(folder.join("dead.db")).unwrap();
    assert_eq!(rows(&found, "SELECT instance_id FROM instances"), ["a"]);
    assert_eq!(rows(&found, "PRAGMA integrity_check"), ["ok"]);
}
