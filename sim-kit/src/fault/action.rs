//! What a fault does, typed by the place where it happens, so that each hook is an exhaustive match.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use sideband_protocol::wire::ControlCode;
use utoipa::ToSchema;

use super::text::Shift;

/// Where events happen that a rule can be about: a rule's `on`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
pub enum Place {
    /// A request for a procedure of the control plane.
    #[serde(rename = "api.request")]
    ApiRequest,
    /// A request for a WebSocket at the relay.
    #[serde(rename = "relay.upgrade")]
    RelayUpgrade,
    /// A frame that comes in at the relay or leaves it.
    #[serde(rename = "relay.frame")]
    RelayFrame,
    /// A WebSocket at the relay that is open: one event a connection.
    #[serde(rename = "relay.connection")]
    RelayConnection,
    /// A use of the signing keys: a token is signed, or the key set is asked for.
    #[serde(rename = "keys")]
    Keys,
    /// A connection or a packet between two hosts; in simulation only.
    #[serde(rename = "net")]
    Net,
}

impl Place {
    /// Every place.
    pub const ALL: [Self; 6] =
        [Self::ApiRequest, Self::RelayUpgrade, Self::RelayFrame, Self::RelayConnection, Self::Keys, Self::Net];

    /// Those that a control plane has.
    pub const OF_API: &'static [Self] = &[Self::ApiRequest, Self::Keys];

    /// Those that a relay has.
    pub const OF_RELAY: &'static [Self] = &[Self::RelayUpgrade, Self::RelayFrame, Self::RelayConnection];

    /// Those that a cloud of both has.
    pub const OF_CLOUD: &'static [Self] =
        &[Self::ApiRequest, Self::RelayUpgrade, Self::RelayFrame, Self::RelayConnection, Self::Keys];

    /// The text of `on`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ApiRequest => "api.request",
            Self::RelayUpgrade => "relay.upgrade",
            Self::RelayFrame => "relay.frame",
            Self::RelayConnection => "relay.connection",
            Self::Keys => "keys",
            Self::Net => "net",
        }
    }

    /// Whether an action is possible here: the table of the whole plan.
    pub const fn takes(self, action: &Action) -> bool {
        use Place::{ApiRequest, Keys, Net, RelayConnection, RelayFrame, RelayUpgrade};
        match action {
            Action::Status(_) => matches!(self, ApiRequest | Keys),
            Action::Delay(_) => matches!(self, ApiRequest | RelayUpgrade | RelayFrame | Keys | Net),
            Action::Hang => matches!(self, ApiRequest | RelayUpgrade | Keys),
            Action::Cut => matches!(self, ApiRequest | RelayUpgrade | RelayFrame | RelayConnection | Keys | Net),
            Action::ClockShift(_) => matches!(self, ApiRequest | RelayUpgrade),
            Action::Rotate(_) => matches!(self, ApiRequest | Keys),
            Action::Foreign(_) => matches!(self, Keys),
            Action::Refuse(_) => matches!(self, RelayUpgrade),
            Action::Close(_) | Action::Control(_) | Action::Ghost => matches!(self, RelayFrame | RelayConnection),
            Action::Drop => matches!(self, RelayFrame | Net),
            Action::Duplicate | Action::Reorder(_) | Action::Corrupt | Action::Forge(_) => matches!(self, RelayFrame),
            Action::Pause(_) | Action::Limit(_) | Action::Restart(_) => matches!(self, RelayConnection),
            Action::Hold => matches!(self, Net),
        }
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// What an HTTP answer by fault is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum AnswerBody {
    /// An error as the control plane words it, also on 200.
    #[default]
    Json,
    /// A web page, as a proxy in between would send.
    Html,
    /// Nothing.
    Empty,
}

/// An HTTP answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status, 200 to 599.
    pub status: u16,
    /// What stands in it.
    pub body: AnswerBody,
    /// `data.code` of a JSON body, such as `CONFLICT`; the status's own if there is none.
    pub code: Option<String>,
    /// `Retry-After`, in seconds.
    pub retry_after: Option<u64>,
}

/// A new signing key (KEY-04).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rotation {
    /// Whether the old keys are gone at once.
    pub hard: bool,
    /// How long the old key stays published, in seconds; the control plane's own choice if there is none.
    pub overlap_seconds: Option<u64>,
}

/// An upgrade that is refused (TOK-13).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The HTTP status, 200 to 599.
    pub status: u16,
    /// The stable code of the answer, such as `unavailable`; the status's own if there is none.
    pub code: Option<String>,
    /// `Retry-After`, in seconds.
    pub retry_after: Option<u64>,
}

/// A close frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Closing {
    /// The close code.
    pub code: u16,
    /// The reason, at most 123 bytes; empty for none.
    pub reason: String,
}

/// A Control code, which need not be one of the table (WIRE-05).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Control {
    /// The number on the wire.
    pub code: u16,
}

impl Control {
    /// Whether whoever gets it ends the connection: so is every code that the table has not (WIRE-05).
    pub fn is_terminal(self) -> bool {
        ControlCode::from_u16(self.code).is_none_or(ControlCode::is_terminal)
    }
}

/// What a hostile relay makes up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Forged {
    /// A Data of the same session that nobody sealed: the nonce names the right direction and a sequence far ahead of all
    /// others (CRY-08).
    Data,
    /// A frame whose header declares more bytes than follow.
    Malformed,
}

/// Frames that nobody sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Forgery {
    /// What they are.
    pub what: Forged,
    /// How many, at least 1; one if there is none.
    pub frames: Option<u32>,
}

/// Another frame rate for a connection (REL-20).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// Frames a second, at least 1.
    pub frames_per_second: u32,
    /// Frames that may come at once; as many as a second's if there is none.
    pub burst: Option<u32>,
}

macro_rules! place_actions {
    ($(
        $(#[$doc:meta])*
        $name:ident at $place:ident {
            $($(#[$variant_doc:meta])* $variant:ident $(($payload_name:ident: $payload:ty))?,)*
        }
    )*) => {
        $(
            $(#[$doc])*
            #[derive(Debug, Clone, PartialEq, Eq)]
            pub enum $name { $($(#[$variant_doc])* $variant $(($payload))?,)* }

            impl From<$name> for Action {
                fn from(action: $name) -> Self {
                    match action { $($name::$variant $(($payload_name))? => Self::$variant $(($payload_name))?,)* }
                }
            }

            impl $name {
                /// The action, if it is one of this place.
                pub fn of(action: &PlaceAction) -> Option<&Self> {
                    if let PlaceAction::$place(action) = action { Some(action) } else { None }
                }

                fn take(action: Action) -> Option<Self> {
                    $(if let Action::$variant $(($payload_name))? = action {
                        return Some(Self::$variant $(($payload_name))?);
                    })*
                    None
                }
            }
        )*
        /// An action and the place where it happens.
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub enum PlaceAction {
            $(#[doc = concat!("At [`Place::", stringify!($place), "`].")] $place($name),)*
        }

        impl PlaceAction {
            /// The action at a place; `None` if it is not possible there, as [`Place::takes`] says.
            pub fn new(place: Place, action: Action) -> Option<Self> {
                match place { $(Place::$place => $name::take(action).map(Self::$place),)* }
            }

            /// The place.
            pub const fn place(&self) -> Place {
                match self { $(Self::$place(_) => Place::$place,)* }
            }

            /// The action, whatever the place.
            pub fn action(&self) -> Action {
                match self { $(Self::$place(action) => action.clone().into(),)* }
            }
        }
    };
}

place_actions! {
    /// What happens to a request for a procedure. Faults come after origin, procedure and method, and before size, JSON,
    /// credential and input of API-09.
    ApiAction at ApiRequest {
        /// Answers so, and does nothing else.
        Status(answer: Answer),
        /// Waits, then goes on.
        Delay(time: Duration),
        /// Does not answer until the rule is gone or over, then goes on.
        Hang,
        /// Ends the connection without an answer.
        Cut,
        /// Goes on with a clock that is off: what is issued begins and ends at other times.
        ClockShift(shift: Shift),
        /// Makes a new key current when the request is answered: what the answer holds is signed by the old one.
        Rotate(rotation: Rotation),
    }

    /// What happens to a request for a WebSocket, before its token is judged.
    UpgradeAction at RelayUpgrade {
        /// Refuses it.
        Refuse(refusal: Refusal),
        /// Waits, then goes on.
        Delay(time: Duration),
        /// Does not answer until the rule is gone or over, then goes on.
        Hang,
        /// Ends the connection without an answer.
        Cut,
        /// Judges the token by a clock that is off.
        ClockShift(shift: Shift),
    }

    /// What happens to a frame. Those that come in are as they came; those that go out as the relay would send them.
    FrameAction at RelayFrame {
        /// Loses it.
        Drop,
        /// Keeps it for a time, with all that follow it in its direction.
        Delay(time: Duration),
        /// Passes it on twice.
        Duplicate,
        /// Lets this many later frames of its connection and direction pass first.
        Reorder(frames: u32),
        /// Changes one bit of its payload, or of its header if it has none; [`Fired::random`](super::Fired::random) says
        /// which.
        Corrupt,
        /// Sends others before it that the relay has made up. Data are made up only where a frame names a session.
        Forge(forgery: Forgery),
        /// Cuts the connection in place of it.
        Cut,
        /// Closes the connection in place of it.
        Close(closing: Closing),
        /// Sends a Control in place of it if the code is terminal, else before it.
        Control(control: Control),
        /// From it on the relay neither reads nor writes the connection, and does not notice (REL-11).
        Ghost,
    }

    /// What happens to an open WebSocket.
    ConnectionAction at RelayConnection {
        /// Cuts it.
        Cut,
        /// Closes it.
        Close(closing: Closing),
        /// Sends it a Control.
        Control(control: Control),
        /// The relay neither reads nor writes it any more, and does not notice (REL-11).
        Ghost,
        /// Neither reads nor writes it for a time.
        Pause(time: Duration),
        /// Gives it another frame rate.
        Limit(limit: Limit),
        /// The whole relay goes, with all connections and sessions, and is back after a time.
        Restart(down: Duration),
    }

    /// What happens at a use of the signing keys. All but [`Rotate`](Self::Rotate) are about asks for the key set.
    KeysAction at Keys {
        /// Answers so.
        Status(answer: Answer),
        /// Waits, then goes on.
        Delay(time: Duration),
        /// Does not answer until the rule is gone or over, then goes on.
        Hang,
        /// Ends the connection without an answer.
        Cut,
        /// Adds this many entries that no relay can use.
        Foreign(entries: u32),
        /// Makes a new key current first.
        Rotate(rotation: Rotation),
    }

    /// What happens between two hosts.
    NetAction at Net {
        /// Loses it.
        Drop,
        /// Delivers it later.
        Delay(time: Duration),
        /// Resets the connection.
        Cut,
        /// Keeps it until the rule is gone or over.
        Hold,
    }
}

macro_rules! actions {
    ($($(#[$doc:meta])* $variant:ident $(($name:ident: $payload:ty))? = $member:literal;)*) => {
        /// An action at any place: the member of `do` that names it, with its companions.
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub enum Action { $($(#[$doc])* $variant $(($payload))?,)* }

        impl Action {
            /// The member of `do` that stands for it, in camel case.
            pub const fn member(&self) -> &'static str {
                match self { $(actions!(@pattern $variant $($name)?) => $member,)* }
            }
        }
    };
    (@pattern $variant:ident) => { Self::$variant };
    (@pattern $variant:ident $name:ident) => { Self::$variant(_) };
}

actions! {
    /// An HTTP answer.
    Status(answer: Answer) = "status";
    /// A wait.
    Delay(time: Duration) = "delay";
    /// No answer.
    Hang = "hang";
    /// The end of the connection without a word.
    Cut = "cut";
    /// A clock that is off.
    ClockShift(shift: Shift) = "clockShift";
    /// A new signing key.
    Rotate(rotation: Rotation) = "rotate";
    /// Entries in the key set that no relay can use.
    Foreign(entries: u32) = "foreign";
    /// An upgrade refused.
    Refuse(refusal: Refusal) = "refuse";
    /// A close frame.
    Close(closing: Closing) = "close";
    /// A Control.
    Control(control: Control) = "control";
    /// Loss.
    Drop = "drop";
    /// Twice the same.
    Duplicate = "duplicate";
    /// Another order.
    Reorder(frames: u32) = "reorder";
    /// One bit changed.
    Corrupt = "corrupt";
    /// Frames made up.
    Forge(forgery: Forgery) = "forge";
    /// Reads and writes no more, and does not notice.
    Ghost = "ghost";
    /// Reads and writes nothing for a time.
    Pause(time: Duration) = "pause";
    /// Another frame rate.
    Limit(limit: Limit) = "limit";
    /// The relay goes and is back after a time.
    Restart(down: Duration) = "restart";
    /// Kept until the rule is gone.
    Hold = "hold";
}

impl Action {
    /// One of each, to ask [`Place::takes`] about.
    pub(super) fn one_of_each() -> Vec<Self> {
        let second = Duration::from_secs(1);
        vec![
            Self::Status(Answer { status: 503, body: AnswerBody::Json, code: None, retry_after: None }),
            Self::Delay(second),
            Self::Hang,
            Self::Cut,
            Self::ClockShift(Shift { millis: 1 }),
            Self::Rotate(Rotation { hard: true, overlap_seconds: None }),
            Self::Foreign(1),
            Self::Refuse(Refusal { status: 503, code: None, retry_after: None }),
            Self::Close(Closing { code: 1000, reason: String::new() }),
            Self::Control(Control { code: 0x0601 }),
            Self::Drop,
            Self::Duplicate,
            Self::Reorder(1),
            Self::Corrupt,
            Self::Forge(Forgery { what: Forged::Data, frames: None }),
            Self::Ghost,
            Self::Pause(second),
            Self::Limit(Limit { frames_per_second: 1, burst: None }),
            Self::Restart(second),
            Self::Hold,
        ]
    }

    /// Whether nothing is left of the event after it, so that no other rule can do anything to it.
    pub fn ends(&self) -> bool {
        match self {
            Self::Status(_)
            | Self::Hang
            | Self::Cut
            | Self::Refuse(_)
            | Self::Close(_)
            | Self::Drop
            | Self::Ghost
            | Self::Restart(_)
            | Self::Hold => true,
            Self::Control(control) => control.is_terminal(),
            Self::Delay(_)
            | Self::ClockShift(_)
            | Self::Rotate(_)
            | Self::Foreign(_)
            | Self::Duplicate
            | Self::Reorder(_)
            | Self::Corrupt
            | Self::Forge(_)
            | Self::Pause(_)
            | Self::Limit(_) => false,
        }
    }
}
