//! What the tests over all of Sideband share: the walker over the known answers, the list of rules, and the scripted world of endpoints.

pub mod script;
pub mod spec;
pub mod vectors;
