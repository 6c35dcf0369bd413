use duroxide::providers::{InstanceFilter, PruneOptions};
use duroxide::{Event, EventKind, SystemStats};
use rusqlite::Connection;

use super::*;
use crate::failure::FailureKind;
use crate::sqlite::read::status::StatusRow;
use crate::sqlite::testing::{Folder, create_store};

fn started(id: &str, execution: u64, carried: &[(&str, &str)]) -> Event {
    let carried: Vec<_> = carried.iter().map(|(name, data)| ((*name).to_owned(), (*data).to_owned())).collect();
    event(
        id,
        execution,
        1,
        EventKind::OrchestrationStarted {
            name: "order".to_owned(),
            version: "1.0.0".to_owned(),
            input: "null".to_owned(),
            parent_instance: None,
            parent_id: None,
            parent_execution_id: None,
            carry_forward_events: (!carried.is_empty()).then_some(carried),
            initial_custom_status: None,
        },
    )
}

fn event(id: &str, execution: u64, number: u64, kind: EventKind) -> Event {
    Event {
        event_id: number,
        source_event_id: None,
        instance_id: id.to_owned(),
        execution_id: execution,
        timestamp_ms: 1000 * execution + number,
        duroxide_version: "0.1.32".to_owned(),
        kind,
    }
}

/// Inserts an instance with one execution of two events for each status, as the owner writes it.
fn instance(connection: &Connection, id: &str, parent: Option<&str>, statuses: &[&str]) -> i64 {
    let ended = matches!(statuses.last(), Some(&("Completed" | "Failed")));
    let completed_ms = ended.then_some(1000 * statuses.len() as i64 + 2);
    connection
        .execute(
            "INSERT INTO instances(id, orchestration, version, execution, parent, created_ms, completed_ms) \
             VALUES (?, 'order', '1.0.0', ?, ?, 900, ?)",
            (id, statuses.len() as i64, parent, completed_ms),
        )
        .unwrap();
    let number = connection.last_insert_rowid();
    for (execution, status) in (1..).zip(statuses) {
        let completed_ms = (*status != "Running").then_some(1000 * execution + 2);
        let output = (*status != "Running").then(|| format!("output {execution}"));
        connection
            .execute(
                "INSERT INTO executions(instance, execution, status, output, started_ms, completed_ms) \
                 VALUES (?, ?, ?, ?, ?, ?)",
                (number, execution, status, output, 1000 * execution, completed_ms),
            )
            .unwrap();
        let second = EventKind::ExternalEvent { name: "paid".to_owned(), data: "é".to_owned() };
        let second = event(id, execution as u64, 2, second);
        for event in [started(id, execution as u64, &[("orders", "a"), ("orders", "b")]), second] {
            let data = serde_json::to_string(&event).unwrap();
            let row = (number, execution, event.event_id as i64, data);
            connection.execute("INSERT INTO events VALUES (?, ?, ?, ?)", row).unwrap();
        }
    }
    number
}

fn empty() -> (Folder, Connection) {
    let folder = Folder::new();
    let connection = create_store(&folder.join("store.db"));
    (folder, connection)
}

#[test]
fn an_instance_is_read_with_the_history_of_its_latest_execution() {
    let (_folder, connection) = empty();
    let number = instance(&connection, "a", Some("p"), &["ContinuedAsNew", "Running"]);
    let row = status(&connection, "a").unwrap().unwrap();
    assert_eq!((row.number, row.execution), (number, 2));
    assert_eq!((row.orchestration.as_deref(), row.version.as_deref()), (Some("order"), Some("1.0.0")));
    assert_eq!((row.starting, row.custom_status, row.custom_status_version), (None, None, 0));

    let latest = read(&connection, "a").unwrap();
    assert_eq!(latest[0], started("a", 2, &[("orders", "a"), ("orders", "b")]));
    assert_eq!(latest, history(&connection, number, 2).unwrap());
    assert_eq!(latest, read_execution(&connection, "a", 2).unwrap());
    assert_eq!(read_execution(&connection, "a", 1).unwrap()[1].timestamp_ms, 1002);
    assert_eq!(latest_execution(&connection, "a").unwrap(), 2);
    assert_eq!(executions(&connection, "a").unwrap(), [1, 2]);
}

#[test]
fn an_unknown_instance_reads_as_nothing_or_as_not_found() {
    let (_folder, connection) = empty();
    assert_eq!(status(&connection, "x").unwrap(), None);
    assert_eq!(read(&connection, "x").unwrap(), []);
    assert_eq!(read_execution(&connection, "x", 1).unwrap(), []);
    assert_eq!(latest_execution(&connection, "x").unwrap(), 1);
    assert_eq!(executions(&connection, "x").unwrap(), [0; 0]);
    assert_eq!(instance_stats(&connection, "x").unwrap(), None);
    assert_eq!(kv_value(&connection, "x", "k").unwrap(), None);
    assert_eq!(custom_status(&connection, "x", 0).unwrap(), None);
    assert_eq!(tree(&connection, "x").unwrap().all_ids, ["x"]);
    for error in [
        instance_info(&connection, "x").unwrap_err(),
        execution_info(&connection, "x", 1).unwrap_err(),
        parent(&connection, "x").unwrap_err(),
        prunable_executions(&connection, "x", &PruneOptions::default()).unwrap_err(),
    ] {
        assert!(error.message.contains("not found") && error.kind == FailureKind::NotFound, "{error}");
    }
}

#[test]
fn a_waiting_start_has_a_row_but_is_not_an_instance_yet() {
    let (_folder, connection) = empty();
    connection.execute("INSERT INTO instances(id, starting, created_ms) VALUES ('a', 'order', 5)", []).unwrap();
    let status = status(&connection, "a").unwrap().unwrap();
    assert_eq!((status.orchestration, status.starting.as_deref(), status.status), (None, Some("order"), None));
    assert!(instance_info(&connection, "a").is_err());
    assert_eq!(list(&connection, Page::default()).unwrap(), [""; 0]);
}

#[test]
fn one_query_returns_status_output_and_custom_status() {
    let (_folder, connection) = empty();
    let number = instance(&connection, "a", None, &["Completed"]);
    connection.execute("UPDATE instances SET custom_status = 'half', custom_status_version = 3", []).unwrap();
    let expected = StatusRow {
        number,
        orchestration: Some("order".to_owned()),
        version: Some("1.0.0".to_owned()),
        starting: None,
        execution: 1,
        status: Some("Completed".to_owned()),
        output: Some("output 1".to_owned()),
        custom_status: Some("half".to_owned()),
        custom_status_version: 3,
    };
    assert_eq!(status(&connection, "a").unwrap(), Some(expected));
    assert_eq!(custom_status(&connection, "a", 2).unwrap(), Some((Some("half".to_owned()), 3)));
    assert_eq!(custom_status(&connection, "a", 3).unwrap(), None);
}

#[test]
fn descriptions_contain_the_times_of_events() {
    let (_folder, connection) = empty();
    instance(&connection, "a", Some("p"), &["ContinuedAsNew", "Failed"]);
    let info = instance_info(&connection, "a").unwrap();
    assert_eq!((info.created_at, info.updated_at, info.current_execution_id), (900, 2002, 2));
    assert_eq!((info.status.as_str(), info.output.as_deref()), ("Failed", Some("output 2")));
    assert_eq!((info.orchestration_name.as_str(), info.parent_instance_id.as_deref()), ("order", Some("p")));
    let info = execution_info(&connection, "a", 1).unwrap();
    assert_eq!((info.started_at, info.completed_at, info.event_count), (1000, Some(1002), 2));
    assert_eq!((info.status.as_str(), info.execution_id), ("ContinuedAsNew", 1));
}

#[test]
fn an_event_that_cannot_be_decoded_is_named() {
    let (_folder, connection) = empty();
    let number = instance(&connection, "a", None, &["Running"]);
    connection.execute("UPDATE events SET data = '{\"type\":\"Nothing\"}' WHERE event = 2", []).unwrap();
    for error in [read(&connection, "a").unwrap_err(), history(&connection, number, 1).unwrap_err()] {
        assert!(error.message.starts_with("Failed to deserialize event 2: "), "{error}");
        assert_eq!(error.kind, FailureKind::Unreadable);
    }
    // A query that does not need the event still succeeds.
    assert_eq!(instance_info(&connection, "a").unwrap().updated_at, 900);
}

#[test]
fn lists_go_from_the_newest_to_the_oldest_in_pages() {
    let (_folder, connection) = empty();
    for (id, status) in [("a", "Running"), ("b", "Completed"), ("c", "ContinuedAsNew"), ("d", "Running")] {
        instance(&connection, id, None, &[status]);
    }
    assert_eq!(list(&connection, Page::default()).unwrap(), ["d", "c", "b", "a"]);
    assert_eq!(list(&connection, Page { after: None, limit: Some(3) }).unwrap(), ["d", "c", "b"]);
    assert_eq!(list(&connection, Page { after: Some("b"), limit: Some(3) }).unwrap(), ["a"]);
    assert_eq!(list(&connection, Page { after: Some("deleted"), limit: None }).unwrap(), [""; 0]);
    let by_status = |status, page| list_by_status(&connection, status, page).unwrap();
    assert_eq!(by_status("Running", Page::default()), ["d", "a"]);
    assert_eq!(by_status("Running", Page { after: Some("d"), limit: Some(1) }), ["a"]);
    assert_eq!(by_status("Completed", Page::default()), ["b"]);
    assert_eq!(by_status("ContinuedAsNew", Page::default()), ["c"]);
    assert_eq!(by_status("Failed", Page::default()), [""; 0]);
}

#[test]
fn a_tree_contains_the_root_and_all_descendants() {
    let (_folder, connection) = empty();
    for (id, parent) in [("root", None), ("one", Some("root")), ("two", Some("root")), ("leaf", Some("one"))] {
        instance(&connection, id, parent, &["Completed"]);
    }
    instance(&connection, "stranger", None, &["Completed"]);
    assert_eq!(children(&connection, "root").unwrap(), ["one", "two"]);
    assert_eq!(parent(&connection, "leaf").unwrap().as_deref(), Some("one"));
    assert_eq!(parent(&connection, "root").unwrap(), None);
    assert_eq!(tree(&connection, "root").unwrap().all_ids, ["root", "one", "two", "leaf"]);
}

#[test]
fn changes_of_the_current_execution_hide_earlier_values() {
    let (_folder, connection) = empty();
    let number = instance(&connection, "a", None, &["Running"]);
    connection
        .execute_batch(&format!(
            "INSERT INTO kv VALUES \
             ({number}, 'kept', 'old', 1), ({number}, 'changed', 'old', 2), ({number}, 'gone', 'old', 3); \
             INSERT INTO kv_changes VALUES \
             ({number}, 'changed', 'new', 4), ({number}, 'gone', NULL, 5), ({number}, 'added', 'neu', 6);"
        ))
        .unwrap();
    let value = |key| kv_value(&connection, "a", key).unwrap();
    assert_eq!((value("kept").as_deref(), value("changed").as_deref()), (Some("old"), Some("new")));
    assert_eq!((value("gone"), value("added").as_deref(), value("never")), (None, Some("neu"), None));
    let all = kv_all(&connection, "a").unwrap();
    let mut all: Vec<_> = all.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    all.sort_unstable();
    assert_eq!(all, [("added", "neu"), ("changed", "new"), ("kept", "old")]);
    let snapshot = kv_snapshot(&connection, number).unwrap();
    assert_eq!(snapshot.len(), 3);
    assert_eq!((snapshot["changed"].value.as_str(), snapshot["changed"].last_updated_at_ms), ("old", 2));

    let sizes: i64 = connection.query_row("SELECT sum(length(data)) FROM events", [], |row| row.get(0)).unwrap();
    let expected = SystemStats {
        history_event_count: 2,
        history_size_bytes: sizes as u64,
        queue_pending_count: 2,
        kv_user_key_count: 3,
        kv_total_value_bytes: 9,
    };
    assert_eq!(instance_stats(&connection, "a").unwrap(), Some(expected));
}

#[test]
fn counts_come_from_the_table_of_totals() {
    let (_folder, connection) = empty();
    connection
        .execute_batch(
            "UPDATE totals SET value = 7 WHERE name = 'instances'; UPDATE totals SET value = 9 WHERE name = 'events'; \
             UPDATE totals SET value = 3 WHERE name = 'failed'; \
             INSERT INTO messages VALUES (1, 1, 0, 0, ''), (2, 1, 0, 0, ''); \
             INSERT INTO activities VALUES (1, 1, 0, 0, ''); INSERT INTO mismatches VALUES (1, 'why'); \
             INSERT INTO instances(number, id, created_ms) VALUES (1, 'a', 0);",
        )
        .unwrap();
    let metrics = system_metrics(&connection).unwrap();
    assert_eq!((metrics.total_instances, metrics.total_events, metrics.failed_instances), (7, 9, 3));
    let depths = queue_depths(&connection).unwrap();
    assert_eq!((depths.orchestrator_queue, depths.worker_queue), (2, 1));
    assert_eq!(mismatch(&connection, "a").unwrap().as_deref(), Some("why"));
    assert_eq!(mismatch(&connection, "b").unwrap(), None);
}

#[test]
fn a_bulk_deletion_selects_roots_that_have_ended() {
    let (_folder, connection) = empty();
    instance(&connection, "late", None, &["ContinuedAsNew", "Completed"]);
    instance(&connection, "early", None, &["Failed"]);
    instance(&connection, "child", Some("late"), &["Completed"]);
    instance(&connection, "running", None, &["Running"]);
    instance(&connection, "between", None, &["ContinuedAsNew"]);
    let mut filter = InstanceFilter::default();
    assert_eq!(to_delete(&connection, &filter).unwrap(), ["early", "late"]);
    filter.limit = Some(1);
    assert_eq!(to_delete(&connection, &filter).unwrap(), ["early"]);
    filter = InstanceFilter { completed_before: Some(2000), ..InstanceFilter::default() };
    assert_eq!(to_delete(&connection, &filter).unwrap(), ["early"]);
    let ids = ["late", "child", "running", "between", "unknown", "late"].map(str::to_owned).to_vec();
    filter = InstanceFilter { instance_ids: Some(ids), ..InstanceFilter::default() };
    assert_eq!(to_delete(&connection, &filter).unwrap(), ["late"]);
    filter.completed_before = Some(1);
    assert_eq!(to_delete(&connection, &filter).unwrap(), [""; 0]);
    filter = InstanceFilter { instance_ids: Some(Vec::new()), ..InstanceFilter::default() };
    assert_eq!(to_delete(&connection, &filter).unwrap(), [""; 0]);
}

#[test]
fn pruning_selects_neither_running_nor_current_executions() {
    let (_folder, connection) = empty();
    instance(&connection, "a", None, &["ContinuedAsNew", "ContinuedAsNew", "ContinuedAsNew", "Running"]);
    instance(&connection, "b", None, &["ContinuedAsNew", "Completed"]);
    instance(&connection, "c", None, &["Completed"]);
    let prunable = |keep_last, completed_before| {
        prunable_executions(&connection, "a", &PruneOptions { keep_last, completed_before }).unwrap()
    };
    for keep_last in [None, Some(0), Some(1)] {
        assert_eq!(prunable(keep_last, None), [1, 2, 3]);
    }
    assert_eq!(prunable(Some(3), None), [1]);
    assert_eq!(prunable(None, Some(2500)), [1, 2]);
    let mut filter = InstanceFilter::default();
    assert_eq!(to_prune(&connection, &filter).unwrap(), ["a", "b"]);
    filter.limit = Some(1);
    assert_eq!(to_prune(&connection, &filter).unwrap(), ["a"]);
    filter = InstanceFilter { completed_before: Some(5000), ..InstanceFilter::default() };
    assert_eq!(to_prune(&connection, &filter).unwrap(), ["b"]);
    filter = InstanceFilter { instance_ids: Some(vec!["c".to_owned()]), ..InstanceFilter::default() };
    assert_eq!(to_prune(&connection, &filter).unwrap(), ["c"]);
}

#[test]
fn readers_see_each_commit_while_the_owner_writes_and_never_write() {
    let folder = Folder::new();
    let path = folder.join("store.db");
    let owner = create_store(&path);
    let readers = Readers::new(&path);
    let ids = || readers.read("list_instances", |connection| list(connection, Page::default())).unwrap();
    instance(&owner, "a", None, &["Running"]);
    assert_eq!(ids(), ["a"]);
    owner.execute_batch("BEGIN IMMEDIATE").unwrap();
    instance(&owner, "b", None, &["Running"]);
    assert_eq!(ids(), ["a"]);
    owner.execute_batch("COMMIT").unwrap();
    assert_eq!(ids(), ["b", "a"]);
    // Two reads at once do not wait for each other.
    let both = readers.read("read", |one| readers.read("read", |two| Ok((read(one, "a")?, read(two, "a")?)))).unwrap();
    assert_eq!(both.0, both.1);
    readers.read("read", |connection| Ok(connection.execute("DELETE FROM instances", []).unwrap_err())).unwrap();
    drop(owner);
    // The log remains after its owner, and readers use it without an owner.
    assert_eq!(ids(), ["b", "a"]);
    readers.close();
    assert_eq!(ids(), ["b", "a"]);
}

#[test]
fn an_error_names_the_file_that_cannot_be_opened() {
    let folder = Folder::new();
    let error = Readers::new(&folder.join("none.db")).read("read", |connection| read(connection, "a")).unwrap_err();
    assert_eq!((error.operation.as_str(), error.kind), ("read", FailureKind::Unusable));
    assert!(error.message.contains("none.db"), "{error}");
}

#[test]
fn readers_use_the_file_that_replaced_another() {
    let folder = Folder::new();
    let path = folder.join("store.db");
    drop(create_store(&path));
    let other = create_store(&folder.join("other.db"));
    instance(&other, "b", None, &["Running"]);
    drop(other);
    let readers = Readers::new(&path);
    let ids = || readers.read("list_instances", |connection| list(connection, Page::default())).unwrap();
    assert_eq!(ids(), [""; 0]);
    // A restored backup replaces a file in this way.
    for ending in ["-wal", "-shm"] {
        let _ = std::fs::remove_file(folder.join(format!("store.db{ending}")));
    }
    std::fs::rename(folder.join("other.db"), &path).unwrap();
    assert_eq!(ids(), ["b"]);
}
