//! The strict JSON of records: what every reader of every language reads alike, and nothing else.
//!
//! Why not a library: libraries keep the last of two equal keys, round big integers and repair lone surrogates, and
//! each such kindness is a place where two verifiers see two records.
//!
//! Invariants
//! - J1 no key twice in an object, compared after unescaping. J2 no lone surrogate. J3 integers up to 2^53; floats only
//!   where the caller allows them, and finite. J4 at most [`JSON_DEPTH_MAX`] levels deep.

use std::borrow::Cow;

/// Levels of nesting. Deep enough for any sane document, shallow enough for the stack of any reader.
pub const JSON_DEPTH_MAX: usize = 64;
/// The largest integer that every reader keeps exactly.
const INTEGER_MAX: u64 = 1 << 53;
/// Above this many keys an object's keys are compared by sorting alone, not by looking for two that are alike first.
const PAIRWISE_MAX: usize = 32;

/// A text that is not the JSON that a record may hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason} at byte {at}")]
pub struct JsonError {
    /// What is wrong.
    pub reason: &'static str,
    /// Where, from 0.
    pub at: usize,
}

/// Checks that `text` is one JSON object of this kind, as `details` must be.
///
/// # Errors
/// [`JsonError`] with the first fault.
pub fn check_details(text: &str) -> Result<(), JsonError> {
    members(text, |_| true).map(|_| ())
}

/// The members of the one object that `text` is, as raw text: name without its quotes, value.
pub(crate) fn members(text: &str, floats: impl Fn(&str) -> bool) -> Result<Vec<(&str, &str)>, JsonError> {
    let mut parser = Parser { text, at: 0, floats: false };
    parser.space();
    parser.expect(b'{', "not an object")?;
    let mut found: Vec<(&str, &str)> = Vec::with_capacity(20);
    parser.space();
    if parser.peek() == Some(b'}') {
        parser.at += 1;
    } else {
        loop {
            parser.space();
            let name = parser.string()?;
            parser.space();
            parser.expect(b':', "no colon after a key")?;
            parser.space();
            parser.floats = floats(name);
            let start = parser.at;
            parser.value(1)?;
            found.push((name, text.get(start..parser.at).unwrap_or_default()));
            if !parser.more(b'}')? {
                break;
            }
        }
    }
    parser.space();
    if parser.at != text.len() {
        return Err(parser.fault("something after the object"));
    }
    unique(found.iter().map(|(name, _)| *name)).map_err(|()| parser.fault("a key appears twice"))?;
    Ok(found)
}

/// The items of the array that `raw` is. `raw` has passed [`members`].
pub(crate) fn items(raw: &str) -> Option<Vec<&str>> {
    let mut parser = Parser { text: raw, at: 0, floats: true };
    parser.expect(b'[', "").ok()?;
    let mut found = Vec::new();
    parser.space();
    if parser.peek() == Some(b']') {
        return Some(found);
    }
    loop {
        parser.space();
        let start = parser.at;
        parser.value(1).ok()?;
        found.push(raw.get(start..parser.at)?);
        if !parser.more(b']').ok()? {
            return Some(found);
        }
    }
}

/// The text of a JSON string with its quotes. `raw` has passed [`members`].
pub(crate) fn text(raw: &str) -> Option<Cow<'_, str>> {
    Some(unescape(raw.strip_prefix('"')?.strip_suffix('"')?))
}

fn unique<'a>(names: impl Iterator<Item = &'a str>) -> Result<(), ()> {
    let names: Vec<&str> = names.collect();
    if names.len() <= PAIRWISE_MAX {
        let mut sketches = [0; PAIRWISE_MAX];
        sketches.iter_mut().zip(&names).for_each(|(place, name)| *place = sketch(name));
        let mut rest = sketches.get(..names.len()).unwrap_or_default();
        let mut apart = !names.iter().any(|name| name.contains('\\'));
        while let Some((one, after)) = rest.split_first().filter(|_| apart) {
            apart = !after.contains(one);
            rest = after;
        }
        if apart {
            return Ok(()); // no two are even alike
        }
    }
    let mut names: Vec<Cow<'_, str>> = names.into_iter().map(unescape).collect();
    names.sort_unstable();
    if names.iter().zip(names.iter().skip(1)).any(|(left, right)| left == right) { Err(()) } else { Ok(()) }
}

/// How many bytes, in steps of eight, are neither a quote nor a backslash nor a control character.
fn plain_bytes(bytes: &[u8]) -> usize {
    const ONES: u64 = u64::from_ne_bytes([0x01; 8]);
    const HIGHS: u64 = u64::from_ne_bytes([0x80; 8]);
    let below = |word: u64, bound: u64| word.wrapping_sub(ONES * bound) & !word & HIGHS;
    let is = |word: u64, byte: u8| below(word ^ (ONES * u64::from(byte)), 1);
    let plain = |chunk: &&[u8]| {
        let word = chunk.first_chunk().map_or(0, |chunk| u64::from_ne_bytes(*chunk));
        below(word, 0x20) | is(word, b'"') | is(word, b'\\') == 0
    };
    bytes.chunks_exact(8).take_while(plain).count() * 8
}

/// A name's length and first bytes: equal for equal names.
fn sketch(name: &str) -> u64 {
    let start = name.bytes().take(7).fold(0, |start, byte| start << 8 | u64::from(byte));
    start << 8 | name.len() as u64 & 0xff
}

/// Undoes the escapes of a string that [`Parser::string`] has accepted.
fn unescape(raw: &str) -> Cow<'_, str> {
    if !raw.contains('\\') {
        return Cow::Borrowed(raw);
    }
    let mut out = String::with_capacity(raw.len());
    let mut rest = raw;
    while let Some((before, after)) = rest.split_once('\\') {
        out.push_str(before);
        let mut chars = after.chars();
        match chars.next() {
            Some('u') => {
                let (value, used) = code_point(after);
                out.push(value);
                rest = after.get(used..).unwrap_or_default();
                continue;
            }
            Some('b') => out.push('\u{8}'),
            Some('f') => out.push('\u{c}'),
            Some('n') => out.push('\n'),
            Some('r') => out.push('\r'),
            Some('t') => out.push('\t'),
            Some(other) => out.push(other),
            None => {}
        }
        rest = chars.as_str();
    }
    out.push_str(rest);
    Cow::Owned(out)
}

/// The character of `uXXXX` or of a surrogate pair `uXXXX\uXXXX`, and how many bytes that was.
fn code_point(after: &str) -> (char, usize) {
    let unit =
        |from: usize| after.get(from..from + 4).and_then(|digits| u32::from_str_radix(digits, 16).ok());
    let first = unit(1).unwrap_or(0);
    match (first, unit(7)) {
        (0xd800..=0xdbff, Some(second)) => {
            let value = 0x1_0000 + ((first - 0xd800) << 10) + second.saturating_sub(0xdc00);
            (char::from_u32(value).unwrap_or(char::REPLACEMENT_CHARACTER), 11)
        }
        _ => (char::from_u32(first).unwrap_or(char::REPLACEMENT_CHARACTER), 5),
    }
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
    floats: bool,
}

impl<'a> Parser<'a> {
    fn fault(&self, reason: &'static str) -> JsonError {
        JsonError { reason, at: self.at }
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn expect(&mut self, byte: u8, reason: &'static str) -> Result<(), JsonError> {
        if self.peek() != Some(byte) {
            return Err(self.fault(reason));
        }
        self.at += 1;
        Ok(())
    }

    /// After an element: whether another follows (`,`) or the end was reached.
    fn more(&mut self, end: u8) -> Result<bool, JsonError> {
        self.space();
        match self.peek() {
            Some(b',') => {
                self.at += 1;
                Ok(true)
            }
            Some(byte) if byte == end => {
                self.at += 1;
                Ok(false)
            }
            _ => Err(self.fault("neither a comma nor an end")),
        }
    }

    fn value(&mut self, depth: usize) -> Result<(), JsonError> {
        if depth > JSON_DEPTH_MAX {
            return Err(self.fault("nested too deep")); // J4
        }
        match self.peek() {
            Some(b'"') => self.string().map(|_| ()),
            Some(b'{') => self.object(depth),
            Some(b'[') => self.array(depth),
            Some(b't') => self.word("true"),
            Some(b'f') => self.word("false"),
            Some(b'n') => self.word("null"),
            Some(b'-' | b'0'..=b'9') => self.number(),
            _ => Err(self.fault("not a value")),
        }
    }

    fn object(&mut self, depth: usize) -> Result<(), JsonError> {
        self.at += 1;
        self.space();
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(());
        }
        let mut names = Vec::new();
        loop {
            self.space();
            names.push(self.string()?);
            self.space();
            self.expect(b':', "no colon after a key")?;
            self.space();
            self.value(depth + 1)?;
            if !self.more(b'}')? {
                return unique(names.into_iter()).map_err(|()| self.fault("a key appears twice")); // J1
            }
        }
    }

    fn array(&mut self, depth: usize) -> Result<(), JsonError> {
        self.at += 1;
        self.space();
        if self.peek() == Some(b']') {
            self.at += 1;
            return Ok(());
        }
        loop {
            self.space();
            self.value(depth + 1)?;
            if !self.more(b']')? {
                return Ok(());
            }
        }
    }

    fn word(&mut self, word: &'static str) -> Result<(), JsonError> {
        if !self.text.get(self.at..).is_some_and(|rest| rest.starts_with(word)) {
            return Err(self.fault("not a value"));
        }
        self.at += word.len();
        Ok(())
    }

    /// A string; answers what is between its quotes, escapes and all.
    fn string(&mut self) -> Result<&'a str, JsonError> {
        self.expect(b'"', "not a string")?;
        let start = self.at;
        loop {
            self.at += plain_bytes(self.text.as_bytes().get(self.at..).unwrap_or_default());
            match self.peek() {
                Some(b'"') => break,
                Some(b'\\') => self.escape()?,
                Some(0x20..) => self.at += 1,
                Some(_) => return Err(self.fault("a control character in a string")),
                None => return Err(self.fault("a string without an end")),
            }
        }
        let inside = self.text.get(start..self.at).unwrap_or_default();
        self.at += 1;
        Ok(inside)
    }

    fn escape(&mut self) -> Result<(), JsonError> {
        self.at += 1;
        match self.peek() {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => {
                self.at += 1;
                Ok(())
            }
            Some(b'u') => {
                let high = self.unit()?;
                match high {
                    0xdc00..=0xdfff => Err(self.fault("a lone surrogate")), // J2
                    0xd800..=0xdbff => {
                        if self.peek() != Some(b'\\') {
                            return Err(self.fault("a lone surrogate"));
                        }
                        self.at += 1;
                        if self.peek() != Some(b'u') || !(0xdc00..=0xdfff).contains(&self.unit()?) {
                            return Err(self.fault("a lone surrogate"));
                        }
                        Ok(())
                    }
                    _ => Ok(()),
                }
            }
            _ => Err(self.fault("an unknown escape")),
        }
    }

    /// `uXXXX`, from the `u`.
    fn unit(&mut self) -> Result<u32, JsonError> {
        let digits = self.text.get(self.at + 1..self.at + 5).unwrap_or_default();
        let plain = digits.len() == 4 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        match u32::from_str_radix(digits, 16) {
            Ok(value) if plain => {
                self.at += 5;
                Ok(value)
            }
            _ => Err(self.fault("an unknown escape")),
        }
    }

    fn digits(&mut self) -> usize {
        let start = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        self.at - start
    }

    fn number(&mut self) -> Result<(), JsonError> {
        let start = self.at;
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        let digits_at = self.at;
        let leading_zero = self.peek() == Some(b'0');
        let count = self.digits();
        if count == 0 || (leading_zero && count > 1) {
            return Err(self.fault("not a number"));
        }
        let whole = self.text.get(digits_at..self.at).unwrap_or_default();
        let mut float = false;
        if self.peek() == Some(b'.') {
            float = true;
            self.at += 1;
            if self.digits() == 0 {
                return Err(self.fault("not a number"));
            }
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            float = true;
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            if self.digits() == 0 {
                return Err(self.fault("not a number"));
            }
        }
        if float {
            let value: Option<f64> = self.text.get(start..self.at).and_then(|text| text.parse().ok());
            let good = self.floats && value.is_some_and(f64::is_finite);
            return if good { Ok(()) } else { Err(self.fault("a float where none may be")) }; // J3
        }
        match whole.parse::<u64>() {
            Ok(value) if value <= INTEGER_MAX => Ok(()),
            _ => Err(self.fault("an integer past 2^53")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_string_ends_where_it_ends_however_long_and_whatever_stands_in_it() {
        for length in 0..40 {
            for at in 0..length {
                let with = |inside: &str| {
                    format!("{{\"a\":\"{}{inside}{}\"}}", "x".repeat(at), "é".repeat(length - at))
                };
                assert_eq!(check_details(&with("")), Ok(()));
                assert_eq!(check_details(&with("\\\"")), Ok(()));
                assert_eq!(check_details(&with("\u{7f}\u{ff}!")), Ok(()));
                for bad in ["\"", "\\x", "\u{1f}", "\n", "\0"] {
                    assert!(check_details(&with(bad)).is_err(), "{bad:?} at {at} of {length}");
                }
            }
        }
    }

    #[test]
    fn j1_two_equal_keys_are_found_among_however_many_that_look_alike() {
        for count in [1, 5, 16, 17, 31, 32, 33, 50] {
            let mut names: Vec<String> = (0..count).map(|at| format!("subject_{at:02}")).collect();
            let object = |names: &[String]| {
                let members: Vec<String> = names.iter().map(|name| format!("\"{name}\":1")).collect();
                format!("{{{}}}", members.join(","))
            };
            assert_eq!(check_details(&object(&names)), Ok(()), "{count}");
            names.push(names[count / 2].clone());
            assert!(check_details(&object(&names)).is_err(), "J1 {count}");
            names[count] = names[count].replace('s', "\\u0073");
            assert!(check_details(&object(&names)).is_err(), "J1, escaped, {count}");
        }
    }

    #[test]
    fn what_every_reader_reads_alike_passes() {
        for good in [
            "{}",
            r#" {"a":1,"b":[true,false,null,-0,9007199254740992],"c":{"a":"x"}} "#,
            r#"{"a":"\ud83d\ude00\n\u0000é\/"}"#,
            r#"{"a":1.5e-3,"b":[1e3]}"#,
        ] {
            assert_eq!(check_details(good), Ok(()), "{good}");
        }
    }

    #[test]
    fn j1_to_j4_what_readers_disagree_on_is_refused() {
        let deep = format!("{{\"a\":{}1{}}}", "[".repeat(JSON_DEPTH_MAX), "]".repeat(JSON_DEPTH_MAX));
        let many: String = (0..40).map(|n| format!("\"k{}\":0,", n % 39)).collect();
        for (bad, reason) in [
            (r#"{"a":1,"a":2}"#, "a key appears twice"),
            (r#"{"a":1,"\u0061":2}"#, "a key appears twice"),
            (r#"{"x":{"a":1,"a":2}}"#, "a key appears twice"),
            (&*format!("{{{}\"z\":0}}", many), "a key appears twice"),
            (r#"{"a":"\ud83d"}"#, "a lone surrogate"),
            (r#"{"a":"\ude00\ud83d"}"#, "a lone surrogate"),
            (r#"{"a":"\ud83dx"}"#, "a lone surrogate"),
            (r#"{"a":9007199254740993}"#, "an integer past 2^53"),
            (r#"{"a":-99999999999999999999}"#, "an integer past 2^53"),
            (r#"{"a":1e999}"#, "a float where none may be"),
            (r#"{"a":NaN}"#, "not a value"),
            (r#"{"a":01}"#, "not a number"),
            (r#"{"a":1.}"#, "not a number"),
            (r#"{"a":"\x"}"#, "an unknown escape"),
            (r#"{"a":"\u12g4"}"#, "an unknown escape"),
            ("{\"a\":\"\n\"}", "a control character in a string"),
            (r#"{"a":1,}"#, "not a string"),
            (r#"{"a":[1,]}"#, "not a value"),
            (r#"{"a":1} x"#, "something after the object"),
            (r#"[1]"#, "not an object"),
            ("", "not an object"),
            (&deep, "nested too deep"),
        ] {
            assert_eq!(check_details(bad).unwrap_err().reason, reason, "{bad}");
        }
    }

    #[test]
    fn j3_floats_only_where_the_caller_allows_them() {
        assert!(members(r#"{"details":{"x":1.5}}"#, |name| name == "details").is_ok());
        assert!(members(r#"{"seq":1.0}"#, |name| name == "details").is_err());
    }

    #[test]
    fn strings_come_back_as_they_went_in() {
        assert_eq!(text(r#""\ud83d\ude00\u00e9\\\"\n""#).unwrap(), "😀é\\\"\n");
        assert_eq!(items(r#"["a", "b"]"#).unwrap(), [r#""a""#, r#""b""#]);
        assert_eq!(items("[]").unwrap().len(), 0);
    }
}
