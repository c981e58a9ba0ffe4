//! The list: for each situation its stable id, what it means, the rules that it is about, and who sees it.

use super::{
    detect::{api, endpoint, relay},
    facts::Look,
};

/// Whether an event, with what is known from those before it, reaches a situation.
pub(super) type Detector = fn(&Look<'_>) -> bool;

macro_rules! situations {
    ($($variant:ident $id:literal [$($rule:literal)*] $detector:path, $means:literal;)*) => {
        /// A situation. New ones may come; ids stay.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        #[non_exhaustive]
        pub enum Situation { $(#[doc = $means] $variant,)* }

        impl Situation {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// Its id in kebab case, which stays.
            pub const fn id(self) -> &'static str {
                match self { $(Self::$variant => $id,)* }
            }

            /// What it means, in a sentence.
            pub const fn means(self) -> &'static str {
                match self { $(Self::$variant => $means,)* }
            }

            /// The rules of `docs/spec` that it is about.
            pub const fn rules(self) -> &'static [&'static str] {
                match self { $(Self::$variant => &[$($rule),*],)* }
            }

            pub(super) const fn detector(self) -> Detector {
                match self { $(Self::$variant => $detector,)* }
            }
        }
    };
}

situations! {
    Resumed "resumed" ["REL-02" "DMN-11"] relay::resumed,
        "A session went on after its daemon came back.";
    ResumedTwice "resumed-twice" ["REL-01" "DMN-11"] relay::resumed_twice,
        "One session was resumed a second time.";
    ResumedLate "resumed-late" ["REL-01"] relay::resumed_late,
        "A session was resumed 20 s or more after its daemon was lost.";
    ManyResumedTogether "many-resumed-together" ["REL-04" "DMN-11"] relay::many_resumed_together,
        "A daemon resumed three sessions or more with one connection.";
    SecondLossWhilePending "second-loss-while-pending" ["REL-01" "CLI-11"] relay::second_loss_while_pending,
        "A daemon was lost again before it had said that a session goes on.";
    LossDuringHandshake "loss-during-handshake" ["CLI-11" "DMN-11"] relay::loss_during_handshake,
        "A daemon was lost while a client was still agreeing on keys with it.";
    GraceExpiredWhileClientWaits "grace-expired-while-client-waits" ["REL-01" "CLI-11"] relay::grace_expired_while_client_waits,
        "A paused client was told that its session is over, since the daemon did not come back in time.";
    GraceExpiredWhilePending "grace-expired-while-pending" ["REL-01"] relay::grace_expired_while_pending,
        "A daemon was back, but did not say in time that the session goes on.";
    DaemonBackWithoutResume "daemon-back-without-resume" ["REL-01" "DMN-12"] relay::daemon_back_without_resume,
        "A daemon came back whose token cannot resume, and paused sessions ended.";
    DaemonLostItsState "daemon-lost-its-state" ["DMN-11" "REL-01"] relay::daemon_lost_its_state,
        "A daemon said that it no longer has a session's state.";
    DaemonShutDown "daemon-shut-down" ["DMN-16"] relay::daemon_shut_down,
        "A daemon closed a live session because it shuts down.";
    ClientLeftWhilePaused "client-left-while-paused" ["REL-01"] relay::client_left_while_paused,
        "A client went away while its session was paused.";
    ClientLeftWhilePending "client-left-while-pending" ["REL-01"] relay::client_left_while_pending,
        "A client went away while its session was pending.";
    FrameDroppedWhilePaused "frame-dropped-while-paused" ["REL-03"] relay::frame_dropped_while_paused,
        "A frame came for a paused session and was dropped.";
    FrameDroppedWhilePending "frame-dropped-while-pending" ["REL-03"] relay::frame_dropped_while_pending,
        "A frame came for a pending session and was dropped.";
    FrameForEndedSession "frame-for-ended-session" ["WIRE-17"] relay::frame_for_ended_session,
        "A daemon's frame came for a session that had just ended.";
    SignalForEndedSession "signal-for-ended-session" ["WIRE-17" "REL-05"] relay::signal_for_ended_session,
        "A daemon's Signal came for a session that had ended or that the relay did not know.";
    DaemonOfflineAtConnect "daemon-offline-at-connect" ["REL-01" "CLI-05" "API-08"] relay::daemon_offline_at_connect,
        "A client connected while its daemon was offline.";
    ClientGhostSwept "client-ghost-swept" ["REL-11" "REL-22"] relay::client_ghost_swept,
        "A client's silent socket was swept.";
    PresenceSocketSwept "presence-socket-swept" ["REL-22"] relay::presence_socket_swept,
        "A daemon's silent socket was swept.";
    TakeoverOfAGhost "takeover-of-a-ghost" ["REL-12"] relay::takeover_of_a_ghost,
        "A daemon's new socket replaced one that nobody answered on.";
    TakeoverOfALivingDaemon "takeover-of-a-living-daemon" ["REL-12" "DMN-01"] relay::takeover_of_a_living_daemon,
        "A daemon's socket was replaced while its owner was still there and answered the close.";
    DaemonRefusedByItsGhost "daemon-refused-by-its-ghost" ["REL-12" "DMN-01"] relay::daemon_refused_by_its_ghost,
        "A daemon was refused with 409 because an older socket of it was still counted.";
    SessionIdUsedAgain "session-id-used-again" ["REL-10"] relay::session_id_used_again,
        "A client was refused with 409 because its session id had been used.";
    NewSessionBesideAGhost "new-session-beside-a-ghost" ["REL-11" "CLI-01"] relay::new_session_beside_a_ghost,
        "A user's new session opened while an older socket of the same user was there and silent.";
    ClientCut "client-cut" ["CLI-05"] relay::client_cut,
        "A client's socket broke without a close.";
    DaemonCutUnderSessions "daemon-cut-under-sessions" ["REL-01" "DMN-11"] relay::daemon_cut_under_sessions,
        "A daemon's socket broke without a close while it had sessions.";
    RelayStoppedUnderClients "relay-stopped-under-clients" ["REL-24" "CLI-05"] relay::relay_stopped_under_clients,
        "The relay closed a client with 1012.";
    UpgradeWhileRelayStops "upgrade-while-relay-stops" ["REL-24" "CLI-05"] relay::upgrade_while_relay_stops,
        "Somebody knocked while the relay was shutting down or restarting.";
    HerdAfterRestart "herd-after-restart" ["CLI-04" "REL-24"] relay::herd_after_restart,
        "Ten clients or more came back after the relay had restarted.";
    IdleConnectionKept "idle-connection-kept" ["CLI-13" "DMN-13" "REL-22"] relay::idle_connection_kept,
        "A connection without Data for longer than the sweep time was kept by Pings.";
    RateLimited "rate-limited" ["REL-20"] relay::rate_limited,
        "A connection was over its rate.";
    RateLimitedAndRecovered "rate-limited-and-recovered" ["REL-20" "WIRE-09"] relay::rate_limited_and_recovered,
        "Frames of a connection that had been over its rate were forwarded again.";
    BackpressureClosedAClient "backpressure-closed-a-client" ["REL-21"] relay::backpressure_closed_a_client,
        "A client was closed because it, or its daemon, took too little.";
    BackpressureClosedADaemon "backpressure-closed-a-daemon" ["REL-21"] relay::backpressure_closed_a_daemon,
        "A daemon was closed because its socket took nothing.";
    SessionLimitReached "session-limit-reached" ["REL-23" "CLI-05"] relay::session_limit_reached,
        "A client was refused because its daemon had as many sessions as it may have.";
    MalformedFrameRefused "malformed-frame-refused" ["WIRE-11" "WIRE-13" "WIRE-14" "WIRE-15"] relay::malformed_frame_refused,
        "The relay closed a connection because of a frame that must not be.";
    MessageRefused "message-refused" ["WIRE-03" "WIRE-04"] relay::message_refused,
        "A text message, or one that is too long, closed a WebSocket.";

    Api409 "api-409" ["CLI-05"] api::conflict,
        "The API answered a client's request for a session with 409.";
    Api409DuringReconnect "api-409-during-reconnect" ["CLI-01" "CLI-05"] api::conflict_during_reconnect,
        "The API answered 409 to a user who had a session before.";
    QuickConnectCodeRaced "quick-connect-code-raced" ["API-05"] api::code_raced,
        "Two redeems of one code met within a second: one won, one lost.";
    QuickConnectCodeUsedAgain "quick-connect-code-used-again" ["API-04"] api::code_used_again,
        "A code was tried again long after it had been redeemed.";
    QuickConnectBurnedOffline "quick-connect-burned-offline" ["API-04" "CLI-05"] api::code_burned_offline,
        "A code was redeemed while its daemon was offline: 409, and the code is gone.";
    RedeemTriedAgain "redeem-tried-again" ["CLI-02"] api::redeem_tried_again,
        "A code was tried again after 429 or 5xx.";
    StormOf429 "storm-of-429" ["CLI-05" "CLI-06"] api::storm,
        "A caller got 429 three times in a row.";
    RetryAfterLongerThanBackoff "retry-after-longer-than-backoff" ["CLI-06" "DMN-13"] api::retry_after_longer_than_backoff,
        "An answer asked to wait longer than the backoff alone would have.";
    RetryAfterOverTheCap "retry-after-over-the-cap" ["CLI-06"] api::retry_after_over_the_cap,
        "An answer asked to wait longer than the 120 s that are kept.";
    RetryAfterAtUpgrade "retry-after-at-upgrade" ["CLI-06"] api::retry_after_at_upgrade,
        "The relay refused an upgrade and asked to wait.";
    ApiFailedAndRecovered "api-failed-and-recovered" ["CLI-05" "DMN-01"] api::failed_and_recovered,
        "A caller that had got 5xx got 200.";
    DaemonTokenRefusedWhileAway "daemon-token-refused-while-away" ["DMN-01" "DMN-03"] api::daemon_token_refused_while_away,
        "A daemon that had been online got no fresh token at once.";
    CredentialRefused "credential-refused" ["CLI-05" "DMN-01" "API-09"] api::credential_refused,
        "The API refused a credential with 401 or 403.";
    AnswerTooLate "answer-too-late" ["CLI-07"] api::answer_too_late,
        "The API took longer to answer than an endpoint waits.";
    KeySetRefreshedForUnknownKid "key-set-refreshed-for-unknown-kid" ["KEY-01" "KEY-02"] api::key_set_refreshed,
        "Keys were rotated, and the relay read the set again before its time.";
    TokenOfAKeyThatIsGone "token-of-a-key-that-is-gone" ["KEY-04" "CLI-05"] api::token_of_a_key_that_is_gone,
        "A token signed before a hard rotation was refused after it.";
    TokenRacedARotation "token-raced-a-rotation" ["CLI-05" "DMN-01"] api::token_raced_a_rotation,
        "An upgrade was refused with 401, and the next one for the same daemon and role was let in.";
    KeySetOutage "key-set-outage" ["KEY-03"] api::key_set_outage,
        "Upgrades got 503 because no key set could be had.";
    CachedKeySetUsedInOutage "cached-key-set-used-in-outage" ["KEY-03"] api::cached_key_set_used,
        "The key set could not be read again, and the one from before let somebody in.";
    TokenExpired "token-expired" ["TOK-05"] api::token_expired,
        "A token came to the relay after its time.";

    ResumedWithCallInFlight "resumed-with-call-in-flight" ["CLI-11" "RPC-05"] endpoint::resumed_with_call_in_flight,
        "A client's session was resumed while a call of it was in flight.";
    CallSurvivedAPause "call-survived-a-pause" ["CLI-11"] endpoint::call_survived_a_pause,
        "A call that saw a pause ended well.";
    CallTimedOutOnCutWire "call-timed-out-on-cut-wire" ["RPC-05" "CLI-11"] endpoint::call_timed_out_on_cut_wire,
        "A call that saw a pause ended with rpc_timeout after the resume: its frame was lost on the cut wire.";
    CallTimedOutWhilePaused "call-timed-out-while-paused" ["RPC-05"] endpoint::call_timed_out_while_paused,
        "A call's time ran out during a pause.";
    CallFailedWithTheSocket "call-failed-with-the-socket" ["CLI-09"] endpoint::call_failed_with_the_socket,
        "A call that was in flight failed because the socket dropped.";
    BufferedCallSent "buffered-call-sent" ["CLI-09"] endpoint::buffered_call_sent,
        "A call made without a session waited, was sent later, and ended well.";
    BufferOverflow "buffer-overflow" ["CLI-09"] endpoint::buffer_overflow,
        "A call found no room among those that wait.";
    CallEndedByClose "call-ended-by-close" ["CLI-14"] endpoint::call_ended_by_close,
        "A call ended because its client was closed.";
    ClosedWhileConnecting "closed-while-connecting" ["CLI-14"] endpoint::closed_while_connecting,
        "A client closed while it was getting a session or a socket.";
    ClosedWhileNegotiating "closed-while-negotiating" ["CLI-14"] endpoint::closed_while_negotiating,
        "A client closed while it was agreeing on keys.";
    ClosedWhilePaused "closed-while-paused" ["CLI-14"] endpoint::closed_while_paused,
        "A client closed while its daemon was away.";
    ClosedWhileReconnecting "closed-while-reconnecting" ["CLI-14"] endpoint::closed_while_reconnecting,
        "A client closed while it waited for its next attempt.";
    LostWhileNegotiating "lost-while-negotiating" ["CLI-05" "CRY-11"] endpoint::lost_while_negotiating,
        "A client's attempt failed after its socket had opened.";
    ActiveAgainWithANewSession "active-again-with-a-new-session" ["CLI-01" "CLI-12"] endpoint::active_again_with_a_new_session,
        "A client that had lost its session got a new one.";
    GaveUp "gave-up" ["CLI-04" "CLI-08"] endpoint::gave_up,
        "A client used up its retries.";
    QuickConnectLossIsFatal "quick-connect-loss-is-fatal" ["CLI-02"] endpoint::quick_connect_loss_is_fatal,
        "A Quick Connect client lost its session and closed.";
    LongBackoff "long-backoff" ["CLI-04" "DMN-04"] endpoint::long_backoff,
        "An endpoint failed so often that its delay had grown as long as it gets.";
    SilentRelayNoticed "silent-relay-noticed" ["CLI-13" "DMN-13"] endpoint::silent_relay_noticed,
        "An endpoint gave up a socket on which nothing came.";
    ApiTimedOut "api-timed-out" ["CLI-07"] endpoint::api_timed_out,
        "An endpoint gave up an API request that nobody answered.";
    DialTimedOut "dial-timed-out" ["CLI-07"] endpoint::dial_timed_out,
        "An endpoint gave up a dial that the relay did not answer.";
    HandshakeTimedOut "handshake-timed-out" ["CRY-11"] endpoint::handshake_timed_out,
        "A handshake took too long.";
    SealedMessageDidNotOpen "sealed-message-did-not-open" ["CRY-09"] endpoint::sealed_message_did_not_open,
        "A session ended because a message did not open.";
    IdentityChanged "identity-changed" ["TRU-05"] endpoint::identity_changed,
        "A client refused a daemon whose identity had changed.";
    UnreadableAnswer "unreadable-answer" ["CLI-05" "DMN-01"] endpoint::unreadable_answer,
        "The API answered 200 with what cannot be read.";
    RateLimitReported "rate-limit-reported" ["CLI-05" "DMN-09"] endpoint::rate_limit_reported,
        "An endpoint reported that the relay drops frames of it, and went on.";
    ClientWaitedForTheDaemon "client-waited-for-the-daemon" ["CLI-05" "CLI-15"] endpoint::client_waited_for_the_daemon,
        "A client that had found its daemon offline became active later.";
}
