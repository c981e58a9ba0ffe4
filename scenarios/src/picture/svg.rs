//! The picture as SVG: needs nothing from outside, is light or dark as its reader's screen, and has its text as text.
//!
//! A small writer of our own: what is needed of XML is a dozen elements and one way to escape, and every text goes through it.

use std::fmt::Write;

use super::{
    layout::{Break, GUTTER, Layout, PAD, Placed, Tick, WRAPPED, text_width},
    model::{Column, ColumnKind, Model, Row, Shape, Style},
    style::{legend, mark, style},
    words,
};

/// The height of the heads of columns.
const HEAD: u32 = 46;
/// The height of the title.
const TITLE: u32 = 34;

/// Text for XML, between tags and within quotes. What XML 1.0 cannot hold becomes U+FFFD.
pub(super) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\t' | '\n' | '\r' => out.push(' '),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

/// The picture as a file.
pub fn render(model: &Model) -> String {
    let layout = Layout::new(model);
    let legend = legend(layout.width);
    let body = TITLE + HEAD;
    let height = body + layout.height + HEAD + legend.height + 8;
    let (title, about) = (escape(&model.title), escape(&model.description()));
    let mut out = Svg::default();
    out.line(format_args!(
        r#"<svg xmlns="http://www.w3.org/2000/svg" class="sb" width="{0}" height="{height}" viewBox="0 0 {0} {height}" role="img" aria-labelledby="sb-title sb-desc">"#,
        layout.width
    ));
    out.line(format_args!("<title id=\"sb-title\">{title}</title>\n<desc id=\"sb-desc\">{about}</desc>"));
    out.line(format_args!("<style>{}</style>", style()));
    out.line(format_args!(r#"<rect class="ground" width="{}" height="{height}"/>"#, layout.width));
    out.line(format_args!(r#"<text class="ink title" x="14" y="23">{title}</text>"#));
    out.line(format_args!(r#"<g transform="translate(0 {TITLE})">"#));
    heads(&mut out, model, &layout);
    out.line(format_args!("</g>\n<g transform=\"translate(0 {body})\">"));
    rows(&mut out, model, &layout, false);
    out.line(format_args!("</g>\n<g transform=\"translate(0 {})\">", body + layout.height));
    heads(&mut out, model, &layout);
    out.line(format_args!("</g>\n<g transform=\"translate(0 {})\">", body + layout.height + HEAD));
    out.0.push_str(&legend.text);
    out.line(format_args!("</g>\n</svg>"));
    out.0
}

/// The picture in parts for a page: heads, rows and legend, each an element of its own, without a style. Rows carry what filters
/// need.
pub(super) struct Parts {
    pub(super) heads: String,
    pub(super) rows: String,
    pub(super) legend: String,
}

pub(super) fn parts(model: &Model) -> Parts {
    let layout = Layout::new(model);
    let open = |out: &mut Svg, id: &str, height: u32, label: &str| {
        let width = layout.width;
        out.line(format_args!(
            r#"<svg id="{id}" class="sb" width="{width}" height="{height}" viewBox="0 0 {width} {height}" role="img" aria-label="{}">"#,
            escape(label)
        ));
    };
    let (mut top, mut body, mut foot) = (Svg::default(), Svg::default(), Svg::default());
    open(&mut top, "heads", HEAD, "hosts");
    heads(&mut top, model, &layout);
    top.line(format_args!("</svg>"));
    open(&mut body, "rows", layout.height, &model.description());
    rows(&mut body, model, &layout, true);
    body.line(format_args!("</svg>"));
    let legend = legend(layout.width);
    open(&mut foot, "legend", legend.height, "legend");
    foot.0.push_str(&legend.text);
    foot.line(format_args!("</svg>"));
    Parts { heads: top.0, rows: body.0, legend: foot.0 }
}

/// Lines of text.
#[derive(Default)]
pub(super) struct Svg(pub(super) String);

impl Svg {
    pub(super) fn line(&mut self, line: std::fmt::Arguments<'_>) {
        // Writing to a string cannot fail.
        let _ = self.0.write_fmt(line);
        self.0.push('\n');
    }
}

fn heads(out: &mut Svg, model: &Model, layout: &Layout) {
    let room = layout.columns.windows(2).map(|pair| pair[1] - pair[0]).min().unwrap_or(200) - 16;
    for (column, x) in model.columns.iter().zip(&layout.columns) {
        let kind = match column.kind {
            ColumnKind::Client => "client",
            ColumnKind::Relay => "relay",
            ColumnKind::Daemon => "daemon",
            ColumnKind::Api => "api",
        };
        let name = super::layout::fit(&column.name, (room - 12) * 10 / 13);
        let about = super::layout::fit(about(column, kind), room - 12);
        let width = (text_width(&name) * 13 / 10).max(text_width(&about)).max(70) + 20;
        let left = x.saturating_sub(width / 2);
        out.line(format_args!(
            r#"<g class="head"><title>{}</title><rect class="k-{kind} box thin" x="{left}" y="4" width="{width}" height="36" rx="6"/><text class="ink name mid" x="{x}" y="{}">{}</text><text class="dim small mid" x="{x}" y="34">{}</text></g>"#,
            escape(&format!("{} {} {}", kind, column.name, column.about)),
            if about.is_empty() { 27 } else { 20 },
            escape(&name),
            escape(&about),
        ));
    }
}

/// What stands below a host's name: what it is, if the name does not say it.
fn about<'t>(column: &'t Column, kind: &'t str) -> &'t str {
    match column.about.as_str() {
        "" if column.name == kind => "",
        "" => kind,
        about => about,
    }
}

fn rows(out: &mut Svg, model: &Model, layout: &Layout, page: bool) {
    let bottom = layout.height;
    for x in &layout.columns {
        out.line(format_args!(r#"<path class="life thin" d="M{x} 0V{bottom}"/>"#));
    }
    for bar in &model.bars {
        let Some(x) = layout.columns.get(bar.column) else { continue };
        let line = |event: usize| layout.events.get(event).copied().unwrap_or(bottom);
        let (from, to) = (line(bar.from), bar.to.map_or(bottom, line));
        // Two things of one moment may stand on one line.
        let height = to.saturating_sub(from).max(3);
        let name = bar.state.name();
        out.line(format_args!(
            r#"<rect class="bar b-{name}" x="{}" y="{from}" width="10" height="{height}" rx="2"><title>{}: {name}</title></rect>"#,
            x - 5,
            escape(&model.columns[bar.column].name),
        ));
    }
    for Break { y, label } in &layout.breaks {
        let right = layout.width;
        out.line(format_args!(
            r#"<rect class="ground" x="0" y="{}" width="{right}" height="9"/><path class="quiet thin dash" d="M{GUTTER} {}H{right}M{GUTTER} {}H{right}"/><text class="dim time" x="{}" y="{}">{}</text><path class="quiet line" d="M{} {y}l4 -5 4 10 4 -10 4 5"/>"#,
            y - 4,
            y - 4,
            y + 5,
            GUTTER - 26,
            y + 4,
            escape(label),
            GUTTER - 22,
        ));
    }
    let mut last: Option<u32> = None;
    for Tick { y, at } in &layout.ticks {
        if last.is_none_or(|last| y - last >= 12) {
            out.line(format_args!(
                r#"<text class="dim time" x="{}" y="{}">{}</text>"#,
                GUTTER - 8,
                y + 3,
                words::moment(*at)
            ));
            last = Some(*y);
        }
    }
    for placed in &layout.placed {
        if let Some(row) = model.rows.get(placed.row) {
            self::row(out, model, layout, placed, row, page);
        }
    }
    if model.left_out > 0 {
        let y = layout.height - 6;
        out.line(format_args!(
            r#"<text class="m-bad" x="{GUTTER}" y="{y}">{} further rows are not drawn</text>"#,
            model.left_out
        ));
    }
}

fn row(out: &mut Svg, model: &Model, layout: &Layout, placed: &Placed, row: &Row, page: bool) {
    let (label, y) = (escape(&placed.label.join(" ")), placed.y);
    let at = |column: usize| layout.columns.get(column).copied().unwrap_or(GUTTER);
    let (class, full) = match &row.shape {
        Shape::Arrow(arrow) => (format!("arrow {}", arrow.style.name()), &arrow.label),
        Shape::Note { tone, label, .. } => (format!("note {}", tone.name()), label),
        Shape::Band { tone, label } => (format!("band {}", tone.name()), label),
    };
    let when = match row.until {
        until if until > row.at => format!("{} to {}", words::moment(row.at), words::moment(until)),
        _ => words::moment(row.at),
    };
    let data = if page { data(model, row, y) } else { String::new() };
    let hint = match &row.shape {
        Shape::Arrow(arrow) => {
            let name = |column: usize| model.columns.get(column).map_or("", |column| column.name.as_str());
            let way = if arrow.both { "and" } else { "to" };
            format!("{when}, {} {way} {}: {full}", name(arrow.from), name(arrow.to))
        }
        Shape::Note { .. } | Shape::Band { .. } => format!("{when}: {full}"),
    };
    out.line(format_args!(r#"<g class="row {class}"{data}><title>{}</title>"#, escape(&hint)));
    match &row.shape {
        Shape::Arrow(arrow) => {
            let class = if arrow.bad { "a-bad" } else { stroke(arrow.style) };
            let dash = if arrow.bad || arrow.style == Style::Ping { " dash" } else { "" };
            let (from, to) = (at(arrow.from), at(arrow.to));
            let right = to >= from;
            // Outside of the bars.
            let (from, to) = if right { (from + 6, to.saturating_sub(7)) } else { (from.saturating_sub(6), to + 7) };
            let head = |out: &mut String, x: u32, right: bool| {
                let step = if right { "-8" } else { "8" };
                // Writing to a string cannot fail.
                let _ = write!(out, r#"<path class="h {class}" d="M{x} {y}l{step} -4v8z"/>"#);
            };
            let mut heads = String::new();
            head(&mut heads, to, right);
            if arrow.both {
                head(&mut heads, from, !right);
            }
            if arrow.bad {
                let x = if right { to.saturating_sub(14) } else { to + 14 };
                let _ =
                    write!(heads, r#"<path class="a-bad line" d="M{} {}l8 8m0 -8l-8 8"/>"#, x.saturating_sub(4), y - 4);
            }
            out.line(format_args!(
                r#"<path class="line {class}{dash}" d="M{from} {y}H{to}"/>{heads}<text class="ink halo" x="{}" y="{}">{label}</text>"#,
                placed.x,
                y - 5
            ));
        }
        Shape::Note { column, tone, .. } => {
            let x = at(*column);
            let width = placed.label.iter().map(|line| text_width(line)).max().unwrap_or(0).min(placed.width) + 2 * PAD;
            let (name, left, top) = (tone.name(), placed.x - PAD, y - 9);
            let height = 17 + WRAPPED * (placed.label.len() as u32).saturating_sub(1);
            out.line(format_args!(
                r#"<rect class="n-{name} s-{name} thin" x="{left}" y="{top}" width="{width}" height="{height}" rx="4"/>"#
            ));
            for (n, line) in (0_u32..).zip(&placed.label) {
                let baseline = y + 4 + WRAPPED * n;
                out.line(format_args!(r#"<text class="ink" x="{}" y="{baseline}">{}</text>"#, placed.x, escape(line)));
            }
            out.0.push_str(&mark(*tone, x, y));
        }
        Shape::Band { tone, .. } => {
            let width = placed.label.iter().map(|line| text_width(line)).max().unwrap_or(0) + 2 * PAD;
            out.line(format_args!(
                r#"<path class="line dash s-{0}" d="M{GUTTER} {y}H{1}"/><rect class="n-{0} s-{0} thin" x="{2}" y="{3}" width="{width}" height="18" rx="4"/><text class="ink" x="{4}" y="{5}">{label}</text>{6}"#,
                tone.name(),
                layout.width - 8,
                placed.x - PAD,
                y - 9,
                placed.x,
                y + 4,
                mark(*tone, placed.x - PAD - 10, y),
            ));
        }
    }
    out.line(format_args!("</g>"));
}

const fn stroke(style: Style) -> &'static str {
    match style {
        Style::Handshake => "a-handshake",
        Style::Data => "a-data",
        Style::Ping => "a-ping",
        Style::Signal => "a-signal",
        Style::Control => "a-control",
        Style::Http => "a-http",
        Style::Socket => "a-socket",
    }
}

/// What filters need, as attributes: the events, the time, the hosts.
fn data(model: &Model, row: &Row, y: u32) -> String {
    let events: Vec<String> = row.events.iter().map(usize::to_string).collect();
    let mut hosts: Vec<usize> = match &row.shape {
        Shape::Arrow(arrow) => vec![arrow.from, arrow.to],
        Shape::Note { column, .. } => vec![*column],
        Shape::Band { .. } => (0..model.columns.len()).collect(),
    };
    hosts.sort_unstable();
    let hosts: Vec<String> = hosts.iter().map(usize::to_string).collect();
    format!(
        r#" data-e="{}" data-h="{}" data-at="{}" data-to="{}" data-y="{y}" tabindex="0""#,
        events.join(" "),
        hosts.join(" "),
        row.at,
        row.until
    )
}
