//! Reading `*.counters.toml`: counters and budgets, every mistake at its place.
//!
//! Not here: what a counter is (`counter`), its values (the kernel).
//!
//! Invariants
//! - C1 an unknown key, kind or action is an error that names what is accepted.
//! - C4 the caps of a budget do not grow downwards: a run may spend at most what its agent may, an agent what its
//!   tenant may.

use std::borrow::Cow;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::counter::{CounterSpec, Kind, NAME_CHARS_MAX, Per, WINDOW_S_MAX, is_measured, is_name};
use crate::diagnostic::{Diagnostic, nearest, place};
use crate::vocabulary::{ACTIONS, instead_of};

const COUNTER_KEYS: [&str; 8] = ["action", "per", "window_s", "kind", "of", "resource", "label", "shown_to"];
const BUDGET_KEYS: [&str; 7] = ["action", "measure", "window_s", "resource", "run", "agent", "tenant"];
/// The levels of a budget, smallest first: its key, what it counts per, what its counter's name ends in.
const LEVELS: [(&str, Per); 3] = [("run", Per::Run), ("agent", Per::Principal), ("tenant", Per::Tenant)];
/// What a budget counts where it counts operations.
const CALLS: &str = "calls";
/// Largest cap: whole numbers up to here are exact everywhere a record is read.
const CAP_MAX: i64 = 1 << 53;

/// Reads `[counters.<name>]` and `[budgets.<name>]` tables.
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

type Name<'a> = Spanned<Cow<'a, str>>;

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
            if !["counters", "budgets"].contains(&name) {
                self.unknown_key(key.span().start, name, &["counters", "budgets"]);
                continue;
            }
            let DeValue::Table(declared) = value.get_ref() else {
                self.find(value.span().start, "counters.value", format!("`{name}` is not a table"), None);
                continue;
            };
            for (one, body) in declared {
                let DeValue::Table(table) = body.get_ref() else {
                    let text = format!("`{}` is not a table", one.get_ref());
                    self.find(one.span().start, "counters.value", text, None);
                    continue;
                };
                if name == "counters" {
                    specs.extend(self.counter(one, table));
                } else {
                    specs.extend(self.budget(one, table));
                }
            }
        }
        specs
    }

    /// The name, as far as it can be one with `suffix` behind it; and the keys that stand there.
    fn begin(&mut self, name: &Name<'_>, suffix: &str, table: &DeTable<'_>, keys: &[&str]) {
        if !is_name(&format!("{}{suffix}", name.get_ref())) {
            let help = format!("accepted: 1 to {NAME_CHARS_MAX} of a-z, 0-9, `_`, beginning with a letter");
            let text = format!("`{}` is not a counter's name", name.get_ref());
            self.find(name.span().start, "counters.value", text, Some(help));
        }
        for (key, _) in table {
            let key_name: &str = key.get_ref();
            if !keys.contains(&key_name) {
                self.unknown_key(key.span().start, key_name, keys);
            }
        }
    }

    fn counter(&mut self, name: &Name<'_>, table: &DeTable<'_>) -> Option<CounterSpec> {
        let at = name.span().start;
        let before = self.findings.len();
        self.begin(name, "", table, &COUNTER_KEYS);
        let action = self.word(table, at, "action", &ACTIONS);
        let per = self.word(table, at, "per", &Per::ALL.map(Per::as_str));
        let kind = self.word(table, at, "kind", &Kind::WORDS);
        let window_us = self.window_us(table, at);
        let kind = kind.and_then(|kind| self.kind(table, at, &kind));
        if let (Some(action), Some(kind)) = (&action, &kind) {
            self.measured(table, at, "of", action, kind);
        }
        let resource = self.text(table, "resource");
        let label = self.text(table, "label");
        if let Some(label) = &label
            && let Err(error) = label.parse::<symbi_types::Label>()
        {
            self.find(offset(table, "label", at), "counters.value", error.to_string(), None);
        }
        let shown_to = self.actions(table, "shown_to");
        if self.findings.len() > before {
            return None;
        }
        let per = per?;
        Some(CounterSpec {
            name: name.get_ref().to_string(),
            action: action?,
            per: Per::ALL.into_iter().find(|known| known.as_str() == per)?,
            window_us: window_us?,
            kind: kind?,
            resource,
            label,
            shown_to,
            cap: None,
        })
    }

    fn budget(&mut self, name: &Name<'_>, table: &DeTable<'_>) -> Vec<CounterSpec> {
        let at = name.span().start;
        let before = self.findings.len();
        self.begin(name, "_tenant", table, &BUDGET_KEYS);
        let action = self.word(table, at, "action", &ACTIONS);
        let window_us = self.window_us(table, at);
        let measure = self.text(table, "measure").unwrap_or_else(|| {
            let help = Some(
                "accepted: `calls`, `bytes`, `time_ms`, `cpu_ms`, or an amount that the tool declares".into(),
            );
            self.find(at, "counters.missing_key", "`measure` is missing".to_owned(), help);
            CALLS.to_owned()
        });
        if !is_name(&measure) {
            let text = format!("`{measure}` is not the name of an amount");
            self.find(offset(table, "measure", at), "counters.value", text, None);
        }
        if let Some(action) = &action {
            self.measured(table, at, "measure", action, &Kind::Sum(measure.clone()));
        }
        let resource = self.text(table, "resource");
        let caps: Vec<_> = LEVELS
            .into_iter()
            .filter_map(|(level, per)| Some((level, per, self.cap(table, level)?)))
            .collect();
        if caps.is_empty() && self.findings.len() == before {
            let help =
                Some("give at least one of `run`, `agent`, `tenant`: the most that it may spend".into());
            self.find(at, "counters.budget", format!("the budget `{}` has no cap", name.get_ref()), help);
        }
        for pair in caps.windows(2) {
            if let [(smaller, _, below), (larger, _, above)] = pair
                && above < below
            {
                let text = format!("a {smaller} may spend {below}, and its {larger} only {above}");
                let help = Some(format!("write `{smaller}` as at most {above}"));
                self.find(offset(table, smaller, at), "counters.budget", text, help); // C4
            }
        }
        let (Some(action), Some(window_us)) = (action, window_us) else { return Vec::new() };
        if self.findings.len() > before {
            return Vec::new();
        }
        let kind = if measure == CALLS { Kind::Count } else { Kind::Sum(measure) };
        let one = |(level, per, cap): (&str, Per, u64)| CounterSpec {
            name: format!("{}_{level}", name.get_ref()),
            action: action.clone(),
            per,
            // A run is its own window: it has the longest there is.
            window_us: if per == Per::Run { WINDOW_S_MAX.unsigned_abs() * 1_000_000 } else { window_us },
            kind: kind.clone(),
            resource: resource.clone(),
            label: None,
            shown_to: Vec::new(),
            cap: Some(cap),
        };
        caps.into_iter().map(one).collect()
    }

    fn kind(&mut self, table: &DeTable<'_>, at: usize, kind: &str) -> Option<Kind> {
        let of = self.text(table, "of");
        let place = offset(table, "of", at);
        match (kind, of) {
            ("count", None) => Some(Kind::Count),
            ("count", Some(_)) => {
                let help = Some("`of` belongs to `kind = \"sum\"` or `\"distinct\"`".to_owned());
                self.find(place, "counters.value", "a count is of operations".to_owned(), help);
                None
            }
            ("sum", Some(of)) if is_name(&of) => Some(Kind::Sum(of)),
            ("distinct", Some(of)) if of == "resource" || of.strip_prefix("call.").is_some_and(is_name) => {
                Some(Kind::Distinct(of))
            }
            (kind, of) => {
                let accepted = if kind == "sum" {
                    "accepted: `bytes`, `time_ms`, `cpu_ms`, or an amount that the tool declares, such as `tokens`"
                } else {
                    "accepted: `resource`, or `call.<name>` for a declared attribute of a call"
                };
                let (code, text) = match of {
                    Some(of) => ("counters.value", format!("`{of}` is not what a `{kind}` can be of")),
                    None => ("counters.missing_key", "`of` is missing".to_owned()),
                };
                self.find(place, code, text, Some(accepted.to_owned()));
                None
            }
        }
    }

    /// Whether operations of this action have what is to be counted.
    fn measured(&mut self, table: &DeTable<'_>, at: usize, key: &str, action: &str, kind: &Kind) {
        let (of, has) = match kind {
            Kind::Count => return,
            Kind::Sum(measure) => (measure, is_measured(action, measure)),
            Kind::Distinct(of) => (of, of == "resource" || action == "tool.call"),
        };
        if !has {
            let help = "`bytes` are there for every action, `time_ms` for `tool.call`, `sandbox.start` and `agent.run`, `cpu_ms` for `agent.run`, what a tool declares for `tool.call`";
            let text = format!("an operation of `{action}` has no `{of}`");
            self.find(offset(table, key, at), "counters.value", text, Some(help.to_owned()));
        }
    }

    fn cap(&mut self, table: &DeTable<'_>, level: &str) -> Option<u64> {
        let value = table.get(level)?;
        let cap = integer(value.get_ref()).filter(|cap| (0..=CAP_MAX).contains(cap));
        if cap.is_none() {
            let help = Some(format!("accepted: whole numbers, 0 to {CAP_MAX}; money in its smallest unit"));
            let text = format!("not a cap of a budget for a {level}");
            self.find(value.span().start, "counters.value", text, help);
        }
        cap.and_then(|cap| u64::try_from(cap).ok())
    }

    fn text(&mut self, table: &DeTable<'_>, key: &str) -> Option<String> {
        let value = table.get(key)?;
        match value.get_ref() {
            DeValue::String(text) if !text.is_empty() && text.len() <= 256 => Some(text.to_string()),
            _ => {
                let text = format!("`{key}` is a text of 1 to 256 bytes");
                self.find(value.span().start, "counters.value", text, None);
                None
            }
        }
    }

    fn actions(&mut self, table: &DeTable<'_>, key: &str) -> Vec<String> {
        let Some(value) = table.get(key) else { return Vec::new() };
        let DeValue::Array(members) = value.get_ref() else {
            self.find(value.span().start, "counters.value", format!("`{key}` is a list of actions"), None);
            return Vec::new();
        };
        let mut found: Vec<String> = Vec::new();
        for member in members {
            match member.get_ref() {
                DeValue::String(text) if ACTIONS.contains(&text.as_ref()) => found.push(text.to_string()),
                other => {
                    let shown = if let DeValue::String(text) = other { text.as_ref() } else { "this" };
                    let near = || nearest(shown, ACTIONS).map(|near| format!("did you mean `{near}`?"));
                    let help = instead_of(shown).map(str::to_owned).or_else(near);
                    let text = format!("`{shown}` is not an action");
                    self.find(member.span().start, "counters.value", text, help);
                }
            }
        }
        found.sort();
        found.dedup();
        found
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
        let help = match (instead_of(&text).filter(|_| key == "action"), near) {
            (Some(instead), _) => instead.to_owned(),
            (None, Some(near)) => format!("did you mean `{near}`?"),
            (None, None) => format!("accepted: {}", list(accepted)),
        };
        let shown = if text.is_empty() { "what stands here".to_owned() } else { format!("`{text}`") };
        let message = format!("{shown} is not a value of `{key}`");
        self.find(value.span().start, "counters.value", message, Some(help));
        None
    }

    fn window_us(&mut self, table: &DeTable<'_>, at: usize) -> Option<u64> {
        let accepted = format!("accepted: whole seconds, 1 to {WINDOW_S_MAX}");
        let Some(value) = table.get("window_s") else {
            self.find(at, "counters.missing_key", "`window_s` is missing".to_owned(), Some(accepted));
            return None;
        };
        let seconds = integer(value.get_ref()).filter(|seconds| (1..=WINDOW_S_MAX).contains(seconds));
        if seconds.is_none() {
            let at = value.span().start;
            self.find(at, "counters.value", "not a window in seconds".to_owned(), Some(accepted));
        }
        seconds.and_then(|good| u64::try_from(good).ok()).map(|seconds| seconds * 1_000_000)
    }
}

fn integer(value: &DeValue<'_>) -> Option<i64> {
    match value {
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix()).ok(),
        _ => None,
    }
}

/// Where a key's value stands, or else `at`.
fn offset(table: &DeTable<'_>, key: &str, at: usize) -> usize {
    table.get(key).map_or(at, |value| value.span().start)
}

fn list(names: &[&str]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "[counters.tool_calls]\naction = \"tool.call\"\nper = \"principal\"\nwindow_s = 60\nkind = \"count\"\n";
    const BUDGET: &str = "[budgets.spend]\naction = \"tool.call\"\nmeasure = \"cost\"\nwindow_s = 60\nrun = 5\nagent = 50\ntenant = 500\n";

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
        assert_eq!(specs, [CounterSpec::counting("tool_calls", "tool.call", Per::Principal, 60_000_000)]);
        let text = "[counters.patients]\naction = \"tool.call\"\nper = \"run\"\nwindow_s = 1\nkind = \"distinct\"\n\
            of = \"call.patient\"\nresource = \"ehr.*\"\nlabel = \"phi\"\nshown_to = [\"data.write\"]\n";
        let spec = parse_counters("x", text).unwrap().remove(0);
        assert_eq!(spec.kind, Kind::Distinct("call.patient".into()));
        assert_eq!((spec.resource.as_deref(), spec.label.as_deref()), (Some("ehr.*"), Some("phi")));
        assert!(
            spec.is_seen_by("data.write") && spec.is_seen_by("tool.call") && !spec.is_seen_by("data.read")
        );
    }

    #[test]
    fn a_budget_is_a_counter_with_a_cap_for_each_level() {
        let specs = parse_counters("x", BUDGET).unwrap();
        let seen: Vec<_> = specs.iter().map(|one| (one.name.as_str(), one.per, one.cap.unwrap())).collect();
        assert_eq!(
            seen,
            [
                ("spend_run", Per::Run, 5),
                ("spend_agent", Per::Principal, 50),
                ("spend_tenant", Per::Tenant, 500)
            ]
        );
        assert!(specs.iter().all(|one| one.kind == Kind::Sum("cost".into())));
    }

    #[test]
    fn c4_a_run_cannot_be_given_more_than_its_agent() {
        let found = codes(&BUDGET.replace("run = 5", "run = 51"));
        assert_eq!((found[0].0, found[0].1), ("counters.budget", 5));
        assert!(found[0].3.contains("at most 50"), "{found:?}");
        assert_eq!(codes(&BUDGET.replace("tenant = 500", "tenant = 49"))[0].0, "counters.budget");
        assert!(parse_counters("x", &BUDGET.replace("agent = 50\n", "")).is_ok());
        let none = "[budgets.x]\naction = \"tool.call\"\nmeasure = \"calls\"\nwindow_s = 1\n";
        assert_eq!(codes(none)[0].0, "counters.budget");
        for wrong in ["-1", "1.5", "\"5\"", "99999999999999999999"] {
            assert_eq!(codes(&BUDGET.replace("run = 5", &format!("run = {wrong}")))[0].0, "counters.value");
        }
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
            ("\"count\"", "\"summ\""),
            ("\"count\"", "\"count\"\nof = \"bytes\""),
            ("\"count\"", "\"sum\"\nof = \"By tes\""),
            ("\"count\"", "\"distinct\"\nof = \"bytes\""),
            ("\"count\"", "\"count\"\nlabel = \"No\""),
            ("\"count\"", "\"count\"\nresource = 3"),
            ("\"count\"", "\"count\"\nshown_to = [\"fly\"]"),
            ("60", "99999999999999999999"),
        ] {
            assert_eq!(codes(&GOOD.replace(from, to))[0].0, "counters.value", "{to}");
        }
        assert_eq!(codes(&GOOD.replace("\"count\"", "\"sum\""))[0].0, "counters.missing_key");
        for (action, kind) in [
            ("message.send", "\"sum\"\nof = \"time_ms\""),
            ("tool.call", "\"sum\"\nof = \"cpu_ms\""),
            ("message.send", "\"sum\"\nof = \"tokens\""),
            ("message.send", "\"distinct\"\nof = \"call.who\""),
        ] {
            let text = GOOD.replace("tool.call", action).replace("\"count\"", kind);
            assert_eq!(codes(&text)[0].0, "counters.value", "{text}");
        }
        assert_eq!(codes(&BUDGET.replace("tool.call", "agent.run"))[0].0, "counters.value");
        assert_eq!(codes("[other]\n")[0].0, "counters.unknown_key");
        assert_eq!(codes("[counters.Bad]\n").len(), 5, "a bad name and four missing keys");
    }

    #[test]
    fn broken_toml_is_a_finding_and_not_a_panic() {
        for text in [
            "[",
            "counters = 3",
            "[counters]\nx = 1",
            "\u{0}",
            "[counters.a]\n[counters.a]\n",
            "[budgets]\nx=[]",
        ] {
            assert!(parse_counters("x", text).is_err(), "{text:?}");
        }
    }
}
