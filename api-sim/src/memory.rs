//! A store in memory, gone with the process.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
};

use sideband_protocol::SessionId;

use crate::{Code, Daemon, Digest, Store, StoreError};

/// How many of the newest session ids are remembered. A random id of 64 bits that comes again after so many others would
/// be a wonder; the relay refuses it anyway while the old token lives (REL-10).
const SESSION_IDS: usize = 1 << 20;

/// Everything in memory. Looking up a secret compares it with every one there is, in constant time each (API-07).
#[derive(Debug, Default)]
pub struct MemoryStore(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    users: BTreeSet<String>,
    daemons: BTreeMap<String, Daemon>,
    access_tokens: Secrets<String>,
    api_keys: Secrets<String>,
    codes: Secrets<Code>,
    session_ids: BTreeSet<SessionId>,
    session_order: VecDeque<SessionId>,
}

/// Values found by the digest of a secret.
#[derive(Debug)]
struct Secrets<T>(Vec<(Digest, T)>);

impl<T> Default for Secrets<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> Secrets<T> {
    /// Where a secret is; the time does not tell.
    fn position(&self, wanted: Digest) -> Option<usize> {
        let mut found = None;
        for (at, (digest, _)) in self.0.iter().enumerate() {
            if *digest == wanted {
                found = Some(at);
            }
        }
        found
    }

    fn get(&self, wanted: Digest) -> Option<&T> {
        self.position(wanted).map(|at| &self.0[at].1)
    }

    fn insert_if_new(&mut self, digest: Digest, value: T) -> bool {
        let new = self.position(digest).is_none();
        if new {
            self.0.push((digest, value));
        }
        new
    }

    fn remove(&mut self, wanted: Digest) -> Option<T> {
        self.position(wanted).map(|at| self.0.swap_remove(at).1)
    }
}

impl MemoryStore {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store for MemoryStore {
    fn add_user(&self, user: &str) -> Result<(), StoreError> {
        self.known().users.insert(user.to_owned());
        Ok(())
    }

    fn add_access_token(&self, token: Digest, user: &str) -> Result<(), StoreError> {
        self.known().access_tokens.insert_if_new(token, user.to_owned());
        Ok(())
    }

    fn user_of_access_token(&self, token: Digest) -> Result<Option<String>, StoreError> {
        Ok(self.known().access_tokens.get(token).cloned())
    }

    fn revoke_access_token(&self, token: Digest) -> Result<bool, StoreError> {
        Ok(self.known().access_tokens.remove(token).is_some())
    }

    fn add_daemon(&self, daemon: &Daemon, api_key: Digest) -> Result<bool, StoreError> {
        let mut known = self.known();
        if known.daemons.contains_key(&daemon.id) || !known.api_keys.insert_if_new(api_key, daemon.id.clone()) {
            return Ok(false);
        }
        known.daemons.insert(daemon.id.clone(), daemon.clone());
        Ok(true)
    }

    fn daemon(&self, id: &str) -> Result<Option<Daemon>, StoreError> {
        Ok(self.known().daemons.get(id).cloned())
    }

    fn daemon_of_api_key(&self, key: Digest) -> Result<Option<Daemon>, StoreError> {
        let known = self.known();
        Ok(known.api_keys.get(key).and_then(|id| known.daemons.get(id)).cloned())
    }

    fn revoke_api_key(&self, key: Digest) -> Result<bool, StoreError> {
        Ok(self.known().api_keys.remove(key).is_some())
    }

    fn daemons(&self, owner: Option<&str>) -> Result<Vec<Daemon>, StoreError> {
        let known = self.known();
        Ok(known.daemons.values().filter(|daemon| owner.is_none_or(|owner| daemon.owner == owner)).cloned().collect())
    }

    fn users(&self) -> Result<Vec<String>, StoreError> {
        Ok(self.known().users.iter().cloned().collect())
    }

    fn add_code(&self, code: Digest, entry: Code, now: u64) -> Result<bool, StoreError> {
        let mut known = self.known();
        known.codes.0.retain(|(_, entry)| entry.expires_at > now);
        Ok(known.codes.insert_if_new(code, entry))
    }

    fn consume_code(&self, code: Digest, now: u64) -> Result<Option<Code>, StoreError> {
        Ok(self.known().codes.remove(code).filter(|entry| entry.expires_at > now))
    }

    fn insert_session_id_if_new(&self, session: SessionId) -> Result<bool, StoreError> {
        let mut known = self.known();
        if !known.session_ids.insert(session) {
            return Ok(false);
        }
        known.session_order.push_back(session);
        if known.session_order.len() > SESSION_IDS
            && let Some(oldest) = known.session_order.pop_front()
        {
            known.session_ids.remove(&oldest);
        }
        Ok(true)
    }
}
