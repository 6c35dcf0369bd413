pub mod kills;
pub mod owner;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;

use super::*;
use crate::failure::FailureKind;
use crate::operations::{AdminOperations as _, EngineOperations as _};
use crate::sqlite::client::provider::ClientProvider;
use crate::sqlite::client::tests::owner::MinimalOwner;
use crate::sqlite::file::paths::beside;
use crate::sqlite::inbox::InboxConsumer;
use crate::sqlite::testing::{Folder, OtherProcess, eventually};
use crate::start::{IfExists, StartOutcome, StartRequest};

fn request(instance: &str, orchestration: &str) -> StartRequest {
    StartRequest {
        instance: instance.to_owned(),
        orchestration: orchestration.to_owned(),
        input: "12".to_owned(),
        version: None,
        due_ms: None,
    }
}

fn no_temporary_owner() -> TemporaryOwner {
    Box::new(|body| panic!("the client became the owner for {body:?}"))
}

struct TestStore {
    _folder: Folder,
    path: PathBuf,
}

impl TestStore {
    fn new() -> Self {
        let folder = Folder::new();
        let path = folder.join("store.db");
        Self { _folder: folder, path }
    }

    fn client(&self) -> Arc<ClientStore> {
        self.client_with(no_temporary_owner())
    }

    fn client_with(&self, temporary_owner: TemporaryOwner) -> Arc<ClientStore> {
        Arc::new(ClientStore::open(&self.path, temporary_owner).unwrap())
    }

    fn owner(&self) -> MinimalOwner {
        MinimalOwner::of(&self.path).unwrap()
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
fn a_store_that_does_not_exist_is_created() {
    let files = TestStore::new();
    let store = files.client();
    assert_eq!(store.running("a").unwrap(), None);
    assert_eq!(store.lock.holder().unwrap(), LockHolder::None);
    // A second client opens the existing store.
    assert_eq!(files.client().running("a").unwrap(), None);
}

#[test]
fn a_client_waits_while_the_owner_creates_the_store() {
    let files = TestStore::new();
    let lock = LockHandle::new(&files.path).unwrap();
    let owner_lock = lock.try_acquire().unwrap().unwrap();
    let path = files.path.clone();
    let opening = std::thread::spawn(move || ClientStore::open(&path, no_temporary_owner()).map(|_| ()));
    let mut connection = Connection::open(&files.path).unwrap();
    schema::prepare(&mut connection, &files.path).unwrap();
    opening.join().unwrap().unwrap();
    drop(owner_lock);
}

#[test]
fn a_file_that_is_not_a_store_is_refused() {
    let files = TestStore::new();
    Connection::open(&files.path).unwrap().execute_batch("CREATE TABLE songs (title)").unwrap();
    let error = ClientStore::open(&files.path, no_temporary_owner()).err().unwrap();
    assert!(error.to_string().contains("another application"), "{error}");
    assert!(!beside(&files.path, "-inbox").exists());
}

#[test]
fn without_an_owner_the_client_decides_a_start_and_keeps_it_for_the_next_owner() {
    let files = TestStore::new();
    let store = files.client();
    assert_eq!(raise(&store, &[request("a", "order")]), Ok(vec![StartOutcome::Started]));
    let exists = Err(StoreError::InstanceAlreadyExists { instance: "a".to_owned(), orchestration: "order".to_owned() });
    assert_eq!(raise(&store, &[request("a", "order")]), exists);
    // Another process sees the waiting start too.
    let other = files.client();
    let two = [request("a", "order"), request("b", "order")];
    assert_eq!(other.start(&two, IfExists::Attach), Ok(vec![StartOutcome::Attached, StartOutcome::Started]));
    assert_eq!(other.start(&[request("a", "other")], IfExists::Attach), exists);

    let owner = files.owner();
    assert_eq!(owner.consumer.backlog(), 2);
    let answers = owner.carry_out();
    assert!(answers.iter().all(|(_, answer)| answer.is_ok()), "{answers:?}");
    assert_eq!(store.running("b").unwrap().as_deref(), Some("order"));
    // The requests are not removed yet, so the inbox and the store both have the starts.
    drop(owner);
    assert_eq!(raise(&store, &[request("a", "order")]), exists);
}

#[test]
fn a_batch_starts_all_instances_or_none() {
    let files = TestStore::new();
    let store = files.client();
    raise(&store, &[request("b", "order")]).unwrap();
    assert!(raise(&store, &[request("a", "order"), request("b", "order")]).is_err());
    assert!(raise(&store, &[request("c", "order"), request("c", "order")]).is_err());
    let twice = [request("c", "order"), request("c", "order")];
    assert_eq!(store.start(&twice, IfExists::Attach), Ok(vec![StartOutcome::Started, StartOutcome::Attached]));
    assert_eq!(raise(&store, &[request("a", "order")]), Ok(vec![StartOutcome::Started]));
    assert_eq!(raise(&store, &[]), Ok(Vec::new()));
}

#[test]
fn an_owner_decides_a_start() {
    let files = TestStore::new();
    let owner = files.owner();
    let store = files.client();
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
    let files = TestStore::new();
    let store = files.client();
    let message = |data: &str| WorkItem::QueueMessage {
        instance: "a".to_owned(),
        name: "orders".to_owned(),
        data: data.to_owned(),
    };
    store.send(vec![message("1"), message("2")], 0).unwrap();
    let owner = files.owner();
    assert_eq!(owner.consumer.take().unwrap().len(), 1);
    store.send(vec![message("3")], 77).unwrap();
    let batch = owner.consumer.next_batch().unwrap();
    assert!(matches!(&batch[0].body, Body::Messages { items, visible_ms: 77 } if *items == [message("3")]));
}

#[test]
fn a_start_that_a_killed_owner_did_not_read_counts() {
    let files = TestStore::new();
    let store = files.client();
    let mut owner = OtherProcess::own(&files.path);
    let started = in_thread(&store, |store| raise(store, &[request("a", "order")]));
    let attached = in_thread(&store, |store| store.start(&[request("x", "order")], IfExists::Attach));
    let counting = Inbox::open(&files.path).unwrap();
    eventually("two requests", || counting.after(0).unwrap().len() == 2);
    owner.kill();
    assert_eq!(started.join().unwrap(), Ok(vec![StartOutcome::Started]));
    assert_eq!(attached.join().unwrap(), Ok(vec![StartOutcome::Started]));
    assert!(raise(&store, &[request("a", "order")]).is_err());
    let next = files.owner();
    assert_eq!(next.carry_out().len(), 2);
    assert_eq!(store.running("a").unwrap().as_deref(), Some("order"));
}

#[test]
fn a_start_that_an_owner_did_not_answer_counts_once() {
    let files = TestStore::new();
    let owner = files.owner();
    let store = files.client();
    let started = in_thread(&store, |store| raise(store, &[request("a", "order")]));
    assert_eq!(owner.carry_out().len(), 1);
    drop(owner);
    assert_eq!(started.join().unwrap(), Ok(vec![StartOutcome::Started]));
    assert_eq!(files.owner().consumer.backlog(), 0);
}

#[test]
fn the_next_owner_answers_a_start() {
    let files = TestStore::new();
    let store = files.client();
    let owner = files.owner();
    let started = in_thread(&store, |store| raise(store, &[request("a", "order")]));
    let unread = Inbox::open(&files.path).unwrap();
    eventually("a request", || unread.after(0).unwrap().len() == 1);
    // The same lock with another consumer stands for a next owner that takes over at once.
    let consumer = InboxConsumer::new(&files.path, |_| Ok(0)).unwrap();
    MinimalOwner { consumer, ..owner }.serve();
    assert_eq!(started.join().unwrap(), Ok(vec![StartOutcome::Started]));
}

#[test]
fn a_temporary_owner_does_a_deletion_without_an_owner() {
    let files = TestStore::new();
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&calls);
    let store = files.client_with(Box::new(move |body| {
        assert!(matches!(body, Body::Delete { ids, force: true } if *ids == ["a"]));
        // The first time another process becomes the owner first, and ends.
        if counted.fetch_add(1, Ordering::SeqCst) == 0 {
            return Ok(None);
        }
        Ok(Some(InboxReply::Deleted(DeleteInstanceResult { instances_deleted: 1, ..Default::default() })))
    }));
    assert_eq!(store.delete(&["a".to_owned()], true).unwrap().instances_deleted, 1);
    assert_eq!(calls.load(Ordering::SeqCst), 2);
}

#[test]
fn a_temporary_owner_does_a_deletion_whose_owner_was_killed() {
    let files = TestStore::new();
    let store = files.client_with(Box::new(|_| Ok(Some(InboxReply::Deleted(DeleteInstanceResult::default())))));
    let mut owner = OtherProcess::own(&files.path);
    let deleted =
        in_thread(&store, |store| store.delete(&["a".to_owned()], false).map(|result| result.instances_deleted));
    let inbox = Inbox::open(&files.path).unwrap();
    eventually("a request", || inbox.after(0).unwrap().len() == 1);
    owner.kill();
    assert_eq!(deleted.join().unwrap(), Ok(0));
    assert_eq!(inbox.after(0).unwrap().len(), 0);
}

#[test]
fn an_owner_does_a_deletion() {
    let files = TestStore::new();
    let owner = files.owner();
    let store = files.client();
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
async fn the_engine_reads_and_sends_as_a_client_but_cannot_work() {
    let files = TestStore::new();
    let provider = ClientProvider(files.client());
    let item = WorkItem::CancelInstance { instance: "a".to_owned(), reason: "no".to_owned() };
    provider.enqueue_for_orchestrator(item, Some(Duration::from_secs(60))).await.unwrap();
    let batch = Inbox::open(&files.path).unwrap().after(0).unwrap();
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
    let files = TestStore::new();
    let owner = files.owner();
    owner.connection.pragma_update(None, "synchronous", "full").unwrap();
    let store = files.client();
    let mut commit = store.commits().watch();
    let mut delays = Vec::new();
    for number in 0..21_i64 {
        // One commit may be reported twice. No other commit happens at the same time.
        while let Ok(()) = tokio::time::timeout(Duration::from_millis(20), commit.changed()).await {}
        let insert = "INSERT INTO instances(id, starting, created_ms) VALUES (?, 'order', 0)";
        owner.connection.execute(insert, [number.to_string()]).unwrap();
        let committed = Instant::now();
        commit.changed().await;
        delays.push(committed.elapsed());
        assert!(store.running(&number.to_string()).unwrap().is_some());
    }
    delays.sort_unstable();
    println!("from commit to wake-up: median {:?}, most {:?}", delays[10], delays[20]);
    // With the slow polling alone, the median would be fifty milliseconds.
    assert!(delays[10] < Duration::from_millis(25), "{delays:?}");
}

#[test]
fn the_store_is_watched_only_while_a_wait_exists() {
    let files = TestStore::new();
    let _owner = files.owner();
    let store = files.client();
    let is_watched = || store.commits().is_watched();
    assert!(!is_watched());
    let (one, two) = (store.commits().watch(), store.commits().watch());
    assert!(is_watched());
    drop(one);
    drop(two);
    eventually("the end of the watching", || !is_watched());
    let _again = store.commits().watch();
    assert!(is_watched());
}
