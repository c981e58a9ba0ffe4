//! One witness at least for every rule that binds an endpoint, and what breaks it.
//!
//! A witness is a test that takes [`Quirks`](sideband_protocol::quirks::Quirks): it must hold without any, and fail with each of the quirks
//! that it names. Both are tests: `…::holds::NAME` and `…::fails::NAME`. It must fail where it looks, at an assertion of its own or at what it awaits as
//! [`due`](witness::due): what goes wrong on the way there shows nothing. [`coverage`] checks the list against the specification.

mod both;
mod client;
mod coverage;
mod crypto;
mod daemon;
mod endpoints;
mod events;
mod rpc;
mod sbp;
mod trust;
mod witness;

use witness::Witness;

/// Every witness, page by page.
const WITNESSES: &[&[Witness]] = &[
    crypto::WITNESSES,
    trust::WITNESSES,
    sbp::WITNESSES,
    rpc::WITNESSES,
    events::WITNESSES,
    client::attempts::WITNESSES,
    client::verdicts::WITNESSES,
    client::buffers::WITNESSES,
    client::sessions::WITNESSES,
    client::closing::WITNESSES,
    daemon::attempts::WITNESSES,
    daemon::retries::WITNESSES,
    daemon::sessions::WITNESSES,
    daemon::relay::WITNESSES,
    daemon::resume::WITNESSES,
];
