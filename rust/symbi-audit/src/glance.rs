//! A record at a glance: what is shown of one that a checkpoint's root vouches for, without its strict form.
//!
//! Why: of such a record nothing is checked but that it is a leaf of the tree; whoever wants its content still paid for the
//! whole strict reading of it, which was most of the time.
//! Not here: a record that must hold by itself (`record`), or one that is not written as this version writes: that one is read
//! strictly.
//!
//! Invariants
//! - GL1 what it shows of a line that can be read strictly is what that shows, or it shows nothing.

use crate::time;
use crate::verify::Seen;

/// The rest of a line, and what is taken from its front.
struct Rest<'a>(&'a str);

impl<'a> Rest<'a> {
    fn skip(&mut self, text: &str) -> Option<()> {
        self.0 = self.0.strip_prefix(text)?;
        Some(())
    }

    fn take(&mut self, bytes: usize) -> Option<&'a str> {
        let (taken, rest) = self.0.split_at_checked(bytes)?;
        self.0 = rest;
        Some(taken)
    }

    fn number(&mut self) -> Option<u64> {
        let digits = self.0.bytes().take_while(u8::is_ascii_digit).count();
        let text = self.take(digits)?;
        text.parse().ok().filter(|_| digits == 1 || !text.starts_with('0'))
    }

    /// A text in its quotes, where nothing in it is escaped; or `null`.
    fn text_or_null(&mut self) -> Option<&'a str> {
        if self.0.starts_with("null") {
            return self.take(4);
        }
        self.skip_none('"')?;
        let end = memchr::memchr2(b'"', b'\\', self.0.get(1..)?.as_bytes())?;
        let text = self.take(end + 2)?;
        text.ends_with('"').then_some(text)
    }

    fn skip_none(&self, first: char) -> Option<()> {
        self.0.starts_with(first).then_some(())
    }

    /// A list of texts, none of which holds a bracket or an escape.
    fn list(&mut self) -> Option<&'a str> {
        self.skip_none('[')?;
        let end = memchr::memchr2(b']', b'\\', self.0.as_bytes())?;
        let list = self.take(end + 1)?;
        list.ends_with(']').then_some(list)
    }
}

/// What is shown of the record whose line this is; `body` is the part before its link. None: it must be read strictly (GL1).
pub(crate) fn glance<'a>(line: &'a [u8], body: &'a [u8]) -> Option<Seen<'a>> {
    // Of a line that stands under a root as it was written all is UTF-8; of another one something would be shown as it is not.
    let mut rest = Rest(std::str::from_utf8(body).ok()?);
    let version = rest.take(12)?;
    if version != "{\"v\":1,\"seq\"" && version != "{\"v\":2,\"seq\"" {
        return None;
    }
    rest.skip(":")?;
    let seq = rest.number()?;
    rest.skip(",\"event_id\":\"")?;
    rest.take(36)?;
    rest.skip("\",\"timestamp\":\"")?;
    let timestamp_us = time::parse(rest.take(time::TIMESTAMP_BYTES)?)?;
    rest.skip("\",\"mono\":")?;
    rest.number()?;
    rest.skip(",\"boot\":\"")?;
    rest.take(36)?;
    rest.skip("\",\"key\":")?;
    rest.text_or_null()?;
    rest.skip(",\"event_type\":")?;
    let event_type = rest.text_or_null()?.strip_prefix('"')?.strip_suffix('"')?;
    rest.skip(",\"agent_id\":")?;
    rest.text_or_null()?;
    rest.skip(",\"run\":")?;
    rest.text_or_null()?;
    rest.skip(",\"op\":")?;
    rest.text_or_null()?;
    rest.skip(",\"decision\":")?;
    let decision = rest.text_or_null()?;
    rest.skip(",\"policy\":")?;
    let policy = rest.text_or_null()?;
    rest.skip(",\"labels\":")?;
    let labels = rest.list()?;
    rest.skip(",\"subjects\":")?;
    rest.list()?;
    rest.skip(",\"details\":")?;
    // At the very end stands a member of the line itself; with anything else behind `details` its end is not known.
    let details = rest.0.strip_suffix(",\"personal\":null")?;
    (details.starts_with('{') && details.ends_with('}')).then_some(())?;
    Some(Seen { line, seq, timestamp_us, event_type, decision, policy, labels, details })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chain;
    use crate::record::View;
    use proptest::prelude::*;

    fn line(fields: &str, details: &str, personal: &str) -> Vec<u8> {
        let body = format!(
            "{{\"v\":1,\"seq\":7,\"event_id\":\"75a810af-8f98-4ccd-8f2b-6622301c8c00\",\
             \"timestamp\":\"2026-11-22T00:09:37.147698Z\",\"mono\":1626837,\
             \"boot\":\"d8aa7e8e-5547-4c6a-b1a5-91c4ea367636\",\"key\":\"dfef86fc0b4471d9f1c2c955bf2d3b15\",\
             {fields},\"details\":{details},\"personal\":{personal}"
        );
        let zeros = ("0".repeat(64), "A".repeat(86));
        format!("{body},\"chain\":\"{}\",\"sig\":\"{}==\"}}\n", zeros.0, zeros.1).into_bytes()
    }

    const FIELDS: &str = "\"event_type\":\"operation.intent\",\"agent_id\":\"a\",\"run\":null,\"op\":\"o\",\"decision\":\"allow\",\"policy\":null,\"labels\":[\"phi\"],\"subjects\":[]";

    /// What both show: none where the glance shows nothing. Panics where they differ (GL1).
    fn shown(line: &[u8]) -> Option<(u64, u64, String, String, String)> {
        let (body, ..) = chain::split(line)?;
        let quick = glance(line, body)?;
        let view = View::parse(line).ok()?;
        let strict = view.seen();
        let of = |seen: &Seen<'_>| {
            let text = |raw: &str| raw.to_owned();
            (
                seen.seq,
                seen.timestamp_us,
                text(seen.event_type),
                text(seen.decision) + seen.policy,
                text(seen.labels) + seen.details,
            )
        };
        assert_eq!(of(&quick), of(&strict), "GL1");
        Some(of(&quick))
    }

    #[test]
    fn gl1_what_is_written_as_this_version_writes_is_shown_and_the_rest_is_read_strictly() {
        assert!(shown(&line(FIELDS, "{\"a\":1}", "null")).is_some());
        assert!(shown(&line(FIELDS, "{}", "null")).is_some());
        assert!(shown(&line(FIELDS, "{\"x\":{\"a\":1,\"personal\":null}}", "null")).is_some());
        for (fields, details, personal) in [
            (FIELDS.to_owned(), "{}", "{\"a\":1}"),
            (FIELDS.to_owned(), "{}", "{\"a\":{\"b\":1},\"personal\":null}"),
            (FIELDS.to_owned(), "{}", "null,\"later\":1"),
            (FIELDS.replace("\"a\"", "\"a\\\"b\""), "{}", "null"),
            (FIELDS.replace("\"phi\"", "\"p]i\""), "{}", "null"),
            (FIELDS.replace("\"allow\"", "1"), "{}", "null"),
        ] {
            assert!(shown(&line(&fields, details, personal)).is_none(), "{fields} {details} {personal}");
        }
    }

    proptest! {
        #[test]
        fn gl1_no_line_is_shown_otherwise_than_the_strict_reading_shows_it(
            agent in "[ -~]{0,12}", label in "[ -~é]{0,6}",
            details in prop_oneof![Just("{\"a\":\"},\\\"personal\\\":null\"}"), Just("{\"personal\":null}"), Just("{}")],
            personal in prop_oneof![Just("null"), Just("{\"personal\":null}"), Just("{\"x\":{\"y\":1},\"personal\":null}")],
            at in 0usize..700, byte in prop_oneof![Just(b'"'), Just(b'\\'), Just(b','), Just(b'}'), Just(b'0'), any::<u8>()],
        ) {
            let quoted = |text: &str| serde_json_quote(text);
            let fields = FIELDS.replace("\"a\"", &quoted(&agent)).replace("\"phi\"", &quoted(&label));
            let mut line = line(&fields, details, personal);
            shown(&line);
            let at = at % line.len();
            line[at] = byte;
            if View::parse(&line).is_ok() {
                shown(&line);
            }
        }
    }

    fn serde_json_quote(text: &str) -> String {
        let mut out = Vec::new();
        crate::write_json_string(text, &mut out);
        String::from_utf8(out).unwrap()
    }
}
