//! The real world, as all commands use it.

use anyhow::anyhow;
use sideband::env::{Env, real::Roots};

use crate::failure::Failure;

/// The operating system's clock, randomness and network, with its certificate authorities.
pub(crate) fn real() -> Result<Env, Failure> {
    Env::real(&Roots::System).map_err(|error| Failure::cannot_run(anyhow!("{error}")))
}

/// This program as it was invoked, for commands to copy into a shell.
pub(crate) fn program() -> String {
    let name = std::env::args_os().next().filter(|name| !name.is_empty());
    shell_word(&name.map_or_else(|| "sideband-sim".into(), |name| name.to_string_lossy().into_owned()))
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
