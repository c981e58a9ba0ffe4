//! The real world, as all commands use it.

use std::{
    path::{Path, PathBuf},
    sync::OnceLock,
};

use anyhow::anyhow;
use sideband::env::{
    Env,
    real::{Roots, TlsError},
};

use crate::failure::Failure;

/// What `--ca` names.
static TRUSTED: OnceLock<PathBuf> = OnceLock::new();

/// Lets every world of this process trust the authorities of a PEM file beside the system's.
pub(crate) fn trust(file: PathBuf) {
    // Called once, by main.
    let _ = TRUSTED.set(file);
}

/// The operating system's clock, randomness and network, with its certificate authorities and those of `--ca`.
pub(crate) fn real() -> Result<Env, Failure> {
    trusting(None)
}

/// The same, with the authorities of one more PEM file.
pub(crate) fn trusting(file: Option<&Path>) -> Result<Env, Failure> {
    let files: Vec<PathBuf> = TRUSTED.get().map(PathBuf::as_path).into_iter().chain(file).map(Path::to_owned).collect();
    Env::real(&Roots::SystemAndAll(files)).map_err(|error| match error {
        TlsError::File { .. } => {
            Failure::misuse(anyhow!("{error}")).hint("--ca takes a PEM file, such as the ca.pem that `up --tls` names")
        }
        TlsError::Key { .. } | TlsError::Setup(_) => Failure::cannot_run(anyhow!("{error}")),
    })
}

/// This program as it was invoked, for commands to copy into a shell.
pub(crate) fn program() -> String {
    let name = std::env::args_os().next().filter(|name| !name.is_empty());
    shell_word(&name.map_or_else(|| "sideband-sim".into(), |name| name.to_string_lossy().into_owned()))
}

/// The flag that lets a command trust a server, with a space before it; nothing if the system's authorities do.
pub(crate) fn trust_flag(ca: Option<&Path>) -> String {
    ca.map_or_else(String::new, |file| format!(" --ca {}", shell_word(&file.to_string_lossy())))
}

fn shell_word(text: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "/._-+:\\".contains(c);
    if text.chars().all(plain) { text.to_owned() } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_with_spaces_is_one_word() {
        assert_eq!(shell_word("target/release/sideband-sim"), "target/release/sideband-sim");
        assert_eq!(shell_word("/My Tools/it's"), r"'/My Tools/it'\''s'");
    }
}
