//! `scenario diagram`: a run as a picture.

use std::{fs::File, io::BufReader, path::PathBuf};

use anyhow::anyhow;
use clap::{Args, ValueEnum};
use serde::Serialize;
use sideband_scenarios::{
    picture::{Model, Options, html, mermaid, svg},
    sim::RunOptions,
    trace::Trace,
};

use super::{find::Seeded, run::here, write_file};
use crate::{failure::Failure, output::Output};

/// Flags of `scenario diagram`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  sideband-sim scenario diagram daemon-blip-resume --seed 7 -o blip.svg
  sideband-sim scenario diagram daemon-blip-resume -o blip.html        with filter and zoom
  sideband-sim scenario diagram daemon-blip-resume --format mermaid    on stdout
  sideband-sim scenario diagram recorded.ndjson -o field.html          what `up --trace` wrote")]
pub(super) struct DiagramArgs {
    #[command(flatten)]
    seeded: Seeded,
    /// Where to write the picture; its extension says what it is: .svg, .mmd or .html [default: stdout]
    #[arg(short, long, env = "SIDEBAND_SIM_OUTPUT", value_name = "FILE")]
    output: Option<PathBuf>,
    /// What to draw [default: as the extension says, or else svg]
    #[arg(long, env = "SIDEBAND_SIM_FORMAT", value_enum, value_name = "FORMAT")]
    format: Option<PictureFormat>,
    /// Draw every frame for itself, not equal ones in a row as one
    #[arg(long, env = "SIDEBAND_SIM_EVERY_FRAME", value_parser = clap::builder::BoolishValueParser::new(), action = clap::ArgAction::SetTrue)]
    every_frame: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "snake_case")]
enum PictureFormat {
    /// A picture, for browsers and documents
    Svg,
    /// Text that Markdown renderers draw
    Mermaid,
    /// One page with filter and zoom
    Html,
}

#[derive(Serialize)]
struct DiagramLine<'a> {
    event: &'static str,
    format: PictureFormat,
    bytes: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    picture: Option<&'a str>,
}

pub(super) async fn run(args: DiagramArgs, out: &Output) -> Result<(), Failure> {
    let format = args.format()?;
    let (title, trace) = args.trace()?;
    let options = Options { title: Some(title), every_frame: args.every_frame, ..Options::default() };
    let model = Model::new(&trace, &options);
    let picture = match format {
        PictureFormat::Svg => svg::render(&model),
        PictureFormat::Mermaid => mermaid::render(&model),
        PictureFormat::Html => html::render(&model),
    };
    if let Some(path) = &args.output {
        write_file(path, &picture)?;
    }
    let file = args.output.as_ref().map(|path| path.display().to_string());
    let inline = file.is_none().then_some(picture.as_str());
    let line = DiagramLine { event: "scenario_diagram", format, bytes: picture.len(), file, picture: inline };
    match &args.output {
        Some(path) if !out.is_json() => out.note(format!("{} events in {}", trace.events().len(), path.display())),
        Some(_) | None => out.say(&line, || picture.clone()).await,
    }
    Ok(())
}

impl DiagramArgs {
    fn format(&self) -> Result<PictureFormat, Failure> {
        let extension = self.output.as_ref().map(|path| path.extension().unwrap_or_default().to_string_lossy());
        match (self.format, extension.as_deref()) {
            (Some(format), _) => Ok(format),
            (None, None | Some("svg")) => Ok(PictureFormat::Svg),
            (None, Some("mmd" | "mermaid")) => Ok(PictureFormat::Mermaid),
            (None, Some("html" | "htm")) => Ok(PictureFormat::Html),
            (None, Some(other)) => Err(Failure::misuse(anyhow!("--output: nothing is known of pictures in .{other}"))
                .hint("use .svg, .mmd or .html, or say --format")),
        }
    }

    /// What is drawn, and its title.
    fn trace(&self) -> Result<(String, Trace), Failure> {
        let called = &self.seeded.scenario;
        if called.ends_with(".ndjson") {
            let cannot = |error| Failure::misuse(anyhow!("cannot read {called}: {error}"));
            let trace = Trace::parse_ndjson(BufReader::new(File::open(called).map_err(cannot)?));
            return Ok((called.clone(), trace.map_err(|error| Failure::misuse(anyhow!("{called}: {error}")))?));
        }
        let (found, seed) = self.seeded.find()?;
        let run = here(&found.scenario, seed, &RunOptions::default())?;
        let swarm = if self.seeded.swarm.swarm { ", swarm" } else { "" };
        Ok((format!("{}, seed {seed}{swarm}", run.scenario), run.trace))
    }
}
