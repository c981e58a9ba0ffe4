//! The parts of a soak run, for a test of this package, one of the binary's and an example: each includes this file.

pub(crate) mod audit;
pub(crate) mod crowd;
pub(crate) mod place;
pub(crate) mod process;
pub(crate) mod run;
pub(crate) mod trace;
