//! Control planes that are wrong on purpose, so that the tests of their rules can be shown to fail.

use crate::quirks::quirks;

quirks! {
    /// One rule of the control plane broken. The name says how, [`rule`](Self::rule) which.
    enum ApiQuirk;
    /// The quirk of a control plane, usually none.
    struct ApiQuirks;

    /// Goes on signing with the old key after a rotation.
    SignsWithOldKey breaks "KEY-04";
    /// Publishes the old key no more, whatever the overlap.
    RotatesHardAlways breaks "KEY-04";
    /// Goes on publishing the old key after a hard rotation.
    RotatesSoftAlways breaks "KEY-04";
    /// Gives every session the same id.
    RepeatsSessionIds breaks "API-01";
    /// Gives client tokens a life of ten minutes.
    GivesLongLives breaks "API-01";
    /// Renews the token of the first daemon that it knows, whoever asks.
    RenewsForFirst breaks "API-02";
    /// Makes codes in capitals.
    MakesCodesInCapitals breaks "API-03";
    /// Gives every code the default life.
    IgnoresTtl breaks "API-03";
    /// Puts the code into the query, where servers see it.
    PutsCodeIntoQuery breaks "API-03";
    /// Leaves the code of a daemon that is offline as it was.
    SparesCodes breaks "API-04";
    /// Tells that a code has expired.
    TellsExpiry breaks "API-04";
    /// Looks at a code, waits, and consumes it then.
    RedeemsInTwoSteps breaks "API-05";
    /// Does not say what its errors are.
    ErrorsWithoutType breaks "API-06";
    /// Takes requests from any web page.
    TakesAnyOrigin breaks "API-06";
    /// Refuses sessions with a daemon that is offline.
    RefusesOfflineDaemons breaks "API-08";
    /// Looks for the procedure before the origin.
    OriginAfterProcedure breaks "API-09";
    /// Looks at the method before the procedure.
    MethodBeforeProcedure breaks "API-09";
    /// Reads the body before it looks at the method.
    SizeBeforeMethod breaks "API-09";
    /// Parses what it has of a body that is too large.
    JsonBeforeSize breaks "API-09";
    /// Looks at the credential before the body.
    CredentialBeforeJson breaks "API-09";
    /// Looks at the input before the credential.
    InputBeforeCredential breaks "API-09";
    /// Looks at the daemon before the input.
    DaemonBeforeInput breaks "API-09";
    /// Answers 403 for daemons that are not there.
    HidesDaemons breaks "API-09";
    /// Takes the input only as the body itself.
    TakesBareInputOnly breaks "API-09";
    /// Puts Quick Connect URLs right below its own.
    ConnectsElsewhere breaks "API-09";
}
