//! The page about grading says what is judged, where, and what is not.

use super::super::*;

fn whose(rule: Rule) -> &'static str {
    match rule.binds() {
        [Role::Client] => "client",
        [Role::Daemon] => "daemon",
        _ => "both",
    }
}

fn how_much(judged: Judged) -> &'static str {
    match judged {
        Judged::All => "yes",
        Judged::Only(what) => what,
        Judged::Nothing => "",
    }
}

/// The two tables of the page.
fn tables() -> [String; 2] {
    let mut judged =
        "| rule | of | what is taken as evidence | `api` alone | `relay` alone |\n|---|---|---|---|---|\n".to_owned();
    for &rule in Rule::ALL {
        let Alone { api, relay } = rule.alone();
        let (of, evidence, api, relay) = (whose(rule), rule.evidence(), how_much(api), how_much(relay));
        judged += &format!("| {} | {of} | {evidence} | {api} | {relay} |\n", rule.id());
    }
    let mut unjudged = "| rule | why not |\n|---|---|\n".to_owned();
    for (id, reason) in UNJUDGED {
        unjudged += &format!("| {id} | {reason} |\n");
    }
    [judged.replace("|  |", "| |").replace("|  |", "| |"), unjudged]
}

#[test]
fn the_page_has_the_tables_of_what_is_judged_and_what_is_not() {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/grading.md")).unwrap();
    for table in tables() {
        assert!(page.contains(&format!("\n\n{table}")), "docs/grading.md needs this table:\n{table}");
        let rows = |text: &str| text.lines().filter(|line| line.starts_with("| ") && line.contains('-')).count();
        assert_eq!(rows(&page), tables().iter().map(|table| rows(table)).sum::<usize>(), "and no other rows");
    }
    for (limit, text) in [(MOST_SHARING as u64, "clients"), (u64::from(MOST_REDEEMING), "redeem")] {
        assert!(page.contains(&format!("**{limit}** {text}")), "the page names the limit of {limit} {text}");
    }
}
