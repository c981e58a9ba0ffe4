//! Wrong on purpose: each quirk breaks one rule of an endpoint, so that a test can be shown to fail.
//!
//! [`Quirks`] is empty in production and set by tests only. A quirk is looked at where the rule is decided, and nowhere else.

/// An enum of what can be wrong, each with the rule that it breaks, and a value that holds one of them or none.
macro_rules! quirks {
    (
        $(#[$quirk_doc:meta])* enum $quirk:ident;
        $(#[$quirks_doc:meta])* struct $quirks:ident;
        $($(#[$doc:meta])* $name:ident breaks $rule:literal;)*
    ) => {
        $(#[$quirk_doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum $quirk { $($(#[$doc])* $name,)* }

        impl $quirk {
            /// Every quirk.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The id of the rule that it breaks.
            pub const fn rule(self) -> &'static str {
                match self { $(Self::$name => $rule,)* }
            }
        }

        $(#[$quirks_doc])*
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
        pub struct $quirks(Option<$quirk>);

        impl $quirks {
            /// No quirk: what production has.
            pub const NONE: Self = Self(None);

            /// Just this quirk.
            pub const fn only(quirk: $quirk) -> Self {
                Self(Some(quirk))
            }

            /// Whether it is there.
            pub fn has(self, quirk: $quirk) -> bool {
                self.0 == Some(quirk)
            }
        }
    };
}
pub(crate) use quirks;

quirks! {
    /// One rule broken. The name says how, [`rule`](Self::rule) which.
    enum Quirk;
    /// The quirk of an endpoint, usually none.
    struct Quirks;

    // ---- keys and sealing ----

    /// Has one ephemeral key for all sessions.
    ReusesEphemeralKey breaks "CRY-01";
    /// Goes on with an Accept whose signature does not fit.
    SkipsSignature breaks "CRY-02";
    /// Agrees on keys with a point that contributes nothing.
    TakesLowOrderKeys breaks "CRY-03";
    /// Counts by two.
    SkipsSequences breaks "CRY-04";
    /// Uses the last sequence too, and starts again at 0.
    WrapsSequences breaks "CRY-05";
    /// Opens messages whose sequence was seen before.
    ForgetsWindow breaks "CRY-06";
    /// Takes messages in their order only.
    RefusesOutOfOrder breaks "CRY-06";
    /// Ends the session at a message that was seen before.
    EndsOnReplay breaks "CRY-06";
    /// Opens a message before it asks the window.
    OpensBeforeWindow breaks "CRY-06";
    /// Moves the window before the message has opened.
    MovesWindowFirst breaks "CRY-08";
    /// Skips a message that does not open, and has moved the window for it.
    MovesWindowForForgery breaks "CRY-08";
    /// Skips a message that does not open.
    GoesOnAfterForgery breaks "CRY-09";
    /// Opens a message whose nonce names the other direction.
    TakesOtherDirection breaks "CRY-09";
    /// Keeps the keys of a session that is over.
    KeepsKeysOfEndedSession breaks "CRY-09";
    /// A client that skips Data before the Accept.
    SkipsEarlyData breaks "CRY-10";
    /// A daemon that answers Data of a session that it does not have.
    AnswersDataOfNoSession breaks "CRY-10";
    /// Never takes the handshake's time for over.
    WaitsForHandshakeForEver breaks "CRY-11";
    /// Hashes the key's text instead of its bytes.
    FingerprintOfText breaks "CRY-13";

    // ---- SBP frames ----

    /// Gives every frame the same id.
    ReusesFrameIds breaks "SBP-01";
    /// Gives an Error an id of its own.
    ErrorsUnderNewId breaks "SBP-01";
    /// Goes on after reserved flag bits.
    GoesOnAfterReservedFlags breaks "SBP-02";
    /// Ends the session at a frame that breaks the layout.
    ClosesOnBrokenFrame breaks "SBP-02";
    /// Skips a frame that breaks the layout without a word.
    SkipsBrokenFrameSilently breaks "SBP-02";
    /// Answers broken frames of kind 2 and 3 as well.
    AnswersBrokenReceipts breaks "SBP-02";
    /// Introduces itself only after the other side did.
    IntroducesItselfSecond breaks "SBP-03";
    /// Acts on frames before the introduction.
    TalksBeforeIntroduction breaks "SBP-03";
    /// Refuses each introduction with the same code.
    RefusesAllAsMalformed breaks "SBP-03";
    /// Closes after a bad introduction without a word.
    RefusesIntroductionSilently breaks "SBP-03";
    /// Has one peerId for all attempts.
    KeepsPeerId breaks "SBP-03";
    /// Ends the session at a subject that it does not know.
    ClosesOnUnknownSubject breaks "SBP-04";
    /// Skips a Message on a subject that it does not know without a word.
    SkipsUnknownSubjectSilently breaks "SBP-04";
    /// Refuses streams as any other subject.
    StreamsAreInvalid breaks "SBP-04";
    /// Answers no Ping.
    IgnoresPing breaks "SBP-05";
    /// Sends receipts that were not switched on.
    ConfirmsUnasked breaks "SBP-05";
    /// Goes on after Error 1000 and 1001.
    GoesOnAfterViolation breaks "SBP-05";
    /// Answers an Error with an Error.
    AnswersErrors breaks "SBP-06";
    /// Goes on after Close.
    IgnoresClose breaks "SBP-07";
    /// Leaves without Close.
    LeavesSilently breaks "SBP-07";

    // ---- RPC and events ----

    /// Gives an answer to whichever call comes first.
    MatchesAnswersByOrder breaks "RPC-01";
    /// Ends the session at an answer to no call.
    EndsOnUnknownAnswer breaks "RPC-01";
    /// Answers an unknown method as a handler's failure.
    FailsUnknownMethods breaks "RPC-02";
    /// Never takes a handler's time for over.
    ForgetsHandlerLimit breaks "RPC-02";
    /// Keeps what went wrong in a handler to itself.
    HidesFailure breaks "RPC-02";
    /// Lets handlers fail with codes of the protocol.
    PassesAnyCode breaks "RPC-02";
    /// Ends the session at a broken envelope.
    ClosesOnBrokenEnvelope breaks "RPC-03";
    /// Skips a broken envelope without a word.
    SkipsBrokenEnvelope breaks "RPC-03";
    /// Answers broken envelopes on `event`.
    AnswersBrokenEvents breaks "RPC-03";
    /// Takes each envelope on either subject.
    MixesSubjects breaks "RPC-04";
    /// Waits for answers for ever.
    WaitsForAnswerForEver breaks "RPC-05";
    /// Counts a call's time from when it was made.
    CountsWaiting breaks "RPC-05";
    /// Stops the clock of calls while paused.
    StopsClockWhilePaused breaks "RPC-05";
    /// Knows no total deadline.
    ForgetsTotal breaks "RPC-05";
    /// Starts a handler when the one before has ended.
    HandlesInTurn breaks "RPC-06";
    /// Lets a second handler take a method.
    TakesSecondHandler breaks "RPC-07";
    /// Lets anyone handle the platform's methods.
    GivesAwayReservedNames breaks "RPC-08";
    /// Drops a request or event that does not fit into one frame.
    DropsTooLarge breaks "RPC-09";
    /// Drops an answer that does not fit into one frame.
    DropsTooLargeAnswer breaks "RPC-09";
    /// Takes bad names and patterns for ones that never match.
    TakesAnyName breaks "EVT-01";
    /// Lets `*` stand for any number of segments.
    StarMatchesMany breaks "EVT-01";
    /// Gives an event to the first subscription that matches.
    DeliversOnce breaks "EVT-02";
    /// Stops a subscription whose handler failed.
    StopsAfterFailure breaks "EVT-02";

    // ---- the client ----

    /// Asks the caller's token source for the first attempt only.
    KeepsAccessToken breaks "CLI-01";
    /// Dials with the session of the attempt before.
    ReusesSession breaks "CLI-01";
    /// Redeems the code again when the session is lost.
    RedeemsAgain breaks "CLI-02";
    /// Says nothing of a code that an attempt without a readable answer may have used up.
    HidesBurnedCode breaks "CLI-02";
    /// Starts each session without handlers and subscriptions.
    ForgetsHandlers breaks "CLI-03";
    /// Tries again without a delay.
    RetriesAtOnce breaks "CLI-04";
    /// Doubles the delay for ever.
    DelaysWithoutLimit breaks "CLI-04";
    /// Delays by the same time as everybody else.
    HasNoJitter breaks "CLI-04";
    /// Retries without counting.
    NeverGivesUp breaks "CLI-04";
    /// Takes 0 retries at most for none.
    TakesNoLimitForNone breaks "CLI-04";
    /// Goes on counting retries after a session stood.
    CountsRetriesForEver breaks "CLI-04";
    /// Retries although the mode is `never`.
    RetriesInModeNever breaks "CLI-04";
    /// Retries what is fatal.
    RetriesFatal breaks "CLI-05";
    /// Takes what may pass for fatal.
    GivesUpOnRetried breaks "CLI-05";
    /// Retries 409 on a redeem as on a new session.
    RetriesConflictOfCode breaks "CLI-05";
    /// Retries an upgrade's 401 as often as any other.
    RetriesUnauthorizedForEver breaks "CLI-05";
    /// Remembers an upgrade's 401 beyond a session that stood.
    RemembersUnauthorized breaks "CLI-05";
    /// Ends the session when the relay limits its rate.
    EndsOnRateLimit breaks "CLI-05";
    /// Does not look at `Retry-After`.
    IgnoresRetryAfter breaks "CLI-06";
    /// Takes `Retry-After` for no longer than its own longest delay.
    CapsRetryAfterEarly breaks "CLI-06";
    /// Comes back after `Retry-After`, however much longer its own delay is.
    RetryAfterReplacesDelay breaks "CLI-06";
    /// Never takes an API call's time for over.
    WaitsForApiForEver breaks "CLI-07";
    /// Never takes a dial's time for over.
    WaitsForRelayForEver breaks "CLI-07";
    /// Reports a fatal API failure as retries that ran out.
    HidesApiError breaks "CLI-08";
    /// Says that the retries ran out, not why.
    LosesLastCause breaks "CLI-08";
    /// Lets any number of bytes wait.
    BuffersWithoutLimit breaks "CLI-09";
    /// Sends the call that waited shortest first.
    SendsWaitingBackwards breaks "CLI-09";
    /// Loses the call that waited longest when the session is active again.
    LosesWaitingCall breaks "CLI-09";
    /// Lets calls wait although they are to fail.
    BuffersUnderFail breaks "CLI-09";
    /// Fails calls with `not_connected` while paused.
    ConfusesPausedWithLost breaks "CLI-09";
    /// Leaves calls in flight to themselves when the socket drops.
    CallsOutliveSocket breaks "CLI-09";
    /// Drops events while there is no session.
    DropsEventsWhileAway breaks "CLI-10";
    /// Keeps the oldest events, not the newest.
    KeepsOldestEvents breaks "CLI-10";
    /// Sends the newest of the kept events first.
    SendsKeptEventsBackwards breaks "CLI-10";
    /// Leaves the socket when the session is paused.
    LeavesSocketOnPause breaks "CLI-11";
    /// Goes on sending while paused.
    SendsWhilePaused breaks "CLI-11";
    /// Fails calls in flight when the session is paused.
    FailsCallsOnPause breaks "CLI-11";
    /// Stops the calls' clocks when the session is paused.
    StopsClockOnPause breaks "CLI-11";
    /// Takes `session_pending` for the end of the session.
    ReconnectsOnPending breaks "CLI-11";
    /// Makes a new session instead of going on with the resumed one.
    StartsOverOnResume breaks "CLI-11";
    /// Counts a resumed session's messages from 0 again, under the same keys.
    ResumesFromZero breaks "CLI-11";
    /// Waits on in a session that expired.
    KeepsExpiredSession breaks "CLI-11";
    /// Waits on in a session that ended.
    KeepsEndedSession breaks "CLI-11";
    /// Bears a session's Control codes before it is active.
    BearsControlBeforeActive breaks "CLI-11";
    /// Reports a resumed session as a fresh connection.
    ConnectedOnResume breaks "CLI-12";
    /// Keeps the negotiation to itself.
    HidesNegotiating breaks "CLI-12";
    /// Never pings.
    NeverPings breaks "CLI-13";
    /// Bears a silent relay.
    BearsSilence breaks "CLI-13";
    /// Takes nothing for life.
    HearsNoLife breaks "CLI-13";
    /// Closes only once the session stands.
    ClosesOnlyFromSession breaks "CLI-14";
    /// Closes only once no call waits.
    FinishesCallsBeforeClosing breaks "CLI-14";
    /// Closes as often as it is told to.
    ClosesTwice breaks "CLI-14";
    /// Ends calls with `not_connected` when it closes.
    ClosesAsDisconnected breaks "CLI-14";
    /// Takes a paused session for ready.
    ReadyWhilePaused breaks "CLI-15";
    /// Waits for a closed client to be ready.
    WaitsForClosed breaks "CLI-15";

    // ---- trust ----

    /// Asks the user under any policy.
    AsksUnderAnyPolicy breaks "TRU-02";
    /// Takes `prompt` for `auto`.
    NeverAsks breaks "TRU-02";
    /// Asks about an identity that is pinned.
    AsksAboutPinned breaks "TRU-02";
    /// Pins the identity of an Accept whose signature does not fit.
    PinsUnverified breaks "TRU-03";
    /// Pins what the user refused.
    PinsRefused breaks "TRU-03";
    /// Goes on although the pin could not be written.
    IgnoresFailingStore breaks "TRU-03";
    /// Goes on with an identity that it does not pin.
    GoesOnWithoutPin breaks "TRU-03";
    /// Pins the first identity although only pinned ones are accepted.
    PinsUnderPinnedOnly breaks "TRU-03";
    /// Tries again when nobody answered, and so asks again.
    AsksAgain breaks "TRU-04";
    /// Reports the identity shown as the one expected.
    ForgetsExpectedIdentity breaks "TRU-05";

    // ---- the daemon ----

    /// `listen` resolves before the relay connection stands.
    ListenReturnsEarly breaks "DMN-01";
    /// Gives up after five retries in a row, as a client does.
    DaemonGivesUp breaks "DMN-01";
    /// Takes an API answer of 429 or 5xx for final.
    DaemonEndsOnServerErrors breaks "DMN-01";
    /// Goes on after an API answer of 400, 401, 403 or 404.
    DaemonRetriesRefusals breaks "DMN-01";
    /// Takes every refused upgrade for final.
    DaemonEndsOnRefusedUpgrade breaks "DMN-01";
    /// Takes its place back from the process that took it.
    DuelsForItsPlace breaks "DMN-01";
    /// Takes the relay's late answer to a dial that it gave up for another process.
    TakesOwnDialForRival breaks "DMN-01";
    /// Serves whichever daemon the API key belongs to.
    ServesAnyDaemonId breaks "DMN-02";
    /// Dials again with the token that it has.
    ReusesPresenceToken breaks "DMN-03";
    /// Tries again without a delay.
    DaemonRetriesAtOnce breaks "DMN-04";
    /// Adds nothing random to its delays.
    DaemonsRetryInStep breaks "DMN-04";
    /// Goes on counting retries after a connection that lasted.
    DaemonNeverRestartsCount breaks "DMN-04";
    /// Waits after a clean close as after a fault.
    TakesCleanCloseForFault breaks "DMN-04";
    /// Can be closed only while the relay socket stands.
    ClosesOnlyWhenOnline breaks "DMN-05";
    /// Reconnects when a frame names a session that it does not have.
    ReconnectsOnUnknownSession breaks "DMN-06";
    /// Ends every session when one fails.
    EndsSessionsTogether breaks "DMN-06";
    /// Takes what is asked of a session that is over for the next one under its id.
    TakesOldSessionForNew breaks "DMN-06";
    /// Lets any number of frames wait for a consumer.
    WaitsForConsumerWithoutBound breaks "DMN-07";
    /// Counts the frames that wait for a consumer, not their bytes.
    CountsNoWaitingBytes breaks "DMN-07";
    /// Ends every session when one session's consumer is too slow.
    SlowConsumerEndsAll breaks "DMN-07";
    /// Bears any number of malformed frames in a row.
    BearsMalformedFrames breaks "DMN-08";
    /// Counts malformed frames on, whatever comes between them.
    CountsMalformedForEver breaks "DMN-08";
    /// Reconnects when told that it sends too much.
    ReconnectsWhenRateLimited breaks "DMN-09";
    /// Waits for the relay to close after a Control code about the connection.
    IgnoresConnectionControl breaks "DMN-09";
    /// Reconnects without a delay after a Control code.
    ReconnectsAtOnceAfterControl breaks "DMN-09";
    /// Keeps the state of a session whose client is gone.
    KeepsEndedSessions breaks "DMN-10";
    /// Keeps the state of a session that a terminal code is about.
    KeepsRefusedSessions breaks "DMN-10";
    /// Does not tell the relay that a session's state is whole.
    ForgetsReady breaks "DMN-11";
    /// Sends what it held back before it says that it is ready.
    SendsBeforeReady breaks "DMN-11";
    /// Takes a session whose introductions were cut short for whole.
    ResumesHalfMadeSessions breaks "DMN-11";
    /// Does not tell the relay of sessions that ended while the socket was away.
    ForgetsWhatEndedAway breaks "DMN-11";
    /// Loses what a session sends while the socket is away.
    LosesHeldFrames breaks "DMN-11";
    /// Sends what it held back in the wrong order.
    SendsHeldNewestFirst breaks "DMN-11";
    /// Holds back any number of bytes.
    HoldsWithoutBound breaks "DMN-11";
    /// Ends its calls under way when the socket is lost.
    EndsCallsOnPause breaks "DMN-11";
    /// Holds new calls back while the session is paused.
    HoldsNewCalls breaks "DMN-11";
    /// Keeps sessions although the token promises no resumption.
    ResumesWithoutScope breaks "DMN-12";
    /// Ends all sessions with the socket although the token promises resumption.
    NeverResumes breaks "DMN-12";
    /// Sends no Pings.
    DaemonNeverPings breaks "DMN-13";
    /// Takes a silent relay for a live one.
    DaemonBearsSilence breaks "DMN-13";
    /// Does not look at `Retry-After`.
    DaemonIgnoresRetryAfter breaks "DMN-13";
    /// Waits for the API for ever.
    DaemonWaitsForApi breaks "DMN-13";
    /// Waits for the relay's answer to a dial for ever.
    DaemonWaitsForDial breaks "DMN-13";
    /// Goes on with a session whose connection handler failed.
    KeepsSessionOfFailedHandler breaks "DMN-15";
    /// Does not see that a connection handler panicked.
    MissesHandlerPanics breaks "DMN-15";
    /// Ends a session without a word to the relay.
    EndsSessionSilently breaks "DMN-15";
    /// Signals an error after an SBP Close.
    SignalsErrorAfterClose breaks "DMN-15";
    /// Closes without a Signal for each session.
    LeavesWithoutSignal breaks "DMN-16";
    /// Closes its socket with 1001, as a page that is left.
    LeavesAsGoingAway breaks "DMN-16";
}
