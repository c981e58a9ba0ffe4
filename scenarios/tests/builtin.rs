//! The scenarios that come with the crate: all are good, and each tells its story for seed 0.

mod stories;

use sideband_scenarios::{
    builtin,
    picture::{Model, Options, html, mermaid, svg},
};
use stories::{run, told};

macro_rules! stories {
    ($($name:ident: $text:literal;)*) => {
        $(#[test]
        fn $name() {
            insta::assert_snapshot!($text, told(&run($text, 0)));
            (1..5).for_each(|seed| drop(run($text, seed)));
        })*
    };
}

stories! {
    daemon_blip_resume: "daemon-blip-resume";
    ghost_socket_409: "ghost-socket-409";
    partition_client: "partition-client";
    quick_connect_race: "quick-connect-race";
}

#[test]
fn every_builtin_has_a_story_here_or_beside() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/snapshots");
    let stories: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|file| file.unwrap().file_name().into_string().unwrap())
        .filter_map(|file| Some(file.strip_suffix(".snap")?.rsplit("__").next()?.to_owned()))
        .collect();
    for one in builtin::all() {
        assert!(stories.iter().any(|story| story == one.name), "{} has no story", one.name);
    }
}

/// What is told late stands behind what came later; no form of picture minds.
#[test]
fn long_and_crowded_runs_can_be_drawn() {
    for name in ["thundering-herd", "long-haul"] {
        let model = Model::new(&run(name, 0).trace, &Options::default());
        for drawn in [svg::render(&model), mermaid::render(&model), html::render(&model)] {
            for column in &model.columns {
                assert!(drawn.contains(&column.name), "{name} without {}", column.name);
            }
        }
    }
}
