//! Escapes control characters in a text for people. A value with a line break would forge a line of a log or of a report,
//! and one with an escape character would command the terminal that shows it.

use std::borrow::Cow;
use std::fmt::{self, Write as _};

/// `text` with its control characters as Rust writes them in its literals, such as `\n` and `\u{1b}`.
pub fn escape(text: &str) -> Cow<'_, str> {
    if !text.contains(is_unsafe) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 8);
    // Writing to a `String` cannot fail.
    let _ = Escaping(&mut escaped).write_str(text);
    Cow::Owned(escaped)
}

/// A tab neither begins a line nor commands a terminal. The separators of lines and paragraphs begin a line for some
/// readers of logs.
fn is_unsafe(character: char) -> bool {
    character != '\t' && (character.is_control() || matches!(character, '\u{2028}' | '\u{2029}'))
}

/// Escapes what is written through it.
pub struct Escaping<'writer, Writer: ?Sized>(pub &'writer mut Writer);

impl<Writer: fmt::Write + ?Sized> fmt::Write for Escaping<'_, Writer> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut rest = text;
        while let Some(position) = rest.find(is_unsafe) {
            let (before, from) = rest.split_at(position);
            self.0.write_str(before)?;
            let mut characters = from.chars();
            if let Some(character) = characters.next() {
                write!(self.0, "{}", character.escape_default())?;
            }
            rest = characters.as_str();
        }
        self.0.write_str(rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_escaped_and_other_text_stays() {
        assert_eq!(escape("order-7\tÄ"), "order-7\tÄ");
        assert_eq!(escape("a\nb\r\u{1b}[2J\u{9b}\u{2028}\u{7f}c"), r"a\nb\r\u{1b}[2J\u{9b}\u{2028}\u{7f}c");
    }
}
