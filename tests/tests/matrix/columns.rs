//! The columns: what can happen to an endpoint.

use std::time::Duration;

use futures_util::FutureExt;
use sideband_protocol::wire::{ControlCode, UnknownControlCode};
use sideband_tests::script::{ApiCall, Dial};
use tokio::io::DuplexStream;

/// Something that happens.
#[derive(Debug, Clone)]
pub(crate) enum Column {
    /// The user closes.
    Close,
    /// The user lets go of the last handle.
    Drop,
    /// The socket is cut: nothing is said.
    Cut,
    /// The relay closes the socket with this code.
    CloseCode(u16),
    /// The relay sends a Control code.
    Control(Result<ControlCode, UnknownControlCode>, Of),
    /// The API answers the call that is under way.
    Api(ApiAnswer),
    /// The relay answers the dial that is under way.
    Upgrade(UpgradeAnswer),
    /// The user's token source answers with a token.
    Token,
    /// The user's token source fails.
    NoToken,
    /// The user who is asked says yes or no.
    Trust(bool),
    /// A daemon that is offline gets its socket back; with `session:resume` or without.
    Back {
        /// Whether the new token has `session:resume`.
        resumable: bool,
    },
    /// Nothing happens for this long.
    Nothing(Duration),
}

/// Which session a Control frame names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Of {
    /// As the table of Control codes has it; towards a client.
    Scope,
    Zero,
    Own,
    Unknown,
}

/// What the API answers.
#[derive(Debug, Clone, Copy)]
pub(crate) enum ApiAnswer {
    /// A failure as the control plane writes it; 502 and 3xx come from something in between.
    Status(u16),
    /// With `Retry-After: 77`.
    RetryAfter(u16),
    /// Broken JSON under 200.
    Unreadable,
    /// A page under 200.
    Html,
    Unreachable,
    /// Nothing, for longer than an endpoint waits.
    Silent,
}

/// What the relay answers to a dial.
#[derive(Debug, Clone, Copy)]
pub(crate) enum UpgradeAnswer {
    Status(u16),
    /// With `Retry-After: 77`.
    RetryAfter(u16),
    Unreachable,
    /// No connection comes about.
    SilentDial,
    /// A connection, and nothing on it.
    SilentUpgrade,
}

/// Longer than API calls and dials may take (CLI-07), and shorter than that and any delay.
const OVER_15_S: Duration = Duration::from_millis(15_050);

impl ApiAnswer {
    /// The table of the control plane, and what comes from elsewhere.
    pub(crate) const ALL: &'static [Self] = &[
        Self::Status(400),
        Self::Status(401),
        Self::Status(403),
        Self::Status(404),
        Self::Status(405),
        Self::Status(409),
        Self::Status(413),
        Self::Status(429),
        Self::RetryAfter(429),
        Self::Status(500),
        Self::Status(502),
        Self::Status(503),
        Self::RetryAfter(503),
        Self::Status(302),
        Self::Status(307),
        Self::Unreadable,
        Self::Html,
        Self::Unreachable,
        Self::Silent,
    ];

    /// Gives the answer. A call that gets none is given back.
    pub(crate) async fn give(self, call: ApiCall) -> Option<ApiCall> {
        match self {
            Self::Status(status @ (302 | 307)) => call.answer(status, &[("location", "/elsewhere")], "moved"),
            Self::Status(502) => call.answer(502, &[("content-type", "text/html")], "<h1>Bad gateway</h1>"),
            Self::Status(status) => call.refuse(status),
            Self::RetryAfter(status) => call.refuse_with(status, &[("retry-after", "77")]),
            Self::Unreadable => call.answer(200, &[], r#"{"result":{"#),
            Self::Html => call.answer(200, &[("content-type", "text/html")], "<h1>Sign in</h1>"),
            Self::Unreachable => call.unreachable(),
            Self::Silent => {
                tokio::time::sleep(OVER_15_S).await;
                return Some(call);
            }
        }
        None
    }
}

/// What is left of a dial that got no answer.
pub(crate) enum Unanswered {
    Dial(Dial),
    Stream(DuplexStream),
}

impl Unanswered {
    /// Whether the endpoint has given the dial up.
    pub(crate) fn is_given_up(&mut self) -> bool {
        match self {
            Self::Dial(dial) => dial.is_given_up(),
            // What the endpoint sent first is its request; then it either waits or has gone.
            Self::Stream(stream) => loop {
                let mut request = [0; 4_096];
                match tokio::io::AsyncReadExt::read(stream, &mut request).now_or_never() {
                    Some(Ok(1..)) => {}
                    Some(Ok(0) | Err(_)) => return true,
                    None => return false,
                }
            },
        }
    }
}

impl UpgradeAnswer {
    /// What the specification names, and what comes from elsewhere.
    pub(crate) const ALL: &'static [Self] = &[
        Self::Status(400),
        Self::Status(401),
        Self::Status(403),
        Self::Status(404),
        Self::Status(409),
        Self::Status(426),
        Self::Status(429),
        Self::RetryAfter(429),
        Self::Status(500),
        Self::Status(503),
        Self::RetryAfter(503),
        Self::Status(302),
        Self::Unreachable,
        Self::SilentDial,
        Self::SilentUpgrade,
    ];

    /// Gives the answer. What gets none is given back.
    pub(crate) async fn give(self, dial: Dial) -> Option<Unanswered> {
        match self {
            Self::Status(302) => dial.refuse_with(302, &[("location", "/elsewhere")]).await,
            Self::Status(status) => dial.refuse(status).await,
            Self::RetryAfter(status) => dial.refuse_with(status, &[("retry-after", "77")]).await,
            Self::Unreachable => dial.unreachable(),
            Self::SilentDial => {
                tokio::time::sleep(OVER_15_S).await;
                return Some(Unanswered::Dial(dial));
            }
            Self::SilentUpgrade => {
                let stream = dial.connect();
                tokio::time::sleep(OVER_15_S).await;
                return Some(Unanswered::Stream(stream));
            }
        }
        None
    }
}

/// A code that the table does not have.
const UNKNOWN: UnknownControlCode = UnknownControlCode(0x7777);

impl Column {
    /// What a user does.
    pub(crate) fn of_the_user() -> Vec<Self> {
        vec![Self::Close, Self::Drop]
    }

    /// How a socket ends.
    pub(crate) fn of_the_socket() -> Vec<Self> {
        let codes = [1000, 1001, 1012, 4001].map(Self::CloseCode);
        [Self::Cut].into_iter().chain(codes).collect()
    }

    /// What an API call can come to.
    pub(crate) fn api_answers() -> Vec<Self> {
        ApiAnswer::ALL.iter().copied().map(Self::Api).collect()
    }

    /// What a dial can come to.
    pub(crate) fn upgrades() -> Vec<Self> {
        UpgradeAnswer::ALL.iter().copied().map(Self::Upgrade).collect()
    }

    /// Every Control code, and one that nobody knows.
    pub(crate) fn controls(of: Of) -> Vec<Self> {
        let known = ControlCode::ALL.iter().map(|code| Ok(*code));
        known.chain([Err(UNKNOWN)]).map(|code| Self::Control(code, of)).collect()
    }

    /// Columns of a family are named together.
    pub(crate) const fn family(&self) -> &'static str {
        match self {
            Self::Close | Self::Drop | Self::Token | Self::NoToken | Self::Nothing(_) => "",
            Self::Trust(_) => "the user says",
            Self::Cut | Self::CloseCode(_) => "socket",
            Self::Control(_, Of::Scope) => "control",
            Self::Control(_, Of::Zero) => "control of session 0",
            Self::Control(_, Of::Own) => "control of the session",
            Self::Control(_, Of::Unknown) => "control of an unknown session",
            Self::Api(_) => "API",
            Self::Upgrade(_) => "upgrade",
            Self::Back { .. } => "back online",
        }
    }

    /// The name within the family.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Close => "close()".to_owned(),
            Self::Drop => "the last handle is dropped".to_owned(),
            Self::Cut => "cut".to_owned(),
            Self::CloseCode(code) => format!("closed with {code}"),
            Self::Control(Ok(code), _) => code.name().to_owned(),
            Self::Control(Err(_), _) => "an unknown code".to_owned(),
            Self::Api(ApiAnswer::Status(status)) | Self::Upgrade(UpgradeAnswer::Status(status)) => status.to_string(),
            Self::Api(ApiAnswer::RetryAfter(status)) | Self::Upgrade(UpgradeAnswer::RetryAfter(status)) => {
                format!("{status} with Retry-After 77")
            }
            Self::Api(ApiAnswer::Unreadable) => "unreadable 200".to_owned(),
            Self::Api(ApiAnswer::Html) => "HTML 200".to_owned(),
            Self::Api(ApiAnswer::Unreachable) | Self::Upgrade(UpgradeAnswer::Unreachable) => "no connection".to_owned(),
            Self::Api(ApiAnswer::Silent) => "no answer for 15 s".to_owned(),
            Self::Upgrade(UpgradeAnswer::SilentDial) => "no connection for 15 s".to_owned(),
            Self::Upgrade(UpgradeAnswer::SilentUpgrade) => "no answer for 15 s".to_owned(),
            Self::Token => "the token comes".to_owned(),
            Self::NoToken => "the token source fails".to_owned(),
            Self::Trust(true) => "yes".to_owned(),
            Self::Trust(false) => "no".to_owned(),
            Self::Back { resumable: true } => "with session:resume".to_owned(),
            Self::Back { resumable: false } => "without session:resume".to_owned(),
            Self::Nothing(Duration::ZERO) => "a call is made".to_owned(),
            Self::Nothing(time) => format!("nothing for {} s", time.as_secs()),
        }
    }

    /// The column's own name and number left out of an event's text.
    pub(crate) fn anonymous(&self, text: &str) -> String {
        match self {
            Self::Control(Ok(code), _) => text.replace(&format!("{code}: {}", code.message()), "‹code›"),
            Self::Control(Err(code), _) => text.replace(&code.to_string(), "‹code›"),
            Self::CloseCode(code) => text.replace(&format!("code {code}"), "code ‹…›"),
            Self::Api(ApiAnswer::Status(status) | ApiAnswer::RetryAfter(status)) => {
                let words = format!("HTTP status {status} without an error that can be read");
                let text = text.replace(&format!("{status}: {words}"), "‹status›");
                let Some((head, tail)) = text.split_once(&format!("{status} ")) else { return text };
                let said = format!(": refused with {status}");
                match tail.split_once(&said) {
                    Some((_, rest)) => format!("{head}‹status›{rest}"),
                    None => text,
                }
            }
            Self::Upgrade(UpgradeAnswer::Status(status) | UpgradeAnswer::RetryAfter(status)) => {
                text.replace(&format!("with {status}: refused with {status}"), "with ‹status›")
            }
            Self::Api(ApiAnswer::Unreadable | ApiAnswer::Html | ApiAnswer::Unreachable | ApiAnswer::Silent)
            | Self::Upgrade(UpgradeAnswer::Unreachable | UpgradeAnswer::SilentDial | UpgradeAnswer::SilentUpgrade)
            | Self::Close
            | Self::Drop
            | Self::Cut
            | Self::Token
            | Self::NoToken
            | Self::Trust(_)
            | Self::Back { .. }
            | Self::Nothing(_) => text.to_owned(),
        }
    }
}
