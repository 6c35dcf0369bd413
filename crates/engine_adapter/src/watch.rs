//! Waiting for the next commit that touches an instance.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::watch;

use store::backend::NextCommit;

type Table = Mutex<HashMap<String, watch::Sender<()>>>;

/// The instances that calls of this process wait for.
#[derive(Default)]
pub struct Watches {
    table: Arc<Table>,
}

impl Watches {
    /// Creates a watch. `other_processes` reports the commits of other processes, where a store can.
    pub fn watch(&self, instance: &str, other_processes: Option<Box<dyn NextCommit>>) -> Watch {
        let mut table = self.table.lock();
        let receiver = if let Some(sender) = table.get(instance) {
            sender.subscribe()
        } else {
            let (sender, receiver) = watch::channel(());
            table.insert(instance.to_owned(), sender);
            receiver
        };
        Watch {
            instance: instance.to_owned(),
            receiver: Some(receiver),
            other_processes,
            table: Arc::clone(&self.table),
        }
    }

    pub fn notify(&self, instance: &str) {
        if let Some(sender) = self.table.lock().get(instance) {
            sender.send_replace(());
        }
    }

    /// Wakes all watches: after a commit that touches unknown instances, and at the end of the store.
    pub fn notify_all(&self) {
        for sender in self.table.lock().values() {
            sender.send_replace(());
        }
    }
}

/// Resolves after the next commit that touches its instance, or after any commit of another process. A commit between
/// the creation of the watch and the wait counts, too. So a caller creates the watch, then reads the state, then waits.
pub struct Watch {
    instance: String,
    receiver: Option<watch::Receiver<()>>,
    other_processes: Option<Box<dyn NextCommit>>,
    table: Arc<Table>,
}

impl Watch {
    pub async fn changed(&mut self) {
        let Some(receiver) = &mut self.receiver else { return };
        // The senders live as long as these receivers do.
        match &mut self.other_processes {
            Some(other_processes) => tokio::select! { _ = receiver.changed() => {}, () = other_processes.wait() => {} },
            None => _ = receiver.changed().await,
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut table = self.table.lock();
        self.receiver = None;
        if table.get(&self.instance).is_some_and(|sender| sender.receiver_count() == 0) {
            table.remove(&self.instance);
        }
    }
}
