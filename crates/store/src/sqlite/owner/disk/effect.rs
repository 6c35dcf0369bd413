//! The effects of an operation on the memory, which become visible when the operation is on the disk.

use duroxide::Event;

use crate::flow_control::MessageGate;
use crate::sqlite::owner::memory::activity_queue::Activity;
use crate::sqlite::owner::memory::ids::{Number, Sequence, Token, Version};
use crate::sqlite::owner::memory::state::OwnerState;
use crate::start::End;

#[derive(Default)]
pub enum CommitEffect {
    #[default]
    None,
    /// The operation has already added these messages to their instances.
    Pushed(Vec<(Number, Sequence)>),
    Turn(Box<TurnEffect>),
    Activity(Box<Activity>),
    /// The history on the disk was changed without a turn.
    HistoryChanged(Number),
    ForgetIfIdle(Number),
    /// The writer has no more changes to these deleted instances.
    ForgetDeleted(Vec<Number>),
}

pub struct TurnEffect {
    pub number: Number,
    pub token: Token,
    pub execution: u64,
    pub delta: Vec<Event>,
    pub recorded: Option<(String, String)>,
    pub pinned: Option<Version>,
    pub end: Option<End>,
    pub has_kv: bool,
    pub activities: Vec<Activity>,
    pub cancelled: Vec<Sequence>,
    pub pushed: Vec<(Number, Sequence)>,
}

impl CommitEffect {
    /// Applies the effect. A void operation was not written, since its instance was deleted, so its effect is undone.
    pub fn apply(self, state: &mut OwnerState, is_void: bool) {
        if is_void {
            return self.undo(state);
        }
        match self {
            Self::None | Self::Pushed(_) | Self::ForgetDeleted(_) => {}
            Self::Turn(turn) => turn.apply(state),
            Self::Activity(activity) => add_activity(state, *activity),
            Self::HistoryChanged(number) => {
                if let Some(instance) = state.get(number) {
                    instance.history = None;
                    instance.gate = None;
                }
                state.refresh(number);
            }
            Self::ForgetIfIdle(number) => state.forget_if_idle(number),
        }
    }

    /// Removes the parts of a failed operation that are already in memory.
    pub fn undo(self, state: &mut OwnerState) {
        let pushed = match self {
            Self::Pushed(pushed) => pushed,
            Self::Turn(turn) => {
                // The lease ends after its time, as after every refused acknowledgement.
                if let Some(leased) = state.get(turn.number).and_then(|instance| instance.leased.as_mut()) {
                    leased.is_ending = false;
                    let until = leased.until;
                    state.note_expiry(until);
                }
                turn.pushed
            }
            _ => return,
        };
        for (number, sequence) in pushed {
            if let Some(instance) = state.get(number) {
                instance.queue.retain(|message| message.sequence != sequence);
                instance.delayed.remove(&sequence);
                instance.put_off.remove(&sequence);
                let was_restarted = instance.awaits_start();
                instance.forget_start();
                if was_restarted {
                    // The next operation reads the record again.
                    state.forget_if_idle(number);
                }
            }
        }
    }
}

fn add_activity(state: &mut OwnerState, activity: Activity) {
    if let Some(instance) = state.get(activity.number) {
        instance.activities += 1;
    }
    state.activities.add(activity, &mut state.wake_ups);
}

impl TurnEffect {
    fn apply(self, state: &mut OwnerState) {
        let Self { number, token, execution, delta, recorded, pinned, .. } = self;
        for activity in self.activities {
            add_activity(state, activity);
        }
        for sequence in self.cancelled {
            state.remove_activity(sequence);
        }
        state.release(token);
        let mut has_ended = false;
        if let Some(instance) = state.get(number) {
            let record = instance.record.get_or_insert_default();
            let is_new_execution = execution > record.recorded_execution && execution > record.execution;
            record.execution = record.execution.max(execution);
            record.recorded_execution = record.recorded_execution.max(execution);
            // The engine acknowledges messages after the end with an empty turn, which does not name the status.
            record.end = self.end.or(record.end.filter(|_| !is_new_execution));
            has_ended = record.end.is_some();
            record.has_kv |= self.has_kv;
            if let Some((orchestration, version)) = recorded {
                record.orchestration = Some(orchestration.as_str().into());
                record.version = Some(version.as_str().into());
                record.starting = None;
            }
            if is_new_execution {
                record.pinned = None;
                instance.gate = Some(MessageGate::default());
                instance.history = Some(std::sync::Arc::default());
            }
            if pinned.is_some() {
                record.pinned = pinned;
            }
            if let Some(gate) = &mut instance.gate {
                gate.extend(&delta);
            }
            if let Some(history) = &instance.history {
                history.lock().extend(delta);
            }
        }
        state.refresh(number);
        if has_ended {
            state.forget_if_idle(number);
        }
        state.count_turn();
    }
}
