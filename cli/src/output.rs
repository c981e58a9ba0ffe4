//! The only way to stdout and stderr: lines for people or NDJSON, with colours or without.
//!
//! Stdout is written by tokio's blocking pool, so that a reader who does not read delays nothing but the lines themselves. A
//! reader who is gone (`| head -1`) is no error: a server goes on without its lines, other commands end as they would.

use std::{
    fmt::Display,
    io::{self, IsTerminal, Write},
    process::ExitCode,
    sync::{Arc, OnceLock},
    time::Duration,
};

use anstream::{AutoStream, ColorChoice, adapter::strip_str};
use anyhow::anyhow;
use owo_colors::OwoColorize;
use serde::Serialize;
use tokio::{
    io::{AsyncWriteExt, Stdout},
    sync::Mutex,
};
use tracing_subscriber::{EnvFilter, filter::LevelFilter};

use crate::{
    args::{Color, Global},
    failure::{Exit, Failure},
};

/// How long the last lines may take to be written when a command has ended.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// Where everything that a command says goes. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Output(Arc<Shared>);

struct Shared {
    json: bool,
    quiet: bool,
    color_out: bool,
    color_err: bool,
    stdout: Mutex<Stdout>,
    /// Why nothing is written any more.
    broken: OnceLock<io::Error>,
}

impl Output {
    /// As the flags say.
    pub(crate) fn new(global: &Global) -> Self {
        Self(Arc::new(Shared {
            json: global.json,
            quiet: global.quiet,
            color_out: colors(&std::io::stdout(), global.color),
            color_err: colors(&std::io::stderr(), global.color),
            stdout: Mutex::new(tokio::io::stdout()),
            broken: OnceLock::new(),
        }))
    }

    /// Whether stdout takes NDJSON.
    pub(crate) fn is_json(&self) -> bool {
        self.0.json
    }

    /// Whether only results are wanted.
    pub(crate) fn is_quiet(&self) -> bool {
        self.0.quiet
    }

    /// Whether stdout takes colours.
    pub(crate) fn is_colored(&self) -> bool {
        self.0.color_out
    }

    /// Says one thing: as a JSON line, or as text for people.
    pub(crate) async fn say(&self, event: &impl Serialize, text: impl FnOnce() -> String) {
        if self.0.json { self.json(event).await } else { self.text(&text()).await }
    }

    /// One JSON line, with `--json` only.
    pub(crate) async fn json(&self, event: &impl Serialize) {
        if !self.0.json {
            return;
        }
        match serde_json::to_string(event) {
            Ok(line) => self.write(line).await,
            Err(error) => tracing::error!(%error, "an event is no JSON"),
        }
    }

    /// Text for people, not with `--json`.
    pub(crate) async fn text(&self, text: &str) {
        if self.0.json {
            return;
        }
        let text = if self.0.color_out { text.to_owned() } else { strip_str(text).to_string() };
        self.write(text).await;
    }

    /// Text that is neither for people nor an event, whatever the flags say.
    pub(crate) async fn raw(&self, text: String) {
        self.write(text).await;
    }

    async fn write(&self, mut line: String) {
        if self.0.broken.get().is_some() {
            return;
        }
        if !line.ends_with('\n') {
            line.push('\n');
        }
        let mut stdout = self.0.stdout.lock().await;
        let written = async {
            stdout.write_all(line.as_bytes()).await?;
            stdout.flush().await
        };
        if let Err(error) = written.await {
            if error.kind() == io::ErrorKind::BrokenPipe {
                tracing::debug!("nobody reads stdout any more");
            } else {
                tracing::warn!(%error, "cannot write to stdout");
            }
            // The first one counts.
            let _ = self.0.broken.set(error);
        }
    }

    /// A remark for people on stderr; none with `-q`.
    pub(crate) fn note(&self, text: impl Display) {
        if !self.0.quiet {
            self.stderr(&format!("{text}\n"));
        }
    }

    /// Begins a line of its own where a terminal has just shown `^C`.
    pub(crate) fn after_ctrl_c(&self) {
        if std::io::stderr().is_terminal() {
            self.stderr("\n");
        }
    }

    fn stderr(&self, text: &str) {
        write_stderr(text, self.0.color_err);
    }

    /// How a command ended: failures are said, the last lines written.
    pub(crate) async fn ended(&self, ended: Result<(), Failure>) -> ExitCode {
        let ended = ended.and_then(|()| match self.0.broken.get() {
            Some(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                Err(Failure::cannot_run(anyhow!("not everything could be written to stdout: {error}")))
            }
            Some(_) | None => Ok(()),
        });
        let Err(failure) = ended else { return Exit::Good.code() };
        // A reader who does not read gets no last words.
        let _ = tokio::time::timeout(LAST_WORDS, self.json(&failure.event())).await;
        self.failed(&failure)
    }

    /// A failure for people.
    pub(crate) fn failed(&self, failure: &Failure) -> ExitCode {
        let mut text = format!("{} {}\n", "error:".red().bold(), failure.message());
        for hint in failure.hints() {
            text.push_str(&format!("  {} {hint}\n", "try:".cyan()));
        }
        self.stderr(&text);
        failure.exit().code()
    }
}

/// One JSON line before there is a runtime.
pub(crate) fn say_early(event: &impl Serialize) {
    match serde_json::to_string(event) {
        Ok(line) => {
            let mut stdout = std::io::stdout();
            // A reader who is gone has seen enough.
            let _ = writeln!(stdout, "{line}").and_then(|()| stdout.flush());
        }
        Err(error) => tracing::error!(%error, "an event is no JSON"),
    }
}

/// Help, or what is wrong with the command line.
pub(crate) fn say_usage(text: &str, is_error: bool, color: Color) {
    if is_error {
        write_stderr(text, colors(&std::io::stderr(), color));
    } else {
        let mut stdout = std::io::stdout();
        let text = if colors(&stdout, color) { text.to_owned() } else { strip_str(text).to_string() };
        // A reader who is gone has seen enough.
        let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
    }
}

fn write_stderr(text: &str, color: bool) {
    let text = if color { text.to_owned() } else { strip_str(text).to_string() };
    // There is nowhere left to complain.
    let _ = std::io::stderr().write_all(text.as_bytes());
}

fn colors(stream: &impl anstream::stream::RawStream, color: Color) -> bool {
    match color {
        Color::Always => true,
        Color::Never => false,
        Color::Auto => AutoStream::choice(stream) != ColorChoice::Never,
    }
}

/// Logs to stderr: as `-v` and `-q` say, else as `SIDEBAND_LOG` says, else warnings.
pub(crate) fn start_logging(global: &Global, out: &Output) -> Result<(), Failure> {
    // Trace logs of libraries may hold what they send; ours never do.
    let ours = |level: &str| EnvFilter::builder().parse(format!("warn,sideband={level}"));
    let filter = match (global.quiet, global.verbose) {
        (true, _) => Ok(EnvFilter::default().add_directive(LevelFilter::ERROR.into())),
        (false, 0) => match std::env::var("SIDEBAND_LOG") {
            Ok(filter) if !filter.trim().is_empty() => EnvFilter::builder().parse(filter),
            _ => Ok(EnvFilter::default().add_directive(LevelFilter::WARN.into())),
        },
        (false, 1) => ours("info"),
        (false, 2) => ours("debug"),
        (false, _) => ours("trace"),
    };
    let filter = filter.map_err(|error| {
        Failure::misuse(anyhow!("SIDEBAND_LOG is no filter: {error}"))
            .hint("write a level such as `debug`, or `sideband=debug,warn`")
    })?;
    let logger = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(out.0.color_err)
        .log_internal_errors(false);
    logger.try_init().map_err(|error| Failure::cannot_run(anyhow!("cannot log: {error}")))
}
