//! Relays that are wrong on purpose, so that the tests of their rules can be shown to fail.

use crate::quirks::quirks;

quirks! {
    /// One rule of the relay broken. The name says how, [`rule`](Self::rule) which.
    enum RelayQuirk;
    /// The quirk of a relay, usually none.
    struct RelayQuirks;

    // ---- frames ----

    /// Forwards payloads of any size.
    TakesLargePayloads breaks "WIRE-01";
    /// Skips text messages.
    SkipsText breaks "WIRE-03";
    /// Takes messages of 2 MiB.
    TakesLargeMessages breaks "WIRE-04";
    /// Writes the session's id into the text of a Control message.
    NamesSessionInText breaks "WIRE-07";
    /// Refuses a Signal whose reason it does not know.
    RefusesUnknownReasons breaks "WIRE-08";
    /// Takes any Signal for a close.
    TakesAnySignal breaks "WIRE-08";
    /// Closes after every Control.
    ClosesAfterEveryControl breaks "WIRE-09";
    /// Closes with 1000 whatever the Control was.
    ClosesAlikeAfterControl breaks "WIRE-09";
    /// Skips messages that are too short for a frame.
    SkipsShortFrames breaks "WIRE-11";
    /// Looks at the declared length last.
    MindsLengthFirst breaks "WIRE-12";
    /// Skips types that it does not know.
    SkipsUnknownTypes breaks "WIRE-13";
    /// Skips frames without the session id that they need.
    SkipsZeroSessions breaks "WIRE-14";
    /// Skips what a client or daemon may not send.
    SkipsDisallowed breaks "WIRE-15";
    /// Takes a client's frames for whatever session they name.
    TakesForeignSessions breaks "WIRE-16";
    /// Refuses a daemon's frames for sessions that ended as for ones that never were.
    ForgetsEnded breaks "WIRE-17";
    /// Drops a daemon's frames for sessions that never were.
    BearsUnknownSessions breaks "WIRE-17";
    /// Does not answer a Signal for a session that it does not have.
    SilentOnLateSignals breaks "WIRE-17";
    /// Changes the last byte of what it forwards.
    ChangesBytes breaks "WIRE-18";
    /// Answers no Ping.
    IgnoresPings breaks "WIRE-19";
    /// Answers every Ping alike.
    PongsEmpty breaks "WIRE-19";

    // ---- pairing ----

    /// Lets sessions wait for their daemon for ever.
    GraceNeverEnds breaks "REL-01";
    /// Starts the grace anew when the daemon is lost again in Pending.
    GraceStartsAnew breaks "REL-01";
    /// Does not tell the daemon that a client is gone.
    SilentOnClientsEnd breaks "REL-01";
    /// Takes every daemon that returns for one that resumes.
    ResumesAnyDaemon breaks "REL-01";
    /// Resumes as soon as the daemon is back.
    ResumesUnready breaks "REL-02";
    /// Forwards a client's frames in Pending.
    ForwardsWhilePending breaks "REL-03";
    /// Forwards a daemon's frames in Pending.
    TakesDaemonWhilePending breaks "REL-03";
    /// Ends all sessions of a daemon with one of them.
    EndsSessionsTogether breaks "REL-04";
    /// Answers each Signal(ready) with `session_resumed`.
    ResumesPaired breaks "REL-05";
    /// Forwards each second frame before the first.
    SwapsFrames breaks "REL-06";

    // ---- ghosts ----

    /// Forgets a session id when its session ends.
    ForgetsUsedIds breaks "REL-10";
    /// Refuses an id that is live only once its WebSocket stands.
    TellsConflictsLate breaks "REL-10";
    /// Lets no other session in while there is one.
    RefusesBesideGhosts breaks "REL-11";
    /// Does not tell the daemon of a client that was swept.
    SweepsSilently breaks "REL-11";
    /// Refuses a daemon's second socket although it should replace the first.
    NeverReplaces breaks "REL-12";
    /// Replaces a daemon's first socket although the second should be refused.
    AlwaysReplaces breaks "REL-12";
    /// Closes a daemon's first socket as any other.
    ReplacesWithoutWord breaks "REL-12";

    // ---- limits ----

    /// Takes any number of frames.
    HasNoRate breaks "REL-20";
    /// Does not say that it drops frames.
    LimitsSilently breaks "REL-20";
    /// Says so for every frame that it drops.
    TellsOfEveryFrame breaks "REL-20";
    /// Closes a connection over its rate.
    ClosesOverRate breaks "REL-20";
    /// Drops frames in the mode that is to slow reading.
    DropsWhenThrottled breaks "REL-20";
    /// Drops what a slow client does not take, and goes on.
    ServesGaps breaks "REL-21";
    /// Reads a client on, however much its daemon has not taken.
    ReadsOnAndOn breaks "REL-21";
    /// Waits for ever for a daemon that takes nothing.
    BearsStuckDaemons breaks "REL-21";
    /// Waits for ever for a client that cannot go on.
    BearsStuckClients breaks "REL-21";
    /// Counts a client's time also while the daemon takes nothing.
    BlamesClientForDaemon breaks "REL-21";
    /// Keeps silent connections.
    NeverSweeps breaks "REL-22";
    /// Takes only messages for life.
    HearsMessagesOnly breaks "REL-22";
    /// Closes a connection that does not answer its Ping.
    WantsPongs breaks "REL-22";
    /// Does not look at the token's limit.
    IgnoresTokenLimit breaks "REL-23";
    /// Has no limit but the token's.
    HasNoSessionLimit breaks "REL-23";
    /// Closes with 1000 at its end.
    ShutsDownAsDone breaks "REL-24";
    /// Lets connections in while it shuts down.
    OpensDuringShutdown breaks "REL-24";

    // ---- tokens and keys ----

    /// Takes tokens of any length.
    TakesLongTokens breaks "TOK-01";
    /// Does not look into the query for a token.
    HeedsHeaderOnly breaks "TOK-01";
    /// Takes signed texts of any type.
    TakesAnyType breaks "TOK-02";
    /// Takes any signature.
    TakesAnySignature breaks "TOK-03";
    /// Takes tokens for others.
    TakesAnyAudience breaks "TOK-04";
    /// Takes tokens of any issuer.
    TakesAnyIssuer breaks "TOK-04";
    /// Takes tokens that have expired.
    TakesExpired breaks "TOK-05";
    /// Takes tokens of a later version.
    TakesAnyVersion breaks "TOK-06";
    /// Takes clients without a user.
    TakesNobody breaks "TOK-07";
    /// Takes tokens for other regions.
    TakesAnyRegion breaks "TOK-08";
    /// Takes tokens that live for hours from clients.
    TakesLongLives breaks "TOK-09";
    /// Takes scopes that are no list.
    TakesAnyScopes breaks "TOK-10";
    /// Takes a session limit that is none.
    TakesAnyLimit breaks "TOK-11";
    /// Ends a daemon's connection when its token expires.
    EndsWithToken breaks "TOK-12";
    /// Repeats the token where it refuses it.
    RepeatsToken breaks "TOK-13";
    /// Refuses without a code.
    RefusesWithoutCode breaks "TOK-13";
    /// Asks for the key set at every upgrade.
    NeverCachesKeys breaks "KEY-01";
    /// Goes on with the first key set for ever.
    KeepsFirstKeys breaks "KEY-01";
    /// Does not look for keys that it does not know.
    NeverLooksAgain breaks "KEY-01";
    /// Looks for unknown keys as often as it is asked.
    LooksWithoutEnd breaks "KEY-01";
    /// Knows one key of a set.
    KnowsOneKey breaks "KEY-02";
    /// Takes a set with an entry of another kind for none.
    StumblesOnForeignKeys breaks "KEY-02";
    /// Answers 401 where there are no keys.
    BlamesTokenForKeys breaks "KEY-03";
    /// Forgets its keys when no others can be had.
    ForgetsKeysInOutage breaks "KEY-03";
}
