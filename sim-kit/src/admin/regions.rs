//! Which relay serves which region, below `/__sim` of a control plane (TOK-08).
//!
//! | route | takes | answer |
//! |---|---|---|
//! | `GET regions` | | [`Regions`] |
//! | `PUT regions/{name}` | [`RegionSettings`] | [`Regions`]; 409 if there are [`MAX_REGIONS`] others |
//! | `DELETE regions/{name}` | | [`Regions`]; 404 if it has no relay of its own |
//!
//! They hold for every token that is given from then on, until the process ends or a reset, which comes back to those of the start.
//! A daemon may be in a region that nobody serves: its tokens are then refused by the relay with 403, which is something to test
//! with. [`Accounts::unserved_regions`](super::Accounts::unserved_regions) names such regions.

use std::fmt;

use bytes::Bytes;
use http::Method;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{AdminClient, AdminError};

/// Most regions with relays of their own.
pub const MAX_REGIONS: usize = 64;

/// The regions that relays are known for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Regions {
    /// The region of daemons that neither have one nor an owner with one; none if their tokens name no region.
    pub default_region: Option<String>,
    /// Those with relays of their own, in the order of their names. Clients of every other daemon are sent to the control plane's
    /// own relay.
    pub regions: Vec<RegionRelay>,
}

/// A region with a relay of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct RegionRelay {
    /// Its name.
    pub region: String,
    /// Where clients of its daemons are sent.
    pub relay_url: String,
    /// The admin API that is asked which of its daemons are online; none if it was not given with the region.
    pub relay_admin_url: Option<String>,
}

/// The relay of a region. `Debug` hides the token.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RegionSettings {
    /// Where clients of its daemons are sent: `ws://…` or `wss://…`.
    #[schema(example = "ws://127.0.0.1:7602/relay")]
    pub relay_url: String,
    /// The relay's admin API, such as `http://127.0.0.1:7602`, which tells which daemons are online. Without it that is not known,
    /// unless the control plane asks this relay already: a code is then redeemed whether the daemon is there or not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub relay_admin_url: Option<String>,
    /// What that admin API asks for, if it does. It is never shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub relay_admin_token: Option<String>,
}

impl fmt::Debug for RegionSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { relay_url, relay_admin_url, relay_admin_token: _ } = self;
        let mut shown = f.debug_struct("RegionSettings");
        shown.field("relay_url", relay_url).field("relay_admin_url", relay_admin_url).finish_non_exhaustive()
    }
}

impl AdminClient {
    /// The regions that relays are known for.
    ///
    /// # Errors
    /// Every [`AdminError`], as for all requests here.
    pub async fn regions(&self) -> Result<Regions, AdminError> {
        self.get(&["regions"]).await
    }

    /// Names the relay of a region.
    ///
    /// # Errors
    /// Every [`AdminError`].
    pub async fn set_region(&self, region: &str, settings: &RegionSettings) -> Result<Regions, AdminError> {
        let body = serde_json::to_vec(settings).map_err(|_| AdminError::Unreadable)?;
        self.send(Method::PUT, &["regions", region], body.into()).await
    }

    /// Takes a region's relay away.
    ///
    /// # Errors
    /// Every [`AdminError`]; 404 if it has none of its own.
    pub async fn remove_region(&self, region: &str) -> Result<Regions, AdminError> {
        self.send(Method::DELETE, &["regions", region], Bytes::new()).await
    }
}
