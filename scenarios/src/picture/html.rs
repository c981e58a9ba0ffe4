//! The picture as one HTML page: filter by host, session, kind and text, zoom, and a table of events that is linked to the picture.
//!
//! It needs nothing from outside and may reach nothing: its policy allows its one script and its one style, by their hashes. The
//! events stand in it as JSON in which nothing can end the element; the script writes them as text only. Without a script the
//! picture is still there.

use data_encoding::BASE64;
use serde_json::json;
use sha2::{Digest, Sha256};

use super::{
    model::Model,
    style::style,
    svg::{escape, parts},
};

const SCRIPT: &str = include_str!("page.js");
const STYLE: &str = include_str!("page.css");

/// The picture as a page.
pub fn render(model: &Model) -> String {
    let parts = parts(model);
    let style = format!("{STYLE}{}", style());
    let policy = format!(
        "default-src 'none'; script-src '{}'; style-src '{}'; base-uri 'none'; form-action 'none'",
        hash(SCRIPT),
        hash(&style)
    );
    let events: Vec<_> = model
        .lines
        .iter()
        .map(|line| json!([line.at, line.host, line.session.as_deref().unwrap_or_default(), line.kind, line.text]))
        .collect();
    let data = embed(&json!({ "events": events }).to_string());
    let (title, about) = (escape(&model.title), escape(&model.description()));
    let policy = escape(&policy);
    let (heads, rows, legend) = (parts.heads, parts.rows, parts.legend);
    format!(
        r#"<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="referrer" content="no-referrer">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<header>
<h1>{title}</h1>
<p>{about}</p>
<form id="filters">
<label>Host <select id="host"><option value="">all</option></select></label>
<label>Session <select id="session"><option value="">all</option></select></label>
<label>Kind <select id="kind"><option value="">all</option></select></label>
<label>Text <input id="text" type="search"></label>
<label>From <input id="from" type="number" min="0" step="any"> s</label>
<label>To <input id="to" type="number" min="0" step="any"> s</label>
<span><button id="in" type="button">Larger</button> <button id="out" type="button">Smaller</button> <button type="reset">Reset</button></span>
<span id="count" role="status"></span>
</form>
</header>
<main>
<section id="picture" aria-label="Sequence diagram">
<div id="top">{heads}</div>
{rows}{legend}</section>
<section id="table" aria-label="Events">
<table>
<thead><tr><th scope="col">s</th><th scope="col">Host</th><th scope="col">Session</th><th scope="col">Kind</th><th scope="col">What</th></tr></thead>
<tbody id="events"></tbody>
</table>
<button id="more" type="button" hidden>More</button>
</section>
</main>
<script type="application/json" id="trace">{data}</script>
<script>{SCRIPT}</script>
</body>
</html>
"#
    )
}

/// A hash as a policy names it.
fn hash(text: &str) -> String {
    format!("sha256-{}", BASE64.encode(&Sha256::digest(text)))
}

/// JSON that can stand in a `<script>`: nothing in it can be taken for a tag, a comment, or the end of a line.
fn embed(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        match c {
            '<' => out.push_str("\\u003c"),
            '>' => out.push_str("\\u003e"),
            '&' => out.push_str("\\u0026"),
            '\u{2028}' => out.push_str("\\u2028"),
            '\u{2029}' => out.push_str("\\u2029"),
            c => out.push(c),
        }
    }
    out
}
