//! Events as hooks describe them, and what rules say of them. All borrowed: a point costs nothing to make.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use sideband_protocol::{Instant, SessionId, api::Procedure, wire::FrameType};
use utoipa::ToSchema;

use super::action::Place;
use crate::event::{Direction, Role};

/// What a use of the signing keys is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum KeyUse {
    /// A token is signed.
    Sign,
    /// The key set is asked for, over HTTP or by a relay in the same process.
    Publish,
}

/// A request for a procedure. What it names is not judged yet.
#[derive(Debug, Clone, Copy)]
pub struct ApiPoint<'a> {
    /// The procedure.
    pub procedure: Procedure,
    /// The daemon of its API key, or the one that its input names.
    pub daemon: Option<&'a str>,
    /// The user of its access token.
    pub user: Option<&'a str>,
}

/// A request for a WebSocket. What its token says is not judged yet.
#[derive(Debug, Clone, Copy)]
pub struct UpgradePoint<'a> {
    /// The request's path.
    pub path: &'a str,
    /// Who the token says it is; none if it cannot be read. So for all that follows.
    pub role: Option<Role>,
    /// The daemon.
    pub daemon: Option<&'a str>,
    /// The user, of a client.
    pub user: Option<&'a str>,
    /// The session, of a client.
    pub session: Option<SessionId>,
}

/// A frame at the relay.
#[derive(Debug, Clone, Copy)]
pub struct FramePoint<'a> {
    /// Who the connection belongs to.
    pub role: Role,
    /// Whether it comes in or goes out.
    pub direction: Direction,
    /// Its type; none if the bytes are no frame.
    pub frame: Option<FrameType>,
    /// The connection's daemon.
    pub daemon: &'a str,
    /// The connection's user, of a client.
    pub user: Option<&'a str>,
    /// The session in its header, none for zero.
    pub session: Option<SessionId>,
    /// How long the connection has been open.
    pub age: Duration,
}

/// A WebSocket at the relay.
#[derive(Debug, Clone, Copy)]
pub(super) struct ConnectionPoint<'a> {
    /// Who it belongs to.
    pub(super) role: Role,
    /// Its daemon.
    pub(super) daemon: &'a str,
    /// Its user, of a client.
    pub(super) user: Option<&'a str>,
    /// Its session, of a client.
    pub(super) session: Option<SessionId>,
    /// When it opened.
    pub(super) opened: Instant,
}

/// A use of the signing keys.
#[derive(Debug, Clone, Copy)]
pub struct KeysPoint {
    /// What for.
    pub usage: KeyUse,
}

/// Something between two hosts.
#[derive(Debug, Clone, Copy)]
pub struct NetPoint<'a> {
    /// The host that it comes from.
    pub source: &'a str,
    /// The host that it goes to.
    pub target: &'a str,
}

/// What a rule asks of an event, all of it at once; what is `None` asks nothing. Each place knows some of these only.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Filter {
    /// This procedure.
    pub procedure: Option<Procedure>,
    /// This path of the request.
    pub path: Option<String>,
    /// This daemon's.
    pub daemon: Option<String>,
    /// This session's.
    pub session: Option<SessionId>,
    /// This user's.
    pub user: Option<String>,
    /// A client's or a daemon's.
    pub role: Option<Role>,
    /// Into the relay or out of it.
    pub direction: Option<Direction>,
    /// This type of frame.
    pub frame: Option<FrameType>,
    /// This use of the keys.
    pub usage: Option<KeyUse>,
    /// From this host.
    pub source: Option<String>,
    /// To this host.
    pub target: Option<String>,
    /// On a connection that has been open for at least so long. At `relay.connection` the event comes at this age.
    pub age: Option<Duration>,
}

impl Place {
    /// The filters that this place knows, as members of a rule in camel case.
    pub const fn filters(self) -> &'static [&'static str] {
        match self {
            Self::ApiRequest => &["procedure", "daemon", "user"],
            Self::RelayUpgrade => &["path", "role", "daemon", "user", "session"],
            Self::RelayFrame => &["role", "direction", "frame", "daemon", "user", "session", "age"],
            Self::RelayConnection => &["role", "daemon", "user", "session", "age"],
            Self::Keys => &["usage"],
            Self::Net => &["source", "target"],
        }
    }
}

/// All that any point can say.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Facts<'a> {
    pub(super) procedure: Option<Procedure>,
    pub(super) path: Option<&'a str>,
    pub(super) daemon: Option<&'a str>,
    pub(super) session: Option<SessionId>,
    pub(super) user: Option<&'a str>,
    pub(super) role: Option<Role>,
    pub(super) direction: Option<Direction>,
    pub(super) frame: Option<FrameType>,
    pub(super) usage: Option<KeyUse>,
    pub(super) source: Option<&'a str>,
    pub(super) target: Option<&'a str>,
    pub(super) age: Option<Duration>,
}

impl Filter {
    pub(super) fn matches(&self, facts: &Facts<'_>) -> bool {
        fn same<T: PartialEq>(asked: Option<T>, fact: Option<T>) -> bool {
            asked.is_none() || asked == fact
        }
        same(self.procedure, facts.procedure)
            && same(self.path.as_deref(), facts.path)
            && same(self.daemon.as_deref(), facts.daemon)
            && same(self.session, facts.session)
            && same(self.user.as_deref(), facts.user)
            && same(self.role, facts.role)
            && same(self.direction, facts.direction)
            && same(self.frame, facts.frame)
            && same(self.usage, facts.usage)
            && same(self.source.as_deref(), facts.source)
            && same(self.target.as_deref(), facts.target)
            && self.age.is_none_or(|asked| facts.age.is_some_and(|age| age >= asked))
    }
}

impl<'a> From<&ApiPoint<'a>> for Facts<'a> {
    fn from(point: &ApiPoint<'a>) -> Self {
        let ApiPoint { procedure, daemon, user } = *point;
        Self { procedure: Some(procedure), daemon, user, ..Self::default() }
    }
}

impl<'a> From<&UpgradePoint<'a>> for Facts<'a> {
    fn from(point: &UpgradePoint<'a>) -> Self {
        let UpgradePoint { path, role, daemon, user, session } = *point;
        Self { path: Some(path), role, daemon, user, session, ..Self::default() }
    }
}

impl<'a> From<&FramePoint<'a>> for Facts<'a> {
    fn from(point: &FramePoint<'a>) -> Self {
        let FramePoint { role, direction, frame, daemon, user, session, age } = *point;
        Self {
            role: Some(role),
            direction: Some(direction),
            frame,
            daemon: Some(daemon),
            user,
            session,
            age: Some(age),
            ..Self::default()
        }
    }
}

impl<'a> Facts<'a> {
    /// Of a connection of this age.
    pub(super) fn of_connection(point: &ConnectionPoint<'a>, age: Duration) -> Self {
        let ConnectionPoint { role, daemon, user, session, opened: _ } = *point;
        Self { role: Some(role), daemon: Some(daemon), user, session, age: Some(age), ..Self::default() }
    }
}

impl From<&KeysPoint> for Facts<'_> {
    fn from(point: &KeysPoint) -> Self {
        Self { usage: Some(point.usage), ..Self::default() }
    }
}

impl<'a> From<&NetPoint<'a>> for Facts<'a> {
    fn from(point: &NetPoint<'a>) -> Self {
        Self { source: Some(point.source), target: Some(point.target), ..Self::default() }
    }
}
