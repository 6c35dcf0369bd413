//! A termination beside a turn that runs: one of the two ends the instance, on a SQLite file, in memory and on PostgreSQL.

use std::sync::Arc;
use std::time::Duration;

use duroxide::providers::{ExecutionMetadata, WorkItem};
use duroxide::{Event, EventKind};

use crate::backend::Backend;
use crate::history::is_end;
use crate::policy::StorePolicy;
use crate::postgres::conformance::PostgresFactory;
use crate::sqlite::SqliteStore;
use crate::sqlite::testing::Folder;
use crate::termination::Termination;
use crate::turn_commit::TurnCommit;
use crate::types::Durability;

const LEASE: Duration = Duration::from_secs(60);
const PATIENCE: Duration = Duration::from_secs(10);

fn start(instance: &str) -> WorkItem {
    WorkItem::StartOrchestration {
        instance: instance.to_owned(),
        orchestration: "order".to_owned(),
        input: "null".to_owned(),
        version: None,
        parent_instance: None,
        parent_id: None,
        parent_execution_id: None,
        execution_id: duroxide::INITIAL_EXECUTION_ID,
    }
}

fn termination(instance: &str) -> Termination {
    Termination { instance: instance.to_owned(), reason: "enough".to_owned(), output: None, is_recursive: true }
}

/// The first turn of an instance, which completes it if `completes`, and waits for an event if not.
fn first_turn(instance: &str, completes: bool) -> Arc<TurnCommit> {
    let started = EventKind::OrchestrationStarted {
        name: "order".to_owned(),
        version: "1.0.0".to_owned(),
        input: "null".to_owned(),
        parent_instance: None,
        parent_id: None,
        parent_execution_id: None,
        carry_forward_events: None,
        initial_custom_status: None,
    };
    let then = if completes {
        EventKind::OrchestrationCompleted { output: "null".to_owned() }
    } else {
        EventKind::ExternalSubscribed { name: "go".to_owned() }
    };
    let event = |id, kind| Event::with_event_id(id, instance, 1, None, kind);
    let metadata = ExecutionMetadata {
        status: completes.then(|| "Completed".to_owned()),
        orchestration_name: Some("order".to_owned()),
        orchestration_version: Some("1.0.0".to_owned()),
        ..ExecutionMetadata::default()
    };
    let delta = vec![event(1, started), event(2, then)];
    Arc::new(TurnCommit { execution_id: 1, delta, metadata, ..TurnCommit::default() })
}

/// Starts an instance, and fetches its first turn.
async fn begin(store: &dyn Backend, instance: &str) -> String {
    store.enqueue_for_orchestrator(start(instance), None).await.unwrap();
    for _ in 0..20 {
        if let Some((item, token, _)) = store.fetch_orchestration_item(LEASE, PATIENCE / 20, None).await.unwrap() {
            assert_eq!(item.instance, instance);
            return token;
        }
    }
    panic!("no turn came");
}

async fn ends(store: &dyn Backend, instance: &str) -> Vec<&'static str> {
    let history = store.read(instance).await.unwrap();
    let ends = history.iter().filter(|event| is_end(&event.kind));
    ends.map(|event| crate::history::event_kind_name(&event.kind)).collect()
}

async fn a_turn_that_runs_cannot_commit_after_a_termination(store: Arc<dyn Backend>) {
    let token = begin(&*store, "order-1").await;

    let ended = store.terminate(&termination("order-1")).await.unwrap();

    assert_eq!(ended, ["order-1"]);
    assert!(store.renew_orchestration_item_lock(&token, LEASE).await.unwrap_err().is_lock_lost());
    let refused = store.commit_turn(&token, first_turn("order-1", true)).await;
    assert!(refused.unwrap_err().is_lock_lost());
    assert_eq!(ends(&*store, "order-1").await, ["OrchestrationFailed"]);
}

async fn a_turn_that_has_ended_its_instance_leaves_nothing_to_terminate(store: Arc<dyn Backend>) {
    let token = begin(&*store, "order-1").await;
    store.commit_turn(&token, first_turn("order-1", true)).await.unwrap();

    let ended = store.terminate(&termination("order-1")).await.unwrap();

    assert_eq!(ended, [""; 0]);
    assert_eq!(ends(&*store, "order-1").await, ["OrchestrationCompleted"]);
}

async fn a_turn_that_commits_during_a_termination_ends_its_instance_or_loses(store: Arc<dyn Backend>) {
    for number in 0..20 {
        let instance = format!("order-{number}");
        let token = begin(&*store, &instance).await;
        let request = termination(&instance);

        let (committed, ended) =
            tokio::join!(store.commit_turn(&token, first_turn(&instance, true)), store.terminate(&request));

        let ended = ended.unwrap();
        assert_eq!(committed.is_ok(), ended.is_empty(), "{instance}: {committed:?}, {ended:?}");
        assert_eq!(ends(&*store, &instance).await.len(), 1);
    }
}

async fn an_instance_ends_after_the_turn_that_commits_during_its_termination(store: Arc<dyn Backend>) {
    for number in 0..20 {
        let instance = format!("order-{number}");
        let token = begin(&*store, &instance).await;
        let request = termination(&instance);

        let (committed, ended) =
            tokio::join!(store.commit_turn(&token, first_turn(&instance, false)), store.terminate(&request));

        assert_eq!(ended.unwrap(), std::slice::from_ref(&instance));
        let history = store.read(&instance).await.unwrap();
        let has_waited = history.iter().any(|event| matches!(event.kind, EventKind::ExternalSubscribed { .. }));
        assert_eq!(committed.is_ok(), has_waited, "{instance}: {committed:?}");
        assert!(history.last().is_some_and(|event| is_end(&event.kind)));
    }
}

async fn of_two_terminations_at_once_one_ends_the_instance(store: Arc<dyn Backend>) {
    for number in 0..20 {
        let instance = format!("order-{number}");
        store.enqueue_for_orchestrator(start(&instance), None).await.unwrap();
        let request = termination(&instance);

        let (first, second) = tokio::join!(store.terminate(&request), store.terminate(&request));

        assert_eq!(first.unwrap().len() + second.unwrap().len(), 1);
        assert_eq!(ends(&*store, &instance).await, ["OrchestrationFailed"]);
    }
}

macro_rules! on_every_store {
    ($($function:ident),+) => {
        mod file {
            use super::*;

            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $function() {
                let folder = Folder::new();
                let store = Arc::new(SqliteStore::open(&folder.join("store.db"), Durability::Normal).unwrap());
                Arc::clone(&store).begin_dispatching().await.unwrap();
                super::$function(Arc::clone(&store) as Arc<dyn Backend>).await;
                store.close().await;
            })+
        }
        mod memory {
            use super::*;

            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $function() {
                super::$function(Arc::new(SqliteStore::in_memory().unwrap())).await;
            })+
        }
        mod postgres {
            use super::*;

            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $function() {
                let factory = PostgresFactory::new(StorePolicy::SHIPPED).await;
                super::$function(factory.create_store().await).await;
            })+
        }
    };
}

on_every_store!(
    a_turn_that_runs_cannot_commit_after_a_termination,
    a_turn_that_has_ended_its_instance_leaves_nothing_to_terminate,
    a_turn_that_commits_during_a_termination_ends_its_instance_or_loses,
    an_instance_ends_after_the_turn_that_commits_during_its_termination,
    of_two_terminations_at_once_one_ends_the_instance
);
