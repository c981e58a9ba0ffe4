use std::time::Duration;

use serde_json::{Value, json};

use super::*;
use crate::Entropy;

/// Counts up: every byte differs from the last.
struct Counting(u8);

impl Entropy for Counting {
    fn fill(&mut self, out: &mut [u8]) {
        for byte in out {
            self.0 = self.0.wrapping_mul(73).wrapping_add(41);
            *byte = self.0;
        }
    }
}

#[test]
fn api_09_the_table_of_failures() {
    let table: Vec<_> = ErrorCode::ALL.iter().map(|code| (code.status(), code.name(), code.json_rpc())).collect();
    let spec = [
        (400, "BAD_REQUEST", -32600),
        (400, "PARSE_ERROR", -32700),
        (401, "UNAUTHORIZED", -32001),
        (403, "FORBIDDEN", -32003),
        (404, "NOT_FOUND", -32004),
        (405, "METHOD_NOT_SUPPORTED", -32005),
        (409, "CONFLICT", -32009),
        (413, "PAYLOAD_TOO_LARGE", -32013),
        (429, "TOO_MANY_REQUESTS", -32029),
        (500, "INTERNAL_SERVER_ERROR", -32603),
    ];
    assert_eq!(table, spec);
    for code in ErrorCode::ALL {
        assert_eq!(ErrorCode::from_name(code.name()), Some(*code));
    }
    assert_eq!(ErrorCode::from_name("TEAPOT"), None);
}

#[test]
fn api_06_the_shape_of_a_failure() {
    let body = ErrorBody::new(ErrorCode::NotFound, "no such daemon", "relay.createSession");
    let spec = json!({"error": {"message": "no such daemon", "code": -32004,
        "data": {"code": "NOT_FOUND", "httpStatus": 404, "path": "relay.createSession"}}});
    assert_eq!(serde_json::to_value(body).unwrap(), spec);
}

#[test]
fn api_01_the_table_of_procedures() {
    let table: Vec<_> = Procedure::ALL.iter().map(|procedure| (procedure.name(), procedure.auth())).collect();
    let spec = [
        ("relay.createSession", Auth::User),
        ("daemon.renewToken", Auth::ApiKey),
        ("quickConnect.create", Auth::ApiKey),
        ("quickConnect.redeem", Auth::None),
        ("daemon.register", Auth::User),
        ("daemon.listAccessible", Auth::User),
    ];
    assert_eq!(table, spec);
    assert_eq!(Procedure::from_name("daemon.renewToken"), Some(Procedure::RenewToken));
    assert_eq!(Procedure::from_name("daemon.renewtoken"), None);
    assert_eq!(Procedure::RenewToken.path(), "/api/trpc/daemon.renewToken");
}

#[test]
fn api_01_inputs_are_sent_in_camel_case() {
    let body = |request: Vec<u8>| String::from_utf8(request).unwrap();
    assert_eq!(body(CreateSession { daemon_id: "d_1".into() }.body()), r#"{"daemonId":"d_1"}"#);
    assert_eq!(body(RenewToken.body()), "null");
    assert_eq!(body(CreateQuickConnect::default().body()), "{}");
    assert_eq!(body(CreateQuickConnect { ttl_seconds: Some(60) }.body()), r#"{"ttlSeconds":60}"#);
    assert_eq!(body(RedeemQuickConnect { code: "abcd-efgh-ijkl".into() }.body()), r#"{"code":"abcd-efgh-ijkl"}"#);
    assert_eq!(body(RegisterDaemon::default().body()), "{}");
}

fn input<T: Input>(body: &str) -> Result<T, String> {
    let value = decode_body(body.as_bytes()).map_err(|error| error.to_string())?;
    T::from_value(&value).map_err(|error| error.to_string())
}

#[test]
fn api_09_both_forms_of_input_are_read() {
    let good = Ok(CreateSession { daemon_id: "d_1".into() });
    assert_eq!(input(r#"{"daemonId":"d_1"}"#), good);
    assert_eq!(input(r#"{"json":{"daemonId":"d_1"}}"#), good);
    assert_eq!(input(r#"{"json":{"daemonId":"d_1"},"meta":{}}"#), good);
    assert_eq!(input(r#"{"daemonId":"d_1","more":[]}"#), good);
}

#[test]
fn api_09_an_empty_body_is_null() {
    for body in ["", " \n", "null", r#"{"json":null}"#, "{}"] {
        assert_eq!(input(body), Ok(RenewToken), "{body}");
        assert_eq!(input(body), Ok(ListAccessible), "{body}");
        assert_eq!(input(body), Ok(CreateQuickConnect::default()), "{body}");
        assert_eq!(input(body), Ok(RegisterDaemon::default()), "{body}");
    }
    assert_eq!(input::<RenewToken>("7"), Err("the input must be null".into()));
    assert_eq!(input::<CreateSession>(""), Err("the input must be an object".into()));
}

#[test]
fn api_09_what_is_no_json_is_no_input() {
    for body in ["{", "daemonId=d", "{} {}", "\u{feff}{}"] {
        assert_eq!(input::<CreateSession>(body), Err("the body is not JSON".into()), "{body}");
    }
    assert_eq!(decode_body(&[0xff]), Err(BodyError));
}

#[test]
fn api_09_a_wrong_input_names_the_member_and_not_its_value() {
    let session = |body: &str| input::<CreateSession>(body).unwrap_err();
    assert_eq!(session("{}"), "`daemonId` is missing");
    assert_eq!(session(r#"{"daemonId":5}"#), "`daemonId` must be text");
    assert_eq!(session(r#"{"daemonId":null}"#), "`daemonId` must be text");
    assert_eq!(session(r#"{"daemonId":""}"#), "`daemonId` must not be empty");
    assert_eq!(session(r#"["d_1"]"#), "the input must be an object");
    assert_eq!(input::<RedeemQuickConnect>(r#"{"code":12345}"#).unwrap_err(), "`code` must be text");
    assert_eq!(input::<RedeemQuickConnect>("{}").unwrap_err(), "`code` is missing");
    let register = |body: &str| input::<RegisterDaemon>(body).unwrap_err();
    assert_eq!(register(r#"{"name":5}"#), "`name` must be text");
    assert_eq!(register(r#"{"resumable":"yes"}"#), "`resumable` must be true or false");
    for key in ["", "AAAA", "!", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="] {
        let error = register(&json!({"identityPublicKey": key}).to_string());
        assert_eq!(error, "`identityPublicKey` must be the base64url text, without padding, of 32 bytes");
    }
}

#[test]
fn api_03_ttl_seconds_is_30_to_3600() {
    let ttl = |n: &str| input::<CreateQuickConnect>(&format!(r#"{{"ttlSeconds":{n}}}"#)).map(|input| input.ttl());
    assert_eq!(ttl("30"), Ok(30));
    assert_eq!(ttl("3600"), Ok(3_600));
    assert_eq!(ttl("60.0"), Ok(60));
    assert_eq!(ttl("null"), Ok(300));
    for bad in ["29", "3601", "0", "-60", "60.5", "\"60\"", "1e300", "[]", "true"] {
        assert_eq!(ttl(bad), Err("`ttlSeconds` must be a whole number from 30 to 3600".into()), "{bad}");
    }
}

#[test]
fn api_01_all_of_register_is_read() {
    let key = "A".repeat(43);
    let body = json!({"name": "n", "identityPublicKey": key, "resumable": true}).to_string();
    let good = RegisterDaemon { name: Some("n".into()), identity_public_key: Some(key), resumable: Some(true) };
    assert_eq!(input(&body), Ok(good));
}

const NOW: u64 = 1_767_225_600;

fn answer(status: u16, body: &str) -> Result<Session, AnswerError> {
    decode_answer::<CreateSession>(status, None, body.as_bytes(), NOW)
}

#[test]
fn cli_05_a_success_is_read() {
    let session = Session { relay_url: "ws://relay.test".into(), token: "a.b.c".into() };
    let body = success_body(&session).unwrap();
    assert_eq!(body, br#"{"result":{"data":{"relayUrl":"ws://relay.test","token":"a.b.c"}}}"#);
    assert_eq!(answer(200, std::str::from_utf8(&body).unwrap()), Ok(session));
}

#[test]
fn cli_05_an_unreadable_200_is_told_apart() {
    let error = r#"{"error":{"message":"m","code":-32603,"data":{"code":"X","httpStatus":500,"path":""}}}"#;
    for body in ["", "<html></html>", "null", "{}", r#"{"result":{}}"#, error] {
        assert!(matches!(answer(200, body), Err(AnswerError::Unreadable(_))), "{body}");
    }
    let list = r#"["ws://x","a.b.c"]"#;
    for data in ["null", "{}", r#"{"relayUrl":"ws://x"}"#, r#"{"relayUrl":"ws://x","token":5}"#, list] {
        let body = format!(r#"{{"result":{{"data":{data}}}}}"#);
        assert!(matches!(answer(200, &body), Err(AnswerError::Unreadable(_))), "{body}");
    }
    // A list in the place of an object is none, however its members would fit.
    let good = r#"{"relayUrl":"ws://x","token":"a.b.c"}"#;
    for body in [format!(r#"[[{good}]]"#), format!(r#"{{"result":[{good}]}}"#), format!(r#"[{{"data":{good}}}]"#)] {
        assert!(matches!(answer(200, &body), Err(AnswerError::Unreadable(_))), "{body}");
    }
    let listed = decode_answer::<ListAccessible>(200, None, br#"{"result":{"data":[]}}"#, NOW);
    assert_eq!(listed, Ok(Vec::new()));
}

#[test]
fn cli_05_every_failure_of_the_table_is_read() {
    for code in ErrorCode::ALL {
        let body = serde_json::to_vec(&ErrorBody::new(*code, "why", "p")).unwrap();
        let error = ApiError {
            status: code.status(),
            code: code.name().into(),
            message: "why".into(),
            retry_after: Some(Duration::from_secs(2)),
        };
        let read = decode_answer::<CreateSession>(code.status(), Some("2"), &body, NOW);
        assert_eq!(read, Err(AnswerError::Refused(error)));
    }
}

#[test]
fn cli_05_a_failure_with_any_body_keeps_its_status() {
    for body in ["", "<html>502</html>", "[]", "7", r#"{"error":"x"}"#, r#"{"error":{"message":5}}"#] {
        for status in [204, 301, 400, 502] {
            let Err(AnswerError::Refused(error)) = answer(status, body) else { panic!("{status} {body}") };
            assert_eq!((error.status, error.code.as_str()), (status, ""));
            assert_eq!(error.message, format!("HTTP status {status} without an error that can be read"));
        }
    }
}

#[test]
fn cli_08_a_hostile_message_is_tamed() {
    let body = json!({"error": {"message": format!("\u{1b}[31m{}", "x".repeat(9_999))}}).to_string();
    let Err(AnswerError::Refused(error)) = answer(500, &body) else { panic!() };
    assert_eq!(error.message.chars().count(), 500);
    assert!(!error.message.contains('\u{1b}'));
}

#[test]
fn cli_06_retry_after_in_seconds_or_as_a_date() {
    let seconds = |value| retry_after(value, NOW).map(|wait| wait.as_secs());
    assert_eq!(seconds("0"), Some(0));
    assert_eq!(seconds(" 7 "), Some(7));
    assert_eq!(seconds("120"), Some(120));
    assert_eq!(seconds("121"), Some(120));
    assert_eq!(seconds("99999999999999999999999999"), Some(120));
    assert_eq!(seconds("Thu, 01 Jan 2026 00:00:30 GMT"), Some(30));
    assert_eq!(seconds("Thu, 01 Jan 2026 09:00:00 GMT"), Some(120));
    assert_eq!(seconds("Wed, 31 Dec 2025 23:59:59 GMT"), Some(0));
    for bad in ["", "-1", "1.5", "soon", "2s", "2026-01-01T00:00:30Z"] {
        assert_eq!(seconds(bad), None, "{bad}");
    }
}

#[test]
fn api_03_a_code_is_12_lower_case_letters() {
    let mut entropy = Counting(0);
    for _ in 0..200 {
        let code = QuickConnectCode::random(&mut entropy);
        let text = code.to_string();
        assert_eq!(text.len(), 14);
        for (at, byte) in text.bytes().enumerate() {
            assert!(if at == 4 || at == 9 { byte == b'-' } else { byte.is_ascii_lowercase() }, "{text}");
        }
        assert_eq!(text.parse::<QuickConnectCode>(), Ok(code.clone()));
        assert_eq!(serde_json::to_value(&code).unwrap(), Value::String(text));
    }
    for bad in
        ["", "abcdefghijkl", "abcd-efgh-ijk", "ABCD-efgh-ijkl", "abcd-efgh-ijk1", "abcde-fgh-ijkl", "-bcd-efgh-ijkl"]
    {
        assert_eq!(bad.parse::<QuickConnectCode>(), Err(ParseCodeError), "{bad}");
    }
}

#[test]
fn api_03_expires_at_is_iso_8601_utc() {
    assert_eq!(utc_text(NOW + 300), "2026-01-01T00:05:00Z");
    assert_eq!(utc_text(0), "1970-01-01T00:00:00Z");
    assert!(utc_text(u64::MAX).starts_with("9999-12-3"));
    assert_eq!(parse_utc("2026-01-01T00:05:00Z"), Some(NOW + 300));
    assert_eq!(parse_utc("2026-01-01T00:05:00.250Z"), Some(NOW + 300));
    assert_eq!(parse_utc("2026-01-01T01:05:00+01:00"), Some(NOW + 300));
    for bad in ["", "soon", "2026-01-01", "1969-12-31T00:00:00Z"] {
        assert_eq!(parse_utc(bad), None, "{bad}");
    }
}

#[test]
fn api_07_debug_hides_credentials() {
    let key = ApiKey::random(&mut Counting(1));
    let code = QuickConnectCode::random(&mut Counting(2));
    let redeem = RedeemQuickConnect { code: code.to_string() };
    let secret = || "s3cret".to_owned();
    let shown = format!(
        "{key:?} {code:?} {redeem:?} {:?} {:?} {:?} {:?} {:?}",
        Session { relay_url: "ws://r".into(), token: secret() },
        PresenceToken { presence_token: secret() },
        QuickConnect { code: secret(), url: secret(), expires_at: "e".into() },
        Redeemed { relay_url: "ws://r".into(), token: secret(), daemon_id: "d".into() },
        Registered { daemon_id: "d".into(), api_key: secret(), presence_token: secret() },
    );
    assert!(
        !shown.contains("s3cret") && !shown.contains(key.expose()) && !shown.contains(&code.to_string()),
        "{shown}"
    );
}

#[test]
fn api_02_an_api_key_has_its_prefix_and_enough_randomness() {
    let key = ApiKey::random(&mut Counting(3));
    let random = key.expose().strip_prefix("sbnd_dak_").unwrap();
    assert!(random.len() >= 32 && random.bytes().all(|b| b.is_ascii_alphanumeric()));
    assert_eq!(key.expose().parse::<ApiKey>().unwrap().expose(), key.expose());
    for bad in ["", "sbnd_dak_", "sbnd_dak_a b", "sbnd_uak_abc", "abc"] {
        assert!(bad.parse::<ApiKey>().is_err(), "{bad}");
    }
}

#[test]
fn api_07_secrets_match_only_if_they_are_the_same() {
    assert!(secrets_match(b"abc", b"abc"));
    for other in [&b"abd"[..], b"ab", b"abcd", b""] {
        assert!(!secrets_match(b"abc", other));
    }
}
