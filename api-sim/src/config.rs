//! How a control plane is set up.

use std::collections::BTreeMap;

use sideband_protocol::api::ApiQuirks;
use sideband_sim_kit::{guard::OriginPolicy, limits::RateLimit};

use crate::DEFAULT_OVERLAP;

/// Where a URL in an answer comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Advertised {
    /// Always this one.
    Fixed(String),
    /// The host and port by which the request came in, so that mapped ports and containers work: the request's `Host`.
    FollowHost {
        /// Whether the scheme is the one with TLS, `wss` or `https`.
        tls: bool,
    },
}

impl Advertised {
    /// The URL for a request that named `host`; `None` if it follows the host and there is none.
    pub(crate) fn url(&self, plain: &str, secure: &str, path: &str, host: Option<&str>) -> Option<String> {
        match self {
            Self::Fixed(url) => Some(url.clone()),
            Self::FollowHost { tls } => {
                host.map(|host| format!("{}://{host}{path}", if *tls { secure } else { plain }))
            }
        }
    }
}

/// How a control plane is set up.
#[derive(Debug, Clone)]
pub struct ApiConfig {
    /// The issuer in tokens: the URL below which the key set is published. A relay must be given the same text (TOK-04).
    pub issuer: String,
    /// `relayUrl` in answers. Following the host gives `ws://{host}/relay`.
    pub relay_url: Advertised,
    /// `relayUrl` in answers about the daemons of a region, for relays of their own; every other region's is
    /// [`relay_url`](Self::relay_url). None by default.
    pub region_relays: BTreeMap<String, String>,
    /// Whether whoever knows which daemons are online also knows it of those relays; true by default. Else nobody is said to be
    /// offline who may be there.
    pub presence_knows_regions: bool,
    /// What stands before `#qc=` in a Quick Connect URL. Following the host gives `http://{host}/connect` (API-03, API-09).
    pub connect_base: Advertised,
    /// The web pages that may ask (API-06).
    pub origins: OriginPolicy,
    /// How long a rotated key stays published, in seconds; [`DEFAULT_OVERLAP`] by default. Shorter than a presence token's
    /// life makes rotations refuse good tokens (KEY-02).
    pub key_overlap: u64,
    /// The region that all tokens name; none by default, which every relay takes (TOK-08).
    pub region: Option<String>,
    /// Most sessions at once that presence and client tokens allow the daemon; none by default, which leaves it to the relay
    /// (TOK-11, REL-23).
    pub concurrent_sessions: Option<u64>,
    /// Most requests of one credential, or of one peer without a known one; more are 429 with `Retry-After`. Off by default; the admin API
    /// can change it.
    pub rate_limit: Option<RateLimit>,
    /// Wrong on purpose, for tests.
    #[doc(hidden)]
    pub danger_quirks: ApiQuirks,
}

impl ApiConfig {
    /// The defaults for an issuer: URLs in answers follow the request's host without TLS, loopback pages may ask.
    pub fn new(issuer: impl Into<String>) -> Self {
        Self {
            issuer: issuer.into(),
            relay_url: Advertised::FollowHost { tls: false },
            region_relays: BTreeMap::new(),
            presence_knows_regions: true,
            connect_base: Advertised::FollowHost { tls: false },
            origins: OriginPolicy::default(),
            key_overlap: DEFAULT_OVERLAP,
            region: None,
            concurrent_sessions: None,
            rate_limit: None,
            danger_quirks: ApiQuirks::NONE,
        }
    }
}
