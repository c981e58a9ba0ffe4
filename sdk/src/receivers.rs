//! Who takes what comes for a peer.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, Weak},
};

use tokio::sync::mpsc;

use crate::hub::lock;

/// Receivers that live, in the order in which they were made, each with what it wants.
pub(crate) struct Receivers<K, T>(Arc<Mutex<List<K, T>>>);

struct List<K, T> {
    /// Nothing comes any more.
    over: bool,
    made: u64,
    senders: BTreeMap<u64, (K, mpsc::UnboundedSender<T>)>,
}

impl<K, T> Default for Receivers<K, T> {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(List { over: false, made: 0, senders: BTreeMap::new() })))
    }
}

impl<K, T: Clone> Receivers<K, T> {
    /// One more; it has ended already if nothing comes any more.
    pub(crate) fn open(&self, wants: K) -> Receiver<K, T> {
        let (sender, queue) = mpsc::unbounded_channel();
        let mut list = lock(&self.0);
        list.made += 1;
        let number = list.made;
        if !list.over {
            list.senders.insert(number, (wants, sender));
        }
        Receiver { queue, number, list: Arc::downgrade(&self.0) }
    }

    /// Gives an item to each that wants it, in order.
    pub(crate) fn send(&self, item: &T, mut wanted: impl FnMut(&K) -> bool) {
        for (wants, sender) in lock(&self.0).senders.values() {
            if wanted(wants) {
                // Whoever received may be going just now.
                let _ = sender.send(item.clone());
            }
        }
    }

    /// Ends those that there are.
    pub(crate) fn clear(&self) {
        lock(&self.0).senders.clear();
    }

    /// Ends those that there are, and those that are still to be made.
    pub(crate) fn end(&self) {
        let mut list = lock(&self.0);
        list.over = true;
        list.senders.clear();
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        lock(&self.0).senders.len()
    }
}

/// One of them. When it is dropped nothing is left of it.
pub(crate) struct Receiver<K, T> {
    queue: mpsc::UnboundedReceiver<T>,
    number: u64,
    list: Weak<Mutex<List<K, T>>>,
}

impl<K, T> Receiver<K, T> {
    /// One that receives nothing.
    pub(crate) fn ended() -> Self {
        Self { queue: mpsc::unbounded_channel().1, number: 0, list: Weak::new() }
    }

    /// The next item; `None` once nothing comes any more. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Option<T> {
        self.queue.recv().await
    }
}

impl<K, T> Drop for Receiver<K, T> {
    fn drop(&mut self) {
        if let Some(list) = self.list.upgrade() {
            let gone = lock(&list).senders.remove(&self.number);
            // Outside the lock.
            drop(gone);
        }
    }
}
