use std::process::Child;
use std::sync::Arc;
use std::time::{Duration, Instant};

use duroxide::providers::{DeleteInstanceResult, InstanceFilter, PruneOptions, PruneResult, WorkItem};

use super::*;
use crate::error::StoreError;
use crate::failure::Failure;
use crate::sqlite::file::paths::beside;
use crate::sqlite::testing::{Folder, process};
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
    };
    Body::Start { requests: instances.iter().map(request).collect(), if_exists: IfExists::Raise }
}

/// The data of the messages of a batch.
fn data(batch: &[Request]) -> Vec<String> {
    let items = batch.iter().flat_map(|request| match &request.body {
        Body::Messages { items, .. } => items.clone(),
        other => panic!("{other:?} is no message"),
    });
    items
        .map(|item| match item {
            WorkItem::QueueMessage { data, .. } => data,
            other => panic!("{other:?} was never sent"),
        })
        .collect()
}

fn new_reader(folder: &Folder, position: i64) -> InboxConsumer {
    InboxConsumer::new(&folder.join("store.db"), |_| Ok(position)).unwrap()
}

fn append(inbox: &mut Inbox, body: &Body, waits: bool) -> i64 {
    inbox.write(|draft| draft.append(body, waits)).unwrap()
}

fn client(folder: &Folder) -> Inbox {
    Inbox::open(&folder.join("store.db")).unwrap()
}

#[test]
fn requests_come_out_as_they_went_in_and_in_order() {
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
    let batch = new_reader(&folder, 0).take().unwrap();
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
    let reader = new_reader(&folder, 0);
    let deleted = DeleteInstanceResult {
        instances_deleted: 1,
        executions_deleted: 2,
        events_deleted: 3,
        queue_messages_deleted: 4,
    };
    let answers: [Answer; 10] = [
        Ok(Reply::Started(vec![StartOutcome::Started, StartOutcome::Attached])),
        Ok(Reply::Delivered),
        Ok(Reply::Deleted(deleted)),
        Ok(Reply::Pruned(PruneResult { instances_processed: 1, executions_deleted: 2, events_deleted: 3 })),
        Err(StoreError::InstanceAlreadyExists { instance: "a".to_owned(), orchestration: "order".to_owned() }),
        Err(StoreError::Failed(Failure::in_doubt("delete", "broken off"))),
        Err(StoreError::Failed(Failure::refused("delete", "it is not to be"))),
        Err(StoreError::Failed(Failure::still_running("delete", "a"))),
        Err(StoreError::Configuration("no".to_owned())),
        Err(StoreError::Unavailable("not now".to_owned())),
    ];
    for answer in answers {
        let position = append(&mut inbox, &messages(&["x"]), true);
        assert!(matches!(inbox.replied(position).unwrap(), Replied::Waiting));
        assert_eq!(reader.take().unwrap().len(), 1);
        reader.reply(vec![(position, answer.clone())]);
        let Replied::Answered(found) = inbox.replied(position).unwrap() else { panic!("{answer:?} was not told") };
        assert_eq!(format!("{found:?}"), format!("{answer:?}"));
    }
}

#[test]
fn what_nobody_waits_for_leaves_nothing_behind() {
    let folder = Folder::new();
    let mut inbox = client(&folder);
    let reader = new_reader(&folder, 0);
    let position = append(&mut inbox, &start(&["a"]), false);
    assert_eq!(reader.take().unwrap().len(), 1);
    let starting = |inbox: &mut Inbox| inbox.write(|draft| draft.starting("a", 0, None)).unwrap();
    assert_eq!(starting(&mut inbox).as_deref(), Some("order"));
    reader.reply(vec![(position, Ok(Reply::Started(vec![StartOutcome::Started])))]);
    assert_eq!(starting(&mut inbox), None);
    assert!(matches!(inbox.replied(position).unwrap(), Replied::Forgotten));
    // A place is never taken twice: the store remembers places.
    assert_eq!(append(&mut inbox, &messages(&["x"]), false), position + 1);
}

#[test]
fn the_next_owner_takes_over_what_the_last_one_has_not_done() {
    let folder = Folder::new();
    let mut inbox = client(&folder);
    let positions = ["done", "answer lost", "not done"].map(|data| append(&mut inbox, &messages(&[data]), true));
    let first = new_reader(&folder, 0);
    assert_eq!(first.take().unwrap().len(), 3);
    first.reply(vec![(positions[0], Ok(Reply::Delivered))]);
    // The store has recorded the second one, and the owner dies.
    drop(first);
    let second = new_reader(&folder, positions[1]);
    assert_eq!(second.backlog(), positions[2]);
    assert_eq!(data(&second.take().unwrap()), ["not done"]);
    assert!(matches!(inbox.replied(positions[0]).unwrap(), Replied::Answered(Ok(Reply::Delivered))));
    assert!(matches!(inbox.replied(positions[1]).unwrap(), Replied::Answered(Ok(Reply::Lost))));
    assert!(matches!(inbox.replied(positions[2]).unwrap(), Replied::Waiting));
}

#[test]
fn the_store_is_asked_by_the_name_of_the_inbox() {
    let folder = Folder::new();
    let name = client(&folder).name().to_string();
    let asked = std::cell::RefCell::new(String::new());
    let reader = InboxConsumer::new(&folder.join("store.db"), |inbox| {
        asked.replace(inbox.to_owned());
        Ok(0)
    });
    assert_eq!((reader.unwrap().backlog(), asked.into_inner()), (0, name));
}

#[test]
fn a_reader_that_waits_is_woken_by_requests_and_by_the_end() {
    let folder = Folder::new();
    let mut inbox = client(&folder);
    let reader = Arc::new(new_reader(&folder, 0));
    let (sender, arrived) = crossbeam_channel::unbounded();
    let theirs = Arc::clone(&reader);
    let thread = std::thread::spawn(move || {
        loop {
            let batch = theirs.next_batch().unwrap();
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
    // By the slow look alone it would be more than a hundred.
    assert!(delays[10] < Duration::from_millis(50), "{delays:?}");
    println!("from acknowledgement to owner: median {:?}, most {:?}", delays[10], delays[20]);
    reader.stop();
    thread.join().unwrap();
}

#[test]
fn a_request_that_cannot_be_understood_is_answered_and_stops_nothing() {
    let folder = Folder::new();
    let mut inbox = client(&folder);
    let strange = append(&mut inbox, &messages(&["strange"]), true);
    append(&mut inbox, &messages(&["plain"]), false);
    let raw = rusqlite::Connection::open(beside(&folder.join("store.db"), "-inbox")).unwrap();
    raw.execute("UPDATE requests SET payload = '{\"dance\":{}}' WHERE position = ?", [strange]).unwrap();
    assert_eq!(data(&new_reader(&folder, 0).take().unwrap()), ["plain"]);
    let Replied::Answered(Err(error)) = inbox.replied(strange).unwrap() else { panic!("it was not answered") };
    assert!(error.to_string().contains("does not understand"), "{error}");
}

#[test]
fn an_inbox_that_was_deleted_is_made_again_on_both_sides() {
    let folder = Folder::new();
    let mut inbox = client(&folder);
    let reader = new_reader(&folder, 0);
    append(&mut inbox, &messages(&["before"]), false);
    assert_eq!(data(&reader.take().unwrap()), ["before"]);
    let name = inbox.name().to_string();
    std::fs::remove_file(inbox.file()).unwrap();
    append(&mut inbox, &messages(&["after"]), false);
    assert_ne!(**inbox.name(), *name);
    assert_eq!(data(&reader.take().unwrap()), ["after"]);
}

#[test]
fn what_is_no_inbox_is_refused() {
    let folder = Folder::new();
    let file = beside(&folder.join("store.db"), "-inbox");
    rusqlite::Connection::open(&file).unwrap().execute_batch("CREATE TABLE songs (title)").unwrap();
    let error = Inbox::open(&folder.join("store.db")).err().unwrap();
    assert!(matches!(&error, StoreError::Configuration(message) if message.contains("another application")), "{error}");
}

/// Set for the other processes of the test below.
const WRITE: &str = "DUROXIDE_TEST_WRITE_TO_INBOX";
const WRITER: &str = "sqlite::inbox::tests::another_writer";
const EACH: usize = 25;

#[test]
#[ignore = "it is the other process of another test"]
fn another_writer() {
    let Some(path) = std::env::var_os(WRITE) else { return };
    println!("started");
    let mut inbox = Inbox::open(std::path::Path::new(&path)).unwrap();
    for number in 0..EACH {
        append(&mut inbox, &messages(&[&format!("{} {number}", std::process::id())]), false);
    }
}

#[test]
fn eight_processes_write_at_once_and_none_is_turned_away() {
    let folder = Folder::new();
    let path = folder.join("store.db");
    let reader = new_reader(&folder, 0);
    let mut writers: Vec<Child> = (0..8).map(|_| process(WRITER, &[(WRITE, path.as_os_str())], "started")).collect();
    let mut arrived = Vec::new();
    while arrived.len() < 8 * EACH {
        let batch = reader.next_batch().unwrap();
        arrived.extend(data(&batch));
        reader.reply(batch.iter().map(|request| (request.position, Ok(Reply::Delivered))).collect());
    }
    for writer in &mut writers {
        let id = writer.id();
        let theirs: Vec<_> = arrived.iter().filter(|data| data.starts_with(&format!("{id} "))).cloned().collect();
        assert_eq!(theirs, (0..EACH).map(|number| format!("{id} {number}")).collect::<Vec<_>>());
        assert!(writer.wait().unwrap().success());
    }
}

#[cfg(target_os = "linux")]
#[test]
fn an_idle_owner_does_next_to_nothing() {
    /// Nanoseconds that this thread has spent on a processor.
    fn spent() -> u64 {
        let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
        stat.split(' ').next().unwrap().parse().unwrap()
    }
    let folder = Folder::new();
    let reader = Arc::new(new_reader(&folder, 0));
    let theirs = Arc::clone(&reader);
    let (sender, never) = crossbeam_channel::bounded::<()>(0);
    let waiting = std::thread::spawn(move || {
        let before = spent();
        assert!(theirs.next_batch().unwrap().is_empty());
        drop(sender);
        spent() - before
    });
    // Nothing is waited for but time itself, of which idleness is a part.
    let time = Duration::from_secs(2);
    assert!(never.recv_timeout(time).is_err());
    reader.stop();
    let spent = Duration::from_nanos(waiting.join().unwrap());
    // Alone it is a third of a millisecond a second; beside other tests, which crowd it out of the caches, some more.
    assert!(spent < time / 100, "{spent:?}");
}

#[test]
fn a_promised_request_that_the_owner_could_not_carry_out_stays_for_the_next_one() {
    let folder = Folder::new();
    let mut inbox = client(&folder);
    let promised = append(&mut inbox, &messages(&["promised"]), false);
    let asked = append(&mut inbox, &messages(&["asked"]), true);
    let reader = new_reader(&folder, 0);
    assert_eq!(reader.take().unwrap().len(), 2);
    let broken = || Err(StoreError::Unavailable("the disk is broken".to_owned()));

    reader.reply(vec![(promised, broken()), (asked, broken())]);

    assert_eq!(data(&new_reader(&folder, 0).take().unwrap()), ["promised"]);
}
