//! The guard of a fetch that waits for work: it removes the fetch when the engine drops it.

use crate::sqlite::owner::core::OwnerCore;
use crate::sqlite::owner::memory::state::OwnerState;

/// Removes a waiting fetch from its queue when dropped.
pub struct WaiterGuard<'a> {
    core: &'a OwnerCore,
    waiter: u64,
    remove: fn(&mut OwnerState, u64),
}

impl<'a> WaiterGuard<'a> {
    pub fn new(core: &'a OwnerCore, waiter: u64, remove: fn(&mut OwnerState, u64)) -> Self {
        Self { core, waiter, remove }
    }
}

impl Drop for WaiterGuard<'_> {
    fn drop(&mut self) {
        (self.remove)(&mut self.core.lock(), self.waiter);
    }
}
