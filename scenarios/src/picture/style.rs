//! What the picture is drawn with: colours for a light and a dark ground, signs, and the legend that explains them.

use std::fmt::Write;

use super::{
    layout::text_width,
    model::{BarState, Tone},
    svg::Svg,
};

/// The height of a line of the legend.
const LEGEND: u32 = 20;

/// A class, and its colours: on a light ground, on a dark one.
type Colour = (&'static str, &'static str, &'static str);

/// Fills.
const FILLS: &[Colour] = &[
    ("ground", "#ffffff", "#14171c"),
    ("ink", "#1c2129", "#e4e8ee"),
    ("dim", "#646d7a", "#97a1af"),
    ("b-connecting", "#9ec9f0", "#2f6ea3"),
    ("b-negotiating", "#5b8fd9", "#4a7fd0"),
    ("b-active", "#3fa35b", "#3f9f5c"),
    ("b-paused", "#e8b931", "#c79a1f"),
    ("b-pending", "#e88f31", "#d07a24"),
    ("b-reconnecting", "#c79bd6", "#8d5aa3"),
    ("b-online", "#3f9f9b", "#3a938f"),
    ("b-offline", "#b9bec7", "#59616d"),
    ("k-client", "#e3ecf9", "#20304a"),
    ("k-relay", "#efe6f7", "#352645"),
    ("k-daemon", "#e1f2ee", "#17382f"),
    ("k-api", "#f6eddc", "#3d3119"),
    ("n-report", "#f1f3f6", "#232830"),
    ("n-call", "#e8f3e4", "#1f3320"),
    ("n-info", "#f1f3f6", "#232830"),
    ("n-bad", "#fbe3e1", "#4a211e"),
    ("n-step", "#dfeafc", "#1d3252"),
    ("n-fault", "#fde3c8", "#55300d"),
    ("n-grade", "#f6d9f2", "#4f1d48"),
    ("m-fault", "#c2410c", "#fb923c"),
    ("m-grade", "#a21caf", "#e879f9"),
    ("m-step", "#1d4ed8", "#7aa7ff"),
    ("m-bad", "#b91c1c", "#f87171"),
];

/// Strokes.
const STROKES: &[Colour] = &[
    ("life", "#d3d8df", "#3a414c"),
    ("box", "#aeb6c1", "#4a525e"),
    ("quiet", "#8b95a3", "#727d8b"),
    ("a-handshake", "#7c3aed", "#b794f6"),
    ("a-data", "#2b6cb0", "#74b0ea"),
    ("a-ping", "#8b95a3", "#828d9b"),
    ("a-signal", "#0f766e", "#4fd1c5"),
    ("a-control", "#b45309", "#f0b04f"),
    ("a-http", "#6b5b1e", "#c9b458"),
    ("a-socket", "#334155", "#b6c2d2"),
    ("a-bad", "#b91c1c", "#f87171"),
    ("s-step", "#1d4ed8", "#7aa7ff"),
    ("s-fault", "#c2410c", "#fb923c"),
    ("s-grade", "#a21caf", "#e879f9"),
    ("s-bad", "#b91c1c", "#f87171"),
    ("s-report", "#d3d8df", "#3a414c"),
    ("s-call", "#b5d3a8", "#3c5f3e"),
    ("s-info", "#d3d8df", "#3a414c"),
];

/// What every picture is drawn with.
pub(super) fn style() -> String {
    let mut css = String::from(
        ".sb text{font:11px ui-sans-serif,system-ui,'Segoe UI','DejaVu Sans',Helvetica,Arial,sans-serif}\
         .sb .name{font-size:13px;font-weight:600}.sb .title{font-size:16px;font-weight:600}.sb .small{font-size:10px}\
         .sb .time{font-family:ui-monospace,'DejaVu Sans Mono',Menlo,Consolas,monospace;font-size:10px;text-anchor:end}\
         .sb .mid{text-anchor:middle}.sb .line{fill:none;stroke-width:1.5}.sb .thin{fill:none;stroke-width:1}\
         .sb .dash{stroke-dasharray:5 4}.sb .halo{stroke-width:4;stroke-linejoin:round;paint-order:stroke}\n",
    );
    let rules = |css: &mut String, colour: fn(&Colour) -> &'static str| {
        for fill in FILLS {
            // Writing to a string cannot fail.
            let _ = write!(css, ".sb .{}{{fill:{}}}", fill.0, colour(fill));
        }
        for stroke in STROKES {
            let _ = write!(css, ".sb .{0}{{stroke:{1}}}.sb .h.{0}{{fill:{1};stroke:none}}", stroke.0, colour(stroke));
        }
        let _ = write!(css, ".sb .halo{{stroke:{}}}", colour(&FILLS[0]));
    };
    rules(&mut css, |colour| colour.1);
    css.push_str("\n@media (prefers-color-scheme:dark){");
    rules(&mut css, |colour| colour.2);
    css.push_str("}\n");
    css
}

/// The sign of a note: a triangle for a fault, a diamond for a broken rule, a square for a step, a disc for what ended badly.
pub(super) fn mark(tone: Tone, x: u32, y: u32) -> String {
    match tone {
        Tone::Fault => format!(r#"<path class="m-fault" d="M{x} {}l8 14h-16z"/>"#, y - 8),
        Tone::Grade => format!(r#"<path class="m-grade" d="M{x} {}l8 8-8 8-8-8z"/>"#, y - 8),
        Tone::Step => format!(r#"<rect class="m-step" x="{}" y="{}" width="10" height="10"/>"#, x - 5, y - 5),
        Tone::Bad => format!(r#"<circle class="m-bad" cx="{x}" cy="{y}" r="5"/>"#),
        Tone::Report | Tone::Call | Tone::Info => String::new(),
    }
}

/// The legend: its elements, and how high it is.
pub(super) struct Legend {
    pub(super) text: String,
    pub(super) height: u32,
}

/// What colours and signs mean.
pub(super) fn legend(width: u32) -> Legend {
    let mut out = Svg::default();
    let (mut x, mut y) = (14, 14);
    let mut next = |label: &str| {
        let needed = 26 + text_width(label) + 14;
        if x + needed > width && x > 14 {
            (x, y) = (14, y + LEGEND);
        }
        let place = (x, y);
        x += needed;
        place
    };
    for state in BarState::ALL {
        let (x, y) = next(state.name());
        out.line(format_args!(
            r#"<rect class="b-{0}" x="{1}" y="{2}" width="10" height="14" rx="2"/><text class="dim" x="{3}" y="{4}">{0}</text>"#,
            state.name(),
            x + 6,
            y - 4,
            x + 24,
            y + 7,
        ));
    }
    for (label, class, dash) in [
        ("handshake", "a-handshake", ""),
        ("data", "a-data", ""),
        ("ping", "a-ping", " dash"),
        ("signal", "a-signal", ""),
        ("control", "a-control", ""),
        ("HTTP", "a-http", ""),
        ("socket", "a-socket", ""),
        ("refused, lost or cut", "a-bad", " dash"),
    ] {
        let (x, y) = next(label);
        out.line(format_args!(
            r#"<path class="line {class}{dash}" d="M{x} {0}h20"/><text class="dim" x="{1}" y="{2}">{label}</text>"#,
            y + 3,
            x + 24,
            y + 7,
        ));
    }
    for (label, tone) in
        [("fault", Tone::Fault), ("broken rule", Tone::Grade), ("step", Tone::Step), ("trouble", Tone::Bad)]
    {
        let (x, y) = next(label);
        out.line(format_args!(
            r#"{}<text class="dim" x="{}" y="{}">{label}</text>"#,
            mark(tone, x + 10, y + 3),
            x + 24,
            y + 7
        ));
    }
    let (x, y) = next("time not to scale");
    out.line(format_args!(
        r#"<path class="quiet line" d="M{x} {}l4 -5 4 10 4 -10 4 5"/><text class="dim" x="{}" y="{}">time not to scale</text>"#,
        y + 3,
        x + 24,
        y + 7
    ));
    Legend { text: out.0, height: y + LEGEND }
}
