//! The events that a store reports to its subscriber.

use crate::live::NodeReport;

/// Receives the changes that a store learns of, from this process and from others.
pub trait StoreEvents: Send + Sync {
    /// An instance has changed; `None` stands for any number of instances, and for the end of the store.
    fn changed(&self, instance: Option<&str>);

    /// The instance with this digest has changed: see `Backend::digest`.
    fn digest_changed(&self, digest: &str);

    /// An instance was deleted.
    fn deleted(&self, instance: &str);

    /// An instance was terminated: it has ended without a turn of its code.
    fn terminated(&self, instance: &str);

    /// What this process can run and runs now; `None` if no runtime works in it.
    fn report(&self) -> Option<NodeReport>;
}
