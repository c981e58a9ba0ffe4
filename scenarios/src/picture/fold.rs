//! Frames that are equal but for their bytes, in a row, become one row: `12 × data`; so do calls that end alike.
//!
//! A fold never goes past something else that happens in its session or at its hosts: what is drawn below it did not happen before.

use std::collections::BTreeMap;

use super::{
    model::{Arrow, Row, Shape, Style, Tone},
    words::{size, span},
};

/// Data further apart than this, in milliseconds, are not folded.
const DATA_APART: u64 = 2_500;
/// Pings further apart than this, in milliseconds, are not folded; they come every 45 s (CLI-13).
const PINGS_APART: u64 = 60_000;

/// What may become one row: the two columns, the session, what it is, and its words if they must be the same.
type Alike = (usize, usize, Option<String>, Style, Option<String>);

struct Open {
    /// The row in the result.
    row: usize,
    /// From the left to the right, and from the right to the left.
    counts: [u64; 2],
    bytes: u64,
}

/// The rows with equal frames in a row as one.
pub(super) fn fold(rows: Vec<Drawn>) -> Vec<Row> {
    let mut out: Vec<Row> = Vec::with_capacity(rows.len());
    let mut open: BTreeMap<Alike, Open> = BTreeMap::new();
    let mut folded: Vec<Open> = Vec::new();
    for Drawn { row, bytes } in rows {
        let Some(alike) = alike(&row) else {
            close(&row, &mut open, &mut folded);
            out.push(row);
            continue;
        };
        let (apart, way) = match &row.shape {
            Shape::Arrow(arrow) if arrow.style == Style::Ping => (PINGS_APART, usize::from(arrow.from > arrow.to)),
            Shape::Arrow(arrow) => (DATA_APART, usize::from(arrow.from > arrow.to)),
            Shape::Note { .. } | Shape::Band { .. } => (DATA_APART, 0),
        };
        if let Some(fold) = open.get_mut(&alike)
            && let Some(first) = out.get_mut(fold.row)
            && row.at.saturating_sub(first.until) <= apart
        {
            first.until = row.at;
            first.events.extend(row.events);
            fold.counts[way] += 1;
            fold.bytes += bytes;
            continue;
        }
        let mut counts = [0, 0];
        counts[way] = 1;
        folded.extend(open.insert(alike, Open { row: out.len(), counts, bytes }));
        out.push(row);
    }
    folded.extend(open.into_values());
    for fold in folded {
        if let Some(row) = out.get_mut(fold.row) {
            tell(row, &fold);
        }
    }
    out
}

/// A row that may be folded, and the bytes of its frame.
pub(super) struct Drawn {
    pub(super) row: Row,
    pub(super) bytes: u64,
}

fn alike(row: &Row) -> Option<Alike> {
    if let Shape::Note { column, tone: Tone::Call, label } = &row.shape {
        return Some((*column, *column, None, Style::Http, Some(label.clone())));
    }
    let Shape::Arrow(Arrow { from, to, style, bad, label, .. }) = &row.shape else { return None };
    if !matches!(style, Style::Data | Style::Ping) {
        return None;
    }
    Some((*from.min(to), *from.max(to), row.session.clone(), *style, bad.then(|| label.clone())))
}

/// Ends the folds that this row would be drawn below although it may have happened in between.
fn close(row: &Row, open: &mut BTreeMap<Alike, Open>, folded: &mut Vec<Open>) {
    let stays = |(left, right, session, ..): &Alike| match &row.shape {
        Shape::Band { .. } => false,
        Shape::Note { column, .. } => {
            (row.session.is_none() || row.session != *session) && column != left && column != right
        }
        Shape::Arrow(arrow) => match &row.session {
            Some(_) => row.session != *session,
            None => ![arrow.from, arrow.to].iter().any(|end| end == left || end == right),
        },
    };
    let closed: Vec<Alike> = open.keys().filter(|alike| !stays(alike)).cloned().collect();
    folded.extend(closed.iter().filter_map(|alike| open.remove(alike)));
}

fn tell(row: &mut Row, fold: &Open) {
    let [right, left] = fold.counts;
    if right + left < 2 {
        return;
    }
    let over = row.until - row.at;
    let arrow = match &mut row.shape {
        Shape::Arrow(arrow) => arrow,
        Shape::Note { label, .. } => return *label = format!("{} × {label}", right + left),
        Shape::Band { .. } => return,
    };
    if right > 0 && left > 0 {
        // Drawn from the left, whoever began.
        (arrow.from, arrow.to) = (arrow.from.min(arrow.to), arrow.from.max(arrow.to));
        arrow.both = true;
    }
    let session = row.session.as_ref().map(|session| format!("{session} ")).unwrap_or_default();
    let what = match arrow.style {
        _ if arrow.bad => return arrow.label = format!("{} × {}", right + left, arrow.label),
        Style::Ping if arrow.both => "ping, pong",
        style => style.name(),
    };
    let ways =
        if arrow.both && arrow.style != Style::Ping { format!(" (→ {right}, ← {left})") } else { String::new() };
    let bytes = if arrow.style == Style::Ping { String::new() } else { format!(" {}", size(fold.bytes)) };
    arrow.label = format!("{session}{} × {what}{ways}{bytes}", right + left);
    if over > 0 {
        arrow.label.push_str(&format!(" in {}", span(over)));
    }
}
