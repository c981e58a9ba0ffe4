//! One witness at least for every rule of frames, control plane and relay that binds a relay or a control plane, over the real ones and
//! peers in memory, on virtual time.
//!
//! A witness is a test that takes [`RelayQuirks`](sideband_protocol::relay::RelayQuirks) or
//! [`ApiQuirks`](sideband_protocol::api::ApiQuirks): it must hold without any, and fail with each of the quirks that it names, where it
//! looks. Both are tests: `…::holds::NAME` and `…::fails::NAME`. [`coverage`] checks the list against the specification.

#[path = "../support/api_bench.rs"]
mod api_bench;
#[path = "../support/relay_bench.rs"]
mod bench;

mod api;
mod codes;
mod coverage;
mod elsewhere;
mod frames;
mod ghosts;
mod keys;
mod order;
mod pairing;
mod rate;
mod sessions;
mod silence;
mod slow;
mod tokens;
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
    tokens::WITNESSES,
    keys::WITNESSES,
    api::WITNESSES,
    codes::WITNESSES,
    order::WITNESSES,
];
