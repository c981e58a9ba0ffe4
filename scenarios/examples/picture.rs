//! Draws a trace: `cargo run -p sideband-scenarios --example picture -- TRACE.ndjson OUT.svg|OUT.mmd|OUT.html`.

use std::{error::Error, fs, io::BufReader};

use sideband_scenarios::{
    picture::{Model, Options, html, mermaid, svg},
    trace::Trace,
};

fn main() -> Result<(), Box<dyn Error>> {
    let paths: Vec<String> = std::env::args().skip(1).collect();
    let [trace, out] = paths.as_slice() else { return Err("give a trace and a file to draw to".into()) };
    let trace = Trace::parse_ndjson(BufReader::new(fs::File::open(trace)?))?;
    let model = Model::new(&trace, &Options::default());
    let picture = match out.rsplit('.').next() {
        Some("svg") => svg::render(&model),
        Some("html") => html::render(&model),
        _ => mermaid::render(&model),
    };
    fs::write(out, picture)?;
    Ok(())
}
