//! Owners that are killed while clients ask for things.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use duroxide::providers::WorkItem;
use rusqlite::Connection;

use crate::error::StoreError;
use crate::sqlite::client::tests::owner::TinyOwner;
use crate::sqlite::client::tests::{Place, raise, request};
use crate::sqlite::testing::process;
use crate::start::StartOutcome;

/// Set for the other processes of the test below.
const SERVE: &str = "DUROXIDE_TEST_SERVE";
const SERVER: &str = "sqlite::client::tests::kills::another_server";

#[test]
#[ignore = "it is the other process of another test"]
fn another_server() {
    let Some(path) = std::env::var_os(SERVE) else { return };
    let owner = loop {
        if let Some(owner) = TinyOwner::of(Path::new(&path)) {
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
fn whatever_was_acknowledged_is_done_once_however_often_the_owner_is_killed() {
    let place = Place::new();
    let is_over = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..3)
        .map(|client| {
            let store = place.client();
            let is_over = Arc::clone(&is_over);
            std::thread::spawn(move || {
                let mut number = 0;
                while !is_over.load(Ordering::Relaxed) {
                    let id = format!("{client}-{number}");
                    assert_eq!(raise(&store, &[request(&id, "order")]), Ok(vec![StartOutcome::Started]), "{id}");
                    let again = raise(&store, &[request(&id, "order")]);
                    // An answer that was lost with its owner is told by what the instance runs, which is the same.
                    assert!(matches!(&again, Err(StoreError::InstanceAlreadyExists { .. }) | Ok(_)), "{id}: {again:?}");
                    store.send(vec![message(&id)], 0).unwrap();
                    number += 1;
                }
                number
            })
        })
        .collect();
    for kill in 0..12_u64 {
        let mut server = process(SERVER, &[(SERVE, place.path.as_os_str())], "serving");
        // Between none and some dozens of requests later.
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
    let last = TinyOwner::of(&place.path).unwrap();
    if last.reader.backlog() > 0 {
        last.serve();
    }
    assert!(last.reader.take().unwrap().is_empty(), "more than one batch was left");
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
