//! Which rules are judged from outside, who is judged by them and what is taken as evidence; and which are not, and why.

use crate::event::Role;

macro_rules! rules {
    ($($variant:ident = $id:literal, $binds:expr, $evidence:literal;)*) => {
        /// A rule that the observer judges endpoints by.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Rule { $(#[doc = $evidence] $variant,)* }

        impl Rule {
            /// Every judged rule, in the order of the pages.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The rule's id in `docs/spec`.
            pub const fn id(self) -> &'static str {
                match self { $(Self::$variant => $id,)* }
            }

            /// Who is judged by it.
            pub const fn binds(self) -> &'static [Role] {
                match self { $(Self::$variant => $binds,)* }
            }

            /// What is taken as evidence.
            pub const fn evidence(self) -> &'static str {
                match self { $(Self::$variant => $evidence,)* }
            }

            /// The rule with this id.
            pub fn from_id(id: &str) -> Option<Self> {
                match id { $($id => Some(Self::$variant),)* _ => None }
            }
        }
    };
}

const CLIENT: &[Role] = &[Role::Client];
const DAEMON: &[Role] = &[Role::Daemon];
const BOTH: &[Role] = &[Role::Client, Role::Daemon];

rules! {
    Wire01 = "WIRE-01", BOTH, "a frame that declares a payload of more than 65,536 bytes";
    Wire02 = "WIRE-02", BOTH, "a HandshakeInit, HandshakeAccept, Signal or Data of a wrong size";
    Wire03 = "WIRE-03", BOTH, "a text message";
    Wire04 = "WIRE-04", BOTH, "a message of more than 1 MiB";
    Wire05 = "WIRE-05", BOTH, "frames on a connection, or of a daemon's session, whose end it was told with an unknown Control code";
    Wire08 = "WIRE-08", DAEMON, "a Signal that the table does not have";
    Wire10 = "WIRE-10", BOTH, "a Control with a code of 0xE0xx";
    Wire11 = "WIRE-11", BOTH, "a header cut short, or a length that is not that of what follows";
    Wire12 = "WIRE-12", BOTH, "a Ping or Pong of more than 8 bytes";
    Wire13 = "WIRE-13", BOTH, "a frame type that the table does not have";
    Wire14 = "WIRE-14", BOTH, "a session id of zero where one is needed, or the reverse";
    Wire15 = "WIRE-15", BOTH, "a frame type that this side may not send";
    Wire16 = "WIRE-16", CLIENT, "a frame with another session id than the token's";
    Wire17 = "WIRE-17", DAEMON, "an Accept or Data of a session that the daemon never had";
    Wire20 = "WIRE-20", BOTH, "a Pong with the bytes of no Ping, or a Ping without Pong while other frames come";
    Wire21 = "WIRE-21", BOTH, "a second HandshakeInit or Accept in a session, or an Accept before the Init";
    Cry04 = "CRY-04", BOTH, "a Data's sequence that does not start at 0, comes again, goes back or leaves one out on a whole line";
    Cry09 = "CRY-09", BOTH, "a Data whose nonce names the other direction";
    Cry10 = "CRY-10", BOTH, "Data before the handshake's Accept";
    Cry11 = "CRY-11", BOTH, "a handshake that is kept open long after its 30 s";
    Cli01 = "CLI-01", CLIENT, "a session's token that comes to the relay again";
    Cli02 = "CLI-02", CLIENT, "a code redeemed a third time on one HTTP connection once its session has reached the relay, or its token used again there";
    Cli06 = "CLI-06", BOTH, "more attempts on one HTTP connection (of a daemon: with its key) before Retry-Afters were over than 16 who wait make";
    Cli11 = "CLI-11", CLIENT, "a HandshakeInit or Data while it knows its session to be paused";
    Cli13 = "CLI-13", CLIENT, "no Ping for long, no life for 90 s though it hears the relay, or life long after the relay's last word";
    Dmn03 = "DMN-03", DAEMON, "a presence token that comes to the relay again";
    Dmn10 = "DMN-10", DAEMON, "an Accept or Data of a session that it knows to be over";
    Dmn11 = "DMN-11", DAEMON, "an Accept or Data of a session that waits for its Signal(ready), or that Signal after other frames";
    Dmn12 = "DMN-12", DAEMON, "frames of an earlier connection's session though its token cannot resume";
    Dmn13 = "DMN-13", DAEMON, "what CLI-13 is to a client";
    Dmn16 = "DMN-16", DAEMON, "a live session left out of its Signals of shutdown, or a close code after them that is not 1000";
}

/// What is judged by a rule where API and relay are processes of their own, each of which sees its side only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Alone {
    /// By the API's process.
    pub api: Judged,
    /// By the relay's.
    pub relay: Judged,
}

/// How much of a rule is judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Judged {
    /// All that is judged where both sides are seen.
    All,
    /// Only this.
    Only(&'static str),
    /// Nothing.
    Nothing,
}

impl Rule {
    /// What is judged where API and relay are apart.
    pub const fn alone(self) -> Alone {
        #[expect(clippy::wildcard_enum_match_arm, reason = "what all others are judged by happens at the relay")]
        match self {
            // Which session a code gave, and whether it has come to the relay, is known on two sides.
            Self::Cli02 => Alone { api: Judged::Nothing, relay: Judged::Nothing },
            // Whose token it is that comes to the relay is known by the API.
            Self::Cli06 => Alone { api: Judged::Only("what the API asked to wait for"), relay: Judged::Nothing },
            _ => Alone { api: Judged::Nothing, relay: Judged::All },
        }
    }
}

/// Rules for endpoints that no observer at relay or API can judge, each with the reason.
pub const UNJUDGED: &[(&str, &str)] = &[
    ("WIRE-06", "what a text decides shows only beside a run with another text"),
    ("CRY-01", "the keys are in payloads, which are not looked into (WIRE-18)"),
    ("CRY-02", SEALED_OR_LOCAL),
    ("CRY-03", SEALED_OR_LOCAL),
    ("CRY-05", "internal"),
    ("CRY-06", "what a receiver refuses does not show"),
    ("CRY-07", "internal"),
    ("CRY-08", "what a receiver refuses does not show"),
    ("CRY-13", SEALED_OR_LOCAL),
    ("TRU-01", "internal"),
    ("TRU-02", SEALED_OR_LOCAL),
    ("TRU-03", SEALED_OR_LOCAL),
    ("TRU-04", SEALED_OR_LOCAL),
    ("TRU-05", SEALED_OR_LOCAL),
    ("SBP-01", SEALED),
    ("SBP-02", SEALED),
    ("SBP-03", SEALED),
    ("SBP-04", SEALED),
    ("SBP-06", SEALED),
    ("SBP-07", SEALED),
    ("RPC-01", SEALED),
    ("RPC-02", SEALED),
    ("RPC-03", SEALED),
    ("RPC-04", SEALED),
    ("RPC-05", SEALED),
    ("RPC-06", SEALED),
    ("RPC-07", "internal"),
    ("RPC-08", SEALED),
    ("RPC-09", SEALED),
    ("EVT-01", SEALED),
    ("EVT-02", SEALED),
    ("CLI-03", SEALED_OR_LOCAL),
    ("CLI-04", "delays and numbers of retries are the user's choice"),
    ("CLI-05", "a user who connects again looks like a client that retries what is fatal"),
    ("CLI-07", "an end after 15 s looks like a lost line"),
    ("CLI-08", SEALED_OR_LOCAL),
    ("CLI-09", SEALED_OR_LOCAL),
    ("CLI-10", SEALED_OR_LOCAL),
    ("CLI-12", SEALED_OR_LOCAL),
    ("CLI-14", SEALED_OR_LOCAL),
    ("CLI-15", SEALED_OR_LOCAL),
    ("DMN-01", "a process that was started again, or another with the same key, looks like one that goes on"),
    ("DMN-02", SEALED_OR_LOCAL),
    ("DMN-04", "delays are the user's choice, and a process that was started again begins anew"),
    ("DMN-05", SEALED_OR_LOCAL),
    ("DMN-06", "frames that are ignored do not show; a session that is not started is judged by CRY-11"),
    ("DMN-07", SEALED_OR_LOCAL),
    ("DMN-08", "a relay sends no malformed frames"),
    ("DMN-09", "the relay closes after such a Control itself; an unknown one is judged by WIRE-05"),
    ("DMN-14", "internal"),
    ("DMN-15", "why a session ends is sealed"),
];

const SEALED: &str = "sealed";
const SEALED_OR_LOCAL: &str = "sealed, or between the endpoint and its user";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_distinct_and_found_again() {
        for &rule in Rule::ALL {
            assert_eq!(Rule::from_id(rule.id()), Some(rule));
            assert!(!rule.binds().is_empty() && !rule.evidence().is_empty());
            assert!(UNJUDGED.iter().all(|(id, _)| *id != rule.id()), "{} is judged and not", rule.id());
        }
        assert_eq!(Rule::from_id("WIRE-18"), None);
    }
}
