//! The timer thread: it makes messages and activities visible when they are due, and sleeps until the next one is due.

use crate::sqlite::owner::core::OwnerCore;
use crate::sqlite::owner::disk::change::Change;
use crate::sqlite::owner::disk::effect::CommitEffect;
use crate::sqlite::owner::memory::ids::{Number, Sequence};

pub fn run(core: &OwnerCore) {
    loop {
        let (pause, expired) = {
            let mut state = core.lock();
            let pause = state.tick();
            (pause, std::mem::take(&mut state.expired_orphans))
        };
        for (number, last) in expired {
            core.drop_orphans_of(number, last);
        }
        let mut is_woken = core.timer.0.lock();
        if core.health.is_closing() {
            return;
        }
        if !std::mem::take(&mut *is_woken) {
            match pause {
                Some(pause) => _ = core.timer.1.wait_for(&mut is_woken, pause),
                None => core.timer.1.wait(&mut is_woken),
            }
            *is_woken = false;
        }
    }
}

pub fn stop(core: &OwnerCore) {
    *core.timer.0.lock() = true;
    core.timer.1.notify_one();
}

impl OwnerCore {
    /// Drops the messages up to `last` of an instance that was never started, since their time is over.
    pub fn drop_orphans_of(&self, number: Number, last: Sequence) {
        let mut state = self.lock();
        let Some(instance) = state.get(number) else { return };
        if instance.running().is_some() || instance.leased.is_some() {
            return;
        }
        let mut dropped = Vec::new();
        instance.queue.retain(|message| {
            let is_over = message.sequence <= last;
            if is_over {
                dropped.push(message.sequence);
            }
            !is_over
        });
        if dropped.is_empty() {
            return;
        }
        let (id, count) = (instance.id.clone(), dropped.len());
        let mut changes = vec![Change::MessagesDropped(dropped)];
        if instance.queue.is_empty() && instance.delayed.is_empty() {
            instance.has_row = false;
            changes.push(Change::InstanceDropped(number));
        }
        self.submit_and_forget(None, changes, CommitEffect::ForgetIfIdle(number));
        drop(state);
        tracing::warn!(
            target: "duroxide::store",
            instance = %id,
            "{count} messages for instance '{id}' were dropped, since it was not started within ten minutes"
        );
    }
}
