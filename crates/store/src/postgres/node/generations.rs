//! The entries of a cache, by instance, within a limit of bytes.

use std::collections::HashMap;

pub trait CacheEntry {
    fn bytes(&self) -> usize;
}

/// Two generations, which stand for the order of use. The young one holds the entries that were used since the last
/// change of generations. When it is full, it becomes the old one, and the entries of the old one are dropped.
pub struct Generations<E> {
    young: HashMap<String, E>,
    old: HashMap<String, E>,
    young_bytes: usize,
    most_bytes: usize,
}

impl<E: CacheEntry> Generations<E> {
    /// A cache whose entries have at most this many bytes together.
    pub fn within(most_bytes: usize) -> Self {
        Self { young: HashMap::new(), old: HashMap::new(), young_bytes: 0, most_bytes }
    }

    /// The entry of an instance, which is young from now on.
    pub fn get(&mut self, instance: &str) -> Option<&E> {
        if let Some(entry) = self.old.remove(instance) {
            self.put(instance, entry);
        }
        self.young.get(instance)
    }

    pub fn put(&mut self, instance: &str, entry: E) {
        self.young_bytes += entry.bytes();
        if let Some(replaced) = self.young.insert(instance.to_owned(), entry) {
            self.young_bytes -= replaced.bytes();
        }
        if self.young_bytes > self.most_bytes / 2 {
            self.old = std::mem::take(&mut self.young);
            self.young_bytes = 0;
        }
    }

    /// Changes a young entry.
    pub fn change(&mut self, instance: &str, change: impl FnOnce(&mut E)) {
        let Some(entry) = self.young.get_mut(instance) else { return };
        self.young_bytes -= entry.bytes();
        change(entry);
        self.young_bytes += entry.bytes();
    }

    pub fn forget(&mut self, instance: &str) {
        self.old.remove(instance);
        if let Some(entry) = self.young.remove(instance) {
            self.young_bytes -= entry.bytes();
        }
    }

    pub fn clear(&mut self) {
        *self = Self::within(self.most_bytes);
    }
}
