//! Reads the records of instances into memory when an operation needs them.

use crate::error::Result;
use crate::failure::Failure;
use crate::sqlite::owner::core::{LockedState, OwnerCore};
use crate::sqlite::owner::disk::records;
use crate::sqlite::owner::memory::ids::Number;
use crate::sqlite::owner::memory::instance::RecordedInstance;
use crate::sqlite::read;

impl OwnerCore {
    /// Reads the records of the instances `ids` into memory, and then runs `action` under the lock.
    pub fn with_instances<R>(
        &self,
        ids: &[&str],
        action: impl FnOnce(&mut LockedState<'_>, &[Number]) -> R,
    ) -> Result<R> {
        let mut missing = Vec::new();
        {
            let mut state = self.lock();
            for id in ids {
                let number = state.intern(id);
                if let Some(instance) = state.get(number)
                    && instance.record.is_none()
                {
                    instance.pins += 1;
                    missing.push(*id);
                }
            }
            if missing.is_empty() {
                let numbers: Vec<Number> = ids.iter().map(|id| state.intern(id)).collect();
                return Ok(action(&mut state, &numbers));
            }
        }
        let (found, mut state) = loop {
            let deletions = self.lock().deletions;
            let found = self.read("find_instance", |connection| {
                let failed = read::failed("find_instance");
                missing.iter().map(|id| records::find(connection, id).map_err(failed)).collect::<Result<Vec<_>, _>>()
            });
            let state = self.lock();
            // After a deletion, a record that was read before it would bring a deleted instance back.
            if state.deletions == deletions {
                break (found, state);
            }
        };
        for (index, id) in missing.iter().enumerate() {
            let number = state.intern(id);
            let Some(instance) = state.get(number) else { continue };
            instance.pins = instance.pins.saturating_sub(1);
            let Ok(found) = &found else {
                if instance.record.is_none() {
                    state.forget_if_idle(number);
                }
                continue;
            };
            if instance.record.is_some() {
                continue;
            }
            if let Some((file_number, record)) = &found[index] {
                instance.set_record(record.clone());
                state.renumber(number, *file_number);
            } else {
                let execution = duroxide::INITIAL_EXECUTION_ID;
                instance.set_record(RecordedInstance { execution, ..RecordedInstance::default() });
                instance.has_row = false;
            }
        }
        // The operation has changed nothing, and the next attempt may be able to read the file.
        found.map_err(|failure| match self.health.broken() {
            Some(_) => failure,
            None => Failure::not_applied(failure.operation, failure.message),
        })?;
        let numbers: Vec<Number> = ids.iter().map(|id| state.intern(id)).collect();
        Ok(action(&mut state, &numbers))
    }
}
