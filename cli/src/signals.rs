//! SIGINT and SIGTERM: both ask a command to end.

use anyhow::anyhow;

use crate::{failure::Failure, output::Output};

/// Waits for SIGINT or SIGTERM.
pub(crate) struct Signals {
    out: Output,
    #[cfg(unix)]
    interrupt: tokio::signal::unix::Signal,
    #[cfg(unix)]
    terminate: tokio::signal::unix::Signal,
}

impl Signals {
    /// From now on the signals no longer end the process at once.
    #[cfg(unix)]
    pub(crate) fn new(out: &Output) -> Result<Self, Failure> {
        use tokio::signal::unix::{SignalKind, signal};
        let listen = |kind| signal(kind).map_err(|error| Failure::cannot_run(anyhow!("cannot await signals: {error}")));
        let out = out.clone();
        Ok(Self { out, interrupt: listen(SignalKind::interrupt())?, terminate: listen(SignalKind::terminate())? })
    }

    /// Ctrl-C, where there are no signals.
    #[cfg(not(unix))]
    pub(crate) fn new(out: &Output) -> Result<Self, Failure> {
        Ok(Self { out: out.clone() })
    }

    /// The next signal. Cancel-safe.
    #[cfg(unix)]
    pub(crate) async fn next(&mut self) {
        tokio::select! {
            biased;
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => self.out.after_ctrl_c(),
        }
    }

    /// The next Ctrl-C. Cancel-safe.
    #[cfg(not(unix))]
    pub(crate) async fn next(&mut self) {
        if let Err(error) = tokio::signal::ctrl_c().await {
            tracing::error!(%error, "cannot await Ctrl-C");
            std::future::pending::<()>().await;
        }
        self.out.after_ctrl_c();
    }
}
