//! What a store reports without being asked.

/// Receives the changes that a store learns of, by whichever process they were made.
pub trait StoreEvents: Send + Sync {
    /// An instance has changed; `None` stands for any number of them, and for the end of the store.
    fn changed(&self, instance: Option<&str>);

    /// An instance was deleted.
    fn deleted(&self, instance: &str);
}
