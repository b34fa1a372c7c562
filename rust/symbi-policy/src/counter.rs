//! Counters over history: declared beside the policies, kept by the kernel, read in `context.counters`.
//!
//! Why: "at most ten tool calls a minute" is a fact about the past, which a single request does not hold. The
//! declaration says what is counted; the schema then has a typed attribute for it, so that a misspelt counter is an
//! error of the policy and not a limit that never bites.
//! Not here: the values. The kernel adds the operation's own cost before it asks (so `<= 10` lets ten through),
//! and takes it back on a denial.
//!
//! Invariants
//! - C1 an unknown key, kind or action is an error that names what is accepted.
//! - C2 a counter's name stands once in a set.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::diagnostic::{Diagnostic, nearest, place};
use crate::vocabulary::ACTIONS;

/// Counters a set may declare: each costs the kernel a table per principal.
pub const COUNTERS_MAX: usize = 256;
/// Longest window, in seconds: 31 days, a calendar month's quota.
pub const WINDOW_S_MAX: i64 = 31 * 24 * 3600;
/// Longest name, in characters.
pub const NAME_CHARS_MAX: usize = 64;

/// Whose events are counted together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Per {
    /// One value for each principal.
    Principal,
    /// One value for all.
    Global,
}

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Operations.
    Count,
}

/// One declared counter.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CounterSpec {
    /// `context.counters.<name>`.
    pub name: String,
    /// The action whose operations are counted.
    pub action: String,
    /// Whose.
    pub per: Per,
    /// How far back, in microseconds.
    pub window_us: u64,
    /// What.
    pub kind: Kind,
}

impl Per {
    /// The word in TOML.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Principal => "principal",
            Self::Global => "global",
        }
    }
}

impl Kind {
    /// The word in TOML.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Count => "count",
        }
    }
}

const KEYS: [&str; 4] = ["action", "per", "window_s", "kind"];

/// Whether `name` can stand behind `context.counters.`.
pub(crate) fn is_name(name: &str) -> bool {
    name.chars().count() <= NAME_CHARS_MAX
        && name.starts_with(|first: char| first.is_ascii_lowercase())
        && name.chars().all(|one| one.is_ascii_lowercase() || one.is_ascii_digit() || one == '_')
}

/// Reads `[counters.<name>]` tables.
///
/// # Errors
/// Every finding: syntax, unknown keys and values with the accepted ones (C1).
pub fn parse_counters(source: &str, text: &str) -> Result<Vec<CounterSpec>, Vec<Diagnostic>> {
    let mut reader = Reader { source, text, findings: Vec::new() };
    let (document, errors) = DeTable::parse_recoverable(text);
    for error in &errors {
        let offset = error.span().map_or(0, |span| span.start);
        reader.find(offset, "counters.syntax", error.message().to_owned(), None);
    }
    let specs = if errors.is_empty() { reader.document(document.get_ref()) } else { Vec::new() };
    if reader.findings.is_empty() { Ok(specs) } else { Err(reader.findings) }
}

struct Reader<'a> {
    source: &'a str,
    text: &'a str,
    findings: Vec<Diagnostic>,
}

impl Reader<'_> {
    fn find(&mut self, offset: usize, code: &'static str, message: String, help: Option<String>) {
        self.findings.push(Diagnostic::error(self.source, place(self.text, offset), code, message, help));
    }

    fn unknown_key(&mut self, offset: usize, key: &str, accepted: &[&str]) {
        let near = nearest(key, accepted.iter().copied());
        let help = match near {
            Some(near) => format!("did you mean `{near}`? accepted: {}", list(accepted)),
            None => format!("accepted: {}", list(accepted)),
        };
        self.find(offset, "counters.unknown_key", format!("unknown key `{key}`"), Some(help));
    }

    fn document(&mut self, table: &DeTable<'_>) -> Vec<CounterSpec> {
        let mut specs = Vec::new();
        for (key, value) in table {
            let name: &str = key.get_ref();
            if name != "counters" {
                self.unknown_key(key.span().start, name, &["counters"]);
                continue;
            }
            let DeValue::Table(counters) = value.get_ref() else {
                self.find(value.span().start, "counters.value", "`counters` is not a table".to_owned(), None);
                continue;
            };
            for (name, body) in counters {
                specs.extend(self.counter(name, body));
            }
        }
        specs
    }

    fn counter(
        &mut self,
        name: &Spanned<std::borrow::Cow<'_, str>>,
        body: &Spanned<DeValue<'_>>,
    ) -> Option<CounterSpec> {
        let at = name.span().start;
        let before = self.findings.len();
        let DeValue::Table(table) = body.get_ref() else {
            self.find(at, "counters.value", format!("`{}` is not a table", name.get_ref()), None);
            return None;
        };
        if !is_name(name.get_ref()) {
            let help = format!("accepted: 1 to {NAME_CHARS_MAX} of a-z, 0-9, `_`, beginning with a letter");
            self.find(
                at,
                "counters.value",
                format!("`{}` is not a counter's name", name.get_ref()),
                Some(help),
            );
        }
        for (key, _) in table {
            let key_name: &str = key.get_ref();
            if !KEYS.contains(&key_name) {
                self.unknown_key(key.span().start, key_name, &KEYS);
            }
        }
        let action = self.word(table, at, "action", &ACTIONS);
        let per = self.word(table, at, "per", &["principal", "global"]);
        let kind = self.word(table, at, "kind", &["count"]);
        let window_us = self.window_us(table, at);
        if self.findings.len() > before {
            return None;
        }
        let per = if per? == "global" { Per::Global } else { Per::Principal };
        kind?;
        let (action, window_us) = (action?, window_us?);
        Some(CounterSpec { name: name.get_ref().to_string(), action, per, window_us, kind: Kind::Count })
    }

    fn word(&mut self, table: &DeTable<'_>, at: usize, key: &str, accepted: &[&str]) -> Option<String> {
        let Some(value) = table.get(key) else {
            let help = Some(format!("accepted: {}", list(accepted)));
            self.find(at, "counters.missing_key", format!("`{key}` is missing"), help);
            return None;
        };
        let text = match value.get_ref() {
            DeValue::String(text) => text.to_string(),
            _ => String::new(),
        };
        if accepted.contains(&text.as_str()) {
            return Some(text);
        }
        let near = nearest(&text, accepted.iter().copied());
        let help = match near {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("accepted: {}", list(accepted)),
        };
        let shown = if text.is_empty() { "what stands here".to_owned() } else { format!("`{text}`") };
        self.find(
            value.span().start,
            "counters.value",
            format!("{shown} is not a value of `{key}`"),
            Some(help),
        );
        None
    }

    fn window_us(&mut self, table: &DeTable<'_>, at: usize) -> Option<u64> {
        let accepted = format!("accepted: whole seconds, 1 to {WINDOW_S_MAX}");
        let Some(value) = table.get("window_s") else {
            self.find(at, "counters.missing_key", "`window_s` is missing".to_owned(), Some(accepted));
            return None;
        };
        let seconds = match value.get_ref() {
            DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix()).ok(),
            _ => None,
        };
        match seconds
            .filter(|seconds| (1..=WINDOW_S_MAX).contains(seconds))
            .and_then(|good| u64::try_from(good).ok())
        {
            Some(seconds) => Some(seconds * 1_000_000),
            None => {
                let at = value.span().start;
                self.find(at, "counters.value", "not a window in seconds".to_owned(), Some(accepted));
                None
            }
        }
    }
}

fn list(names: &[&str]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "[counters.tool_calls]\naction = \"tool.call\"\nper = \"principal\"\nwindow_s = 60\nkind = \"count\"\n";

    fn codes(text: &str) -> Vec<(&'static str, usize, usize, String)> {
        let findings = parse_counters("x.counters.toml", text).unwrap_err();
        findings
            .into_iter()
            .map(|one| (one.code, one.line, one.column, one.help.unwrap_or_default()))
            .collect()
    }

    #[test]
    fn a_declared_counter_is_read_with_its_window_in_microseconds() {
        let specs = parse_counters("x", GOOD).unwrap();
        assert_eq!(specs.len(), 1);
        assert_eq!((specs[0].window_us, specs[0].per), (60_000_000, Per::Principal));
    }

    #[test]
    fn c1_unknown_keys_and_values_name_what_is_accepted_at_their_own_place() {
        let found = codes(&GOOD.replace("per =", "pre ="));
        assert_eq!((found[0].0, found[0].1, found[0].2), ("counters.unknown_key", 3, 1));
        assert!(found[0].3.contains("did you mean `per`"), "{found:?}");
        let found = codes(&GOOD.replace("\"tool.call\"", "\"tool.cal\""));
        assert_eq!((found[0].0, found[0].1, found[0].2), ("counters.value", 2, 10));
        assert!(found[0].3.contains("`tool.call`"), "{found:?}");
        for (from, to) in [
            ("60", "0"),
            ("60", "1.5"),
            ("60", "\"a\""),
            ("\"count\"", "\"sum\""),
            ("60", "99999999999999999999"),
        ] {
            assert_eq!(codes(&GOOD.replace(from, to))[0].0, "counters.value", "{to}");
        }
        assert_eq!(codes("[other]\n")[0].0, "counters.unknown_key");
        assert_eq!(codes("[counters.Bad]\n").len(), 5, "a bad name and four missing keys");
    }

    #[test]
    fn broken_toml_is_a_finding_and_not_a_panic() {
        for text in ["[", "counters = 3", "[counters]\nx = 1", "\u{0}", "[counters.a]\n[counters.a]\n"] {
            assert!(parse_counters("x", text).is_err(), "{text:?}");
        }
    }
}
