use std::process::Child;
use std::sync::Arc;
use std::time::{Duration, Instant};

use duroxide::providers::{DeleteInstanceResult, InstanceFilter, PruneOptions, PruneResult, WorkItem};

use super::*;
use crate::error::StoreError;
use crate::failure::Failure;
use crate::sqlite::file::paths::beside;
use crate::sqlite::testing::{Folder, spawn_test_process};
use crate::start::{IfExists, StartOutcome, StartRequest};

fn message(data: &str) -> WorkItem {
    WorkItem::QueueMessage { instance: "a".to_owned(), name: "orders".to_owned(), data: data.to_owned() }
}

fn messages(data: &[&str]) -> Body {
    Body::Messages { items: data.iter().copied().map(message).collect(), visible_ms: 0 }
}

fn start(instances: &[&str]) -> Body {
    let request = |instance: &&str| StartRequest {
        instance: (*instance).to_owned(),
        orchestration: "order".to_owned(),
        input: "12".to_owned(),
        version: Some("1.0.0".to_owned()),
        due_ms: None,
    };
    Body::Start { requests: instances.iter().map(request).collect(), if_exists: IfExists::Raise }
}

/// The data of all messages in a batch.
fn data(batch: &[Request]) -> Vec<String> {
    let items = batch.iter().flat_map(|request| match &request.body {
        Body::Messages { items, .. } => items.clone(),
        other => panic!("{other:?} has no messages"),
    });
    items
        .map(|item| match item {
            WorkItem::QueueMessage { data, .. } => data,
            other => panic!("{other:?} was never sent"),
        })
        .collect()
}

fn new_consumer(folder: &Folder, position: i64) -> InboxConsumer {
    InboxConsumer::new(&folder.join("store.db"), |_| Ok(position)).unwrap()
}

fn append(inbox: &mut Inbox, body: &Body, waits: bool) -> i64 {
    inbox.write(|transaction| transaction.append(body, waits)).unwrap()
}

fn client(folder: &Folder) -> Inbox {
    Inbox::open(&folder.join("store.db")).unwrap()
}

#[test]
fn requests_keep_their_content_and_order() {
    let folder = Folder::new();
    let mut inbox = client(&folder);
    let filter = InstanceFilter { instance_ids: Some(vec!["x".to_owned()]), completed_before: Some(7), limit: Some(3) };
    let options = PruneOptions { keep_last: Some(2), completed_before: None };
    let bodies = [
        start(&["a", "b"]),
        Body::Messages { items: vec![message("ü \u{1f980}")], visible_ms: 99 },
        Body::Delete { ids: vec!["a".to_owned()], force: true },
        Body::DeleteBulk(filter.clone()),
        Body::Prune { id: "a".to_owned(), options: options.clone() },
        Body::PruneBulk { filter, options },
    ];
    for body in &bodies {
        append(&mut inbox, body, false);
    }
    let batch = new_consumer(&folder, 0).take().unwrap();
    let positions: Vec<_> = batch.iter().map(|request| request.position).collect();
    assert_eq!(positions, [1, 2, 3, 4, 5, 6]);
    assert!(batch.iter().all(|request| request.inbox == *inbox.name()));
    for (request, body) in batch.iter().zip(&bodies) {
        assert_eq!(format!("{:?}", request.body), format!("{body:?}"));
    }
}

#[test]
fn answers_keep_their_type() {
    let folder = Folder::new();
    let mut inbox = client(&folder);
    let consumer = new_consumer(&folder, 0);
    let deleted = DeleteInstanceResult {
        instances_deleted: 1,
        executions_deleted: 2,
        events_deleted: 3,
        queue_messages_deleted: 4,
    };
    let answers: [InboxAnswer; 10] = [
        Ok(InboxReply::Started(vec![StartOutcome::Started, StartOutcome::Attached])),
        Ok(InboxReply::Delivered),
        Ok(InboxReply::Deleted(deleted)),
        Ok(InboxReply::Pruned(PruneResult { instances_processed: 1, executions_deleted: 2, events_deleted: 3 })),
        Err(StoreError::InstanceAlreadyExists { instance: "a".to_owned(), orchestration: "order".to_owned() }),
        Err(StoreError::Failed(Failure::in_doubt("delete", "broken off"))),
        Err(StoreError::Failed(Failure::refused("delete", "it is not to be"))),
        Err(StoreError::Failed(Failure::still_running("delete", "a"))),
        Err(StoreError::Configuration("no".to_owned())),
        Err(StoreError::Unavailable("not now".to_owned())),
    ];
    for answer in answers {
        let position = append(&mut inbox, &messages(&["x"]), true);
        assert!(matches!(inbox.request_state(position).unwrap(), RequestState::Waiting));
        assert_eq!(consumer.take().unwrap().len(), 1);
        consumer.reply(vec![(position, answer.clone())]);
        let RequestState::Answered(found) = inbox.request_state(position).unwrap() else {
            panic!("{answer:?} was not written")
        };
        assert_eq!(format!("{found:?}"), format!("{answer:?}"));
    }
}

#[test]
fn an_answer_without_a_waiting_client_is_not_kept() {
    let folder = Folder::new();
    let mut inbox = client(&folder);
    let consumer = new_consumer(&folder, 0);
    let position = append(&mut inbox, &start(&["a"]), false);
    assert_eq!(consumer.take().unwrap().len(), 1);
    let starting = |inbox: &mut Inbox| inbox.write(|transaction| transaction.starting("a", 0, None)).unwrap();
    assert_eq!(starting(&mut inbox).as_deref(), Some("order"));
    consumer.reply(vec![(position, Ok(InboxReply::Started(vec![StartOutcome::Started])))]);
    assert_eq!(starting(&mut inbox), None);
    assert!(matches!(inbox.request_state(position).unwrap(), RequestState::Unknown));
    // A position is never used twice, since the store records positions.
    assert_eq!(append(&mut inbox, &messages(&["x"]), false), position + 1);
}

#[test]
fn the_next_owner_carries_out_what_the_last_one_has_not() {
    let folder = Folder::new();
    let mut inbox = client(&folder);
    let positions = ["done", "answer lost", "not done"].map(|data| append(&mut inbox, &messages(&[data]), true));
    let first = new_consumer(&folder, 0);
    assert_eq!(first.take().unwrap().len(), 3);
    first.reply(vec![(positions[0], Ok(InboxReply::Delivered))]);
    // The store has recorded the second one, and the owner dies.
    drop(first);
    let second = new_consumer(&folder, positions[1]);
    assert_eq!(second.backlog(), positions[2]);
    assert_eq!(data(&second.take().unwrap()), ["not done"]);
    assert!(matches!(inbox.request_state(positions[0]).unwrap(), RequestState::Answered(Ok(InboxReply::Delivered))));
    assert!(matches!(inbox.request_state(positions[1]).unwrap(), RequestState::Answered(Ok(InboxReply::Lost))));
    assert!(matches!(inbox.request_state(positions[2]).unwrap(), RequestState::Waiting));
}

#[test]
fn the_position_is_that_of_the_inbox_with_this_name() {
    let folder = Folder::new();
    let name = client(&folder).name().to_string();
    let asked = std::cell::RefCell::new(String::new());
    let consumer = InboxConsumer::new(&folder.join("store.db"), |inbox| {
        asked.replace(inbox.to_owned());
        Ok(0)
    });
    assert_eq!((consumer.unwrap().backlog(), asked.into_inner()), (0, name));
}

#[test]
fn requests_and_the_stop_wake_a_waiting_consumer() {
    let folder = Folder::new();
    let mut inbox = client(&folder);
    let consumer = Arc::new(new_consumer(&folder, 0));
    let (sender, arrived) = crossbeam_channel::unbounded();
    let shared = Arc::clone(&consumer);
    let thread = std::thread::spawn(move || {
        loop {
            let batch = shared.next_batch().unwrap();
            if batch.is_empty() {
                return;
            }
            sender.send(Instant::now()).unwrap();
        }
    });
    let mut delays: Vec<Duration> = (0..21)
        .map(|_| {
            append(&mut inbox, &messages(&["x"]), false);
            let written = Instant::now();
            arrived.recv_timeout(Duration::from_secs(20)).unwrap().saturating_duration_since(written)
        })
        .collect();
    delays.sort_unstable();
    // With the slow polling alone, the median would be more than a hundred milliseconds.
    assert!(delays[10] < Duration::from_millis(50), "{delays:?}");
    println!("from acknowledgement to owner: median {:?}, most {:?}", delays[10], delays[20]);
    consumer.stop();
    thread.join().unwrap();
}

#[test]
fn a_request_that_cannot_be_decoded_is_answered_and_does_not_block_others() {
    let folder = Folder::new();
    let mut inbox = client(&folder);
    let strange = append(&mut inbox, &messages(&["strange"]), true);
    append(&mut inbox, &messages(&["plain"]), false);
    let raw = rusqlite::Connection::open(beside(&folder.join("store.db"), "-inbox")).unwrap();
    raw.execute("UPDATE requests SET payload = '{\"dance\":{}}' WHERE position = ?", [strange]).unwrap();
    assert_eq!(data(&new_consumer(&folder, 0).take().unwrap()), ["plain"]);
    let RequestState::Answered(Err(error)) = inbox.request_state(strange).unwrap() else {
        panic!("it was not answered")
    };
    assert!(error.to_string().contains("does not understand"), "{error}");
}

#[test]
fn client_and_owner_recreate_a_deleted_inbox() {
    let folder = Folder::new();
    let mut inbox = client(&folder);
    let consumer = new_consumer(&folder, 0);
    append(&mut inbox, &messages(&["before"]), false);
    assert_eq!(data(&consumer.take().unwrap()), ["before"]);
    let name = inbox.name().to_string();
    std::fs::remove_file(inbox.file()).unwrap();
    append(&mut inbox, &messages(&["after"]), false);
    assert_ne!(**inbox.name(), *name);
    assert_eq!(data(&consumer.take().unwrap()), ["after"]);
}

#[test]
fn a_file_that_is_not_an_inbox_is_refused() {
    let folder = Folder::new();
    let file = beside(&folder.join("store.db"), "-inbox");
    rusqlite::Connection::open(&file).unwrap().execute_batch("CREATE TABLE songs (title)").unwrap();
    let error = Inbox::open(&folder.join("store.db")).err().unwrap();
    assert!(matches!(&error, StoreError::Configuration(message) if message.contains("another application")), "{error}");
}

/// The variable that is set for the other processes of the test below.
const WRITE: &str = "DUROXIDE_TEST_WRITE_TO_INBOX";
const WRITER: &str = "sqlite::inbox::tests::another_writer";
const EACH: usize = 25;

#[test]
#[ignore = "another test runs it as a separate process"]
fn another_writer() {
    let Some(path) = std::env::var_os(WRITE) else { return };
    println!("started");
    let mut inbox = Inbox::open(std::path::Path::new(&path)).unwrap();
    for number in 0..EACH {
        append(&mut inbox, &messages(&[&format!("{} {number}", std::process::id())]), false);
    }
}

#[test]
fn eight_processes_can_write_at_once() {
    let folder = Folder::new();
    let path = folder.join("store.db");
    let consumer = new_consumer(&folder, 0);
    let mut writers: Vec<Child> =
        (0..8).map(|_| spawn_test_process(WRITER, &[(WRITE, path.as_os_str())], "started")).collect();
    let mut arrived = Vec::new();
    while arrived.len() < 8 * EACH {
        let batch = consumer.next_batch().unwrap();
        arrived.extend(data(&batch));
        consumer.reply(batch.iter().map(|request| (request.position, Ok(InboxReply::Delivered))).collect());
    }
    for writer in &mut writers {
        let id = writer.id();
        let from_writer: Vec<_> = arrived.iter().filter(|data| data.starts_with(&format!("{id} "))).cloned().collect();
        assert_eq!(from_writer, (0..EACH).map(|number| format!("{id} {number}")).collect::<Vec<_>>());
        assert!(writer.wait().unwrap().success());
    }
}

#[cfg(target_os = "linux")]
#[test]
fn an_idle_consumer_uses_almost_no_processor_time() {
    /// Nanoseconds that this thread has spent on a processor.
    fn spent() -> u64 {
        let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
        stat.split(' ').next().unwrap().parse().unwrap()
    }
    let folder = Folder::new();
    let consumer = Arc::new(new_consumer(&folder, 0));
    let shared = Arc::clone(&consumer);
    let (sender, never) = crossbeam_channel::bounded::<()>(0);
    let waiting = std::thread::spawn(move || {
        let before = spent();
        assert!(shared.next_batch().unwrap().is_empty());
        drop(sender);
        spent() - before
    });
    // The test measures idle time, so it must let time pass.
    let time = Duration::from_secs(2);
    assert!(never.recv_timeout(time).is_err());
    consumer.stop();
    let spent = Duration::from_nanos(waiting.join().unwrap());
    // Alone, the consumer needs a third of a millisecond per second. Beside other tests, which displace it from the
    // caches, it needs more.
    assert!(spent < time / 100, "{spent:?}");
}

#[test]
fn a_promised_request_that_failed_stays_for_the_next_owner() {
    let folder = Folder::new();
    let mut inbox = client(&folder);
    let promised = append(&mut inbox, &messages(&["promised"]), false);
    let asked = append(&mut inbox, &messages(&["asked"]), true);
    let consumer = new_consumer(&folder, 0);
    assert_eq!(consumer.take().unwrap().len(), 2);
    let broken = || Err(StoreError::Unavailable("the disk is broken".to_owned()));

    consumer.reply(vec![(promised, broken()), (asked, broken())]);

    assert_eq!(data(&new_consumer(&folder, 0).take().unwrap()), ["promised"]);
}
