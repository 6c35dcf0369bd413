//! Waiting for the next commit that touches an instance.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::watch;

use store::backend::NextCommit;

type Table = Mutex<HashMap<String, watch::Sender<()>>>;

/// The instances that somebody of this process waits for.
#[derive(Default)]
pub struct Watches {
    table: Arc<Table>,
}

impl Watches {
    /// `elsewhere` tells of what other processes commit, where they can.
    pub fn watch(&self, instance: &str, elsewhere: Option<Box<dyn NextCommit>>) -> Watch {
        let mut table = self.table.lock();
        let receiver = if let Some(sender) = table.get(instance) {
            sender.subscribe()
        } else {
            let (sender, receiver) = watch::channel(());
            table.insert(instance.to_owned(), sender);
            receiver
        };
        Watch { instance: instance.to_owned(), receiver: Some(receiver), elsewhere, table: Arc::clone(&self.table) }
    }

    pub fn notify(&self, instance: &str) {
        if let Some(sender) = self.table.lock().get(instance) {
            sender.send_replace(());
        }
    }

    /// For what touches instances that are not known by name, and for the end of the store.
    pub fn notify_all(&self) {
        for sender in self.table.lock().values() {
            sender.send_replace(());
        }
    }
}

/// Resolves after the next commit that touches its instance, or after any commit of another process. A commit between the creation of this and
/// the wait counts, so: watch, look, then wait.
pub struct Watch {
    instance: String,
    receiver: Option<watch::Receiver<()>>,
    elsewhere: Option<Box<dyn NextCommit>>,
    table: Arc<Table>,
}

impl Watch {
    pub async fn changed(&mut self) {
        let Some(receiver) = &mut self.receiver else { return };
        // The senders live as long as these receivers do.
        match &mut self.elsewhere {
            Some(elsewhere) => tokio::select! { _ = receiver.changed() => {}, () = elsewhere.wait() => {} },
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
