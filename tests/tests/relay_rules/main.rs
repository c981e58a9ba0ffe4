//! One witness at least for every rule that binds a relay, over the real one and peers in memory, on virtual time.
//!
//! A witness is a test that takes [`RelayQuirks`](sideband_protocol::relay::RelayQuirks): it must hold without any, and fail with each of
//! the quirks that it names. Both are tests: `…::holds::NAME` and `…::fails::NAME`. [`coverage`] checks the list against the
//! specification.

mod bench;
mod coverage;
mod frames;
mod ghosts;
mod pairing;
mod rate;
mod sessions;
mod silence;
mod slow;
mod witness;

use witness::Witness;

/// Every witness, page by page.
const WITNESSES: &[&[Witness]] = &[
    frames::WITNESSES,
    pairing::WITNESSES,
    ghosts::WITNESSES,
    rate::WITNESSES,
    slow::WITNESSES,
    silence::WITNESSES,
    sessions::WITNESSES,
];
