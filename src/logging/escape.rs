//! Escapes control characters in text logs. A value with a line break would forge a record, and one with an escape
//! character would command the terminal that shows the log.

use std::borrow::Cow;
use std::fmt::{self, Write as _};

use tracing_subscriber::field::MakeExt as _;
use tracing_subscriber::fmt::FormatFields;
use tracing_subscriber::fmt::format::{Writer, debug_fn};

/// `text` with its control characters as Rust writes them in its literals, such as `\n` and `\u{1b}`.
pub(super) fn escape(text: &str) -> Cow<'_, str> {
    if !text.contains(is_unsafe) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 8);
    // Writing to a `String` cannot fail.
    let _ = Escaping(&mut escaped).write_str(text);
    Cow::Owned(escaped)
}

/// Formats the fields of a record as Tracing does, but with escapes.
pub(super) fn escaped_fields() -> impl for<'writer> FormatFields<'writer> + Send + Sync + 'static {
    let format = |writer: &mut Writer<'_>, field: &tracing::field::Field, value: &dyn fmt::Debug| {
        let mut writer = Escaping(writer);
        match field.name() {
            "message" => write!(writer, "{value:?}"),
            name => write!(writer, "{}={value:?}", name.strip_prefix("r#").unwrap_or(name)),
        }
    };
    debug_fn(format).delimited(" ")
}

/// A tab neither begins a line nor commands a terminal. The separators of lines and paragraphs begin a line for some
/// readers of logs.
fn is_unsafe(character: char) -> bool {
    character != '\t' && (character.is_control() || matches!(character, '\u{2028}' | '\u{2029}'))
}

struct Escaping<'writer, Writer>(&'writer mut Writer);

impl<Writer: fmt::Write> fmt::Write for Escaping<'_, Writer> {
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
