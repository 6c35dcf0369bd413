//! The journal against a context of the engine, without the engine.

use std::task::Poll;

use duroxide::CompletionResult;

use super::*;
use crate::boundary::codec::Decode;
use crate::orchestration::execution::Execution;
use crate::orchestration::operation::{ActivityCall, Operation, Tag};

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
