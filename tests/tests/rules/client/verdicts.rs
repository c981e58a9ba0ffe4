//! What is fatal and what is retried: the table of CLI-05, a witness a row.

use bytes::Bytes;
use sideband::{Cause, Client, CloseReason, LifecycleEvents, State};
use sideband_env::Env;
use sideband_protocol::{
    crypto::{Accept, Identity},
    quirks::Quirks,
    sbp::FrameBody,
    wire::{ControlCode, Frame, Scope, UnknownControlCode},
};
use sideband_tests::script::{DAEMON, FarDaemon, Link, World, grant, session};
use tokio_tungstenite::tungstenite::Message;

use super::{LONG, closed, control, retrying, state};
use crate::{
    endpoints::{account, connect, quick_connect},
    witness::witnesses,
};

/// How the API answers.
#[derive(Debug, Clone, Copy)]
enum Answers {
    Status(u16),
    /// Status 200 with this body.
    Body(&'static str),
    /// Status 200 with a token that names no session.
    NoSession,
    Unreachable,
    Broken,
    Never,
}

/// What the relay or the daemon does on the open socket.
#[derive(Debug, Clone, Copy)]
enum Does {
    Control(ControlCode),
    UnknownControl(u16),
    Cut,
    Closes(u16),
    Garbage,
    Text,
    TooMuch,
    OtherSession,
    Forged,
    SbpError(u16),
    Nothing,
}

/// What spoils an attempt or a session.
#[derive(Debug, Clone, Copy)]
enum What {
    /// The API's answer to an account.
    Account(Answers),
    /// The API's answer to a code.
    Redeem(Answers),
    Upgrade(u16),
    RelayUnreachable,
    /// The connection breaks before the upgrade's answer.
    RelayBroken,
    /// No answer to the upgrade.
    RelayNever,
    BadSignature,
    LowOrderKey,
    /// No Accept.
    NoAccept,
    /// Another identity is pinned.
    IdentityChanged,
    /// Nothing is pinned although it must be.
    IdentityUnknown,
    /// After the HandshakeInit.
    Early(Does),
    /// After the keys, before the daemon's introduction.
    Introducing(Does),
    /// In the active session.
    Active(Does),
    /// In the paused session.
    Paused(Does),
}

impl What {
    /// A client that meets it, and what it reports.
    async fn meet(self, world: &mut World, env: &Env, quirks: Quirks) -> (Client, LifecycleEvents) {
        let client = match self {
            Self::Redeem(_) => quick_connect(env, quirks).connect().unwrap(),
            Self::IdentityUnknown => account(env, quirks).pinned_only().connect().unwrap(),
            Self::IdentityChanged => {
                let pins = crate::trust::Pins::with(Identity::from_seed(&[9; 32]).public());
                account(env, quirks).pinned_only().identity_store(pins).connect().unwrap()
            }
            _ => connect(env, quirks),
        };
        let events = client.events();
        match self {
            Self::Account(answers) | Self::Redeem(answers) => answers.to(world).await,
            Self::Upgrade(status) => {
                world.grant().await;
                world.dial().await.refuse(status).await;
            }
            Self::RelayUnreachable => {
                world.grant().await;
                world.dial().await.unreachable();
            }
            Self::RelayBroken => {
                world.grant().await;
                drop(world.dial().await.connect());
            }
            Self::RelayNever => {
                world.grant().await;
                let stream = world.dial().await.connect();
                hold(&client, stream);
            }
            Self::BadSignature | Self::LowOrderKey => {
                let (id, mut socket) = world.client_socket().await;
                let init = socket.frame().await;
                let (mut accept, _) = world.accept_parts(&init);
                match self {
                    Self::LowOrderKey => accept = low_order(&world.daemon, &init),
                    _ => accept.signature[0] ^= 1,
                }
                socket.send(&Frame::HandshakeAccept { session: id, payload: (&accept).into() }).await;
                hold(&client, socket);
            }
            Self::NoAccept => {
                let (_, socket) = world.client_socket().await;
                hold(&client, socket);
            }
            Self::IdentityChanged | Self::IdentityUnknown => {
                let link = world.client_keys().await;
                hold(&client, link);
            }
            Self::Early(does) => {
                let (id, mut socket) = world.client_socket().await;
                let init = socket.frame().await;
                let (_, line) = world.accept_parts(&init);
                assert_eq!(line.session(), id);
                does.on(Link::new(socket, line), &client).await;
            }
            Self::Introducing(does) => {
                let link = world.client_keys().await;
                does.on(link, &client).await;
            }
            Self::Active(does) => {
                let link = world.join().await;
                state(&client, State::Active).await;
                does.on(link, &client).await;
            }
            Self::Paused(does) => {
                let mut link = world.join().await;
                control(&client, &mut link, ControlCode::SessionPaused, State::Paused).await;
                does.on(link, &client).await;
            }
        }
        (client, events)
    }

    /// Whether this is what the client says was the cause.
    fn is(self, cause: &Cause) -> bool {
        match self {
            Self::Account(answers) | Self::Redeem(answers) => match answers {
                Answers::Status(wanted) => matches!(cause, Cause::Api { status, .. } if *status == wanted),
                Answers::Body(_) | Answers::NoSession => matches!(cause, Cause::ApiUnreadable(_)),
                Answers::Unreachable | Answers::Broken => matches!(cause, Cause::ApiUnreachable(_)),
                Answers::Never => matches!(cause, Cause::ApiTimeout),
            },
            Self::Upgrade(wanted) => matches!(cause, Cause::Upgrade { status, .. } if *status == wanted),
            Self::RelayUnreachable | Self::RelayBroken => matches!(cause, Cause::RelayUnreachable(_)),
            Self::RelayNever => matches!(cause, Cause::DialTimeout),
            Self::BadSignature | Self::LowOrderKey | Self::IdentityUnknown => {
                matches!(cause, Cause::HandshakeFailed(_))
            }
            Self::NoAccept => matches!(cause, Cause::HandshakeTimeout),
            Self::IdentityChanged => matches!(cause, Cause::IdentityChanged { .. }),
            Self::Introducing(Does::Nothing) => matches!(cause, Cause::HandshakeTimeout),
            Self::Early(does) | Self::Introducing(does) | Self::Active(does) | Self::Paused(does) => match does {
                Does::Control(wanted) => matches!(cause, Cause::Control(Ok(code)) if *code == wanted),
                Does::UnknownControl(wanted) => matches!(cause, Cause::Control(Err(code)) if code.0 == wanted),
                Does::Cut => matches!(cause, Cause::SocketLost { code: None }),
                Does::Closes(wanted) => matches!(cause, Cause::SocketLost { code: Some(code) } if *code == wanted),
                Does::Garbage | Does::Text | Does::TooMuch | Does::OtherSession => {
                    matches!(cause, Cause::MalformedFrame(_))
                }
                Does::Forged => matches!(cause, Cause::DecryptFailed),
                Does::SbpError(wanted) => matches!(cause, Cause::PeerError { code, .. } if *code == wanted),
                Does::Nothing => matches!(cause, Cause::Silent),
            },
        }
    }

    /// The procedure that starts an attempt.
    const fn procedure(self) -> &'static str {
        if let Self::Redeem(_) = self { "quickConnect.redeem" } else { "relay.createSession" }
    }
}

impl Answers {
    async fn to(self, world: &mut World) {
        let call = world.api().await;
        match self {
            Self::Status(status) => call.refuse(status),
            Self::Body(body) => call.answer(200, &[], body),
            Self::NoSession => {
                let mut data = grant(DAEMON, world.new_session());
                data["token"] = "a.b.c".into();
                call.ok(data);
            }
            Self::Unreachable => call.unreachable(),
            Self::Broken => drop(call),
            Self::Never => {
                let mut call = call;
                call.given_up().await;
            }
        }
    }
}

impl Does {
    async fn on(self, mut link: Link, client: &Client) {
        let id = link.session();
        match self {
            Self::Control(code) => {
                let session = match code.scope() {
                    Scope::Session => Some(id),
                    Scope::Connection => None,
                };
                link.socket.control(code, session).await;
            }
            Self::UnknownControl(code) => link.socket.control_raw(Err(UnknownControlCode(code)), Some(id)).await,
            Self::Cut => return link.into_parts().0.cut(),
            Self::Closes(code) => return link.into_parts().0.close(code).await,
            Self::Garbage => link.socket.send_bytes(&b"no frame"[..]).await,
            Self::Text => link.socket.send_message(Message::text("{}")).await,
            Self::TooMuch => link.socket.send_bytes(vec![0; (1 << 20) + 1]).await,
            Self::OtherSession => {
                let session = session(id.get() + 1);
                link.socket.send(&Frame::Data { session, payload: Bytes::from(vec![0; 40]) }).await;
            }
            Self::Forged => {
                let Frame::Data { session, payload } = link.line().seal_body(FrameBody::Ping) else { unreachable!() };
                let mut payload = payload.to_vec();
                *payload.last_mut().unwrap() ^= 1;
                link.socket.send(&Frame::Data { session, payload: payload.into() }).await;
            }
            Self::SbpError(code) => {
                link.say(FrameBody::Error { code, message: "words".to_owned(), details: Bytes::new() }).await;
            }
            Self::Nothing => {}
        }
        hold(client, link);
    }
}

/// Keeps something until the client is closed.
fn hold(client: &Client, what: impl Send + 'static) {
    let mut state = client.state();
    tokio::spawn(async move {
        // An error means that the client is gone.
        let _ = state.wait_for(|state| *state == State::Closed).await;
        drop(what);
    });
}

/// A well signed Accept whose key contributes nothing.
fn low_order(daemon: &FarDaemon, init: &Frame) -> Accept {
    use sha2::{Digest, Sha256};
    let Frame::HandshakeInit { client_ephemeral, .. } = init else { panic!("a HandshakeInit was due") };
    let daemon_ephemeral = [0; 32];
    let mut hash = Sha256::new();
    for part in [&b"sbrp-v1-handshake"[..], daemon.daemon_id.as_bytes(), client_ephemeral, &daemon_ephemeral] {
        hash.update(part);
    }
    let key = ed25519_dalek::SigningKey::from_bytes(&daemon.identity.to_seed());
    let signature = ed25519_dalek::Signer::sign(&key, &hash.finalize()).to_bytes();
    Accept { identity: daemon.identity.public(), daemon_ephemeral, signature }
}

/// It closes the client for good: nothing is tried again.
async fn fatal(quirks: Quirks, what: What) {
    let (mut world, env) = World::new(5);
    let (client, _) = what.meet(&mut world, &env, quirks).await;
    let reason = closed(&client).await;
    let CloseReason::Fatal(cause) = &reason else { panic!("{what:?} is fatal, not {reason}") };
    assert!(what.is(cause), "{cause} is not {what:?}");
    assert!(world.api_within(LONG).await.is_none(), "nothing more is tried");
}

/// Another attempt follows, with a new session.
async fn retried(quirks: Quirks, what: What) {
    let (mut world, env) = World::new(5);
    let (_client, mut events) = what.meet(&mut world, &env, quirks).await;
    let (retry, _, cause) = retrying(&mut events).await;
    assert_eq!(retry, 0, "the first retry");
    assert!(what.is(&cause), "{cause} is not {what:?}");
    assert_eq!(world.api().await.procedure(), what.procedure());
}

/// Witnesses of both kinds, one a row of the table.
macro_rules! rows {
    (fatal { $($fatal:ident: $ends:expr;)* } retried { $($retried:ident: $passes:expr;)* }) => {
        witnesses! {
            $(async fn $fatal(quirks) breaks_with [RetriesFatal] { fatal(quirks, $ends).await })*
            $(async fn $retried(quirks) breaks_with [GivesUpOnRetried] { retried(quirks, $passes).await })*
        }
    };
}

use Answers::{Body, Broken, Never, NoSession, Status, Unreachable};
use ControlCode as Code;
use Does::{Closes, Control, Cut, Forged, Garbage, Nothing, OtherSession, SbpError, Text, TooMuch, UnknownControl};
use What::{Account, Active, Early, Introducing, Paused, Redeem, Upgrade};

rows! {
    fatal {
        cli_05_api_400_is_fatal: Account(Status(400));
        cli_05_api_401_is_fatal: Account(Status(401));
        cli_05_api_403_is_fatal: Account(Status(403));
        cli_05_api_404_is_fatal: Account(Status(404));
        cli_05_api_402_is_fatal: Account(Status(402));
        cli_05_api_405_is_fatal: Account(Status(405));
        cli_05_api_413_is_fatal: Account(Status(413));
        cli_05_api_418_is_fatal: Account(Status(418));
        cli_05_api_301_is_fatal: Account(Status(301));
        cli_05_api_302_is_fatal: Account(Status(302));
        cli_05_api_307_is_fatal: Account(Status(307));
        cli_05_api_400_is_fatal_on_redeem: Redeem(Status(400));
        cli_05_api_401_is_fatal_on_redeem: Redeem(Status(401));
        cli_05_api_403_is_fatal_on_redeem: Redeem(Status(403));
        cli_05_api_404_is_fatal_on_redeem: Redeem(Status(404));
        cli_05_api_409_is_fatal_on_redeem: Redeem(Status(409));
        cli_05_api_413_is_fatal_on_redeem: Redeem(Status(413));
        cli_05_api_302_is_fatal_on_redeem: Redeem(Status(302));
        cli_05_upgrade_400_is_fatal: Upgrade(400);
        cli_05_upgrade_403_is_fatal: Upgrade(403);
        cli_05_upgrade_404_is_fatal: Upgrade(404);
        cli_05_upgrade_410_is_fatal: Upgrade(410);
        cli_05_upgrade_426_is_fatal: Upgrade(426);
        cli_05_upgrade_301_is_fatal: Upgrade(301);
        cli_05_upgrade_302_is_fatal: Upgrade(302);
        cli_05_bad_signature_is_fatal: What::BadSignature;
        cli_05_low_order_key_is_fatal: What::LowOrderKey;
        cli_05_changed_identity_is_fatal: What::IdentityChanged;
        cli_05_unknown_identity_is_fatal: What::IdentityUnknown;
        cli_05_decrypt_failed_is_fatal: Active(Forged);
        cli_05_sbp_error_1001_is_fatal: Active(SbpError(1001));
        cli_05_decrypt_failed_is_fatal_before_active: Introducing(Forged);
        cli_05_decrypt_failed_is_fatal_while_paused: Paused(Forged);
        cli_05_sbp_error_1001_is_fatal_before_active: Introducing(SbpError(1001));
        cli_05_unauthorized_is_fatal: Active(Control(Code::Unauthorized));
        cli_05_forbidden_is_fatal: Active(Control(Code::Forbidden));
        cli_05_daemon_not_found_is_fatal: Active(Control(Code::DaemonNotFound));
        cli_05_session_not_found_is_fatal: Active(Control(Code::SessionNotFound));
        cli_05_malformed_frame_is_fatal: Active(Control(Code::MalformedFrame));
        cli_05_payload_too_large_is_fatal: Active(Control(Code::PayloadTooLarge));
        cli_05_invalid_frame_type_is_fatal: Active(Control(Code::InvalidFrameType));
        cli_05_invalid_session_id_is_fatal: Active(Control(Code::InvalidSessionId));
        cli_05_disallowed_sender_is_fatal: Active(Control(Code::DisallowedSender));
        cli_05_unauthorized_is_fatal_before_active: Early(Control(Code::Unauthorized));
        cli_05_forbidden_is_fatal_before_active: Early(Control(Code::Forbidden));
        cli_05_daemon_not_found_is_fatal_before_active: Early(Control(Code::DaemonNotFound));
        cli_05_session_not_found_is_fatal_before_active: Early(Control(Code::SessionNotFound));
        cli_05_malformed_frame_is_fatal_before_active: Early(Control(Code::MalformedFrame));
        cli_05_payload_too_large_is_fatal_before_active: Early(Control(Code::PayloadTooLarge));
        cli_05_invalid_frame_type_is_fatal_before_active: Early(Control(Code::InvalidFrameType));
        cli_05_invalid_session_id_is_fatal_before_active: Early(Control(Code::InvalidSessionId));
        cli_05_disallowed_sender_is_fatal_before_active: Early(Control(Code::DisallowedSender));
        cli_05_unauthorized_is_fatal_while_paused: Paused(Control(Code::Unauthorized));
        cli_05_session_not_found_is_fatal_while_paused: Paused(Control(Code::SessionNotFound));
        cli_05_what_is_no_frame_is_fatal_while_paused: Paused(Garbage);
        cli_05_what_is_no_frame_is_fatal: Active(Garbage);
        cli_05_text_is_fatal: Active(Text);
        cli_05_too_large_a_message_is_fatal: Active(TooMuch);
        cli_05_frame_of_another_session_is_fatal: Active(OtherSession);
        cli_05_what_is_no_frame_is_fatal_before_active: Early(Garbage);
        cli_05_text_is_fatal_before_active: Early(Text);
        cli_05_too_large_a_message_is_fatal_before_active: Early(TooMuch);
        cli_05_frame_of_another_session_is_fatal_before_active: Early(OtherSession);
    }
    retried {
        cli_05_api_201_is_retried: Account(Status(201));
        cli_05_api_202_is_retried: Account(Status(202));
        cli_05_api_204_is_retried: Account(Status(204));
        cli_05_api_206_is_retried: Account(Status(206));
        cli_05_api_409_is_retried: Account(Status(409));
        cli_05_api_429_is_retried: Account(Status(429));
        cli_05_api_500_is_retried: Account(Status(500));
        cli_05_api_502_is_retried: Account(Status(502));
        cli_05_api_503_is_retried: Account(Status(503));
        cli_05_api_504_is_retried: Account(Status(504));
        cli_05_api_unreachable_is_retried: Account(Unreachable);
        cli_05_api_broken_off_is_retried: Account(Broken);
        cli_05_api_without_answer_is_retried: Account(Never);
        cli_05_api_200_with_html_is_retried: Account(Body("<html>Please log in</html>"));
        cli_05_api_200_with_nothing_is_retried: Account(Body(""));
        cli_05_api_200_with_an_error_is_retried: Account(Body(r#"{"error":{"message":"no","code":-32004}}"#));
        cli_05_api_200_without_a_member_is_retried: Account(Body(r#"{"result":{"data":{"relayUrl":"ws://r"}}}"#));
        cli_05_api_200_without_a_session_is_retried: Account(NoSession);
        cli_05_api_204_is_retried_on_redeem: Redeem(Status(204));
        cli_05_api_429_is_retried_on_redeem: Redeem(Status(429));
        cli_05_api_500_is_retried_on_redeem: Redeem(Status(500));
        cli_05_api_503_is_retried_on_redeem: Redeem(Status(503));
        cli_05_api_unreachable_is_retried_on_redeem: Redeem(Unreachable);
        cli_05_api_broken_off_is_retried_on_redeem: Redeem(Broken);
        cli_05_api_without_answer_is_retried_on_redeem: Redeem(Never);
        cli_05_api_200_with_html_is_retried_on_redeem: Redeem(Body("<html>Please log in</html>"));
        cli_05_upgrade_401_is_retried_once: Upgrade(401);
        cli_05_upgrade_409_is_retried: Upgrade(409);
        cli_05_upgrade_429_is_retried: Upgrade(429);
        cli_05_upgrade_500_is_retried: Upgrade(500);
        cli_05_upgrade_502_is_retried: Upgrade(502);
        cli_05_upgrade_503_is_retried: Upgrade(503);
        cli_05_upgrade_200_is_retried: Upgrade(200);
        cli_05_relay_unreachable_is_retried: What::RelayUnreachable;
        cli_05_relay_broken_off_is_retried: What::RelayBroken;
        cli_05_relay_without_answer_is_retried: What::RelayNever;
        cli_05_handshake_timeout_is_retried: What::NoAccept;
        cli_05_handshake_timeout_of_the_introduction_is_retried: Introducing(Nothing);
        cli_05_sbp_error_1000_is_retried_before_active: Introducing(SbpError(1000));
        cli_05_dropped_socket_is_retried_while_introducing: Introducing(Cut);
        cli_05_dropped_socket_is_retried_while_paused: Paused(Cut);
        cli_05_closed_socket_is_retried_while_paused: Paused(Closes(1012));
        cli_05_daemon_offline_is_retried_while_paused: Paused(Control(Code::DaemonOffline));
        cli_05_internal_error_is_retried_while_paused: Paused(Control(Code::InternalError));
        cli_05_unknown_code_is_retried_while_paused: Paused(UnknownControl(0x1005));
        cli_05_sbp_error_1000_is_retried: Active(SbpError(1000));
        cli_05_dropped_socket_is_retried: Active(Cut);
        cli_05_closed_socket_1000_is_retried: Active(Closes(1000));
        cli_05_closed_socket_1001_is_retried: Active(Closes(1001));
        cli_05_closed_socket_1008_is_retried: Active(Closes(1008));
        cli_05_closed_socket_1011_is_retried: Active(Closes(1011));
        cli_05_closed_socket_1012_is_retried: Active(Closes(1012));
        cli_05_silent_socket_is_retried: Active(Nothing);
        cli_05_daemon_offline_is_retried: Active(Control(Code::DaemonOffline));
        cli_05_session_expired_is_retried: Active(Control(Code::SessionExpired));
        cli_05_internal_error_is_retried: Active(Control(Code::InternalError));
        cli_05_backpressure_is_retried: Active(Control(Code::Backpressure));
        cli_05_unknown_code_is_retried: Active(UnknownControl(0x1005));
        cli_05_unknown_code_of_a_fatal_kind_is_retried: Active(UnknownControl(0x0406));
        cli_05_endpoints_own_code_is_retried: Active(UnknownControl(0xE001));
        cli_05_dropped_socket_is_retried_before_active: Early(Cut);
        cli_05_closed_socket_is_retried_before_active: Early(Closes(1000));
        cli_05_daemon_offline_is_retried_before_active: Early(Control(Code::DaemonOffline));
        cli_05_session_expired_is_retried_before_active: Early(Control(Code::SessionExpired));
        cli_05_internal_error_is_retried_before_active: Early(Control(Code::InternalError));
        cli_05_backpressure_is_retried_before_active: Early(Control(Code::Backpressure));
        cli_05_unknown_code_is_retried_before_active: Early(UnknownControl(0x1005));
    }
}
