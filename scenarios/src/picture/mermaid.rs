//! The picture as Mermaid text (`sequenceDiagram`), for readmes and issues.

use std::fmt::Write;

use super::{
    model::{Model, Shape, Tone},
    words,
};

/// Most characters of a text: the description of a picture with many hosts is the longest.
const MAX_TEXT: usize = 600;
/// A stretch in which nothing happens for this long, in milliseconds, gets a note.
const QUIET: u64 = 2_000;

/// The picture as Mermaid text.
pub fn render(model: &Model) -> String {
    let mut out = String::new();
    // Writing to a string cannot fail; a front matter could not be escaped, so the title is a note of its own.
    let _ = writeln!(
        out,
        "sequenceDiagram\n    accTitle: {}\n    accDescr: {}",
        escape(&model.title),
        escape(&model.description())
    );
    for (n, column) in model.columns.iter().enumerate() {
        let about = if column.about.is_empty() { String::new() } else { format!(" ({})", column.about) };
        let _ = writeln!(out, "    participant h{n} as {}", escape(&format!("{}{about}", column.name)));
    }
    let all = match model.columns.len() {
        0 => return out,
        1 => "h0".to_owned(),
        count => format!("h0,h{}", count - 1),
    };
    let (mut last, mut covered): (Option<u64>, u64) = (None, 0);
    for row in &model.rows {
        if let Some(last) = last.filter(|last| row.at.saturating_sub(*last) >= QUIET) {
            let quiet = row.at.saturating_sub(covered.max(last));
            if quiet >= QUIET {
                let _ = writeln!(out, "    Note over {all}: … {} quiet …", words::span(quiet));
            }
        }
        let time = if last == Some(row.at) { String::new() } else { format!("{} ", words::moment(row.at)) };
        let _ = match &row.shape {
            Shape::Arrow(arrow) => {
                let line = match (arrow.bad, arrow.both) {
                    (true, _) => "--x",
                    (false, true) => "<<->>",
                    (false, false) => "->>",
                };
                writeln!(out, "    h{}{line}h{}: {}", arrow.from, arrow.to, escape(&format!("{time}{}", arrow.label)))
            }
            Shape::Note { column, tone, label } => {
                writeln!(out, "    Note over h{column}: {}", escape(&format!("{time}{}{label}", sign(*tone))))
            }
            Shape::Band { tone, label } => {
                writeln!(out, "    Note over {all}: {}", escape(&format!("{time}{}{label}", sign(*tone))))
            }
        };
        last = Some(row.at);
        covered = covered.max(row.until);
    }
    if model.left_out > 0 {
        let _ = writeln!(out, "    Note over {all}: {} further rows are not drawn", model.left_out);
    }
    out
}

const fn sign(tone: Tone) -> &'static str {
    match tone {
        Tone::Fault => "FAULT ",
        Tone::Grade => "BROKEN RULE ",
        Tone::Step => "STEP ",
        Tone::Bad | Tone::Report | Tone::Call | Tone::Info => "",
    }
}

/// Text that Mermaid takes as text: one line, and what means something to it (or to HTML behind it) by number.
fn escape(text: &str) -> String {
    let mut out = String::new();
    for c in words::shorten(text, MAX_TEXT).chars() {
        match c {
            '#' | ';' | '<' | '>' | '"' | '\'' | '&' | '%' | '`' | '\\' | '{' | '}' | '[' | ']' | '|' | '$' => {
                let _ = write!(out, "#{};", u32::from(c));
            }
            c => out.push(c),
        }
    }
    // A line that is the word `end` would end what was never begun.
    out.split(' ')
        .map(|word| if word.eq_ignore_ascii_case("end") { "#101;nd" } else { word })
        .collect::<Vec<_>>()
        .join(" ")
}
