//! The engine's conformance suite for stores, run on a SQLite file, in memory and on PostgreSQL.
//!
//! The suite has 233 functions. 158 of them run on [`StorePolicy::SHIPPED`], which is what users run. The others expect
//! something else of a store. Each of them runs on the shipped policy with the fields changed that it needs:
//!
//! | List below             | Functions | Changed fields                                 |
//! |------------------------|-----------|------------------------------------------------|
//! | `ungated`              | 50        | `gate_messages: false`                         |
//! | `ungated_unprefetched` | 16        | `gate_messages: false`, `prefetch: false`      |
//! | `unprefetched`         | 2         | `prefetch: false`                              |
//! | `delayed_alone`        | 2         | `keep_message_order: false`, `prefetch: false` |
//! | `strict`               | 5         | `strict_leases: true`                          |
//!
//! What they expect, and why a user's store does otherwise:
//!
//! - `ungated`: to get a turn, the functions raise an event that no code waits for. The engine would lose it, so the
//!   shipped store keeps it until code waits for it, and no turn comes. (`test_multi_operation_atomic_ack` expects such
//!   an event in a turn, beside the end of a timer.)
//! - `ungated_unprefetched`: the same. The functions also fetch with one range of versions right after they worked with
//!   another. On PostgreSQL the shipped store has prefetched the turn for the first range by then, and gives it back
//!   after a second.
//! - `unprefetched`: `test_message_tagging_during_lock` expects two messages, sent one after the other, in one turn. On
//!   PostgreSQL the shipped store prefetches a turn with the first. `test_some_session_returns_all_items` expects
//!   activities with and without a session in the order of their ids. The shipped store prefetches only those without a
//!   session, so they come first.
//! - `delayed_alone`: a newer message gets its turn while an older one, which was given back with a delay, waits. On
//!   SQLite the shipped store gives both to that turn, in their order. On PostgreSQL it prefetches a turn with the
//!   newer one alone.
//! - `strict`: the first fetch after the end of an activity's lease finds the activity, even if the fetch does not
//!   wait. On PostgreSQL the shipped store finds it with its next slow look, 550 ms later at most. And a lease that has
//!   ended cannot be renewed; on PostgreSQL the shipped store renews it if no other node has taken the activity, and the
//!   node that runs the activity takes it again after a second lease only.
//!
//! The SQLite store does not prefetch and ends leases on time. So it runs `unprefetched` and `strict` as it is shipped.
//!
//! Two functions of `long_polling` demand that a fetch does *not* wait for work: `test_short_poll_returns_immediately`
//! and `test_short_poll_work_item_returns_immediately`. A fetch of either store waits, so that it gets new work at
//! once, and no policy changes that. The two run with a threshold above the timeout of their fetch: see
//! [`suite::long_polling`].
//!
//! `test_orphan_queue_messages_dropped` passes although both stores keep messages to an instance that does not exist
//! for ten minutes: the function demands only that they cause no turn.
//!
//! [`FUNCTIONS`] counts the functions of one version of the engine, and a test compares it with the lists. The test
//! fails on every other version, until the functions are counted again.

use std::collections::{BTreeMap, BTreeSet};

use crate::policy::StorePolicy;
use crate::postgres::conformance::PostgresFactory as Postgres;
use crate::sqlite::conformance::SqliteFactory as Sqlite;

/// The version of the engine whose functions [`FUNCTIONS`] counts. Count them again when it changes: they are the
/// functions `pub async fn` of each file in `src/provider_validation` of the engine.
const ENGINE: &str = "0.1.32";

/// How many functions each module of the suite has.
const FUNCTIONS: [(&str, usize); 20] = [
    ("atomicity", 4),
    ("bulk_deletion", 4),
    ("cancellation", 16),
    ("capability_filtering", 20),
    ("custom_status", 7),
    ("deletion", 13),
    ("error_handling", 7),
    ("instance_creation", 4),
    ("instance_locking", 11),
    ("kv_store", 35),
    ("lock_expiration", 13),
    ("long_polling", 5),
    ("management", 13),
    ("multi_execution", 5),
    ("poison_message", 11),
    ("prune", 4),
    ("queue_semantics", 8),
    ("race_replay", 10),
    ("sessions", 33),
    ("tag_filtering", 10),
];

/// The modules of the suite, with one signature for all functions.
mod suite {
    pub use duroxide::provider_validation::{
        atomicity, bulk_deletion, cancellation, capability_filtering, custom_status, deletion, error_handling,
        instance_creation, instance_locking, kv_store, lock_expiration, management, multi_execution, poison_message,
        prune, queue_semantics, sessions, tag_filtering,
    };

    pub mod race_replay {
        use duroxide::provider_validation::ProviderFactory;
        pub use duroxide::provider_validation::race_replay::*;

        use crate::conformance::ENGINE;

        pub async fn test_continue_as_new_transition_delivery<F: ProviderFactory>(factory: &F) {
            duroxide::provider_validation::race_replay::test_continue_as_new_transition_delivery(factory, ENGINE).await;
        }
    }

    pub mod long_polling {
        use std::time::Duration;

        use duroxide::provider_validation::ProviderFactory;
        use duroxide::provider_validation::long_polling as suite;

        /// Above the 500 ms for which the two functions poll.
        const THRESHOLD: Duration = Duration::from_secs(1);

        pub async fn test_long_poll_waits_for_timeout<F: ProviderFactory>(factory: &F) {
            suite::test_long_poll_waits_for_timeout(&*factory.create_provider().await).await;
        }

        pub async fn test_long_poll_work_item_waits_for_timeout<F: ProviderFactory>(factory: &F) {
            suite::test_long_poll_work_item_waits_for_timeout(&*factory.create_provider().await).await;
        }

        pub async fn test_fetch_respects_timeout_upper_bound<F: ProviderFactory>(factory: &F) {
            suite::test_fetch_respects_timeout_upper_bound(&*factory.create_provider().await).await;
        }

        pub async fn test_short_poll_returns_immediately<F: ProviderFactory>(factory: &F) {
            suite::test_short_poll_returns_immediately(&*factory.create_provider().await, THRESHOLD).await;
        }

        pub async fn test_short_poll_work_item_returns_immediately<F: ProviderFactory>(factory: &F) {
            suite::test_short_poll_work_item_returns_immediately(&*factory.create_provider().await, THRESHOLD).await;
        }
    }
}

/// Makes a test of each function for each kind of store, opened with one policy.
macro_rules! conformance {
    ($name:ident, $policy:expr; $($module:ident: $($function:ident),+;)+) => {
        mod $name {
            use super::{Postgres, Sqlite, StorePolicy, suite};

            const POLICY: StorePolicy = $policy;
            pub const FUNCTIONS: &[(&str, &str)] = &[$($((stringify!($module), stringify!($function)),)+)+];

            $(mod $module {
                mod file {
                    use super::super::{POLICY, Sqlite, suite};

                    $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                    async fn $function() {
                        suite::$module::$function(&Sqlite::in_files(POLICY)).await;
                    })+
                }
                mod memory {
                    use super::super::{POLICY, Sqlite, suite};

                    $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                    async fn $function() {
                        suite::$module::$function(&Sqlite::in_memory(POLICY)).await;
                    })+
                }
                mod postgres {
                    use super::super::{POLICY, Postgres, suite};

                    $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                    async fn $function() {
                        suite::$module::$function(&Postgres::new(POLICY).await).await;
                    })+
                }
            })+
        }
    };
}

const UNGATED: StorePolicy = StorePolicy { gate_messages: false, ..StorePolicy::SHIPPED };

conformance! {
    shipped, StorePolicy::SHIPPED;
    atomicity:
        test_atomicity_failure_rollback, test_concurrent_ack_prevention,
        test_lock_released_only_on_successful_ack;
    bulk_deletion:
        test_delete_instance_bulk_cascades_to_children, test_delete_instance_bulk_completed_before_filter,
        test_delete_instance_bulk_filter_combinations, test_delete_instance_bulk_safety_and_limits;
    cancellation:
        test_ack_work_item_fails_when_entry_deleted, test_ack_work_item_none_deletes_without_enqueue,
        test_cancelling_nonexistent_activities_is_idempotent,
        test_fetch_returns_missing_state_when_instance_deleted,
        test_fetch_returns_running_state_for_active_orchestration,
        test_fetch_returns_terminal_state_when_orchestration_completed,
        test_fetch_returns_terminal_state_when_orchestration_continued_as_new,
        test_fetch_returns_terminal_state_when_orchestration_failed,
        test_orphan_activity_after_instance_force_deletion, test_renew_fails_when_entry_deleted,
        test_renew_returns_missing_when_instance_deleted, test_renew_returns_running_when_orchestration_active,
        test_same_activity_in_worker_items_and_cancelled_is_noop;
    capability_filtering:
        test_fetch_with_incompatible_filter_skips_item,
        test_filter_with_empty_supported_versions_returns_nothing;
    custom_status:
        test_custom_status_default_on_new_instance, test_custom_status_nonexistent_instance;
    deletion:
        test_cascade_delete_hierarchy, test_delete_cleans_queues_and_locks, test_delete_get_instance_tree,
        test_delete_get_parent_id, test_delete_instances_atomic, test_delete_instances_atomic_force,
        test_delete_instances_atomic_orphan_detection, test_delete_nonexistent_instance,
        test_delete_running_rejected_force_succeeds, test_delete_terminal_instances, test_list_children;
    error_handling:
        test_corrupted_serialization_data, test_duplicate_event_id_rejection, test_invalid_lock_token_on_ack,
        test_lock_expiration_during_ack, test_missing_instance_metadata,
        test_read_corrupted_history_returns_error, test_read_with_execution_corrupted_history_returns_error;
    instance_creation:
        test_instance_creation_via_metadata, test_no_instance_creation_on_enqueue, test_null_version_handling,
        test_sub_orchestration_instance_creation;
    instance_locking:
        test_ack_only_affects_locked_messages, test_completions_arriving_during_lock_blocked,
        test_concurrent_instance_fetching, test_cross_instance_lock_isolation, test_exclusive_instance_lock,
        test_invalid_lock_token_rejection, test_lock_token_uniqueness, test_multi_threaded_lock_contention,
        test_multi_threaded_lock_expiration_recovery, test_multi_threaded_no_duplicate_processing;
    kv_store:
        test_kv_get_nonexistent, test_kv_get_unknown_instance;
    lock_expiration:
        test_abandon_releases_lock_immediately, test_abandon_work_item_releases_lock,
        test_abandon_work_item_with_delay, test_concurrent_lock_attempts_respect_expiration,
        test_lock_expires_after_timeout, test_lock_renewal_on_ack,
        test_orchestration_lock_renewal_after_expiration, test_worker_lock_renewal_after_ack,
        test_worker_lock_renewal_extends_timeout,
        test_worker_lock_renewal_invalid_token, test_worker_lock_renewal_success;
    long_polling:
        test_fetch_respects_timeout_upper_bound, test_long_poll_waits_for_timeout,
        test_long_poll_work_item_waits_for_timeout, test_short_poll_returns_immediately,
        test_short_poll_work_item_returns_immediately;
    management:
        test_get_execution_info, test_get_instance_info, test_get_instance_stats_carry_forward,
        test_get_instance_stats_history, test_get_instance_stats_nonexistent, test_get_queue_depths,
        test_get_system_metrics, test_list_executions, test_list_instances, test_list_instances_by_status;
    multi_execution:
        test_continue_as_new_creates_new_execution, test_execution_history_persistence,
        test_execution_id_sequencing, test_execution_isolation, test_latest_execution_detection;
    poison_message:
        abandon_orchestration_item_ignore_attempt_decrements, abandon_work_item_ignore_attempt_decrements,
        attempt_count_is_per_message, ignore_attempt_never_goes_negative,
        max_attempt_count_across_message_batch, orchestration_attempt_count_increments_on_refetch,
        orchestration_attempt_count_starts_at_one, worker_attempt_count_starts_at_one;
    prune:
        test_prune_bulk, test_prune_bulk_includes_running_instances, test_prune_options_combinations,
        test_prune_safety;
    queue_semantics:
        test_orphan_queue_messages_dropped, test_timer_delayed_visibility, test_worker_ack_atomicity,
        test_worker_delayed_visibility_skips_future_items, test_worker_item_immediate_visibility,
        test_worker_peek_lock_semantics, test_worker_queue_fifo_ordering;
    race_replay:
        test_continue_as_new_duplicate_start, test_continue_as_new_poisoned_successor_is_own_execution,
        test_continue_as_new_queue_race_replay, test_continue_as_new_transition_delivery,
        test_continue_as_new_unregistered_backoff, test_duplicate_start_preserves_pinned_handler,
        test_legacy_queue_race_decision_preserved, test_positional_wait_race_replay,
        test_queue_race_cancellation_replay;
    sessions:
        test_abandoned_session_item_ignore_attempt, test_abandoned_session_item_retryable,
        test_ack_updates_session_last_activity,
        test_both_locks_expire_different_worker_claims, test_cleanup_keeps_active_sessions,
        test_cleanup_keeps_sessions_with_pending_items, test_cleanup_removes_expired_no_items,
        test_cleanup_then_new_item_recreates_session, test_concurrent_session_claim_only_one_wins,
        test_different_sessions_different_workers, test_mixed_session_and_non_session_items,
        test_non_session_items_fetchable_by_any_worker, test_non_session_items_returned_with_session_config,
        test_none_session_skips_session_items, test_original_worker_reclaims_expired_session,
        test_renew_session_lock_active, test_renew_session_lock_after_expiry_returns_zero,
        test_renew_session_lock_no_sessions, test_renew_session_lock_skips_idle,
        test_renew_work_item_updates_session_last_activity, test_session_affinity_blocks_other_worker,
        test_session_affinity_same_worker, test_session_claimable_after_lock_expiry,
        test_session_item_claimable_when_no_session, test_session_items_processed_in_order,
        test_session_lock_expires_activity_lock_valid_ack_succeeds,
        test_session_lock_expires_new_owner_gets_redelivery, test_session_lock_expires_same_worker_reacquires,
        test_session_lock_renewal_extends_past_original_timeout, test_session_takeover_after_lock_expiry,
        test_shared_worker_id_any_caller_can_fetch_owned_session;
    tag_filtering:
        test_any_filter_fetches_everything, test_default_and_fetches_untagged_and_matching,
        test_default_only_fetches_untagged, test_multi_runtime_tag_isolation, test_multi_tag_filter,
        test_none_filter_returns_nothing, test_tag_preserved_through_ack_orchestration_item,
        test_tag_round_trip_preservation, test_tag_survives_abandon_and_refetch,
        test_tags_fetches_only_matching;
}

conformance! {
    ungated, super::UNGATED;
    atomicity:
        test_multi_operation_atomic_ack;
    cancellation:
        test_batch_cancellation_deletes_multiple_activities,
        test_cancelled_activities_deleted_from_worker_queue,
        test_renew_returns_terminal_when_orchestration_completed;
    capability_filtering:
        test_fetch_single_range_only_uses_first_range, test_fetch_with_filter_none_returns_any_item;
    custom_status:
        test_custom_status_clear, test_custom_status_none_preserves, test_custom_status_polling_no_change,
        test_custom_status_set, test_custom_status_version_increments;
    deletion:
        test_force_delete_prevents_ack_recreation, test_stale_activity_after_delete_recreate;
    kv_store:
        test_kv_clear_all, test_kv_clear_isolation, test_kv_clear_nonexistent_key, test_kv_clear_single,
        test_kv_cross_execution_overwrite, test_kv_cross_execution_remove_readd,
        test_kv_delete_instance_cascades, test_kv_delete_instance_with_children,
        test_kv_delta_clear_all_tombstones_store, test_kv_delta_client_reads_merged,
        test_kv_delta_delete_instance_cascades, test_kv_delta_merged_on_can, test_kv_delta_merged_on_completion,
        test_kv_delta_prune_untouched_key_survives, test_kv_delta_snapshot_excludes_current_execution,
        test_kv_delta_snapshot_includes_completed_execution, test_kv_delta_tombstone_overrides_store,
        test_kv_empty_value, test_kv_execution_id_tracking, test_kv_instance_isolation, test_kv_large_value,
        test_kv_overwrite, test_kv_prune_current_execution_protected, test_kv_prune_preserves_all_keys,
        test_kv_prune_preserves_overwritten, test_kv_set_after_clear, test_kv_set_and_get,
        test_kv_snapshot_after_clear_all, test_kv_snapshot_after_clear_single, test_kv_snapshot_cross_execution,
        test_kv_snapshot_empty, test_kv_snapshot_in_fetch, test_kv_special_chars_in_key;
    management:
        test_get_instance_stats_kv, test_get_instance_stats_kv_delta_only, test_get_instance_stats_kv_merged;
    race_replay:
        test_queue_replay_version_stamp_roundtrip;
}

conformance! {
    ungated_unprefetched, StorePolicy { prefetch: false, ..super::UNGATED };
    capability_filtering:
        test_ack_appends_event_to_corrupted_history, test_ack_stores_pinned_version_via_metadata_update,
        test_concurrent_filtered_fetch_no_double_lock, test_continue_as_new_execution_gets_own_pinned_version,
        test_fetch_corrupted_history_filtered_vs_unfiltered,
        test_fetch_deserialization_error_eventually_reaches_poison,
        test_fetch_deserialization_error_increments_attempt_count,
        test_fetch_filter_applied_before_history_deserialization, test_fetch_filter_boundary_versions,
        test_fetch_filter_does_not_lock_skipped_instances,
        test_fetch_filter_null_pinned_version_always_compatible,
        test_fetch_filter_skips_incompatible_selects_compatible, test_fetch_with_compatible_filter_returns_item,
        test_pinned_version_immutable_across_ack_cycles, test_pinned_version_stored_via_ack_metadata,
        test_provider_updates_pinned_version_when_told;
}

conformance! {
    unprefetched, StorePolicy { prefetch: false, ..StorePolicy::SHIPPED };
    instance_locking:
        test_message_tagging_during_lock;
    sessions:
        test_some_session_returns_all_items;
}

conformance! {
    delayed_alone, StorePolicy { keep_message_order: false, prefetch: false, ..StorePolicy::SHIPPED };
    poison_message:
        orchestration_delayed_abandon_preserves_unlocked_rows,
        orchestration_ignore_attempt_preserves_hidden_start;
}

conformance! {
    strict, StorePolicy { strict_leases: true, ..StorePolicy::SHIPPED };
    lock_expiration:
        test_worker_ack_fails_after_lock_expiry, test_worker_lock_renewal_after_expiration;
    poison_message:
        worker_attempt_count_increments_on_lock_expiry;
    queue_semantics:
        test_lost_lock_token_handling;
    sessions:
        test_activity_lock_expires_session_lock_valid_same_worker_refetches;
}

#[test]
fn every_function_of_the_suite_runs_once() {
    let event = duroxide::Event::with_event_id(1, "instance", 1, None, duroxide::EventKind::KeyValuesCleared);
    assert_eq!(event.duroxide_version, ENGINE, "count the functions of the suite again: see ENGINE");
    let lists = [
        shipped::FUNCTIONS,
        ungated::FUNCTIONS,
        ungated_unprefetched::FUNCTIONS,
        unprefetched::FUNCTIONS,
        delayed_alone::FUNCTIONS,
        strict::FUNCTIONS,
    ];
    let mut run: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (module, function) in lists.into_iter().flatten() {
        assert!(run.entry(module).or_default().insert(function), "{module}::{function} is listed twice");
    }
    let counts: Vec<(&str, usize)> = run.into_iter().map(|(module, functions)| (module, functions.len())).collect();
    assert_eq!(counts, FUNCTIONS);
}
