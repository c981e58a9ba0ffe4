//! What a wrong plan is answered with. Each text is wrong in one way; the snapshot shows the words and the place.

use std::fmt::Write as _;

use super::*;

fn refusals(format: Format, cases: &[(&str, String)]) -> String {
    let mut list = String::new();
    for (name, text) in cases {
        let error = FaultPlan::parse(text, format).expect_err(name);
        writeln!(list, "{name}:\n    {error}").unwrap();
    }
    list
}

#[test]
fn toml_errors_name_the_line() {
    let on = |on: &str, rest: &str| format!("seed = 1\n\n[[fault]]\non = \"{on}\"\n{rest}\n");
    let cases = [
        ("syntax", "seed = 1\nfault = [[\n".to_owned()),
        ("twice the same member", "seed = 1\nseed = 2\n".to_owned()),
        ("unknown member of a rule", on("api.request", "proc = \"x\"\ndo = \"cut\"")),
        ("member in camel case", on("api.request", "do = { status = 503, retryAfter = \"2s\" }")),
        ("no do", on("api.request", "")),
        ("unknown on", on("api.requests", "do = \"cut\"")),
        ("seed is a text", "seed = \"7\"\n".to_owned()),
        ("seed too large", "seed = 9223372036854775808\n".to_owned()),
        ("negative number", on("api.request", "skip = -1\ndo = \"cut\"")),
        ("date", on("api.request", "from = 2026-01-01\ndo = \"cut\"")),
        ("no time", on("api.request", "do = { delay = \"soon\" }")),
        ("time too long", on("api.request", "do = { delay = \"169h\" }")),
        ("times 0", on("api.request", "times = 0\ndo = \"cut\"")),
        ("probability nan", on("api.request", "probability = nan\ndo = \"cut\"")),
        ("action not possible there", on("api.request", "do = \"ghost\"")),
        ("the same in a table", on("relay.frame", "skip = 1\n[fault.do]\nclock_shift = \"2m\"")),
        ("filter not possible there", on("relay.upgrade", "frame = \"data\"\ndo = \"cut\"")),
        ("two actions", on("api.request", "do = { status = 503,\n  delay = \"2s\" }")),
        ("no action", on("api.request", "do = {}")),
        ("companion of another", on("api.request", "do = { delay = \"2s\", retry_after = \"1s\" }")),
        ("text that needs a value", on("api.request", "do = \"status\"")),
        ("false flag", on("api.request", "do = { cut = false }")),
        ("status out of range", on("api.request", "do = { status = 100 }")),
        ("part of a second", on("api.request", "do = { status = 429, retry_after = \"1500ms\" }")),
        ("unknown procedure", on("api.request", "procedure = \"relay.create\"\ndo = \"cut\"")),
        ("unknown Control", on("relay.frame", "do = { control = \"session_lost\" }")),
        ("close code", on("relay.connection", "do = { close = 1006 }")),
        ("hard with overlap", on("keys", "do = { rotate = \"hard\", overlap = \"5m\" }")),
        ("cut at signing", on("keys", "usage = \"sign\"\ndo = \"cut\"")),
        ("bad id", on("api.request", "id = \"a b\"\ndo = \"cut\"")),
        ("the same id twice", "[[fault]]\nid = \"a\"\non = \"keys\"\ndo = \"cut\"\n".repeat(2)),
    ];
    insta::assert_snapshot!("toml_errors_name_the_line", refusals(Format::Toml, &cases));
}

#[test]
fn json_errors_name_the_line() {
    let cases = [
        ("syntax", "{\n  \"seed\": 1,\n}".to_owned()),
        ("no object", "[1, 2]".to_owned()),
        ("twice the same member", "{\n  \"seed\": 1,\n  \"seed\": 2\n}".to_owned()),
        ("unknown member", "{\n  \"seed\": 1, \"fualt\": []\n}".to_owned()),
        (
            "snake case",
            "{\"fault\": [\n  {\"on\": \"keys\", \"do\": {\"status\": 503, \"retry_after\": \"2s\"}}]}".to_owned(),
        ),
        (
            "second rule",
            "{\"fault\": [{\"on\": \"keys\", \"do\": \"cut\"},\n {\"on\": \"keys\",\n\"do\": {\"ghost\": true}}]}"
                .to_owned(),
        ),
        ("no do", "{\"fault\": [\n  {\"on\": \"keys\"}\n]}".to_owned()),
        ("too deep", format!("{{\n\"seed\": {}1{}}}", "[".repeat(20), "]".repeat(20))),
        ("much too deep", "[".repeat(100_000)),
    ];
    insta::assert_snapshot!("json_errors_name_the_line", refusals(Format::Json, &cases));
}
