//! A store in memory, gone with the process.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, MutexGuard, PoisonError},
};

use sideband_protocol::SessionId;

use crate::{
    Access, Added, Code, CredentialId, Daemon, DaemonChange, Digest, Directory, FirstAccounts, Store, StoreError,
    StoredKey, User,
};

/// Everything in memory.
#[derive(Debug, Default)]
pub struct MemoryStore(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    /// The first accounts are there.
    begun: bool,
    /// What a reset returns to.
    start: State,
    session_ids: BTreeSet<SessionId>,
    used_sessions: BTreeMap<SessionId, UsedSession>,
    state: State,
}

/// When a session id may be forgotten, in seconds since 1970.
#[derive(Debug)]
struct UsedSession {
    token_dies: u64,
    remembered_until: Option<u64>,
}

/// What a reset brings back.
#[derive(Debug, Default, Clone)]
struct State {
    users: BTreeMap<String, User>,
    daemons: BTreeMap<String, Daemon>,
    grants: BTreeSet<(String, String)>,
    access_tokens: Secrets<String>,
    api_keys: Secrets<String>,
    codes: Secrets<Code>,
    /// Newest first.
    keys: Vec<StoredKey>,
    fault_plan: Option<String>,
}

/// Values found by the digest of a secret.
#[derive(Debug, Clone)]
struct Secrets<T>(BTreeMap<CredentialId, (Digest, T)>);

impl<T> Default for Secrets<T> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<T> Secrets<T> {
    fn get(&self, wanted: Digest) -> Option<&T> {
        self.0.get(&wanted.id()).filter(|(digest, _)| *digest == wanted).map(|(_, value)| value)
    }

    fn is_free(&self, digest: Digest) -> bool {
        !self.0.contains_key(&digest.id())
    }

    fn insert_if_new(&mut self, digest: Digest, value: T) -> Added {
        if !self.is_free(digest) {
            return Added::Taken;
        }
        self.0.insert(digest.id(), (digest, value));
        Added::Yes
    }

    fn remove(&mut self, wanted: Digest) -> Option<T> {
        self.get(wanted)?;
        self.0.remove(&wanted.id()).map(|(_, value)| value)
    }

    fn retain(&mut self, keep: impl Fn(&T) -> bool) {
        self.0.retain(|_, (_, value)| keep(value));
    }

    fn list(&self) -> Vec<(CredentialId, T)>
    where
        T: Clone,
    {
        self.0.iter().map(|(id, (_, value))| (*id, value.clone())).collect()
    }
}

impl State {
    fn install(&mut self, first: &FirstAccounts) {
        let FirstAccounts { user, access_token, daemon, api_key } = first.clone();
        self.access_tokens.insert_if_new(access_token, user.id.clone());
        self.api_keys.insert_if_new(api_key, daemon.id.clone());
        self.users.insert(user.id.clone(), user);
        self.daemons.insert(daemon.id.clone(), daemon);
    }

    fn remove_daemon(&mut self, id: &str) -> bool {
        self.api_keys.retain(|daemon| daemon != id);
        self.codes.retain(|code| code.daemon_id != id);
        self.grants.retain(|(_, daemon)| daemon != id);
        self.daemons.remove(id).is_some()
    }

    fn may_use(&self, user: &str, daemon: &Daemon) -> bool {
        daemon.owner == user || self.grants.contains(&(user.to_owned(), daemon.id.clone()))
    }
}

impl MemoryStore {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store for MemoryStore {
    fn install(&self, first: &FirstAccounts) -> Result<(), StoreError> {
        let known = &mut *self.known();
        if !known.begun {
            known.begun = true;
            known.state.install(first);
            let State { keys, fault_plan, .. } = std::mem::take(&mut known.start);
            known.start = State { keys, fault_plan, ..known.state.clone() };
        }
        Ok(())
    }

    fn reset(&self) -> Result<(), StoreError> {
        let known = &mut *self.known();
        known.state = known.start.clone();
        Ok(())
    }

    fn add_user(&self, user: &User, access_token: Digest) -> Result<Added, StoreError> {
        let state = &mut self.known().state;
        if state.users.contains_key(&user.id) || !state.access_tokens.is_free(access_token) {
            return Ok(Added::Taken);
        }
        state.users.insert(user.id.clone(), user.clone());
        Ok(state.access_tokens.insert_if_new(access_token, user.id.clone()))
    }

    fn user(&self, id: &str) -> Result<Option<User>, StoreError> {
        Ok(self.known().state.users.get(id).cloned())
    }

    fn set_user_region(&self, id: &str, region: Option<&str>) -> Result<bool, StoreError> {
        let state = &mut self.known().state;
        let user = state.users.get_mut(id);
        Ok(user.map(|user| user.region = region.map(str::to_owned)).is_some())
    }

    fn remove_user(&self, id: &str) -> Result<Option<Vec<String>>, StoreError> {
        let state = &mut self.known().state;
        if state.users.remove(id).is_none() {
            return Ok(None);
        }
        state.access_tokens.retain(|user| user != id);
        state.grants.retain(|(user, _)| user != id);
        let daemons = state.daemons.values().filter(|daemon| daemon.owner == id).map(|daemon| daemon.id.clone());
        let daemons: Vec<_> = daemons.collect();
        for daemon in &daemons {
            state.remove_daemon(daemon);
        }
        Ok(Some(daemons))
    }

    fn add_access_token(&self, token: Digest, user: &str) -> Result<Added, StoreError> {
        let state = &mut self.known().state;
        if !state.users.contains_key(user) {
            return Ok(Added::NoHolder);
        }
        Ok(state.access_tokens.insert_if_new(token, user.to_owned()))
    }

    fn user_of_access_token(&self, token: Digest) -> Result<Option<String>, StoreError> {
        Ok(self.known().state.access_tokens.get(token).cloned())
    }

    fn revoke_access_token(&self, token: CredentialId) -> Result<bool, StoreError> {
        Ok(self.known().state.access_tokens.0.remove(&token).is_some())
    }

    fn add_daemon(&self, daemon: &Daemon, api_key: Digest) -> Result<Added, StoreError> {
        let state = &mut self.known().state;
        if !state.users.contains_key(&daemon.owner) {
            return Ok(Added::NoHolder);
        }
        if state.daemons.contains_key(&daemon.id) || !state.api_keys.is_free(api_key) {
            return Ok(Added::Taken);
        }
        state.daemons.insert(daemon.id.clone(), daemon.clone());
        Ok(state.api_keys.insert_if_new(api_key, daemon.id.clone()))
    }

    fn daemon(&self, id: &str) -> Result<Option<Daemon>, StoreError> {
        Ok(self.known().state.daemons.get(id).cloned())
    }

    fn change_daemon(&self, id: &str, change: DaemonChange) -> Result<Option<Daemon>, StoreError> {
        let state = &mut self.known().state;
        let Some(daemon) = state.daemons.get_mut(id) else { return Ok(None) };
        change.apply(daemon);
        Ok(Some(daemon.clone()))
    }

    fn remove_daemon(&self, id: &str) -> Result<bool, StoreError> {
        Ok(self.known().state.remove_daemon(id))
    }

    fn add_api_key(&self, key: Digest, daemon: &str) -> Result<Added, StoreError> {
        let state = &mut self.known().state;
        if !state.daemons.contains_key(daemon) {
            return Ok(Added::NoHolder);
        }
        Ok(state.api_keys.insert_if_new(key, daemon.to_owned()))
    }

    fn daemon_of_api_key(&self, key: Digest) -> Result<Option<Daemon>, StoreError> {
        let state = &self.known().state;
        Ok(state.api_keys.get(key).and_then(|id| state.daemons.get(id)).cloned())
    }

    fn revoke_api_key(&self, key: CredentialId) -> Result<bool, StoreError> {
        Ok(self.known().state.api_keys.0.remove(&key).is_some())
    }

    fn add_grant(&self, user: &str, daemon: &str) -> Result<Added, StoreError> {
        let state = &mut self.known().state;
        if !state.users.contains_key(user) {
            return Ok(Added::NoHolder);
        }
        match state.daemons.get(daemon).map(|daemon| state.may_use(user, daemon)) {
            None => Ok(Added::NoHolder),
            Some(true) => Ok(Added::Taken),
            Some(false) => {
                state.grants.insert((user.to_owned(), daemon.to_owned()));
                Ok(Added::Yes)
            }
        }
    }

    fn remove_grant(&self, user: &str, daemon: &str) -> Result<bool, StoreError> {
        Ok(self.known().state.grants.remove(&(user.to_owned(), daemon.to_owned())))
    }

    fn access(&self, user: &str, daemon: &str) -> Result<Option<Access>, StoreError> {
        let state = &self.known().state;
        let daemon = state.daemons.get(daemon).cloned();
        Ok(daemon.map(|daemon| Access { allowed: state.may_use(user, &daemon), daemon }))
    }

    fn accessible(&self, user: &str) -> Result<Vec<Daemon>, StoreError> {
        let state = &self.known().state;
        Ok(state.daemons.values().filter(|daemon| state.may_use(user, daemon)).cloned().collect())
    }

    fn directory(&self) -> Result<Directory, StoreError> {
        let state = &self.known().state;
        Ok(Directory {
            users: state.users.values().cloned().collect(),
            daemons: state.daemons.values().cloned().collect(),
            access_tokens: state.access_tokens.list(),
            api_keys: state.api_keys.list(),
            grants: state.grants.iter().cloned().collect(),
        })
    }

    fn add_code(&self, code: Digest, entry: &Code, now: u64) -> Result<Added, StoreError> {
        let state = &mut self.known().state;
        state.codes.retain(|entry| entry.expires_at > now);
        if !state.daemons.contains_key(&entry.daemon_id) {
            return Ok(Added::NoHolder);
        }
        Ok(state.codes.insert_if_new(code, entry.clone()))
    }

    fn consume_code(&self, code: Digest, now: u64) -> Result<Option<Code>, StoreError> {
        let known = &mut *self.known();
        let Some(entry) = known.state.codes.remove(code) else { return Ok(None) };
        // What was redeemed stays so, also after a reset.
        known.start.codes.remove(code);
        Ok(Some(entry).filter(|entry| entry.expires_at > now))
    }

    fn daemon_of_code(&self, code: Digest) -> Result<Option<String>, StoreError> {
        Ok(self.known().state.codes.get(code).map(|entry| entry.daemon_id.clone()))
    }

    fn insert_session_id_if_new(&self, session: SessionId) -> Result<bool, StoreError> {
        Ok(self.known().session_ids.insert(session))
    }

    fn signing_keys(&self, first: &StoredKey) -> Result<Vec<StoredKey>, StoreError> {
        let known = &mut *self.known();
        if known.state.keys.is_empty() {
            known.start.keys = vec![first.clone()];
            known.state.keys.clone_from(&known.start.keys);
        }
        Ok(known.state.keys.clone())
    }

    fn rotate_keys(&self, new: &StoredKey, previous_until: Option<u64>, now: u64) -> Result<(), StoreError> {
        let keys = &mut self.known().state.keys;
        match previous_until {
            None => keys.clear(),
            Some(until) => {
                for key in keys.iter_mut().filter(|key| key.published_until.is_none()) {
                    key.published_until = Some(until);
                }
                keys.retain(|key| key.published_until.is_some_and(|until| until > now));
            }
        }
        keys.insert(0, new.clone());
        Ok(())
    }

    fn fault_plan(&self) -> Result<Option<String>, StoreError> {
        Ok(self.known().state.fault_plan.clone())
    }

    fn set_fault_plan(&self, plan: Option<&str>) -> Result<(), StoreError> {
        self.known().state.fault_plan = plan.map(str::to_owned);
        Ok(())
    }

    fn begin_fault_plan(&self, plan: Option<&str>) -> Result<(), StoreError> {
        let known = &mut *self.known();
        known.start.fault_plan = plan.map(str::to_owned);
        known.state.fault_plan.clone_from(&known.start.fault_plan);
        Ok(())
    }

    fn use_session(
        &self,
        session: SessionId,
        token_dies: u64,
        forgotten: &[SessionId],
        now: u64,
    ) -> Result<(), StoreError> {
        let used = &mut self.known().used_sessions;
        for old in forgotten {
            if used.get(old).is_some_and(|old| old.token_dies <= now) {
                used.remove(old);
            }
        }
        used.insert(session, UsedSession { token_dies, remembered_until: None });
        Ok(())
    }

    fn unuse_session(&self, session: SessionId) -> Result<(), StoreError> {
        self.known().used_sessions.remove(&session);
        Ok(())
    }

    fn used_sessions(&self, now: u64, until: u64) -> Result<Vec<(SessionId, u64)>, StoreError> {
        let used = &mut self.known().used_sessions;
        let mut left = Vec::new();
        used.retain(|session, one| {
            let until = *one.remembered_until.get_or_insert(one.token_dies.max(until));
            if until >= now {
                left.push((*session, until));
            }
            until >= now
        });
        Ok(left)
    }
}
