//! The journal against a context of the engine, without the engine.

use std::task::Poll;

use std::time::Duration;

use duroxide::{CompletionResult, EventKind};
use engine_adapter::{RecordedEvent, RecordedKind};

use super::*;
use crate::boundary::codec::Decode;
use crate::orchestration::execution::Execution;
use crate::orchestration::operation::{ActivityCall, Operation, Tag};
use crate::orchestration::retry_policy::{Backoff, RetryPolicy};

fn engine() -> OrchestrationContext {
    let text = str::to_owned;
    OrchestrationContext::new(Vec::new(), 1, text("instance"), text("orchestration"), text("1.0.0"), None)
}

fn record() -> TurnRecord {
    TurnRecord::empty("instance".to_owned(), 1)
}

fn activity(execution: &Arc<Execution>, name: &str) -> Arc<Node> {
    let call = ActivityCall {
        name: name.to_owned(),
        input: "null".to_owned(),
        session_id: None,
        tag: Tag::default(),
        retry: None,
        waits_for_end: false,
    };
    execution.describe(Operation::Activity(call), Decode::Json, None)
}

/// Gives the action that was emitted last an id, and a result where there is one.
fn answer(engine: &OrchestrationContext, event_id: u64, result: Option<&str>) {
    let (token, _) = engine.drain_emitted_actions().pop().expect("nothing was asked for");
    engine.bind_token(token, event_id);
    if let Some(result) = result {
        engine.deliver_result(event_id, CompletionResult::ActivityOk(result.to_owned()));
    }
}

/// A turn in which `first` has returned 1 and `second` is under way, suspended.
fn suspended() -> Arc<Execution> {
    let first_engine = engine();
    let execution = Execution::new(first_engine.clone(), &record(), Arc::default());
    let first = execution.arena().start(&activity(&execution, "first"));
    assert!(!execution.arena().settle(first));
    answer(&first_engine, 2, Some("1"));
    assert!(execution.arena().settle(first));
    execution.arena().start(&activity(&execution, "second"));
    answer(&first_engine, 3, None);
    execution.suspend();
    execution
}

#[test]
fn a_journal_waits_until_history_gives_what_the_code_has_seen() {
    let execution = suspended();
    let next = engine();
    execution.resume(next.clone(), &record());
    assert!(matches!(execution.arena().catch_up(), CatchUpProgress::Waits));
    assert!(matches!(execution.arena().catch_up(), CatchUpProgress::Waits));
    assert_eq!(next.get_emitted_actions().len(), 1);
    answer(&next, 2, Some("1"));
    assert!(matches!(execution.arena().catch_up(), CatchUpProgress::CaughtUp));
    assert_eq!(next.get_emitted_actions().len(), 1);
    answer(&next, 3, Some("2"));
    assert!(execution.arena().settle(1));
}

#[test]
fn another_result_than_before_is_noticed() {
    let execution = suspended();
    let next = engine();
    execution.resume(next.clone(), &record());
    assert!(matches!(execution.arena().catch_up(), CatchUpProgress::Waits));
    answer(&next, 2, Some("another"));
    let progress = execution.arena().catch_up();
    assert!(matches!(progress, CatchUpProgress::Differs(report) if report.contains("activity 'first'")));
}

#[test]
fn between_two_turns_no_future_of_the_engine_is_left() {
    let execution = suspended();
    assert_eq!(execution.arena().journal.look(1), Poll::Pending);
    assert!(!execution.arena().settle(1));
}

/// A retried activity whose attempts may take 300 ms, in an execution of which `events` are recorded.
fn retried(events: Vec<RecordedEvent>) -> (OrchestrationContext, Arc<Execution>) {
    let engine = engine();
    let mut record = record();
    (record.persisted, record.events) = (events.len(), events);
    let execution = Execution::new(engine.clone(), &record, Arc::default());
    let retry = RetryPolicy {
        max_attempts: 1,
        backoff: Backoff::None,
        attempt_timeout: Some(Duration::from_millis(300)),
        start_timeout: None,
        total_timeout: None,
        non_retryable: Vec::new(),
    };
    let call = ActivityCall {
        name: "charge".to_owned(),
        input: "null".to_owned(),
        session_id: None,
        tag: Tag::default(),
        retry: Some(retry),
        waits_for_end: false,
    };
    let node = execution.describe(Operation::Activity(call), Decode::Json, None);
    execution.arena().start(&node);
    (engine, execution)
}

fn recorded(event_id: u64, kind: &EventKind) -> RecordedEvent {
    RecordedEvent { event_id, source_event_id: None, timestamp_ms: 1, kind: RecordedKind::from(kind) }
}

fn recorded_attempt(input: &str) -> RecordedEvent {
    let input = input.to_owned();
    let kind = EventKind::ActivityScheduled { name: "charge".to_owned(), input, session_id: None, tag: None };
    recorded(2, &kind)
}

/// The inputs of the activities that were asked for, and how many timers.
fn asked(engine: &OrchestrationContext) -> (Vec<String>, usize) {
    let actions = engine.drain_emitted_actions();
    let count = actions.len();
    let inputs: Vec<_> = actions
        .into_iter()
        .filter_map(|(_, action)| match action {
            duroxide::Action::CallActivity { input, .. } => Some(input),
            _ => None,
        })
        .collect();
    let timers = count - inputs.len();
    (inputs, timers)
}

#[test]
fn an_attempt_has_its_time_limit_in_front_of_its_input() {
    let (engine, _execution) = retried(Vec::new());
    assert_eq!(asked(&engine), (vec!["\u{2}300\u{2}null".to_owned()], 0));
}

#[test]
fn a_replay_repeats_the_recorded_time_limit_of_an_attempt() {
    let (engine, execution) = retried(vec![recorded_attempt("\u{2}5000\u{2}null")]);
    assert_eq!(asked(&engine), (vec!["\u{2}5000\u{2}null".to_owned()], 0));
    assert!(execution.arena().take_mismatch().is_none());
}

#[test]
fn an_attempt_that_an_earlier_version_recorded_keeps_its_timer() {
    let timer = recorded(3, &EventKind::TimerCreated { fire_at_ms: 1 });
    let (engine, execution) = retried(vec![recorded_attempt("null"), timer]);
    assert_eq!(asked(&engine), (vec!["null".to_owned()], 1));
    assert!(execution.arena().take_mismatch().is_none());
}
