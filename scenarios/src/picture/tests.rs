//! Pictures of the proven world and of a hostile trace.

use std::collections::BTreeSet;

use sideband_sim_kit::event::{Direction, Event, EventKind, FrameDetail, Role};

use super::{
    html, mermaid,
    model::{BarState, ColumnKind, MAX_COLUMNS, MAX_ROWS, Model, Options, Shape, Tone},
    svg,
};
use crate::{trace::Trace, world};

fn model(trace: &Trace) -> Model {
    Model::new(trace, &Options::default())
}

fn event(at: u64, host: &str, kind: EventKind) -> Event {
    Event { at, host: host.to_owned(), daemon: None, session: None, kind }
}

fn fault(at: u64, rule: &str) -> Event {
    let (on, action) = ("relay.connection".to_owned(), "cut".to_owned());
    event(at, "relay", EventKind::Fault { rule: rule.to_owned(), number: 1, on, action })
}

fn opened(connection: u64, role: Role, daemon: &str) -> Event {
    let kind = EventKind::Opened { connection, role, token: None, resumable: None };
    Event { daemon: Some(daemon.to_owned()), ..event(0, "relay", kind) }
}

fn parse(text: &str) -> roxmltree::Document<'_> {
    roxmltree::Document::parse(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

fn texts(document: &roxmltree::Document<'_>) -> Vec<String> {
    document
        .descendants()
        .filter(|node| node.has_tag_name("text"))
        .filter_map(|node| node.text())
        .map(str::to_owned)
        .collect()
}

/// Whoever has no voice is not in the trace.
fn wire(trace: &Trace) -> Trace {
    let heard = |event: &&Event| !matches!(event.kind, EventKind::Endpoint { .. });
    Trace::new(trace.events().iter().filter(heard).cloned().collect())
}

#[test]
fn the_same_trace_gives_the_same_bytes_and_another_gives_others() {
    let (one, two) = (world::run(0).unwrap(), world::run(1).unwrap());
    for render in [svg::render, mermaid::render, html::render] {
        assert_eq!(render(&model(&one)), render(&model(&one)));
        assert_ne!(render(&model(&one)), render(&model(&two)));
    }
}

#[test]
fn every_host_is_a_column_and_every_step_is_marked() {
    for seed in 0..4 {
        let trace = world::run(seed).unwrap();
        let text = svg::render(&model(&trace));
        let document = parse(&text);
        let texts = texts(&document);
        let name = |node: &roxmltree::Node<'_, '_>| node.attribute("class") == Some("ink name mid");
        let heads: Vec<&str> = document.descendants().filter(name).filter_map(|node| node.text()).collect();
        let hosts: BTreeSet<&str> =
            trace.events().iter().map(|event| event.host.as_str()).filter(|host| *host != "net").collect();
        for host in hosts {
            // Above and below.
            assert_eq!(heads.iter().filter(|head| *head == &host).count(), 2, "seed {seed}: {host}");
        }
        for event in trace.events() {
            if let EventKind::Step { what } = &event.kind {
                assert!(texts.contains(what), "seed {seed}: {what}");
            }
        }
        assert!(
            document
                .descendants()
                .any(|node| node.has_tag_name("desc") && node.text().is_some_and(|text| text.contains("5 hosts")))
        );
    }
}

#[test]
fn every_event_of_the_world_is_in_a_row_or_told_by_what_stands_around_it() {
    let trace = world::run(0).unwrap();
    let model = model(&trace);
    let drawn: BTreeSet<usize> = model.rows.iter().flat_map(|row| row.events.iter().copied()).collect();
    for (n, event) in trace.events().iter().enumerate() {
        let silent = matches!(event.kind, EventKind::Session { .. });
        assert!(silent || drawn.contains(&n), "{event:?}");
    }
    assert_eq!(model.lines.len(), trace.events().len());
}

#[test]
fn every_fault_and_every_grade_is_marked() {
    let mut events = world::run(0).unwrap().events().to_vec();
    let last = events.last().unwrap().at;
    events.extend((0..5).map(|n| fault(last + n, &format!("rule-{n}"))));
    let grade = EventKind::Grade {
        rule: "CRY-04".to_owned(),
        party: Role::Client,
        connection: Some(2),
        evidence: "a sequence twice".to_owned(),
        times: 1,
    };
    events.push(event(last + 9, "relay", grade));
    let trace = Trace::new(events);
    let model = model(&trace);
    let text = svg::render(&model);
    let document = parse(&text);
    let rows = |class: &str| document.descendants().filter(|node| node.attribute("class") == Some(class)).count();
    assert_eq!((rows("row note fault"), rows("row note grade")), (5, 1));
    // The grade stands at the client that broke the rule.
    let at = model.rows.iter().find_map(|row| match &row.shape {
        Shape::Note { column, tone: Tone::Grade, .. } => Some(&model.columns[*column].name),
        _ => None,
    });
    assert_eq!(at.map(String::as_str), Some("client-a"));
}

#[test]
fn a_client_is_paused_pending_and_active_again_in_colour() {
    let world = model(&world::run(0).unwrap());
    let states = |name: &str| -> Vec<BarState> {
        world.bars.iter().filter(|bar| world.columns[bar.column].name == name).map(|bar| bar.state).collect()
    };
    use BarState::{Active, Connecting, Negotiating, Offline, Online, Paused, Pending};
    assert_eq!(states("client-a"), [Connecting, Negotiating, Active, Paused, Pending, Active]);
    assert_eq!(states("daemon"), [Online, Offline, Online]);
    // And the same from what the relay alone has seen.
    let field = model(&wire(&world::run(0).unwrap()));
    let states: Vec<BarState> = field.bars.iter().filter(|bar| bar.column == 0).map(|bar| bar.state).collect();
    assert_eq!(states, [Negotiating, Active, Paused, Pending, Active]);
}

#[test]
fn a_trace_of_relay_and_api_alone_has_a_column_for_each_connection() {
    let model = model(&wire(&world::run(0).unwrap()));
    let columns: Vec<(ColumnKind, &str)> =
        model.columns.iter().map(|column| (column.kind, column.name.as_str())).collect();
    use ColumnKind::{Api, Client, Daemon, Relay};
    assert_eq!(
        columns,
        [(Client, "#2"), (Client, "#3"), (Client, "#5"), (Relay, "relay"), (Daemon, "daemon"), (Api, "api")]
    );
    parse(&svg::render(&model));
}

#[test]
fn a_connection_goes_to_the_host_that_is_told() {
    let trace = Trace::new(vec![
        opened(1, Role::Client, "d"),
        event(1, "one", EventKind::Endpoint { report: "state".to_owned(), detail: "active".to_owned() }),
        event(1, "two", EventKind::Endpoint { report: "state".to_owned(), detail: "active".to_owned() }),
    ]);
    let names = |model: &Model| -> Vec<String> { model.columns.iter().map(|column| column.name.clone()).collect() };
    assert_eq!(names(&model(&trace)), ["one", "two", "#1", "relay"]);
    let hosts = [(("relay".to_owned(), 1), "two".to_owned())].into_iter().collect();
    assert_eq!(names(&Model::new(&trace, &Options { hosts, ..Options::default() })), ["one", "two", "relay"]);
}

#[test]
fn equal_frames_in_a_row_are_one_arrow_unless_each_is_wanted() {
    let trace = world::run(0).unwrap();
    let folded = model(&trace);
    let whole = Model::new(&trace, &Options { every_frame: true, ..Options::default() });
    assert!(folded.rows.len() * 3 < whole.rows.len() * 2, "{} of {} rows", folded.rows.len(), whole.rows.len());
    let events =
        |model: &Model| -> BTreeSet<usize> { model.rows.iter().flat_map(|row| row.events.iter().copied()).collect() };
    assert_eq!(events(&folded), events(&whole), "folding loses no event");
}

#[test]
fn a_fold_does_not_go_past_what_happens_in_its_session() {
    let frame = |at: u64, direction| {
        let detail = FrameDetail::default();
        let kind = EventKind::Frame { connection: 1, direction, frame: "data".to_owned(), bytes: 50, detail };
        event(at, "relay", kind)
    };
    let step = |at: u64| event(at, "net", EventKind::Step { what: "a cut".to_owned() });
    let rows = |events: Vec<Event>| {
        let model = model(&Trace::new(events));
        model.rows.iter().filter(|row| matches!(row.shape, Shape::Arrow(_))).count()
    };
    let start = || opened(1, Role::Client, "d");
    assert_eq!(rows(vec![start(), frame(1, Direction::In), frame(2, Direction::In), frame(3, Direction::In)]), 2);
    assert_eq!(rows(vec![start(), frame(1, Direction::In), step(2), frame(3, Direction::In)]), 3);
    assert_eq!(rows(vec![start(), frame(1, Direction::In), frame(9_000, Direction::In)]), 3);
}

#[test]
fn a_part_of_the_time_knows_the_states_with_which_it_begins() {
    let trace = world::run(0).unwrap();
    let part = Model::new(&trace, &Options { from: Some(5_500), to: Some(7_000), ..Options::default() });
    assert!(part.lines.iter().all(|line| (5_500..=7_000).contains(&line.at)));
    let first = part.bars.iter().find(|bar| part.columns[bar.column].name == "client-a").unwrap();
    assert_eq!((first.state, first.from), (BarState::Paused, 0));
    parse(&svg::render(&part));
}

#[test]
fn no_label_stands_over_another() {
    let texts = |text: &str| -> Vec<(u32, u32, u32, String)> {
        let document = parse(text);
        let rows = document
            .descendants()
            .filter(|node| node.attribute("class").is_some_and(|class| class.starts_with("row ")));
        rows.flat_map(|row| row.descendants().filter(|node| node.has_tag_name("text")))
            .map(|node| {
                let number = |name: &str| node.attribute(name).unwrap().parse::<u32>().unwrap();
                let label = node.text().unwrap_or_default().to_owned();
                (number("x"), number("x") + super::layout::text_width(&label), number("y"), label)
            })
            .collect()
    };
    for seed in 0..4 {
        let trace = world::run(seed).unwrap();
        for trace in [wire(&trace), trace] {
            let labels = texts(&svg::render(&model(&trace)));
            for (n, one) in labels.iter().enumerate() {
                for two in labels[n + 1..].iter().take_while(|two| two.2 <= one.2 + 60) {
                    let apart = one.1 <= two.0 || two.1 <= one.0 || one.2.abs_diff(two.2) >= 11;
                    assert!(apart, "seed {seed}: {one:?} and {two:?}");
                }
            }
        }
    }
}

#[test]
fn many_clients_and_many_rows_are_bounded_and_it_is_said() {
    let mut events: Vec<Event> = (1..=200).map(|n| opened(n, Role::Client, "d")).collect();
    events.push(opened(1_000, Role::Daemon, "d"));
    events.extend((0..MAX_ROWS as u64 + 10).map(|n| fault(n, "many")));
    let model = model(&Trace::new(events));
    assert_eq!(model.columns.len(), MAX_COLUMNS + 2);
    assert_eq!((model.rows.len(), model.left_out), (MAX_ROWS, 211));
    assert!(model.description().contains("211 further rows"));
    assert!(mermaid::render(&model).contains("211 further rows"));
    let text = svg::render(&model);
    assert!(texts(&parse(&text)).iter().any(|text| text.contains("211 further rows")));
}

#[test]
fn an_empty_trace_is_an_empty_picture() {
    let model = model(&Trace::new(Vec::new()));
    parse(&svg::render(&model));
    assert!(html::render(&model).contains("0 hosts"));
    assert!(mermaid::render(&model).starts_with("sequenceDiagram\n"));
}

const HOSTILE: &str =
    "</script><script>alert(1)</script><!--]]>\"'&amp;<img src=x onerror=alert(1)>\u{0}\u{202e};\nend\n%%{init}%%#";

fn hostile() -> Model {
    let text = HOSTILE.to_owned();
    let mut events = vec![
        opened(1, Role::Client, HOSTILE),
        opened(2, Role::Daemon, HOSTILE),
        event(1, HOSTILE, EventKind::Endpoint { report: text.clone(), detail: text.clone() }),
        event(
            2,
            HOSTILE,
            EventKind::Request {
                procedure: text.clone(),
                status: 200,
                caller: None,
                code: None,
                retry_after_ms: None,
                took_ms: 0,
                token: None,
                http: None,
            },
        ),
        event(3, "net", EventKind::Step { what: text.clone() }),
        event(4, "relay", EventKind::Control { connection: 1, code: text.clone() }),
        event(5, "relay", EventKind::Dropped { connection: 1, reason: text.clone() }),
        fault(6, HOSTILE),
    ];
    let grade = EventKind::Grade {
        rule: text.clone(),
        party: Role::Client,
        connection: Some(1),
        evidence: text.clone(),
        times: 1,
    };
    events.push(event(7, "relay", grade));
    Model::new(&Trace::new(events), &Options { title: Some(text), ..Options::default() })
}

#[test]
fn a_hostile_trace_is_text_in_svg() {
    let text = svg::render(&hostile());
    let document = parse(&text);
    let known = ["svg", "title", "desc", "style", "rect", "text", "g", "path", "circle"];
    for node in document.descendants().filter(roxmltree::Node::is_element) {
        assert!(known.contains(&node.tag_name().name()), "{node:?}");
        assert!(node.attributes().all(|attribute| !attribute.name().starts_with("on")), "{node:?}");
    }
    assert!(!text.contains('\u{202e}') && !text.contains('\u{0}'));
}

#[test]
fn a_hostile_trace_is_text_in_a_page() {
    let page = html::render(&hostile());
    let lower = page.to_lowercase();
    assert_eq!(lower.matches("<script").count(), 2, "the events and the page's own");
    assert_eq!(lower.matches("</script").count(), 2);
    assert_eq!(lower.matches("<img").count(), 0);
    assert_eq!(lower.matches("<!--").count(), 0);
    // The events are whole all the same.
    let (_, rest) = page.split_once("id=\"trace\">").unwrap();
    let (data, _) = rest.split_once("</script>").unwrap();
    let data: serde_json::Value = serde_json::from_str(data).unwrap();
    assert!(data["events"].to_string().contains("<img src=x onerror=alert(1)>"));
}

#[test]
fn a_page_loads_nothing_and_its_policy_names_its_own_script_and_style() {
    use data_encoding::BASE64;
    use sha2::{Digest, Sha256};
    let page = html::render(&model(&world::run(0).unwrap()));
    let policy = page.split_once("Content-Security-Policy\" content=\"").unwrap().1.split_once('"').unwrap().0;
    assert!(policy.starts_with("default-src &#39;none&#39;;"), "{policy}");
    assert!(!policy.contains("unsafe"), "{policy}");
    let of = |open: &str, close: &str| {
        let text = page.split_once(open).unwrap().1.split_once(close).unwrap().0;
        format!("sha256-{}", BASE64.encode(&Sha256::digest(text)))
    };
    assert!(policy.contains(&of("<script>", "</script>")), "{policy}");
    assert!(policy.contains(&of("<style>", "</style>")), "{policy}");
    for outside in ["http:", "https:", "src=", "href=", "url(", "@import", "style=\""] {
        assert!(!page.replace("http://www.w3.org/2000/svg", "").contains(outside), "{outside}");
    }
    assert!(!page.contains("innerHTML"));
}

#[test]
fn a_hostile_trace_is_text_in_mermaid() {
    let text = mermaid::render(&hostile());
    assert!(!text.contains(['<', '"', '%', '`', '{', '\u{202e}']), "{text}");
    for line in text.lines().skip(1) {
        let line = line.trim_start();
        let known = ["accTitle: ", "accDescr: ", "participant h", "Note over h", "h"];
        assert!(known.iter().any(|known| line.starts_with(known)), "{line}");
        assert!(!line.split(' ').any(|word| word == "end"), "{line}");
        // A semicolon ends a statement, unless it ends a number.
        assert_eq!(line.matches(';').count(), line.matches('#').count(), "{line}");
    }
}

#[test]
fn mermaid_of_seed_0() {
    insta::assert_snapshot!("mermaid_seed_0", mermaid::render(&model(&world::run(0).unwrap())));
}
