//! Waiting for the next commit that touches an instance.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::watch;

use store::backend::NextCommit;

#[derive(Default)]
struct Table {
    senders: HashMap<String, watch::Sender<()>>,
    /// The instances by what stands for them in the events of other processes.
    by_digest: HashMap<String, String>,
}

/// The instances that calls of this process wait for.
#[derive(Default)]
pub struct Watches {
    table: Arc<Mutex<Table>>,
}

impl Watches {
    /// Creates a watch. `digest` is what stands for the instance in the events of other processes, and `other_processes`
    /// reports their commits, where a store can.
    pub fn watch(&self, instance: &str, digest: Option<String>, other_processes: Option<Box<dyn NextCommit>>) -> Watch {
        let mut table = self.table.lock();
        let receiver = if let Some(sender) = table.senders.get(instance) {
            sender.subscribe()
        } else {
            let (sender, receiver) = watch::channel(());
            table.senders.insert(instance.to_owned(), sender);
            receiver
        };
        if let Some(digest) = &digest {
            table.by_digest.insert(digest.clone(), instance.to_owned());
        }
        Watch {
            instance: instance.to_owned(),
            digest,
            receiver: Some(receiver),
            other_processes,
            table: Arc::clone(&self.table),
        }
    }

    pub fn notify(&self, instance: &str) {
        if let Some(sender) = self.table.lock().senders.get(instance) {
            sender.send_replace(());
        }
    }

    /// Wakes the watches of the instance with this digest.
    pub fn notify_digest(&self, digest: &str) {
        let table = self.table.lock();
        if let Some(sender) = table.by_digest.get(digest).and_then(|instance| table.senders.get(instance)) {
            sender.send_replace(());
        }
    }

    /// Wakes all watches: after a commit that touches unknown instances, and at the end of the store.
    pub fn notify_all(&self) {
        for sender in self.table.lock().senders.values() {
            sender.send_replace(());
        }
    }
}

/// Resolves after the next commit that touches its instance, or after any commit of another process. A commit between
/// the creation of the watch and the wait counts, too. So a caller creates the watch, then reads the state, then waits.
pub struct Watch {
    instance: String,
    digest: Option<String>,
    receiver: Option<watch::Receiver<()>>,
    other_processes: Option<Box<dyn NextCommit>>,
    table: Arc<Mutex<Table>>,
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
        if table.senders.get(&self.instance).is_some_and(|sender| sender.receiver_count() == 0) {
            table.senders.remove(&self.instance);
            if let Some(digest) = &self.digest {
                table.by_digest.remove(digest);
            }
        }
    }
}
