//! Where everything stands: columns side by side, time downwards, quiet stretches short, and no label over another.
//!
//! Whole pixels only, and no measuring of fonts: a label is as wide as its characters are at most, so the picture is the same
//! everywhere.

use super::{
    model::{Model, Row, Shape},
    words,
};

/// Left of the first column: times.
pub(super) const GUTTER: u32 = 92;
/// Above the first row.
pub(super) const TOP: u32 = 18;
/// From one line to the next.
const LINE: u32 = 26;
/// A stretch in which nothing happens for this long, in milliseconds, is broken.
const QUIET: u64 = 2_000;
/// The height of a break.
const BREAK: u32 = 34;
/// What a pause below that adds for each 100 ms, in pixels.
const STRETCH: u32 = 1;
/// The width of a character at most, in tenths of a pixel.
const CHARACTER: u32 = 64;
/// From one line of a note to the next.
pub(super) const WRAPPED: u32 = 13;
/// Most lines of a note.
const MOST_LINES: usize = 4;
/// Between a label and what is around it.
pub(super) const PAD: u32 = 6;

/// A row in its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Placed {
    /// The row, by its place in the model.
    pub(super) row: usize,
    /// Its line, in pixels from the top.
    pub(super) y: u32,
    /// Where its label begins, and how wide it may be.
    pub(super) x: u32,
    pub(super) width: u32,
    /// The lines of the label, as far as there is room; only a note has several.
    pub(super) label: Vec<String>,
}

/// A stretch that is not drawn to scale.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Break {
    pub(super) y: u32,
    /// What stands at it.
    pub(super) label: String,
}

/// A time in the gutter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Tick {
    pub(super) y: u32,
    pub(super) at: u64,
}

/// The whole picture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Layout {
    pub(super) width: u32,
    pub(super) height: u32,
    /// The middle of each column.
    pub(super) columns: Vec<u32>,
    pub(super) placed: Vec<Placed>,
    pub(super) breaks: Vec<Break>,
    pub(super) ticks: Vec<Tick>,
    /// The line of each event, by its place in the model.
    pub(super) events: Vec<u32>,
}

/// How wide a text is at most.
pub(super) fn text_width(text: &str) -> u32 {
    text.chars().map(|c| if c.is_ascii() { CHARACTER } else { 2 * CHARACTER }).sum::<u32>() / 10
}

/// As much of a text as fits.
pub(super) fn fit(text: &str, width: u32) -> String {
    let mut most = text.chars().count();
    while most > 1 && text_width(&words::shorten(text, most)) > width {
        most -= 1;
    }
    words::shorten(text, most)
}

/// A text in lines of this width, broken between words; what does not fit into [`MOST_LINES`] is left out.
fn wrap(text: &str, width: u32) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if text_width(line) + text_width(" ") + text_width(word) <= width => {
                line.push(' ');
                line.push_str(word);
            }
            Some(_) | None => lines.push(fit(word, width)),
        }
    }
    if lines.len() > MOST_LINES {
        let rest = lines.split_off(MOST_LINES - 1).join(" ");
        lines.push(fit(&rest, width));
    }
    lines
}

impl Layout {
    pub(super) fn new(model: &Model) -> Self {
        let spacing = match model.columns.len() {
            0..=6 => 250,
            7..=12 => 190,
            _ => 150,
        };
        let count = model.columns.len() as u32;
        let columns: Vec<u32> = (0..count).map(|n| GUTTER + spacing / 3 + n * spacing).collect();
        let width = columns.last().map_or(GUTTER + spacing, |last| last + spacing);
        let mut layout = Self {
            width,
            height: 0,
            columns,
            placed: Vec::with_capacity(model.rows.len()),
            breaks: Vec::new(),
            ticks: Vec::new(),
            events: vec![0; model.lines.len()],
        };
        layout.place(model, spacing);
        layout
    }

    fn place(&mut self, model: &Model, spacing: u32) {
        let mut y = TOP + LINE;
        let mut last: Option<&Row> = None;
        // What the current line has, in pixels from the left.
        let mut taken: Vec<(u32, u32)> = Vec::new();
        // What the current line needs below itself.
        let mut below = 0;
        for (n, row) in model.rows.iter().enumerate() {
            let (x, room, from, to) = self.extent(row, spacing);
            if let Some(last) = last {
                let apart = row.at.saturating_sub(last.at);
                let free = taken.iter().all(|(left, right)| to <= *left || from >= *right);
                if apart >= QUIET {
                    self.breaks.push(Break { y: y + below + (LINE + BREAK) / 2 - 4, label: words::span(apart) });
                    y += below + LINE + BREAK;
                    (taken, below) = (Vec::new(), 0);
                } else if apart > 0 || !free {
                    y += below + LINE + (apart / 100) as u32 * STRETCH;
                    (taken, below) = (Vec::new(), 0);
                }
            }
            taken.push((from, to));
            if self.ticks.last().is_none_or(|tick| tick.at != row.at) {
                self.ticks.push(Tick { y, at: row.at });
            }
            let label = match &row.shape {
                Shape::Arrow(arrow) => &arrow.label,
                Shape::Note { label, .. } | Shape::Band { label, .. } => label,
            };
            let label = match row.shape {
                Shape::Note { .. } => wrap(label, room),
                Shape::Arrow(_) | Shape::Band { .. } => vec![fit(label, room)],
            };
            below = below.max(WRAPPED * (label.len() as u32).saturating_sub(1));
            self.placed.push(Placed { row: n, y, x, width: room, label });
            for event in &row.events {
                if let Some(place) = self.events.get_mut(*event) {
                    *place = y;
                }
            }
            last = Some(row);
        }
        self.height = y + below + LINE;
        // An event without a row of its own stands where the one before it does.
        let mut before = TOP;
        for place in &mut self.events {
            if *place < before {
                *place = before;
            }
            before = *place;
        }
    }

    /// Where a row's label begins, how wide it may be, and from where to where the row reaches.
    fn extent(&self, row: &Row, spacing: u32) -> (u32, u32, u32, u32) {
        let at = |column: usize| self.columns.get(column).copied().unwrap_or(GUTTER);
        match &row.shape {
            Shape::Arrow(arrow) => {
                let (left, right) = (at(arrow.from).min(at(arrow.to)), at(arrow.from).max(at(arrow.to)));
                // At the sender's side, between its line and the next: or as far as there is a way, if that is too short.
                let way = right.saturating_sub(left).max(spacing);
                let room = way.saturating_sub(2 * PAD + 16);
                let label = text_width(&arrow.label).min(room);
                let near = spacing.saturating_sub(2 * PAD + 16);
                let begin = if label > near {
                    left + PAD + 8
                } else if arrow.from < arrow.to || arrow.both {
                    left + (spacing - label) / 2
                } else {
                    right.saturating_sub(spacing) + (spacing - label) / 2
                };
                (begin, room, left.min(begin), right.max(begin + label))
            }
            Shape::Note { column, label, .. } => {
                let x = at(*column) + 10;
                let room = spacing - 30;
                let width = text_width(label).min(room);
                (x + PAD, room, at(*column) - 8, x + width + 2 * PAD + 4)
            }
            Shape::Band { .. } => {
                let x = at(0) + 28;
                (x, self.width.saturating_sub(x + 30), 0, self.width)
            }
        }
    }
}
