//! Accounts as they should be: one change at a time, so that after a kill they are as before the last one or as after it.

use std::collections::BTreeMap;

use http::Method;
use serde_json::{Value, json};
use sideband_protocol::{Entropy, entropy::next_below};
use sideband_sim_kit::admin::accounts::{Accounts, DaemonAccount, UserAccount};

use super::{REGISTERED, Target};

/// Most users and most daemons besides the first.
const MANY: usize = 5;

/// A change of accounts.
#[derive(Debug, Clone)]
pub(super) enum Change {
    AddUser(String),
    RemoveUser(String),
    Region(String, Option<String>),
    IssueToken(String),
    RevokeToken(String),
    AddDaemon { id: String, owner: String },
    RemoveDaemon(String),
    Limit(String, Option<u64>),
    IssueKey(String),
    RevokeKey(String),
    Grant { user: String, daemon: String },
    TakeGrant { user: String, daemon: String },
}

impl Change {
    /// The request below `accounts`.
    pub(super) fn request(&self) -> (Method, String, Value) {
        match self {
            Self::AddUser(id) => (Method::POST, "users".into(), json!({"userId": id, "region": "eu"})),
            Self::RemoveUser(id) => (Method::DELETE, format!("users/{id}"), Value::Null),
            Self::Region(id, region) => (Method::PATCH, format!("users/{id}"), json!({"region": region})),
            Self::IssueToken(user) => (Method::POST, format!("users/{user}/tokens"), Value::Null),
            Self::RevokeToken(id) => (Method::DELETE, format!("tokens/{id}"), Value::Null),
            Self::AddDaemon { id, owner } => {
                (Method::POST, "daemons".into(), json!({"daemonId": id, "owner": owner, "concurrentSessions": 7}))
            }
            Self::RemoveDaemon(id) => (Method::DELETE, format!("daemons/{id}"), Value::Null),
            Self::Limit(id, limit) => {
                (Method::PATCH, format!("daemons/{id}"), json!({"concurrentSessions": limit, "region": "us"}))
            }
            Self::IssueKey(daemon) => (Method::POST, format!("daemons/{daemon}/keys"), Value::Null),
            Self::RevokeKey(id) => (Method::DELETE, format!("keys/{id}"), Value::Null),
            Self::Grant { user, daemon } => (Method::PUT, format!("daemons/{daemon}/grants/{user}"), Value::Null),
            Self::TakeGrant { user, daemon } => {
                (Method::DELETE, format!("daemons/{daemon}/grants/{user}"), Value::Null)
            }
        }
    }

    /// The accounts after it; `new` is the id of the credential that it makes.
    fn apply(&self, accounts: &mut Accounts, new: Option<&str>) {
        let new = new.map(str::to_owned);
        match self {
            Self::AddUser(id) => {
                accounts.users.push(id.clone());
                let (user_id, access_token_ids) = (id.clone(), new.into_iter().collect());
                accounts.user_accounts.push(UserAccount { user_id, region: Some("eu".into()), access_token_ids });
            }
            Self::RemoveUser(id) => {
                accounts.users.retain(|user| user != id);
                accounts.user_accounts.retain(|user| user.user_id != *id);
                accounts.daemons.retain(|daemon| daemon.owner != *id);
                accounts.daemons.iter_mut().for_each(|daemon| daemon.grants.retain(|user| user != id));
            }
            Self::Region(id, region) => user(accounts, id).region.clone_from(region),
            Self::IssueToken(id) => user(accounts, id).access_token_ids.extend(new),
            Self::RevokeToken(token) => {
                accounts.user_accounts.iter_mut().for_each(|user| user.access_token_ids.retain(|id| id != token));
            }
            Self::AddDaemon { id, owner } => accounts.daemons.push(DaemonAccount {
                daemon_id: id.clone(),
                owner: owner.clone(),
                concurrent_sessions: Some(7),
                api_key_ids: new.into_iter().collect(),
                ..DaemonAccount::default()
            }),
            Self::RemoveDaemon(id) => accounts.daemons.retain(|daemon| daemon.daemon_id != *id),
            Self::Limit(id, limit) => {
                let daemon = daemon(accounts, id);
                (daemon.concurrent_sessions, daemon.region) = (*limit, Some("us".into()));
            }
            Self::IssueKey(id) => daemon(accounts, id).api_key_ids.extend(new),
            Self::RevokeKey(key) => {
                accounts.daemons.iter_mut().for_each(|daemon| daemon.api_key_ids.retain(|id| id != key));
            }
            Self::Grant { user, daemon: id } => daemon(accounts, id).grants.push(user.clone()),
            Self::TakeGrant { user, daemon: id } => daemon(accounts, id).grants.retain(|other| other != user),
        }
        sort(accounts);
    }
}

fn user<'a>(accounts: &'a mut Accounts, id: &str) -> &'a mut UserAccount {
    accounts.user_accounts.iter_mut().find(|user| user.user_id == id).unwrap()
}

fn daemon<'a>(accounts: &'a mut Accounts, id: &str) -> &'a mut DaemonAccount {
    accounts.daemons.iter_mut().find(|daemon| daemon.daemon_id == id).unwrap()
}

fn sort(accounts: &mut Accounts) {
    accounts.users.sort();
    accounts.user_accounts.sort_by(|one, other| one.user_id.cmp(&other.user_id));
    accounts.user_accounts.iter_mut().for_each(|user| user.access_token_ids.sort());
    accounts.daemons.sort_by(|one, other| one.daemon_id.cmp(&other.daemon_id));
    for daemon in &mut accounts.daemons {
        daemon.api_key_ids.sort();
        daemon.grants.sort();
    }
}

/// The ids of all credentials.
fn credentials(accounts: &Accounts) -> impl Iterator<Item = &String> {
    let tokens = accounts.user_accounts.iter().flat_map(|user| &user.access_token_ids);
    tokens.chain(accounts.daemons.iter().flat_map(|daemon| &daemon.api_key_ids))
}

fn pick<'a, T>(source: &mut dyn Entropy, from: &[&'a T]) -> Option<&'a T> {
    if from.is_empty() { None } else { Some(from[next_below(source, from.len() as u64) as usize]) }
}

/// What was acknowledged of accounts.
#[derive(Debug, Default)]
pub(super) struct Book {
    now: Accounts,
    /// As they were when this life began; none before the first.
    begun: Option<Accounts>,
    /// The change that got no answer.
    unknown: Option<Change>,
    under_way: bool,
    names: u32,
    /// Credentials that were shown, by their ids: those that are no longer in the accounts are revoked.
    secrets: BTreeMap<String, String>,
    pub(super) changes: u32,
}

impl Book {
    /// A change that makes sense now; none while one is under way.
    pub(super) fn draw(&mut self, source: &mut dyn Entropy) -> Option<Change> {
        if self.under_way {
            return None;
        }
        self.under_way = true;
        Some(self.likely(source).unwrap_or_else(|| self.add_user()))
    }

    /// A change that is under way from now on, and makes a user.
    pub(super) fn add_user(&mut self) -> Change {
        self.under_way = true;
        Change::AddUser(self.name("u-k"))
    }

    fn name(&mut self, kind: &str) -> String {
        self.names += 1;
        format!("{kind}{}", self.names)
    }

    fn likely(&mut self, source: &mut dyn Entropy) -> Option<Change> {
        let now = self.now.clone();
        let ours = |id: &str| id.starts_with("u-k") || id.starts_with("d-k");
        let users: Vec<_> = now.user_accounts.iter().filter(|user| ours(&user.user_id)).collect();
        let daemons: Vec<_> = now.daemons.iter().filter(|daemon| ours(&daemon.daemon_id)).collect();
        let (user, daemon) = (pick(source, &users), pick(source, &daemons));
        let id = |user: &UserAccount| user.user_id.clone();
        match next_below(source, 12) {
            0 if users.len() < MANY => None,
            1 => user.map(id).map(Change::RemoveUser),
            2 => user.map(|user| Change::Region(id(user), user.region.is_none().then(|| "ap".to_owned()))),
            3 => user.map(id).map(Change::IssueToken),
            4 => pick(source, &user?.access_token_ids.iter().collect::<Vec<_>>()).cloned().map(Change::RevokeToken),
            5 if daemons.len() < MANY => user.map(|user| Change::AddDaemon { id: self.name("d-k"), owner: id(user) }),
            6 => daemon.map(|daemon| Change::RemoveDaemon(daemon.daemon_id.clone())),
            7 => daemon.map(|daemon| {
                let limit = daemon.concurrent_sessions.map_or(Some(3), |_| None);
                Change::Limit(daemon.daemon_id.clone(), limit)
            }),
            8 => daemon.map(|daemon| Change::IssueKey(daemon.daemon_id.clone())),
            9 => pick(source, &daemon?.api_key_ids.iter().collect::<Vec<_>>()).cloned().map(Change::RevokeKey),
            10 => {
                let (user, daemon) = (id(user?), daemon?);
                let has = daemon.owner == user || daemon.grants.contains(&user);
                (!has).then(|| Change::Grant { user, daemon: daemon.daemon_id.clone() })
            }
            _ => {
                let daemon = daemon?;
                let user = pick(source, &daemon.grants.iter().collect::<Vec<_>>())?.clone();
                Some(Change::TakeGrant { user, daemon: daemon.daemon_id.clone() })
            }
        }
    }

    /// A change was answered, or not.
    pub(super) fn note(&mut self, change: Change, answer: Option<(u16, Value)>) {
        self.under_way = false;
        let Some((status, answer)) = answer else {
            self.unknown = Some(change);
            return;
        };
        assert_eq!(status, 200, "{change:?} was answered with {answer}");
        let text = |member: &str| answer[member].as_str().map(str::to_owned);
        let id = text("accessTokenId").or_else(|| text("apiKeyId"));
        if let (Some(id), Some(secret)) = (&id, text("accessToken").or_else(|| text("apiKey"))) {
            self.secrets.insert(id.clone(), secret);
        }
        change.apply(&mut self.now, id.as_deref());
        self.changes += 1;
    }

    /// All is as when this life began.
    pub(super) fn reset(&mut self) {
        self.now = self.begun.clone().expect("a life has begun");
    }

    /// Whether a user was added and not removed.
    pub(super) fn newest_user(&self) -> Option<&String> {
        self.now.users.iter().filter(|id| id.starts_with("u-k")).max_by_key(|id| id[3..].parse::<u32>().unwrap())
    }

    /// At the start of a life: what the process says is what was acknowledged; of a change without an answer, all or nothing. And credentials do what they
    /// may, and no more.
    pub(super) async fn check(&mut self, target: &Target) {
        let (status, answer) = target.admin(Method::GET, "accounts", Value::Null).await.unwrap();
        assert_eq!(status, 200, "{answer}");
        let mut seen: Accounts = serde_json::from_value(answer).unwrap();
        // Those come and go beside.
        seen.daemons.retain(|daemon| daemon.name.as_deref() != Some(REGISTERED));
        // Nobody serves any, and the answers to changes do not matter.
        seen.unserved_regions.clear();
        sort(&mut seen);
        if self.begun.is_none() {
            self.now = seen.clone();
        }
        let mut may_be = vec![self.now.clone()];
        if let Some(change) = self.unknown.take() {
            let known: Vec<_> = credentials(&self.now).collect();
            let new: Vec<_> = credentials(&seen).filter(|id| !known.contains(id)).collect();
            assert!(new.len() <= 1, "{change:?} made {new:?}");
            let mut after = self.now.clone();
            change.apply(&mut after, new.first().map(|id| id.as_str()));
            may_be.push(after);
        }
        assert!(may_be.contains(&seen), "{seen:#?}\nis none of\n{may_be:#?}");
        (self.begun, self.now) = (Some(seen.clone()), seen);
        self.check_credentials(target).await;
    }

    async fn check_credentials(&self, target: &Target) {
        for (id, secret) in self.secrets.iter().rev().take(6) {
            let key_of = self.now.daemons.iter().find(|daemon| daemon.api_key_ids.contains(id));
            let token_of = self.now.user_accounts.iter().find(|user| user.access_token_ids.contains(id));
            let (status, answer) = target.procedure("daemon.renewToken", secret, Value::Null).await.unwrap();
            assert_eq!(status, if key_of.is_some() { 200 } else { 401 }, "{id}: {answer}");
            for daemon in &self.now.daemons {
                let input = json!({"daemonId": daemon.daemon_id});
                let (status, answer) = target.procedure("relay.createSession", secret, input).await.unwrap();
                let expected = match token_of.map(|user| &user.user_id) {
                    None => 401,
                    Some(user) if daemon.owner == *user || daemon.grants.contains(user) => 200,
                    Some(_) => 403,
                };
                assert_eq!(status, expected, "{id} at {}: {answer}", daemon.daemon_id);
            }
        }
    }
}
