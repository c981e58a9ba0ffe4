//! What the relay says and breaks: DMN-08, DMN-09, DMN-10.

use std::time::Duration;

use sideband::ServerEvent;
use sideband_protocol::{
    SessionId,
    failure::Cause,
    sbp::FrameBody,
    wire::{ControlCode, UnknownControlCode},
};
use sideband_tests::script::World;

use super::{closed, connection, is_delay, next_attempt, online, until};
use crate::witness::{due, witnesses};

/// A message that is no frame.
const MALFORMED: &[u8] = &[0xFF; 20];
const A_MOMENT: Duration = Duration::from_secs(10);

/// Every code as the relay may send it, and two that the table does not have.
fn codes() -> impl Iterator<Item = Result<ControlCode, UnknownControlCode>> {
    let unknown = [UnknownControlCode(0x0777), UnknownControlCode(0xE001)];
    ControlCode::ALL.iter().copied().map(Ok).chain(unknown.map(Err))
}

/// Control code `code` about one of two sessions frees that one, without a word, and the other goes on.
async fn frees(code: Result<ControlCode, UnknownControlCode>, quirks: sideband_protocol::quirks::Quirks) {
    let (mut world, env) = World::new(330);
    let (server, mut events, mut link) = online(&mut world, &env, quirks).await;
    let (gone, stays) = (world.meet(&mut link).await, world.meet(&mut link).await);
    let handle = connection(&server, gone).await;
    link.socket.control_raw(code, Some(gone)).await;
    assert_eq!(due(closed(&mut events, gone)).await, Cause::Control(code));
    assert_eq!((handle.state(), server.connections().len()), (None, 1), "{code:?}");
    // Nobody has the keys any more.
    link.say_on(gone, FrameBody::Ping).await;
    link.is_alive_on(stays).await;
}

witnesses! {
    async fn dmn_08_ten_malformed_frames_in_a_row_reconnect(quirks) breaks_with [BearsMalformedFrames] {
        let (mut world, env) = World::new(300);
        let (server, _, mut link) = online(&mut world, &env, quirks).await;
        let id = world.meet(&mut link).await;
        for _ in 0..9 {
            link.socket.send_bytes(MALFORMED).await;
        }
        assert_eq!(link.socket.got_within(A_MOMENT).await, None, "nine are borne");
        assert!(server.is_online());
        link.socket.send_bytes(MALFORMED).await;
        let (_, waited) = next_attempt(&mut world).await;
        assert!(is_delay(waited, 1.0), "{waited} s");
        assert_eq!(connection(&server, id).await.session(), id, "sessions wait for the next socket");
    }

    async fn dmn_08_a_good_frame_ends_the_row(quirks) breaks_with [CountsMalformedForEver] {
        let (mut world, env) = World::new(301);
        let (_server, _, mut link) = online(&mut world, &env, quirks).await;
        let id = world.meet(&mut link).await;
        for _ in 0..3 {
            for _ in 0..9 {
                link.socket.send_bytes(MALFORMED).await;
            }
            due(link.is_alive_on(id)).await;
        }
    }

    async fn dmn_09_rate_limited_is_told_and_all_goes_on(quirks) breaks_with [ReconnectsWhenRateLimited] {
        let (mut world, env) = World::new(302);
        let (_server, mut events, mut link) = online(&mut world, &env, quirks).await;
        let id = world.meet(&mut link).await;
        link.socket.control(ControlCode::RateLimited, None).await;
        due(until(&mut events, |event| matches!(event, ServerEvent::RateLimited))).await;
        link.is_alive_on(id).await;
    }

    async fn dmn_09_any_other_code_about_the_connection_reconnects(quirks) breaks_with [IgnoresConnectionControl] {
        for code in codes().filter(|code| *code != Ok(ControlCode::RateLimited)) {
            let (mut world, env) = World::new(303);
            let (_server, mut events, mut link) = online(&mut world, &env, quirks).await;
            link.socket.control_raw(code, None).await;
            let lost = until(&mut events, |event| matches!(event, ServerEvent::Offline(_))).await;
            assert!(matches!(lost, ServerEvent::Offline(Cause::Control(why)) if why == code), "{lost:?}");
            assert!(world.api_within(Duration::from_secs(2)).await.is_some(), "{code:?}");
        }
    }

    async fn dmn_09_the_delay_is_that_of_any_fault(quirks) breaks_with [ReconnectsAtOnceAfterControl] {
        let (mut world, env) = World::new(304);
        let (_server, _, mut link) = online(&mut world, &env, quirks).await;
        for base in [1.0, 2.0, 4.0, 8.0] {
            link.socket.control(ControlCode::InternalError, None).await;
            let (call, waited) = next_attempt(&mut world).await;
            assert!(is_delay(waited, base), "{waited} s instead of about {base} s");
            let token = sideband_tests::script::presence_token("d_far", true);
            call.ok(serde_json::json!({ "presenceToken": token }));
            link = link.moved_to(world.dial().await.open().await);
        }
    }

    async fn dmn_10_session_ended_frees_the_session(quirks) breaks_with [KeepsEndedSessions] {
        frees(Ok(ControlCode::SessionEnded), quirks).await;
    }

    async fn dmn_10_any_terminal_code_frees_the_session_that_it_names(quirks) breaks_with [KeepsRefusedSessions] {
        for code in codes().filter(|code| code.is_ok_and(ControlCode::is_terminal)) {
            frees(code, quirks).await;
        }
    }

    /// WIRE-05: unknown codes are terminal.
    async fn dmn_10_an_unknown_code_frees_the_session_that_it_names(quirks) breaks_with [] {
        for code in codes().filter(Result::is_err) {
            frees(code, quirks).await;
        }
    }

    async fn dmn_10_other_codes_free_nothing(quirks) breaks_with [] {
        let frees = |code: ControlCode| code.is_terminal() || code == ControlCode::SessionEnded;
        let (mut world, env) = World::new(305);
        let (_server, _, mut link) = online(&mut world, &env, quirks).await;
        let id = world.meet(&mut link).await;
        for code in ControlCode::ALL.iter().copied().filter(|code| !frees(*code)) {
            link.socket.control(code, Some(id)).await;
            link.is_alive_on(id).await;
        }
    }

    async fn dmn_10_codes_about_unknown_sessions_change_nothing(quirks) breaks_with [] {
        let (mut world, env) = World::new(306);
        let (_server, _, mut link) = online(&mut world, &env, quirks).await;
        let id = world.meet(&mut link).await;
        for code in codes() {
            link.socket.control_raw(code, SessionId::new(0xBAD)).await;
        }
        link.is_alive_on(id).await;
    }
}
