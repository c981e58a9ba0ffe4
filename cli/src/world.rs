//! The real world, as all commands use it.

use anyhow::anyhow;
use sideband::env::{Env, real::Roots};

use crate::failure::Failure;

/// The operating system's clock, randomness and network, with its certificate authorities.
pub(crate) fn real() -> Result<Env, Failure> {
    Env::real(&Roots::System).map_err(|error| Failure::cannot_run(anyhow!("{error}")))
}
