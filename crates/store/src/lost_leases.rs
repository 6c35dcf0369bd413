//! A lost lease changes nothing of the work that its new owner holds: on a SQLite file, in memory and on PostgreSQL.

use std::sync::Arc;
use std::time::Duration;

use duroxide::provider_validation::ProviderFactory;
use duroxide::providers::{OrchestrationItem, Provider, TagFilter, WorkItem};

use crate::policy::StorePolicy;
use crate::postgres::conformance::PostgresFactory as Postgres;
use crate::sqlite::conformance::SqliteFactory as Sqlite;

/// Every message comes with the next turn, so that a test sees what was recorded.
const UNGATED: StorePolicy = StorePolicy { gate_messages: false, ..StorePolicy::SHIPPED };
const SHORT: Duration = Duration::from_millis(100);
const LONG: Duration = Duration::from_secs(60);
/// The longest wait for a lease to end, and for a slow look on PostgreSQL to find its work.
const PATIENCE: Duration = Duration::from_secs(10);
const HOUR: Duration = Duration::from_secs(3_600);

async fn next_turn(provider: &Arc<dyn Provider>, lease: Duration) -> (OrchestrationItem, String, u32) {
    for _ in 0..20 {
        if let Some(turn) = provider.fetch_orchestration_item(lease, PATIENCE / 20, None).await.unwrap() {
            return turn;
        }
    }
    panic!("no turn came");
}

async fn next_activity(provider: &Arc<dyn Provider>, lease: Duration) -> (String, u32) {
    for _ in 0..20 {
        let fetched = provider.fetch_work_item(lease, PATIENCE / 20, None, &TagFilter::DefaultOnly).await.unwrap();
        if let Some((_, token, attempt)) = fetched {
            return (token, attempt);
        }
    }
    panic!("no activity came");
}

fn start(instance: &str) -> WorkItem {
    WorkItem::StartOrchestration {
        instance: instance.to_owned(),
        orchestration: "orchestration".to_owned(),
        input: "null".to_owned(),
        version: None,
        parent_instance: None,
        parent_id: None,
        parent_execution_id: None,
        execution_id: duroxide::INITIAL_EXECUTION_ID,
    }
}

fn activity(instance: &str) -> WorkItem {
    WorkItem::ActivityExecute {
        instance: instance.to_owned(),
        execution_id: 1,
        id: 2,
        name: "activity".to_owned(),
        input: "null".to_owned(),
        session_id: None,
        tag: None,
    }
}

async fn a_turn_given_back_after_its_lease_was_lost_is_left_to_its_new_owner(factory: &impl ProviderFactory) {
    let provider = factory.create_provider().await;
    provider.enqueue_for_orchestrator(start("instance"), None).await.unwrap();
    let (_, lost, first) = next_turn(&provider, SHORT).await;
    let (_, held, second) = next_turn(&provider, LONG).await;
    assert_eq!((first, second), (1, 2));

    assert!(provider.abandon_orchestration_item(&lost, Some(HOUR), false).await.is_err());
    assert!(provider.abandon_orchestration_item(&lost, None, true).await.is_err());

    // Not leased to a third, not put off by an hour, and not counted.
    let third = provider.fetch_orchestration_item(LONG, SHORT, None).await.unwrap();
    assert!(third.is_none(), "the lease of the new owner was given back");
    provider.abandon_orchestration_item(&held, None, true).await.unwrap();
    let (item, _, attempt) = next_turn(&provider, LONG).await;
    assert_eq!((item.instance.as_str(), item.messages.len(), attempt), ("instance", 1, 2));
}

async fn an_activity_given_back_after_its_lease_was_lost_is_left_to_its_new_owner(factory: &impl ProviderFactory) {
    let provider = factory.create_provider().await;
    provider.enqueue_for_worker(activity("instance")).await.unwrap();
    let (lost, first) = next_activity(&provider, SHORT).await;
    let (held, second) = next_activity(&provider, LONG).await;
    assert_eq!((first, second), (1, 2));

    assert!(provider.abandon_work_item(&lost, Some(HOUR), false).await.is_err());
    assert!(provider.renew_work_item_lock(&lost, LONG).await.is_err());
    assert!(provider.ack_work_item(&lost, None).await.is_err());

    provider.renew_work_item_lock(&held, LONG).await.unwrap();
    provider.abandon_work_item(&held, None, true).await.unwrap();
    assert_eq!(next_activity(&provider, LONG).await.1, 2);
}

/// The first report ended late, so a batch may hold it beside that of the second run.
async fn of_two_reports_of_an_activity_the_one_with_the_lease_counts(factory: &impl ProviderFactory) {
    let provider = factory.create_provider().await;
    provider.enqueue_for_worker(activity("instance")).await.unwrap();
    let (lost, _) = next_activity(&provider, SHORT).await;
    let (held, _) = next_activity(&provider, LONG).await;

    let report = |result: &str| {
        let (instance, result) = ("instance".to_owned(), result.to_owned());
        Some(WorkItem::ActivityCompleted { instance, execution_id: 1, id: 2, result })
    };
    let (first, second) =
        tokio::join!(provider.ack_work_item(&lost, report("lost")), provider.ack_work_item(&held, report("held")));
    assert!(first.is_err());
    second.unwrap();

    provider.enqueue_for_orchestrator(start("instance"), None).await.unwrap();
    let (item, ..) = next_turn(&provider, LONG).await;
    let results = item.messages.iter().filter_map(|message| match message {
        WorkItem::ActivityCompleted { result, .. } => Some(result.as_str()),
        _ => None,
    });
    assert_eq!(results.collect::<Vec<_>>(), ["held"]);
}

macro_rules! on_every_store {
    ($($function:ident),+) => {
        mod file {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $function() {
                super::$function(&super::Sqlite::in_files(super::UNGATED)).await;
            })+
        }
        mod memory {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $function() {
                super::$function(&super::Sqlite::in_memory(super::UNGATED)).await;
            })+
        }
        mod postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $function() {
                super::$function(&super::Postgres::new(super::UNGATED).await).await;
            })+
        }
    };
}

on_every_store!(
    a_turn_given_back_after_its_lease_was_lost_is_left_to_its_new_owner,
    an_activity_given_back_after_its_lease_was_lost_is_left_to_its_new_owner,
    of_two_reports_of_an_activity_the_one_with_the_lease_counts
);
