//! Draws a run: `picture TRACE.ndjson OUT`, or `picture SCENARIO.toml OUT [SEED]`; OUT ends in `.svg`, `.html` or `.mmd`. Tells which
//! situations it reaches.
#![expect(clippy::print_stdout, reason = "a program for people")]

use std::{error::Error, fs, io::BufReader};

use sideband_scenarios::{
    picture::{Model, Options, html, mermaid, svg},
    scenario::Scenario,
    sim,
    situation::Situations,
    trace::Trace,
};

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [source, out, seed @ ..] = args.as_slice() else {
        return Err("give a trace or a scenario, and a file to draw to".into());
    };
    let seed: u64 = seed.first().map_or(Ok(0), |seed| seed.parse())?;
    let (trace, title) = if source.ends_with(".toml") {
        let scenario = Scenario::parse(source, &fs::read_to_string(source)?)?;
        let run = sim::run(&scenario, seed, &sim::RunOptions::default())?;
        for failure in &run.failures {
            println!("{} at {} ms: {}", failure.kind, failure.at, failure.what);
        }
        (run.trace, Some(format!("{}, seed {seed}", scenario.name)))
    } else {
        (Trace::parse_ndjson(BufReader::new(fs::File::open(source)?))?, None)
    };
    let model = Model::new(&trace, &Options { title, ..Options::default() });
    let picture = match out.rsplit('.').next() {
        Some("svg") => svg::render(&model),
        Some("html") => html::render(&model),
        _ => mermaid::render(&model),
    };
    fs::write(out, picture)?;
    for situation in Situations::of(trace.events()) {
        println!("{situation}: {}", situation.means());
    }
    Ok(())
}
