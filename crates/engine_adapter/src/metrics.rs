//! Counters of one dispatcher, which count what it has committed. The engine's counters count every replayed turn, too.

use std::sync::atomic::{AtomicU64, Ordering};

use duroxide::providers::WorkItem;
use duroxide::{ErrorDetails, Event, EventKind};

macro_rules! metrics {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        /// The counts of a dispatcher since it was created.
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
        pub struct Metrics { $($(#[$doc])* pub $name: u64,)* }

        impl Metrics {
            /// Every counter by name, in a fixed order.
            pub fn fields(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), self.$name),)*]
            }
        }

        #[derive(Default)]
        pub struct Counters { $(pub $name: AtomicU64,)* }

        impl Counters {
            pub fn snapshot(&self) -> Metrics {
                Metrics { $($name: self.$name.load(Ordering::Relaxed),)* }
            }
        }
    };
}

metrics! {
    /// Instances started. An execution that continues an instance counts in `orch_continue_as_new`.
    orch_starts,
    orch_completions,
    orch_failures,
    orch_application_errors,
    orch_infrastructure_errors,
    orch_configuration_errors,
    orch_poison,
    activity_success,
    activity_app_errors,
    activity_infra_errors,
    activity_config_errors,
    activity_poison,
    orch_dispatcher_items_fetched,
    worker_dispatcher_items_fetched,
    orch_continue_as_new,
    suborchestration_calls,
    provider_errors,
    /// Instances of the store that have not ended, whichever process runs them. Counted at each call.
    active_orchestrations,
    /// Instances of the store that wait for code that can run them. Counted at each call.
    orch_waiting_for_code,
    /// How often a session had to wait, since the slots of this dispatcher owned as many as they may.
    sessions_held_back,
    /// Activities that wait for a runtime that has registered them, as far as this process knows. Counted at each call.
    activities_waiting_for_code,
    /// Rows of the queues that this process leaves out because of their values. Counted at each call.
    rows_left_out,
}

pub fn add(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

impl Counters {
    pub fn committed_turn(&self, execution_id: u64, delta: &[Event]) {
        for event in delta {
            match &event.kind {
                EventKind::OrchestrationStarted { .. } if execution_id == duroxide::INITIAL_EXECUTION_ID => {
                    add(&self.orch_starts);
                }
                EventKind::OrchestrationCompleted { .. } => add(&self.orch_completions),
                EventKind::OrchestrationFailed { details } => {
                    add(&self.orch_failures);
                    add(match details {
                        ErrorDetails::Application { .. } => &self.orch_application_errors,
                        ErrorDetails::Infrastructure { .. } => &self.orch_infrastructure_errors,
                        ErrorDetails::Configuration { .. } => &self.orch_configuration_errors,
                        ErrorDetails::Poison { .. } => &self.orch_poison,
                    });
                }
                EventKind::OrchestrationContinuedAsNew { .. } => add(&self.orch_continue_as_new),
                EventKind::SubOrchestrationScheduled { .. } => add(&self.suborchestration_calls),
                _ => {}
            }
        }
    }

    pub fn committed_activity(&self, completion: &WorkItem) {
        match completion {
            WorkItem::ActivityCompleted { .. } => add(&self.activity_success),
            WorkItem::ActivityFailed { details, .. } => add(match details {
                ErrorDetails::Application { .. } => &self.activity_app_errors,
                ErrorDetails::Infrastructure { .. } => &self.activity_infra_errors,
                ErrorDetails::Configuration { .. } => &self.activity_config_errors,
                ErrorDetails::Poison { .. } => &self.activity_poison,
            }),
            _ => {}
        }
    }
}
