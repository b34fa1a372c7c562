//! Lines out, refusals and failures.

use std::io::Write;

use serde_json::{Value, json};

/// Longest line with its newline, bytes: what the host's reader takes (docs/formats/guest.md).
pub const LINE_BYTES_MAX: usize = 1 << 20;

/// Longest text inside a refusal, bytes: it may quote what the caller gave.
const MESSAGE_BYTES_MAX: usize = 4 << 10;

/// Why the program was not started.
#[derive(Debug)]
pub(crate) enum Stop {
    /// Wrong use, or something that cannot be enforced here (G2). Exit code 2.
    Refused { code: &'static str, name: String, message: String },
    /// It did not work. The exit code is the last field.
    Failed { code: &'static str, name: String, message: String, exit: u8 },
    /// Nobody reads any more. Exit code 70, and nothing to say it to.
    Unread,
}

impl Stop {
    pub(crate) fn refused(code: &'static str, name: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Refused { code, name: name.into(), message: message.into() }
    }

    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::refused("usage", "", message)
    }

    pub(crate) fn internal(name: &str, error: impl std::fmt::Display) -> Self {
        Self::Failed { code: "internal", name: name.into(), message: error.to_string(), exit: 70 }
    }

    /// The exit code.
    pub(crate) fn exit(&self) -> u8 {
        match self {
            Self::Refused { .. } => 2,
            Self::Failed { exit, .. } => *exit,
            Self::Unread => 70,
        }
    }

    /// Says why, on stdout for the host and on stderr for a person.
    pub(crate) fn report(&self) {
        let (kind, code, name, message) = match self {
            Self::Refused { code, name, message } => ("refused", code, name, message),
            Self::Failed { code, name, message, .. } => ("failed", code, name, message),
            Self::Unread => return,
        };
        let name = cut(name);
        let message = cut(message);
        let line = json!({"type": kind, "code": code, "name": name, "message": message});
        let _ = emit(&mut std::io::stdout().lock(), &line);
        let _ = writeln!(std::io::stderr(), "symbi-guest: {message}");
    }
}

fn cut(text: &str) -> &str {
    let mut end = text.len().min(MESSAGE_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}

/// Writes one line (G1).
pub(crate) fn emit(out: &mut impl Write, line: &Value) -> Result<(), Stop> {
    let mut bytes = serde_json::to_vec(line).map_err(|error| Stop::internal("line", error))?;
    bytes.push(b'\n');
    if LINE_BYTES_MAX < bytes.len() {
        let kind = line.get("type").and_then(Value::as_str).unwrap_or_default();
        return Err(Stop::internal(kind, format!("a line of {} bytes is too long", bytes.len())));
    }
    out.write_all(&bytes).and_then(|()| out.flush()).map_err(|_| Stop::Unread)
}
