//! Writing the `details` of a record: flat, allocation-light, always valid JSON.
//!
//! Not here: reading. Whoever reads the log uses a full parser.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use symbi_audit::write_json_string;

/// An object being written.
#[derive(Clone)]
pub(crate) struct Object {
    text: Vec<u8>,
}

impl Object {
    pub(crate) fn new() -> Self {
        let mut text = Vec::with_capacity(256);
        text.push(b'{');
        Self { text }
    }

    fn key(&mut self, key: &str) {
        if self.text.len() > 1 {
            self.text.push(b',');
        }
        write_json_string(key, &mut self.text);
        self.text.push(b':');
    }

    pub(crate) fn string(mut self, key: &str, value: &str) -> Self {
        self.key(key);
        write_json_string(value, &mut self.text);
        self
    }

    /// `bytes` in base64, in which there is nothing to escape.
    pub(crate) fn base64(mut self, key: &str, bytes: &[u8]) -> Self {
        self.key(key);
        self.text.push(b'"');
        let start = self.text.len();
        self.text.resize(start + bytes.len().div_ceil(3) * 4, 0);
        let written = STANDARD.encode_slice(bytes, self.text.get_mut(start..).unwrap_or_default());
        debug_assert_eq!(written, Ok(self.text.len() - start), "four letters for three bytes");
        self.text.push(b'"');
        self
    }

    pub(crate) fn display(self, key: &str, value: impl std::fmt::Display) -> Self {
        self.string(key, &value.to_string())
    }

    pub(crate) fn number(mut self, key: &str, value: u64) -> Self {
        self.key(key);
        self.text.extend_from_slice(value.to_string().as_bytes());
        self
    }

    pub(crate) fn flag(mut self, key: &str, value: bool) -> Self {
        self.key(key);
        self.text.extend_from_slice(if value { b"true" } else { b"false" });
        self
    }

    pub(crate) fn strings<'a>(mut self, key: &str, values: impl IntoIterator<Item = &'a str>) -> Self {
        self.key(key);
        self.text.push(b'[');
        for (at, value) in values.into_iter().enumerate() {
            if at > 0 {
                self.text.push(b',');
            }
            write_json_string(value, &mut self.text);
        }
        self.text.push(b']');
        self
    }

    /// `value` is JSON already.
    pub(crate) fn raw(mut self, key: &str, value: &str) -> Self {
        self.key(key);
        self.text.extend_from_slice(value.as_bytes());
        self
    }

    pub(crate) fn finish(mut self) -> String {
        self.text.push(b'}');
        // Only whole texts were appended, so it is UTF-8; were it not, an empty object is still a valid record.
        String::from_utf8(self.text).unwrap_or_else(|_| "{}".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_string_reads_back_as_itself() {
        let hostile = "a\"b\\c\n\r\t\u{0}\u{1f}\u{7f}é\u{2028}😀";
        let text = Object::new()
            .string("k\"", hostile)
            .number("n", 7)
            .flag("f", true)
            .strings("s", ["x", hostile])
            .raw("r", "{}")
            .base64("b", b"\xfb\xff\x00a")
            .base64("e", b"")
            .finish();
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["k\""], hostile);
        assert_eq!(value["s"][1], hostile);
        assert_eq!(value["n"], 7);
        assert_eq!((&value["b"], &value["e"]), (&"+/8AYQ==".into(), &"".into()));
    }
}
