//! Formats of log lines: text for people, JSON for machines. Both hold the fields of all enclosing spans, so that every
//! line of a recording names it.

use std::fmt;
use std::time::SystemTime;

use serde_json::Value;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::field::VisitOutput as _;
use tracing_subscriber::fmt::format::{DefaultVisitor, JsonFields, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, FormattedFields};
use tracing_subscriber::registry::LookupSpan;

use crate::codes::{self, Code};

/// Prefix of the targets of this program's own events and spans.
const OWN_TARGET: &str = "plugnmeet_recorder";

/// Whether an event or span is this program's own.
pub(super) fn is_own(target: &str) -> bool {
    target.strip_prefix(OWN_TARGET).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

/// The field of an event that holds its code (see [`codes`]).
const CODE: &str = "code";

/// `2026-08-01T10:00:00.042Z  WARN PNR-0203 recording{recording_id=… room_id=… task=…}: message key=value`; events of
/// libraries also name their target.
#[derive(Debug)]
pub(super) struct TextFormat;

impl<S, N> FormatEvent<S, N> for TextFormat
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'w> FormatFields<'w> + 'static,
{
    fn format_event(&self, ctx: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        write!(writer, "{} {:>5} ", now(), event.metadata().level())?;
        if let Some(code) = code(event) {
            write!(writer, "{code} ")?;
        }
        for span in ctx.event_scope().into_iter().flat_map(tracing_subscriber::registry::Scope::from_root) {
            write!(writer, "{}", span.name())?;
            let extensions = span.extensions();
            if let Some(fields) = extensions.get::<FormattedFields<N>>().filter(|fields| !fields.is_empty()) {
                write!(writer, "{{{fields}}}")?;
            }
            write!(writer, ": ")?;
        }
        if !is_own(event.metadata().target()) {
            write!(writer, "[{}] ", event.metadata().target())?;
        }
        let mut fields = WithoutCode(DefaultVisitor::new(writer.by_ref(), true));
        event.record(&mut fields);
        fields.0.finish()?;
        writeln!(writer)
    }
}

/// One flat object: `timestamp`, `level`, `code` where there is one, `message`, `target`, then the fields of the spans and of the event, so that
/// `jq 'select(.recording_id == "…")'` finds a recording. A later field replaces an earlier one of the same name.
#[derive(Debug)]
pub(super) struct JsonFormat;

impl<S> FormatEvent<S, JsonFields> for JsonFormat
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn format_event(
        &self,
        ctx: &FmtContext<'_, S, JsonFields>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut object = FieldObject(vec![
            ("timestamp".to_owned(), now().to_string().into()),
            ("level".to_owned(), event.metadata().level().as_str().to_ascii_lowercase().into()),
        ]);
        object.0.extend(code(event).map(|code| (CODE.to_owned(), code.into())));
        object.0.push(("message".to_owned(), "".into()));
        object.0.push(("target".to_owned(), event.metadata().target().into()));
        for span in ctx.event_scope().into_iter().flat_map(tracing_subscriber::registry::Scope::from_root) {
            let extensions = span.extensions();
            let Some(fields) = extensions.get::<FormattedFields<JsonFields>>() else { continue };
            if let Ok(fields) = serde_json::from_str::<serde_json::Map<String, Value>>(fields) {
                fields.into_iter().for_each(|(name, value)| object.put(&name, value));
            }
        }
        event.record(&mut object);
        writeln!(writer, "{object}")
    }
}

/// The code of an event; a warning or error of a library has the one of all of them.
fn code(event: &Event<'_>) -> Option<String> {
    if !is_own(event.metadata().target()) {
        return (*event.metadata().level() <= Level::WARN).then(|| codes::LIBRARY.to_string());
    }
    event.metadata().fields().field(CODE)?;
    let mut code = CodeVisitor(None);
    event.record(&mut code);
    code.0
}

/// Finds the code.
struct CodeVisitor(Option<String>);

impl Visit for CodeVisitor {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == CODE {
            self.0 = Some(format!("{value:?}"));
        }
    }
}

/// Writes the fields without the code, which stands before them.
struct WithoutCode<'a>(DefaultVisitor<'a>);

impl Visit for WithoutCode<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.record_str(field, value);
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.0.record_error(field, value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // A library may have a field of this name.
        if field.name() != CODE || !format!("{value:?}").starts_with(Code::PREFIX) {
            self.0.record_debug(field, value);
        }
    }
}

/// UTC with milliseconds (RFC 3339).
fn now() -> humantime::Rfc3339Timestamp {
    humantime::format_rfc3339_millis(SystemTime::now())
}

/// A JSON object that keeps the order of its members.
struct FieldObject(Vec<(String, Value)>);

impl FieldObject {
    fn put(&mut self, name: &str, value: Value) {
        let name = name.strip_prefix("r#").unwrap_or(name);
        // A field must not replace a member that every line has, nor be taken for a code.
        let other_code = name == CODE && !value.as_str().is_some_and(|value| value.starts_with(Code::PREFIX));
        let is_taken = other_code || matches!(name, "timestamp" | "level" | "target");
        let name = if is_taken { format!("{name}_") } else { name.to_owned() };
        match self.0.iter_mut().find(|(other, _)| *other == name) {
            Some((_, old)) => *old = value,
            None => self.0.push((name, value)),
        }
    }
}

impl fmt::Display for FieldObject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (name, value)) in self.0.iter().enumerate() {
            let before = if index == 0 { '{' } else { ',' };
            write!(f, "{before}{}:{value}", Value::from(name.as_str()))?;
        }
        f.write_str("}")
    }
}

impl Visit for FieldObject {
    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field.name(), value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field.name(), value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field.name(), value.into());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field.name(), value.into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field.name(), value.into());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field.name(), format!("{value:?}").into());
    }
}
