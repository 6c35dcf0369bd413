//! Admission decides about a fetched instance: whether this runtime runs it, ends it, or leaves it to another node or a
//! later time.

use std::time::Duration;

use duroxide::providers::{OrchestrationItem, WorkItem};
use duroxide::{AppErrorKind, Event, EventKind};
use semver::Version;
use store::history::{ended, started};

use crate::cancellation;
use crate::dispatcher::{Dispatcher, listed};
use crate::process::{PAUSE_FOR_OTHER_RUNTIMES, WithoutCode};
use store::parent_link::ParentLink;
use store::terminal_commit::cancelled;
use store::terminal_commit::{TerminalCommit, not_registered};

/// What to do with a fetched instance.
pub enum Admission {
    Run,
    End(Box<TerminalCommit>),
    /// Another node may have the code, or this process later.
    PutOff {
        delay: Duration,
    },
    /// No runtime of this process has the code; the report says why.
    Wait {
        report: String,
    },
}

impl Dispatcher {
    pub fn admit(&self, item: &OrchestrationItem, attempt: u32) -> Admission {
        if item.history_error.is_some() || attempt > self.settings.max_attempts || ended(&item.history) {
            return Admission::Run;
        }
        let successor = item.messages.iter().find(|message| matches!(message, WorkItem::ContinueAsNew { .. }));
        let recorded = started(&item.history);
        let (name, version) = match (successor, recorded) {
            (Some(WorkItem::ContinueAsNew { orchestration, version, .. }), _) => (orchestration, version.as_deref()),
            (_, Some(Event { kind: EventKind::OrchestrationStarted { name, version, .. }, .. })) => {
                // The engine writes this version where the start names none.
                (name, Some(version.as_str()).filter(|version| *version != "0.0.0"))
            }
            _ => return self.admit_start(item),
        };
        if self.settings.has_orchestration(name, version) {
            return Admission::Run;
        }
        let cancellation = cancellation::requested(&item.messages);
        match (cancellation, successor) {
            (Some(reason), Some(start)) => {
                match TerminalCommit::of_start(&item.instance, item.execution_id + 1, start, cancelled(reason)) {
                    Some(terminal) => Admission::End(Box::new(terminal)),
                    None => Admission::Run,
                }
            }
            (Some(reason), None) => {
                let parent = recorded.and_then(|event| ParentLink::of(&event.kind));
                let (instance, execution) = (&item.instance, item.execution_id);
                let terminal =
                    TerminalCommit::of_cancellation(instance, execution, &item.history, reason, parent.as_ref());
                Admission::End(Box::new(terminal))
            }
            (None, _) if self.shared.some_dispatcher(|other| other.has_orchestration(name, version)) => {
                // The other runtime fetches the instance next. Even if it never does, a report here would be wrong.
                Admission::PutOff { delay: PAUSE_FOR_OTHER_RUNTIMES }
            }
            (None, _) => Self::wait(&item.instance, &self.why_it_cannot_run(name, version)),
        }
    }

    /// Decides about an instance without history. Only the start of an instance may be refused for good.
    fn admit_start(&self, item: &OrchestrationItem) -> Admission {
        let start = item.messages.iter().find(|message| matches!(message, WorkItem::StartOrchestration { .. }));
        let Some(start @ WorkItem::StartOrchestration { orchestration, version, .. }) = start else {
            return Admission::Run;
        };
        if !item.history.is_empty() || self.settings.has_orchestration(orchestration, version.as_deref()) {
            return Admission::Run;
        }
        let end = |details| match TerminalCommit::of_start(&item.instance, item.execution_id, start, details) {
            Some(terminal) => Admission::End(Box::new(terminal)),
            None => Admission::Run,
        };
        if let Some(reason) = cancellation::requested(&item.messages) {
            return end(cancelled(reason));
        }
        let has_it = self.shared.some_dispatcher(|other| other.has_orchestration(orchestration, version.as_deref()));
        let message = self.why_it_cannot_run(orchestration, version.as_deref());
        let waiting = &self.shared.waiting;
        match self.shared.without_code(waiting, item.instance.as_str(), has_it, self.settings.unregistered) {
            WithoutCode::Leave(delay) => Admission::PutOff { delay },
            WithoutCode::Wait => Self::wait(&item.instance, &message),
            WithoutCode::Fail => end(not_registered(AppErrorKind::OrchestrationFailed, &message)),
        }
    }

    fn wait(instance: &str, why: &str) -> Admission {
        let report = format!(
            "instance '{instance}' waits: {why}; register it and start the runtime again, or cancel the instance"
        );
        Admission::Wait { report }
    }

    fn why_it_cannot_run(&self, name: &str, version: Option<&str>) -> String {
        match (self.settings.orchestrations.get(name), version) {
            (Some(registered), Some(version)) => {
                let registered: Vec<_> = registered.iter().map(Version::to_string).collect();
                let registered = listed(registered.iter());
                format!("orchestration '{name}' has no version {version} in this runtime; registered are: {registered}")
            }
            _ => format!(
                "orchestration '{name}' is not registered with this runtime; registered are: {}",
                listed(self.settings.orchestrations.keys())
            ),
        }
    }
}
