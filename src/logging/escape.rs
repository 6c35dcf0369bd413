//! The fields of a record in a text log, with escapes for control characters.

use std::fmt::{self, Write as _};

use engine_adapter::Escaping;
use tracing::field::{Field, Visit};
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::fmt::FormatFields;
use tracing_subscriber::fmt::format::Writer;

/// Marks a record whose message has lines of its own. Its maker has escaped each value in it.
pub(super) const MULTILINE: &str = "multiline";

/// Formats the fields of a record as Tracing does, but with escapes.
pub(super) struct EscapedFields;

impl<'writer> FormatFields<'writer> for EscapedFields {
    fn format_fields<R: RecordFields>(&self, writer: Writer<'writer>, fields: R) -> fmt::Result {
        let mut marker = FindMarker(false);
        fields.record(&mut marker);
        let mut fields_writer = FieldsWriter { writer, is_multiline: marker.0, is_first: true, written: Ok(()) };
        fields.record(&mut fields_writer);
        fields_writer.written
    }
}

struct FindMarker(bool);

impl Visit for FindMarker {
    fn record_debug(&mut self, field: &Field, _: &dyn fmt::Debug) {
        self.0 |= field.name() == MULTILINE;
    }
}

struct FieldsWriter<'writer> {
    writer: Writer<'writer>,
    is_multiline: bool,
    is_first: bool,
    written: fmt::Result,
}

impl FieldsWriter<'_> {
    fn write(&mut self, name: &str, value: &dyn fmt::Debug) -> fmt::Result {
        if !std::mem::take(&mut self.is_first) {
            self.writer.write_char(' ')?;
        }
        match name {
            "message" if self.is_multiline => write!(self.writer, "{value:?}"),
            "message" => write!(Escaping(&mut self.writer), "{value:?}"),
            name => {
                write!(Escaping(&mut self.writer), "{}={value:?}", name.strip_prefix("r#").unwrap_or(name))
            }
        }
    }
}

impl Visit for FieldsWriter<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if self.written.is_ok() && field.name() != MULTILINE {
            self.written = self.write(field.name(), value);
        }
    }
}
