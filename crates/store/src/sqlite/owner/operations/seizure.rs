//! Takes turns away from dispatchers, for terminations.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use duroxide::providers::WorkItem;

use crate::error::Result;
use crate::failure::Failure;
use crate::sqlite::owner::core::OwnerCore;
use crate::sqlite::owner::memory::ids::{Number, Token};
use crate::sqlite::owner::memory::instance::{Instance, Message, TurnLease};
use crate::sqlite::owner::memory::state::OwnerState;
use crate::sqlite::read;
use crate::termination::{SEIZURE, SeizedTurn, TERMINATE};

/// The result of one attempt to seize a turn.
enum Seizure {
    Seized {
        number: Number,
        beginning: Option<Box<WorkItem>>,
    },
    /// The writer has the end of a turn.
    IsEnding,
    /// The instance has ended, or does not exist.
    HasEnded,
}

impl OwnerCore {
    /// Takes the lease of the next turn of an instance, also from a turn that runs. `None` if the instance has ended or
    /// does not exist.
    pub async fn seize_turn(self: &Arc<Self>, id: &str) -> Result<Option<SeizedTurn>> {
        let token = Self::token();
        loop {
            let seizure = self.with_instances(&[id], |state, numbers| {
                let seizure = state.seize(numbers[0], token, SEIZURE);
                if matches!(seizure, Seizure::HasEnded) {
                    state.forget_if_idle(numbers[0]);
                }
                seizure
            })?;
            match seizure {
                Seizure::HasEnded => return Ok(None),
                // This task waits for all that the writer has.
                Seizure::IsEnding => self.perform(|_, _| Ok(())).await?,
                Seizure::Seized { number, beginning } => {
                    return self.read_seized(number, token, beginning.map(|item| *item)).map(Some);
                }
            }
        }
    }

    fn read_seized(&self, number: Number, token: Token, beginning: Option<WorkItem>) -> Result<SeizedTurn> {
        let (execution, history) = {
            let mut state = self.lock();
            let instance =
                state.get(number).ok_or_else(|| Failure::lock_lost(TERMINATE, "the instance was deleted"))?;
            (instance.execution(), instance.history.clone())
        };
        let history = match history {
            _ if beginning.is_some() => Vec::new(),
            Some(history) => history.lock().clone(),
            None => match self.read(TERMINATE, |connection| read::history(connection, number, execution)) {
                Ok(history) => history,
                Err(failure) => {
                    let mut state = self.lock();
                    if let Some((number, taken)) = state.release(token) {
                        state.put_back(number, taken);
                    }
                    return Err(failure);
                }
            },
        };
        let execution = match &beginning {
            Some(WorkItem::ContinueAsNew { .. }) => execution + 1,
            _ => execution,
        };
        Ok(SeizedTurn { token: token.to_string(), execution, history, beginning })
    }
}

impl OwnerState {
    fn seize(&mut self, number: Number, token: Token, lease: Duration) -> Seizure {
        let Some(instance) = self.get(number) else { return Seizure::HasEnded };
        if instance.has_ended() || instance.running().is_none() {
            return Seizure::HasEnded;
        }
        match instance.leased.as_ref().map(|leased| (leased.token, leased.is_ending)) {
            Some((_, true)) => return Seizure::IsEnding,
            Some((running, false)) => {
                if let Some((number, taken)) = self.release(running) {
                    self.put_back(number, taken);
                }
            }
            None => {}
        }
        self.ready.retain(|ready| *ready != number);
        let Some(instance) = self.get(number) else { return Seizure::HasEnded };
        instance.is_ready = false;
        let messages = take_messages(instance);
        let beginning = messages.iter().find(|message| begins_execution(message)).map(|message| message.item.clone());
        let since = Instant::now();
        let until = since + lease;
        instance.leased = Some(TurnLease {
            token,
            until,
            since,
            is_ending: false,
            lease,
            code_time: None,
            taken: messages,
            is_attempt_recorded: true,
            counts: false,
        });
        self.turns.insert(token, number);
        self.note_expiry(until);
        Seizure::Seized { number, beginning }
    }
}

/// Takes what the instance has to read, and the beginning of an execution that is not due. Of several starts, the others
/// stay: the engine answers a start of an instance that exists.
fn take_messages(instance: &mut Instance) -> Vec<Message> {
    let mut has_begun = instance.exists() && !instance.awaits_start();
    let due = std::mem::take(&mut instance.put_off).into_values().chain(std::mem::take(&mut instance.queue));
    let (beginnings, delayed) = std::mem::take(&mut instance.delayed)
        .into_iter()
        .partition::<BTreeMap<_, _>, _>(|(_, message)| begins_execution(message));
    instance.delayed = delayed;
    let mut taken = Vec::new();
    for message in due.chain(beginnings.into_values()) {
        if message.is_start() && std::mem::replace(&mut has_begun, true) {
            instance.queue.push_back(message);
        } else {
            taken.push(message);
        }
    }
    taken
}

fn begins_execution(message: &Message) -> bool {
    message.is_start() || matches!(*message.item, WorkItem::ContinueAsNew { .. })
}
