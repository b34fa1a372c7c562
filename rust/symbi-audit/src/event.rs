//! An event on its way in, and the bytes of its line from `event_type` to `personal`.
//!
//! The line is written by hand because it is on the hot path, and because its order of fields is part of the format.
//! `details` arrives as JSON already; the kernel makes it and it is not parsed again (callers from outside go through
//! [`crate::check_details`] first).

use std::io::Write as _;
use std::sync::LazyLock;

use symbi_types::{AgentId, LabelSet, OperationId, RunId};

use crate::LogError;

/// The longest name of a type.
pub const EVENT_TYPE_BYTES_MAX: usize = 64;
/// The longest line. With it the whole buffer fits into the reserve that a full disk leaves (`pipeline`).
pub const RECORD_BYTES_MAX: usize = 256 * 1024;

/// What is to be recorded.
#[derive(Clone, Copy, Debug)]
pub struct Event<'a> {
    /// What kind: dotted words, such as `tool.called`. `log.…`, `key.rotated` and `clock.anomaly` are the log's own.
    pub event_type: &'a str,
    /// Whose doing.
    pub agent_id: Option<AgentId>,
    /// Whose doing, where an application names its agents itself; used when `agent_id` is `None`.
    pub agent_text: Option<&'a str>,
    /// The run it belongs to.
    pub run: Option<RunId>,
    /// The operation it belongs to.
    pub op: Option<OperationId>,
    /// `allow`, `deny`, `redact`, ….
    pub decision: Option<&'a str>,
    /// The digest of the policies that decided.
    pub policy: Option<&'a str>,
    /// Labels of the data concerned.
    pub labels: &'a LabelSet,
    /// Pseudonyms of the persons concerned.
    pub subjects: &'a [String],
    /// A JSON object.
    pub details: &'a str,
    /// A JSON object of sealed personal values.
    pub personal: Option<&'a str>,
}

static NO_LABELS: LazyLock<LabelSet> = LazyLock::new(LabelSet::default);

impl<'a> Event<'a> {
    /// An event of which only this much is known.
    #[must_use]
    pub fn new(event_type: &'a str, details: &'a str) -> Self {
        Self {
            event_type,
            agent_id: None,
            agent_text: None,
            run: None,
            op: None,
            decision: None,
            policy: None,
            labels: &NO_LABELS,
            subjects: &[],
            details,
            personal: None,
        }
    }
}

/// Checks the name of a type: 1 to 64 of letters, digits, `.`, `_`, `-`, `:`, beginning with a letter, and not one of
/// the log's own.
///
/// # Errors
/// [`LogError::Event`].
pub fn check_event_type(event_type: &str) -> Result<(), LogError> {
    let body = |byte: u8| byte.is_ascii_alphanumeric() || b"._-:".contains(&byte);
    let good = event_type.len() <= EVENT_TYPE_BYTES_MAX
        && event_type.bytes().next().is_some_and(|byte| byte.is_ascii_alphabetic())
        && event_type.bytes().all(body);
    if !good {
        let shown: String = event_type.chars().take(80).collect();
        return Err(LogError::Event {
            reason: format!("`{shown}` is not an event type: 1 to 64 of letters, digits, `.`, `_`, `-`, `:`"),
        });
    }
    if event_type.starts_with("log.") || event_type == "key.rotated" || event_type == "clock.anomaly" {
        return Err(LogError::Event { reason: format!("`{event_type}` is written by the log itself") });
    }
    Ok(())
}

/// Appends `,"event_type":…` up to and with `"personal":…`.
pub(crate) fn write_rest(event: &Event<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(b",\"event_type\":\"");
    out.extend_from_slice(event.event_type.as_bytes());
    out.extend_from_slice(b"\",\"agent_id\":");
    match (event.agent_id, event.agent_text) {
        (Some(id), _) => write_uuid(id.as_bytes(), out),
        (None, text) => write_optional(text, out),
    }
    out.extend_from_slice(b",\"run\":");
    match event.run {
        Some(id) => write_uuid(id.as_bytes(), out),
        None => out.extend_from_slice(b"null"),
    }
    out.extend_from_slice(b",\"op\":");
    match event.op {
        Some(id) => write_uuid(id.as_bytes(), out),
        None => out.extend_from_slice(b"null"),
    }
    out.extend_from_slice(b",\"decision\":");
    write_optional(event.decision, out);
    out.extend_from_slice(b",\"policy\":");
    write_optional(event.policy, out);
    out.extend_from_slice(b",\"labels\":");
    write_list(event.labels.iter().map(symbi_types::Label::as_str), out);
    out.extend_from_slice(b",\"subjects\":");
    if event.subjects.is_empty() {
        write_list(event.labels.iter().filter_map(symbi_types::Label::subject), out); // their data it concerns
    } else {
        write_list(event.subjects.iter().map(String::as_str), out);
    }
    out.extend_from_slice(b",\"details\":");
    out.extend_from_slice(event.details.as_bytes());
    out.extend_from_slice(b",\"personal\":");
    out.extend_from_slice(event.personal.unwrap_or("null").as_bytes());
}

fn write_optional(text: Option<&str>, out: &mut Vec<u8>) {
    match text {
        Some(text) => write_json_string(text, out),
        None => out.extend_from_slice(b"null"),
    }
}

fn write_list<'a>(items: impl Iterator<Item = &'a str>, out: &mut Vec<u8>) {
    out.push(b'[');
    for (at, item) in items.enumerate() {
        if at > 0 {
            out.push(b',');
        }
        write_json_string(item, out);
    }
    out.push(b']');
}

/// A UUID in quotes: the text of `symbi_types`' ids, without going through `fmt`.
pub(crate) fn write_uuid(bytes: &[u8; 16], out: &mut Vec<u8>) {
    let mut digits = [0u8; 32];
    crate::chain::write_hex(&mut digits, bytes);
    let mut rest = digits.as_slice();
    out.push(b'"');
    for (at, length) in [8, 4, 4, 4, 12].into_iter().enumerate() {
        if at > 0 {
            out.push(b'-');
        }
        let (group, after) = rest.split_at(length);
        out.extend_from_slice(group);
        rest = after;
    }
    out.push(b'"');
}

/// Appends a decimal number.
pub(crate) fn write_number(value: u64, out: &mut Vec<u8>) {
    let mut digits = [0u8; 20];
    let mut rest = value;
    let mut used = 0;
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + u8::try_from(rest % 10).unwrap_or(0);
        rest /= 10;
        used += 1;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(digits.get(digits.len() - used..).unwrap_or_default());
}

/// Appends `text` as a JSON string, quotes included. Escapes what JSON requires, and DEL for terminals' sake.
pub fn write_json_string(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    let bytes = text.as_bytes();
    let mut clean_from = 0;
    for (at, &byte) in bytes.iter().enumerate() {
        if !matches!(byte, b'"' | b'\\' | 0..=0x1f | 0x7f) {
            continue;
        }
        out.extend_from_slice(bytes.get(clean_from..at).unwrap_or_default());
        clean_from = at + 1;
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            _ => {
                let written = write!(out, "\\u{byte:04x}");
                debug_assert!(written.is_ok(), "a vector takes every write");
            }
        }
    }
    out.extend_from_slice(bytes.get(clean_from..).unwrap_or_default());
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;
    use symbi_types::{EventId, SystemEntropy};

    #[test]
    fn strings_are_escaped_so_that_the_strict_reader_gives_them_back() {
        for text in ["", "plain", "q\"b\\s/", "\n\r\t\u{0}\u{1f}\u{7f}", "é😀\u{2028}", "\\u0041"] {
            let mut out = Vec::new();
            write_json_string(text, &mut out);
            let raw = String::from_utf8(out).unwrap();
            assert!(raw.bytes().all(|byte| byte >= 0x20), "{raw}");
            assert_eq!(crate::json::text(&raw).unwrap(), text);
        }
    }

    #[test]
    fn uuids_and_numbers_are_written_as_everywhere_else() {
        let id = EventId::random(&SystemEntropy);
        let mut out = Vec::new();
        write_uuid(id.as_bytes(), &mut out);
        assert_eq!(String::from_utf8(out).unwrap(), format!("\"{id}\""));
        for value in [0, 7, 10, 1_234_567_890, u64::MAX] {
            let mut out = Vec::new();
            write_number(value, &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), value.to_string());
        }
    }

    #[test]
    fn the_logs_own_types_and_odd_names_are_refused() {
        for good in ["tool.called", "TOOL_CALL", "a", "x:y-z"] {
            assert!(check_event_type(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "1a",
            "a b",
            "a\"b",
            "é",
            "log.created",
            "log.x",
            "key.rotated",
            "clock.anomaly",
            &"a".repeat(65),
        ] {
            assert!(check_event_type(bad).is_err(), "{bad}");
        }
    }
}
