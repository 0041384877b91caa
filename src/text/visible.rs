//! Text of somebody else's making, for a terminal.

use core::fmt::{self, Write as _};

/// A text without what a terminal would obey instead of showing it.
#[derive(Clone, Copy, Debug)]
pub struct Visible<'t>(pub &'t str);

impl fmt::Display for Visible<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|c| {
            f.write_char(if is_visible(c) { c } else { char::REPLACEMENT_CHARACTER })
        })
    }
}

/// Whether a terminal shows a character as itself: it neither controls the terminal nor turns the
/// direction of what follows (Unicode Standard Annex 9, section 2).
#[must_use]
pub fn is_visible(c: char) -> bool {
    let turns = matches!(
        c,
        '\u{061C}' | '\u{200E}' | '\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}'
    );
    !c.is_control() && !turns
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_replaced() {
        for (text, shown) in [
            ("can0", "can0"),
            ("Straße 車", "Straße 車"),
            ("\u{1b}[31mred\u{7}", "\u{FFFD}[31mred\u{FFFD}"),
            ("a\u{9b}31m\r\n", "a\u{FFFD}31m\u{FFFD}\u{FFFD}"),
            ("\u{202e}0nac", "\u{FFFD}0nac"),
        ] {
            assert_eq!(Visible(text).to_string(), shown);
        }
    }
}
