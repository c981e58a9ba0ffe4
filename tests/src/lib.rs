//! What the tests over all of Sideband share: the walker over the known answers and the list of rules.

pub mod spec;
pub mod vectors;
