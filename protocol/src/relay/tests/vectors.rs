//! `tests/vectors/sbrp_invalid.json`: what a relay refuses, by an independent implementation.

use data_encoding::HEXLOWER;
use serde::Deserialize;

use super::*;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(rename = "about")]
    _about: String,
    #[serde(rename = "seed")]
    _seed: String,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    sender: Sender,
    sender_session: SessionId,
    bytes: String,
    expect: Expect,
}

#[derive(Deserialize, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
enum Sender {
    Client,
    Daemon,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Expect {
    code: String,
    session_id: String,
    closes: bool,
}

#[test]
fn wire_11_to_17_known_answers() {
    let text = include_str!("../../../../tests/vectors/sbrp_invalid.json");
    let file: File = serde_json::from_str(text).unwrap();
    assert_eq!(file.cases.len(), 45);
    for Case { name, sender, sender_session, bytes, expect } in file.cases {
        let mut bench = Bench::online();
        bench.hub.handle_client_open(CLIENT, sender_session, None, at(0)).unwrap();
        bench.take();
        let conn = match sender {
            Sender::Client => CLIENT,
            Sender::Daemon => DAEMON,
        };
        let done = bench.message(conn, HEXLOWER.decode(bytes.as_bytes()).unwrap().into(), at(1));

        let code = *ControlCode::ALL.iter().find(|code| code.name() == expect.code).expect("a code of the table");
        let id = u64::from_str_radix(&expect.session_id, 16).unwrap();
        let mut expected = vec![control(conn, code, id)];
        if expect.closes {
            expected.push(Done::Close(conn, code.close_code()));
        }
        // REL-01: the other side is told at once.
        expected.push(match sender {
            Sender::Client => control(DAEMON, ControlCode::SessionEnded, sender_session.get()),
            Sender::Daemon => control(CLIENT, ControlCode::SessionPaused, sender_session.get()),
        });
        assert_eq!(done, expected, "{name}");
    }
}
