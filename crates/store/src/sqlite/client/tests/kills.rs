//! Kills owners while clients send requests.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use duroxide::providers::WorkItem;
use rusqlite::Connection;

use crate::error::StoreError;
use crate::sqlite::client::tests::owner::MinimalOwner;
use crate::sqlite::client::tests::{TestStore, raise, request};
use crate::sqlite::testing::spawn_test_process;
use crate::start::StartOutcome;

/// The variable that is set for the other processes of the test below.
const SERVE: &str = "DUROXIDE_TEST_SERVE";
const SERVER: &str = "sqlite::client::tests::kills::another_server";

#[test]
#[ignore = "another test runs it as a separate process"]
fn another_server() {
    let Some(path) = std::env::var_os(SERVE) else { return };
    let owner = loop {
        if let Some(owner) = MinimalOwner::of(Path::new(&path)) {
            break owner;
        }
    };
    println!("serving");
    loop {
        owner.serve();
    }
}

fn message(data: &str) -> WorkItem {
    WorkItem::QueueMessage { instance: "a".to_owned(), name: "orders".to_owned(), data: data.to_owned() }
}

#[test]
fn each_acknowledged_request_is_done_once_although_owners_are_killed() {
    let files = TestStore::new();
    let is_over = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..3)
        .map(|client| {
            let store = files.client();
            let is_over = Arc::clone(&is_over);
            std::thread::spawn(move || {
                let mut number = 0;
                while !is_over.load(Ordering::Relaxed) {
                    let id = format!("{client}-{number}");
                    assert_eq!(raise(&store, &[request(&id, "order")]), Ok(vec![StartOutcome::Started]), "{id}");
                    let again = raise(&store, &[request(&id, "order")]);
                    // When an answer is lost with its owner, the client infers it from the orchestration that runs,
                    // which is the same here.
                    assert!(matches!(&again, Err(StoreError::InstanceAlreadyExists { .. }) | Ok(_)), "{id}: {again:?}");
                    store.send(vec![message(&id)], 0).unwrap();
                    number += 1;
                }
                number
            })
        })
        .collect();
    for kill in 0..12_u64 {
        let mut server = spawn_test_process(SERVER, &[(SERVE, files.path.as_os_str())], "serving");
        // The process is killed after between zero and some dozens of requests.
        let moment = Instant::now() + Duration::from_millis(7 * (kill * 5 % 12));
        while Instant::now() < moment {
            std::thread::yield_now();
        }
        server.kill().unwrap();
        server.wait().unwrap();
    }
    is_over.store(true, Ordering::Relaxed);
    let expected: BTreeSet<String> = clients
        .into_iter()
        .enumerate()
        .flat_map(|(client, thread)| {
            let count = thread.join().unwrap();
            (0..count).map(move |number| format!("{client}-{number}"))
        })
        .collect();
    assert!(expected.len() > 20, "{}", expected.len());
    let last = MinimalOwner::of(&files.path).unwrap();
    if last.consumer.backlog() > 0 {
        last.serve();
    }
    assert!(last.consumer.take().unwrap().is_empty(), "more than one batch was left");
    let column = |connection: &Connection, sql: &str| -> Vec<String> {
        connection.prepare(sql).unwrap().query_map([], |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap()
    };
    let instances = column(&last.connection, "SELECT id FROM instances");
    assert_eq!(instances.iter().cloned().collect::<BTreeSet<_>>(), expected);
    let messages = column(&last.connection, "SELECT data ->> '$.QueueMessage.data' FROM messages");
    assert_eq!(messages.len(), expected.len(), "a message came twice, or not at all");
    assert_eq!(messages.into_iter().collect::<BTreeSet<_>>(), expected);
    assert_eq!(column(&last.connection, "PRAGMA integrity_check"), ["ok"]);
}
