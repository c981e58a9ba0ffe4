//! Quick Connect codes for people: the code, its link, and the link as a picture.

use std::time::Duration;

use owo_colors::{OwoColorize, Style};
use qrcode::{EcLevel, QrCode, render::unicode::Dense1x2};
use serde::Serialize;
use sideband::{Error, QuickConnectCode, Server};

/// How often a code is asked for again where the control plane says when (API-09).
const RETRIES: usize = 5;

/// Asks for a code; where the control plane says that it is too early, as often as [`RETRIES`] once more when it says so.
pub(crate) async fn create(server: &Server, ttl: Option<Duration>) -> Result<QuickConnectCode, Error> {
    for _ in 0..RETRIES {
        match server.create_quick_connect(ttl).await {
            Ok(code) => return Ok(code),
            Err(error) => match error.retry_after() {
                Some(wait) => tokio::time::sleep(wait).await,
                None => return Err(error),
            },
        }
    }
    server.create_quick_connect(ttl).await
}

/// A code as JSON.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct CodeEvent<'a> {
    code: &'a str,
    url: &'a str,
    expires_at: &'a str,
}

impl<'a> From<&'a QuickConnectCode> for CodeEvent<'a> {
    fn from(code: &'a QuickConnectCode) -> Self {
        Self { code: &code.code, url: &code.url, expires_at: &code.expires_at }
    }
}

/// A code for people: how to use it, and its picture.
pub(crate) fn describe(code: &QuickConnectCode, colored: bool) -> String {
    let head = format!(
        "  {} {}   {}\n  {}\n",
        "Quick Connect".bold(),
        code.code.green().bold(),
        format!("works once, until {}", code.expires_at).dimmed(),
        code.url.cyan(),
    );
    match picture(&code.url, colored) {
        Some(picture) => format!("{head}\n{picture}"),
        None => head,
    }
}

/// A text as a QR picture of half blocks; `None` if it does not fit into one.
fn picture(text: &str, colored: bool) -> Option<String> {
    let qr = QrCode::with_error_correction_level(text, EcLevel::L).ok()?;
    let mut renderer = qr.render::<Dense1x2>();
    // With colours the picture is black on white whatever the terminal's are; without, most terminals write light on dark.
    if !colored {
        renderer.dark_color(Dense1x2::Light).light_color(Dense1x2::Dark);
    }
    let picture = renderer.build();
    let paper = Style::new().truecolor(0, 0, 0).on_truecolor(255, 255, 255);
    let line = |line: &str| if colored { format!("  {}\n", line.style(paper)) } else { format!("  {line}\n") };
    Some(picture.lines().map(line).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_is_square_and_has_its_quiet_zone() {
        let text = picture("http://127.0.0.1:7600/connect#qc=abcd-efgh-ijkl", false).unwrap();
        let lines: Vec<Vec<char>> = text.lines().map(|line| line.chars().skip(2).collect()).collect();
        let width = lines[0].len();
        assert!(lines.iter().all(|line| line.len() == width), "{text}");
        assert_eq!(lines.len(), width.div_ceil(2));
        assert!(lines[0].iter().all(|module| *module == '█'), "light modules are drawn where the terminal is dark");
    }
}
