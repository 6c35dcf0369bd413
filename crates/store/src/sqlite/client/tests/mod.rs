pub mod kills;
pub mod owner;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;

use super::*;
use crate::failure::FailureKind;
use crate::operations::{AdminOperations as _, EngineOperations as _};
use crate::sqlite::client::tests::owner::TinyOwner;
use crate::sqlite::file::paths::beside;
use crate::sqlite::inbox::InboxConsumer;
use crate::sqlite::testing::{Folder, Other, eventually};
use crate::start::{IfExists, StartOutcome, StartRequest};

fn request(instance: &str, orchestration: &str) -> StartRequest {
    StartRequest {
        instance: instance.to_owned(),
        orchestration: orchestration.to_owned(),
        input: "12".to_owned(),
        version: None,
    }
}

fn nobody_stands_in() -> StandIn {
    Box::new(|body| panic!("nobody was to stand in for {body:?}"))
}

struct Place {
    _folder: Folder,
    path: PathBuf,
}

impl Place {
    fn new() -> Self {
        let folder = Folder::new();
        let path = folder.join("store.db");
        Self { _folder: folder, path }
    }

    fn client(&self) -> Arc<ClientStore> {
        self.client_with(nobody_stands_in())
    }

    fn client_with(&self, stand_in: StandIn) -> Arc<ClientStore> {
        Arc::new(ClientStore::open(&self.path, stand_in).unwrap())
    }

    fn owner(&self) -> TinyOwner {
        TinyOwner::of(&self.path).unwrap()
    }
}

fn in_thread<T: Send + 'static>(
    store: &Arc<ClientStore>,
    call: impl FnOnce(&ClientStore) -> T + Send + 'static,
) -> JoinHandle<T> {
    let store = Arc::clone(store);
    std::thread::spawn(move || call(&store))
}

fn raise(store: &ClientStore, requests: &[StartRequest]) -> Result<Vec<StartOutcome>, StoreError> {
    store.start(requests, IfExists::Raise)
}

#[test]
fn a_store_that_nobody_made_is_made() {
    let place = Place::new();
    let store = place.client();
    assert_eq!(store.running("a").unwrap(), None);
    assert_eq!(store.candidate.holder().unwrap(), LockHolder::Nobody);
    // And again, with what is there.
    assert_eq!(place.client().running("a").unwrap(), None);
}

#[test]
fn a_store_is_not_made_while_somebody_owns_it() {
    let place = Place::new();
    let candidate = LockHandle::new(&place.path).unwrap();
    let ownership = candidate.try_acquire().unwrap().unwrap();
    let path = place.path.clone();
    let opening = std::thread::spawn(move || ClientStore::open(&path, nobody_stands_in()).map(|_| ()));
    let mut connection = Connection::open(&place.path).unwrap();
    schema::prepare(&mut connection, &place.path).unwrap();
    opening.join().unwrap().unwrap();
    drop(ownership);
}

#[test]
fn what_is_no_store_is_refused() {
    let place = Place::new();
    Connection::open(&place.path).unwrap().execute_batch("CREATE TABLE songs (title)").unwrap();
    let error = ClientStore::open(&place.path, nobody_stands_in()).err().unwrap();
    assert!(error.to_string().contains("another application"), "{error}");
    assert!(!beside(&place.path, "-inbox").exists());
}

#[test]
fn without_an_owner_a_start_is_judged_by_what_waits_and_kept_for_the_next_one() {
    let place = Place::new();
    let store = place.client();
    assert_eq!(raise(&store, &[request("a", "order")]), Ok(vec![StartOutcome::Started]));
    let exists = Err(StoreError::InstanceAlreadyExists { instance: "a".to_owned(), orchestration: "order".to_owned() });
    assert_eq!(raise(&store, &[request("a", "order")]), exists);
    // Another process knows it too.
    let other = place.client();
    let two = [request("a", "order"), request("b", "order")];
    assert_eq!(other.start(&two, IfExists::Attach), Ok(vec![StartOutcome::Attached, StartOutcome::Started]));
    assert_eq!(other.start(&[request("a", "other")], IfExists::Attach), exists);

    let owner = place.owner();
    assert_eq!(owner.reader.backlog(), 2);
    let answers = owner.carry_out();
    assert!(answers.iter().all(|(_, answer)| answer.is_ok()), "{answers:?}");
    assert_eq!(store.running("b").unwrap().as_deref(), Some("order"));
    // As long as they are not removed they are known from both.
    drop(owner);
    assert_eq!(raise(&store, &[request("a", "order")]), exists);
}

#[test]
fn a_batch_starts_all_or_none() {
    let place = Place::new();
    let store = place.client();
    raise(&store, &[request("b", "order")]).unwrap();
    assert!(raise(&store, &[request("a", "order"), request("b", "order")]).is_err());
    assert!(raise(&store, &[request("c", "order"), request("c", "order")]).is_err());
    let twice = [request("c", "order"), request("c", "order")];
    assert_eq!(store.start(&twice, IfExists::Attach), Ok(vec![StartOutcome::Started, StartOutcome::Attached]));
    assert_eq!(raise(&store, &[request("a", "order")]), Ok(vec![StartOutcome::Started]));
    assert_eq!(raise(&store, &[]), Ok(Vec::new()));
}

#[test]
fn with_an_owner_it_decides() {
    let place = Place::new();
    let owner = place.owner();
    let store = place.client();
    let started = in_thread(&store, |store| raise(store, &[request("a", "order")]));
    owner.serve();
    assert_eq!(started.join().unwrap(), Ok(vec![StartOutcome::Started]));
    let raised = in_thread(&store, |store| raise(store, &[request("a", "order")]));
    owner.serve();
    let exists = StoreError::InstanceAlreadyExists { instance: "a".to_owned(), orchestration: "order".to_owned() };
    assert_eq!(raised.join().unwrap(), Err(exists));
    let attached = in_thread(&store, |store| store.start(&[request("a", "order")], IfExists::Attach));
    owner.serve();
    assert_eq!(attached.join().unwrap(), Ok(vec![StartOutcome::Attached]));
}

#[test]
fn messages_are_kept_with_and_without_an_owner() {
    let place = Place::new();
    let store = place.client();
    let message = |data: &str| WorkItem::QueueMessage {
        instance: "a".to_owned(),
        name: "orders".to_owned(),
        data: data.to_owned(),
    };
    store.send(vec![message("1"), message("2")], 0).unwrap();
    let owner = place.owner();
    assert_eq!(owner.reader.take().unwrap().len(), 1);
    store.send(vec![message("3")], 77).unwrap();
    let batch = owner.reader.next_batch().unwrap();
    assert!(matches!(&batch[0].body, Body::Messages { items, visible_ms: 77 } if *items == [message("3")]));
}

#[test]
fn a_start_whose_owner_is_killed_before_it_is_read_counts() {
    let place = Place::new();
    let store = place.client();
    let mut owner = Other::take(&place.path);
    let started = in_thread(&store, |store| raise(store, &[request("a", "order")]));
    let attached = in_thread(&store, |store| store.start(&[request("x", "order")], IfExists::Attach));
    let counting = Inbox::open(&place.path).unwrap();
    eventually("two requests", || counting.after(0).unwrap().len() == 2);
    owner.kill();
    assert_eq!(started.join().unwrap(), Ok(vec![StartOutcome::Started]));
    assert_eq!(attached.join().unwrap(), Ok(vec![StartOutcome::Started]));
    assert!(raise(&store, &[request("a", "order")]).is_err());
    let next = place.owner();
    assert_eq!(next.carry_out().len(), 2);
    assert_eq!(store.running("a").unwrap().as_deref(), Some("order"));
}

#[test]
fn a_start_whose_owner_ends_before_it_answers_counts_once() {
    let place = Place::new();
    let owner = place.owner();
    let store = place.client();
    let started = in_thread(&store, |store| raise(store, &[request("a", "order")]));
    assert_eq!(owner.carry_out().len(), 1);
    drop(owner);
    assert_eq!(started.join().unwrap(), Ok(vec![StartOutcome::Started]));
    assert_eq!(place.owner().reader.backlog(), 0);
}

#[test]
fn a_start_whose_owner_is_followed_by_another_gets_its_answer_there() {
    let place = Place::new();
    let store = place.client();
    let owner = place.owner();
    let started = in_thread(&store, |store| raise(store, &[request("a", "order")]));
    let unread = Inbox::open(&place.path).unwrap();
    eventually("a request", || unread.after(0).unwrap().len() == 1);
    // The same right, another reader: as if the next one had taken over at once.
    let reader = InboxConsumer::new(&place.path, |_| Ok(0)).unwrap();
    TinyOwner { reader, ..owner }.serve();
    assert_eq!(started.join().unwrap(), Ok(vec![StartOutcome::Started]));
}

#[test]
fn a_deletion_without_an_owner_is_done_by_a_stand_in() {
    let place = Place::new();
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&calls);
    let store = place.client_with(Box::new(move |body| {
        assert!(matches!(body, Body::Delete { ids, force: true } if *ids == ["a"]));
        // The first time another process was faster, and has gone again.
        if counted.fetch_add(1, Ordering::SeqCst) == 0 {
            return Ok(None);
        }
        Ok(Some(Reply::Deleted(DeleteInstanceResult { instances_deleted: 1, ..Default::default() })))
    }));
    assert_eq!(store.delete(&["a".to_owned()], true).unwrap().instances_deleted, 1);
    assert_eq!(calls.load(Ordering::SeqCst), 2);
}

#[test]
fn a_deletion_whose_owner_is_killed_is_taken_back_and_done_by_a_stand_in() {
    let place = Place::new();
    let store = place.client_with(Box::new(|_| Ok(Some(Reply::Deleted(DeleteInstanceResult::default())))));
    let mut owner = Other::take(&place.path);
    let deleted =
        in_thread(&store, |store| store.delete(&["a".to_owned()], false).map(|result| result.instances_deleted));
    let inbox = Inbox::open(&place.path).unwrap();
    eventually("a request", || inbox.after(0).unwrap().len() == 1);
    owner.kill();
    assert_eq!(deleted.join().unwrap(), Ok(0));
    assert_eq!(inbox.after(0).unwrap().len(), 0);
}

#[test]
fn a_deletion_with_an_owner_is_done_by_it() {
    let place = Place::new();
    let owner = place.owner();
    let store = place.client();
    let started = in_thread(&store, |store| raise(store, &[request("a", "order")]));
    owner.serve();
    started.join().unwrap().unwrap();
    let deleted =
        in_thread(&store, |store| store.delete(&["a".to_owned()], true).map(|result| result.instances_deleted));
    owner.serve();
    assert_eq!(deleted.join().unwrap(), Ok(1));
    assert_eq!(store.running("a").unwrap(), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_engine_reads_and_sends_through_it_and_cannot_work_on_it() {
    let place = Place::new();
    let provider = ClientProvider(place.client());
    let item = WorkItem::CancelInstance { instance: "a".to_owned(), reason: "no".to_owned() };
    provider.enqueue_for_orchestrator(item, Some(Duration::from_secs(60))).await.unwrap();
    let batch = Inbox::open(&place.path).unwrap().after(0).unwrap();
    let Body::Messages { visible_ms, .. } = batch[0].1.as_ref().unwrap().body else { panic!("{batch:?}") };
    assert!(visible_ms > crate::clock::now_ms() + 50_000);
    assert_eq!(provider.read("a").await.unwrap(), []);
    assert_eq!(provider.list_instances().await.unwrap(), [""; 0]);
    assert_eq!(provider.get_system_metrics().await.unwrap().total_instances, 0);
    let error = provider.ack_work_item("token", None).await.unwrap_err();
    assert!(error.message.contains("does not work on it") && error.kind == FailureKind::Refused, "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wait_ends_soon_after_the_owner_has_committed() {
    let place = Place::new();
    let owner = place.owner();
    owner.connection.pragma_update(None, "synchronous", "full").unwrap();
    let store = place.client();
    let mut change = store.changes().watch();
    let mut delays = Vec::new();
    for number in 0..21_i64 {
        // One commit may be heard of twice; nothing else is committed meanwhile.
        while let Ok(()) = tokio::time::timeout(Duration::from_millis(20), change.changed()).await {}
        let insert = "INSERT INTO instances(id, starting, created_ms) VALUES (?, 'order', 0)";
        owner.connection.execute(insert, [number.to_string()]).unwrap();
        let committed = Instant::now();
        change.changed().await;
        delays.push(committed.elapsed());
        assert!(store.running(&number.to_string()).unwrap().is_some());
    }
    delays.sort_unstable();
    println!("from commit to wake-up: median {:?}, most {:?}", delays[10], delays[20]);
    // By the slow look alone it would be fifty.
    assert!(delays[10] < Duration::from_millis(25), "{delays:?}");
}

#[test]
fn the_store_is_watched_only_while_somebody_waits() {
    let place = Place::new();
    let _owner = place.owner();
    let store = place.client();
    let is_watched = || store.changes().is_watched();
    assert!(!is_watched());
    let (one, two) = (store.changes().watch(), store.changes().watch());
    assert!(is_watched());
    drop(one);
    drop(two);
    eventually("the end of the watching", || !is_watched());
    let _again = store.changes().watch();
    assert!(is_watched());
}
