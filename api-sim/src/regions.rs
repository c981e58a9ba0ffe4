//! Which relay serves which region (TOK-08): those of the configuration, until the admin API says otherwise.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use sideband_env::Env;
use sideband_sim_kit::{
    admin::regions::{MAX_REGIONS, RegionRelay},
    guard::AdminToken,
    presence::{HttpPresence, Presence},
};
use url::Url;

/// Who knows which daemons of a region are online.
#[derive(Clone)]
enum Knows {
    /// Whom the control plane asks about all daemons.
    Shared,
    /// Its relay's admin API.
    Own(Arc<dyn Presence>, String),
    /// Nobody, unless it is the control plane's own relay.
    Nobody,
}

struct Relay {
    url: String,
    knows: Knows,
}

/// The relays of regions.
pub(crate) struct Regions(Mutex<BTreeMap<String, Relay>>);

/// What there is to ask about a daemon of a region.
pub(crate) enum Ask {
    Shared,
    /// The admin API at this URL.
    Own(String, Arc<dyn Presence>),
    /// Whom all are asked of, who may not know: that a daemon is not there says nothing.
    Unsure,
}

impl Ask {
    /// A name of who is asked: none for whom all are asked of.
    pub(crate) fn whom(&self) -> &str {
        match self {
            Self::Shared | Self::Unsure => "",
            Self::Own(url, _) => url,
        }
    }
}

/// There are as many regions as can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TooMany;

impl Regions {
    /// Those of a configuration.
    pub(crate) fn new(relays: &BTreeMap<String, String>, presence_knows: bool) -> Self {
        Self(Mutex::new(first(relays, presence_knows)))
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Relay>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Comes back to those of a configuration.
    pub(crate) fn reset(&self, relays: &BTreeMap<String, String>, presence_knows: bool) {
        *self.lock() = first(relays, presence_knows);
    }

    /// The relay of a region, if it has one of its own.
    pub(crate) fn relay_url(&self, region: &str) -> Option<String> {
        self.lock().get(region).map(|relay| relay.url.clone())
    }

    /// Whom to ask about a daemon of a region.
    pub(crate) fn ask(&self, region: Option<&str>) -> Ask {
        match region.and_then(|region| self.lock().get(region).map(|relay| relay.knows.clone())) {
            None | Some(Knows::Shared) => Ask::Shared,
            Some(Knows::Own(presence, url)) => Ask::Own(url, presence),
            Some(Knows::Nobody) => Ask::Unsure,
        }
    }

    /// Names the relay of a region, and its admin API.
    pub(crate) fn set(
        &self,
        region: String,
        url: String,
        admin: Option<(Url, Option<AdminToken>)>,
        env: &Env,
    ) -> Result<(), TooMany> {
        let mut relays = self.lock();
        if relays.len() >= MAX_REGIONS && !relays.contains_key(&region) {
            return Err(TooMany);
        }
        let knows = match admin {
            Some((admin, token)) => {
                let shown = admin.to_string();
                Knows::Own(Arc::new(HttpPresence::new(env.clone(), admin, token)), shown)
            }
            None => Knows::Nobody,
        };
        relays.insert(region, Relay { url, knows });
        Ok(())
    }

    /// Takes a region's relay away; whether there was one.
    pub(crate) fn remove(&self, region: &str) -> bool {
        self.lock().remove(region).is_some()
    }

    /// All of them, in the order of their names.
    pub(crate) fn list(&self) -> Vec<RegionRelay> {
        let shown = |(region, relay): (&String, &Relay)| RegionRelay {
            region: region.clone(),
            relay_url: relay.url.clone(),
            relay_admin_url: match &relay.knows {
                Knows::Own(_, url) => Some(url.clone()),
                Knows::Shared | Knows::Nobody => None,
            },
        };
        self.lock().iter().map(shown).collect()
    }
}

fn first(relays: &BTreeMap<String, String>, presence_knows: bool) -> BTreeMap<String, Relay> {
    let knows = if presence_knows { Knows::Shared } else { Knows::Nobody };
    let relay = |(region, url): (&String, &String)| (region.clone(), Relay { url: url.clone(), knows: knows.clone() });
    relays.iter().map(relay).collect()
}
