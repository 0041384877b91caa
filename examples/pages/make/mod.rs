//! The man pages and the completions, as text.

mod bash;
mod fish;
mod help;
mod man;
mod markdown;
mod roff;
mod zsh;

use std::path::Path;

/// A file of the repository, as it should be.
pub(crate) struct Page {
    /// Where it belongs, from the root of the repository.
    pub(crate) path: &'static str,
    pub(crate) text: String,
}

/// The root of the repository.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All pages. Fails with a sentence when one of the sources is missing or has an unknown form.
pub(crate) fn pages() -> Result<Vec<Page>, String> {
    let help = help::Help::read()?;
    let date = release_date()?;
    Ok(vec![
        Page { path: "man/canspan.1", text: man::program(&help, &date) },
        Page { path: "man/canspan@.8", text: man::service(&date)? },
        Page { path: "man/canspan-protocol.7", text: man::protocol(&date)? },
        Page { path: "completions/canspan.bash", text: bash::script(&help) },
        Page { path: "completions/_canspan", text: zsh::script(&help) },
        Page { path: "completions/canspan.fish", text: fish::script(&help) },
    ])
}

fn read(path: &str) -> Result<String, String> {
    std::fs::read_to_string(root().join(path))
        .map_err(|error| format!("{path} cannot be read: {error}"))
}

/// The day of the newest entry of the package's changelog, as in `2026-11-21`. A man page has the
/// day of its release; the day it is made on would make every build another one.
fn release_date() -> Result<String, String> {
    let path = "packaging/debian/changelog";
    read(path)?
        .lines()
        .find_map(|line| line.strip_prefix(" -- ")?.split_once(", "))
        .and_then(|(_, date)| iso(date))
        .ok_or_else(|| format!("{path} has no line ` -- NAME <MAIL>  DAY, DATE`"))
}

/// `21 Nov 2026 12:00:00 +0000` as `2026-11-21`.
fn iso(date: &str) -> Option<String> {
    const MONTHS: &str = "JanFebMarAprMayJunJulAugSepOctNovDec";
    let mut words = date.split(' ');
    let (day, month, year) = (words.next()?, words.next()?, words.next()?);
    Some(format!("{year}-{:02}-{day:0>2}", MONTHS.find(month)? / 3 + 1))
}
