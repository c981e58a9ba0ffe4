//! `--trace FILE`: everything that happens, as NDJSON.

use std::path::PathBuf;

use anyhow::anyhow;
use clap::Args;
use sideband_sim_kit::{event::EventSink, trace::TraceFile};

use crate::{failure::Failure, output::Output};

/// The flag of every server.
#[derive(Debug, Args)]
pub(crate) struct Trace {
    /// Write everything that happens to this file as NDJSON, each frame included (never a payload); made anew
    #[arg(long, env = "SIDEBAND_SIM_TRACE", value_name = "FILE")]
    trace: Option<PathBuf>,
}

impl Trace {
    /// Whether there is a trace, for which each frame is an event.
    pub(crate) fn is_wanted(&self) -> bool {
        self.trace.is_some()
    }

    /// Writes what happens from now on.
    pub(crate) fn start(&self, events: &EventSink) -> Result<Tracing, Failure> {
        let Some(path) = self.trace.clone() else { return Ok(Tracing(None)) };
        let file = TraceFile::create(&path, events).map_err(|error| {
            Failure::misuse(anyhow!("cannot write a trace to {}: {error}", path.display()))
                .hint("--trace takes the path of a file")
        })?;
        Ok(Tracing(Some((path, file))))
    }
}

/// A trace that is being written, if one is wanted.
pub(crate) struct Tracing(Option<(PathBuf, TraceFile)>);

impl Tracing {
    /// Writes what is left.
    pub(crate) fn finish(self, out: &Output) -> Result<(), Failure> {
        let Some((path, file)) = self.0 else { return Ok(()) };
        match file.finish() {
            Ok(count) => {
                if !out.is_json() {
                    out.note(format!("{count} events in {}", path.display()));
                }
                Ok(())
            }
            Err(error) => Err(Failure::cannot_run(anyhow!("the trace in {} is not whole: {error}", path.display()))),
        }
    }
}
