//! Each preset's effect on the SDK, with its default policies, on virtual time. No preset makes a correct endpoint break a
//! rule: [`stage::play`] checks that nobody gets a mark.

mod api;
mod keys;
mod relay;
mod stage;
