//! A hostile relay against the SDK's client and daemon, in the scripted world and on virtual time.
//!
//! The attacks are values of [`sideband_tests::script::hostile`]; here each is thrown in every stage where it makes sense, and the endpoint must end
//! as the specification says: at once, with nothing pinned or delivered that should not be, and as good as new for a well-behaved relay
//! afterwards.

mod answers;
mod client;
mod daemon;
mod floods;
mod random;
mod silence;
mod trust;
mod victims;
