//! For each rule and party a stream that breaks it, and the nearest one that does not.

mod bench;
mod held;
mod kept;
mod page;
mod waits;
mod witnesses;
