//! What becomes visible when an operation is on the disk.

use duroxide::Event;

use crate::flow_control::MessageGate;
use crate::sqlite::owner::memory::activity_queue::Activity;
use crate::sqlite::owner::memory::ids::{Number, Sequence, Token, Version};
use crate::sqlite::owner::memory::state::State;

#[derive(Default)]
pub enum Effect {
    #[default]
    None,
    /// The messages are with their instances already.
    Pushed(Vec<(Number, Sequence)>),
    Turn(Box<TurnEffect>),
    Activity(Box<Activity>),
    /// The history on the disk was changed past a turn.
    HistoryChanged(Number),
    ForgetIfIdle(Number),
    /// Nothing that is on its way names these deleted instances any more.
    Forgotten(Vec<Number>),
}

pub struct TurnEffect {
    pub number: Number,
    pub token: Token,
    pub execution: u64,
    pub delta: Vec<Event>,
    pub recorded: Option<(String, String)>,
    pub pinned: Option<Version>,
    pub has_ended: bool,
    pub has_kv: bool,
    pub activities: Vec<Activity>,
    pub cancelled: Vec<Sequence>,
    pub pushed: Vec<(Number, Sequence)>,
}

impl Effect {
    /// Makes it so; a void operation was not written, since its instance is gone.
    pub fn apply(self, state: &mut State, is_void: bool) {
        if is_void {
            return self.undo(state);
        }
        match self {
            Self::None | Self::Pushed(_) | Self::Forgotten(_) => {}
            Self::Turn(turn) => turn.apply(state),
            Self::Activity(activity) => add_activity(state, *activity),
            Self::HistoryChanged(number) => {
                if let Some(instance) = state.get(number) {
                    instance.history = None;
                    instance.mail = None;
                }
                state.refresh(number);
            }
            Self::ForgetIfIdle(number) => state.forget_if_idle(number),
        }
    }

    pub fn undo(self, state: &mut State) {
        let pushed = match self {
            Self::Pushed(pushed) => pushed,
            Self::Turn(turn) => {
                // The lease ends by itself, as after every refused acknowledgement.
                if let Some(held) = state.get(turn.number).and_then(|instance| instance.held.as_mut()) {
                    held.is_ending = false;
                    let until = held.until;
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
                instance.forget_start();
            }
        }
    }
}

fn add_activity(state: &mut State, activity: Activity) {
    if let Some(instance) = state.get(activity.number) {
        instance.activities += 1;
    }
    state.activities.add(activity, &mut state.bells);
}

impl TurnEffect {
    fn apply(self, state: &mut State) {
        let Self { number, token, execution, delta, recorded, pinned, .. } = self;
        for activity in self.activities {
            add_activity(state, activity);
        }
        for sequence in self.cancelled {
            state.end_activity(sequence);
        }
        state.release(token);
        let mut has_ended = false;
        if let Some(instance) = state.get(number) {
            let known = instance.known.get_or_insert_default();
            let is_new_execution = execution > known.recorded_execution && execution > known.execution;
            known.execution = known.execution.max(execution);
            known.recorded_execution = known.recorded_execution.max(execution);
            // The engine acknowledges what comes after the end without a word of it.
            known.has_ended = self.has_ended || (known.has_ended && !is_new_execution);
            has_ended = known.has_ended;
            known.has_kv |= self.has_kv;
            if let Some((orchestration, version)) = recorded {
                known.orchestration = Some(orchestration.as_str().into());
                known.version = Some(version.as_str().into());
                known.starting = None;
            }
            if is_new_execution {
                known.pinned = None;
                instance.mail = Some(MessageGate::default());
                instance.history = Some(std::sync::Arc::default());
            }
            if pinned.is_some() {
                known.pinned = pinned;
            }
            if let Some(mail) = &mut instance.mail {
                mail.extend(&delta);
            }
            if let Some(history) = &instance.history {
                history.lock().extend(delta);
            }
        }
        state.refresh(number);
        if has_ended {
            state.forget_if_idle(number);
        }
        state.turn_ended();
    }
}
