//! What the tests over all of Sideband share: the walker over the known answers, the list of rules, the scripted world of endpoints, and
//! what a failed test failed at.

pub mod failure;
pub mod script;
pub mod spec;
pub mod vectors;
