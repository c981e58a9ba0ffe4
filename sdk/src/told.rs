//! What is told of an endpoint's life, as its readers take it.

use tokio::sync::broadcast::{
    Receiver,
    error::{RecvError, TryRecvError},
};

/// An event in an endpoint's life.
pub(crate) trait Telling: Clone {
    /// Whether nothing follows it.
    fn is_last(&self) -> bool;
    /// This many were missed by a reader that was too slow.
    fn missed(number: u64) -> Self;
}

/// A reader's place in what is told.
#[derive(Debug)]
pub(crate) struct Told<T> {
    receiver: Receiver<T>,
    /// Nothing more is told than what is there already.
    over: bool,
}

impl<T: Telling> Told<T> {
    /// `over` must have been looked at after `receiver` was made: the last event is told before the end is.
    pub(crate) const fn new(receiver: Receiver<T>, over: bool) -> Self {
        Self { receiver, over }
    }

    /// The next event; `None` after the last one. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Option<T> {
        let event = if self.over {
            self.receiver.try_recv().map_err(|error| match error {
                TryRecvError::Lagged(missed) => RecvError::Lagged(missed),
                TryRecvError::Empty | TryRecvError::Closed => RecvError::Closed,
            })
        } else {
            self.receiver.recv().await
        };
        match event {
            Ok(event) => {
                self.over |= event.is_last();
                Some(event)
            }
            Err(RecvError::Lagged(missed)) => Some(T::missed(missed)),
            Err(RecvError::Closed) => None,
        }
    }
}
