//! Reads the records of instances into memory when an operation needs them.

use std::sync::Arc;

use crate::error::Result;
use crate::failure::Failure;
use crate::sqlite::owner::core::{LockedState, OwnerCore};
use crate::sqlite::owner::disk::records;
use crate::sqlite::owner::memory::ids::Number;
use crate::sqlite::owner::memory::instance::{Instance, Pin, RecordedInstance};
use crate::sqlite::owner::memory::state::OwnerState;
use crate::sqlite::read;

impl OwnerCore {
    /// Reads the records of the instances `ids` into memory, and then runs `action` under the lock.
    pub fn with_instances<R>(
        &self,
        ids: &[&str],
        action: impl FnOnce(&mut LockedState<'_>, &[Number]) -> R,
    ) -> Result<R> {
        let mut state = self.lock();
        loop {
            let numbers: Vec<Number> = ids.iter().map(|id| state.intern(id)).collect();
            let missing = state.without_record(&numbers);
            if missing.is_empty() {
                return Ok(action(&mut state, &numbers));
            }
            // All entries, also those with a record: one that left memory during the read would come back without it.
            let pins: Vec<Pin> = numbers.iter().filter_map(|number| state.get(*number).map(Instance::pin)).collect();
            let deletions = state.deletions;
            drop(state);
            let found = self.read("find_instance", |connection| {
                let failed = read::failed("find_instance");
                missing.iter().map(|id| records::find(connection, id).map_err(failed)).collect::<Result<Vec<_>, _>>()
            });
            state = self.lock();
            drop(pins);
            match found {
                // After a deletion, a record that was read before it would bring a deleted instance back.
                Ok(_) if state.deletions != deletions => {}
                Ok(found) => state.set_records(&missing, found),
                Err(failure) => {
                    state.forget_unread(&missing);
                    // The operation has changed nothing, and the next attempt may be able to read the file.
                    return Err(match self.health.broken() {
                        Some(_) => failure,
                        None => Failure::not_applied(failure.operation, failure.message),
                    });
                }
            }
        }
    }
}

impl OwnerState {
    /// The ids of the entries whose records were not read yet.
    fn without_record(&self, numbers: &[Number]) -> Vec<Arc<str>> {
        let entries = numbers.iter().filter_map(|number| self.instances.get(number));
        entries.filter(|instance| instance.record.is_none()).map(|instance| Arc::clone(&instance.id)).collect()
    }

    /// Sets the records that were read for the entries of `ids`, unless another operation has set them.
    fn set_records(&mut self, ids: &[Arc<str>], found: Vec<Option<(Number, RecordedInstance)>>) {
        for (id, found) in ids.iter().zip(found) {
            let Some(number) = self.numbers.get(id).copied() else { continue };
            let Some(instance) = self.get(number) else { continue };
            if instance.record.is_some() {
                continue;
            }
            if let Some((file_number, record)) = found {
                instance.set_record(record);
                self.renumber(number, file_number);
            } else {
                let execution = duroxide::INITIAL_EXECUTION_ID;
                instance.set_record(RecordedInstance { execution, ..RecordedInstance::default() });
                instance.has_row = false;
            }
        }
    }

    /// Removes the entries whose records could not be read, unless another operation needs them.
    fn forget_unread(&mut self, ids: &[Arc<str>]) {
        for id in ids {
            if let Some(number) = self.numbers.get(id).copied()
                && self.get(number).is_some_and(|instance| instance.record.is_none())
            {
                self.forget_if_idle(number);
            }
        }
    }
}
