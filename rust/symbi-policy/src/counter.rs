//! Counters over history: declared beside the policies, kept by the kernel, read in `context.counters`.
//!
//! Why: "at most ten tool calls a minute" is a fact about the past, which a single request does not hold. The
//! declaration says what is counted; the schema then has a typed attribute for it, so that a misspelt counter is an
//! error of the policy and not a limit that never bites. A budget is counters with caps, one for each level.
//! Not here: the values. The kernel adds the operation's own cost before it asks (so `<= 10` lets ten through),
//! and takes it back on a denial. Reading the declarations: `declaration`.
//!
//! Invariants
//! - C2 a counter's name stands once in a set.
//! - C3 two counters that count differently are spelled differently: the digest of a set tells them apart.

use std::fmt::Write as _;

/// Counters a set may declare: each costs the kernel a table per principal.
pub const COUNTERS_MAX: usize = 256;
/// Longest window, in seconds: 31 days, a calendar month's quota.
pub const WINDOW_S_MAX: i64 = 31 * 24 * 3600;
/// Longest name, in characters.
pub const NAME_CHARS_MAX: usize = 64;

/// Whose events are counted together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Per {
    /// One value for each principal; an agent is its name, so that a new instance does not start at zero.
    Principal,
    /// One value for all.
    Global,
    /// One value for each run; outside of a run, for each principal.
    Run,
    /// One value for each tenant; whoever has none is one of his own.
    Tenant,
    /// One value for each resource, such as a tool.
    Resource,
}

/// What is counted.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Operations.
    Count,
    /// An amount of each operation: `bytes`, `time_ms`, `cpu_ms`, or what its tool declares, such as `tokens` or `cost`.
    Sum(String),
    /// Different values: `resource`, or `call.<name>` for a declared attribute of a tool call.
    Distinct(String),
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
    /// Only operations on this resource, by id; with a trailing `*` by its beginning. None: on any.
    pub resource: Option<String>,
    /// Only operations that carry this label.
    pub label: Option<String>,
    /// Further actions whose policies see it; they are not counted.
    pub shown_to: Vec<String>,
    /// An operation that would bring it above this is refused, whatever the policies say: the counter of a budget.
    pub cap: Option<u64>,
}

impl CounterSpec {
    /// A counter of all operations of one action.
    #[must_use]
    pub fn counting(name: &str, action: &str, per: Per, window_us: u64) -> Self {
        Self {
            name: name.to_owned(),
            action: action.to_owned(),
            per,
            window_us,
            kind: Kind::Count,
            resource: None,
            label: None,
            shown_to: Vec::new(),
            cap: None,
        }
    }

    /// Whether it stands in the context of this action.
    #[must_use]
    pub fn is_seen_by(&self, action: &str) -> bool {
        self.action == action || self.shown_to.iter().any(|shown| shown == action)
    }

    /// All that it counts, in one text (C3).
    #[must_use]
    pub fn spelling(&self) -> String {
        let Self { name, action, per, window_us, kind, resource, label, shown_to, cap } = self;
        let mut text = format!("{name} {action} {} {window_us} {}", per.as_str(), kind.as_str());
        // Writing into a String cannot fail.
        if let Kind::Sum(of) | Kind::Distinct(of) = kind {
            let _ = write!(text, " of={of}");
        }
        if let Some(resource) = resource {
            let _ = write!(text, " resource={resource:?}");
        }
        if let Some(label) = label {
            let _ = write!(text, " label={label:?}");
        }
        if !shown_to.is_empty() {
            let _ = write!(text, " shown_to={shown_to:?}");
        }
        if let Some(cap) = cap {
            let _ = write!(text, " cap={cap}");
        }
        text
    }
}

/// Whether an operation of this action has such an amount: what is never measured could never be spent.
#[must_use]
pub fn is_measured(action: &str, measure: &str) -> bool {
    match measure {
        "calls" | "bytes" => true,
        // Of an act until its outcome; of a run until its end, less what it stood still.
        "time_ms" => ["tool.call", "sandbox.start", "agent.run"].contains(&action),
        // Of a run in a sandbox, as the host reads it; nobody can tell whose a processor was in a process of many.
        "cpu_ms" => action == "agent.run",
        _ => action == "tool.call", // by the word of the tool
    }
}

impl Per {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Principal, Self::Global, Self::Run, Self::Tenant, Self::Resource];

    /// The word in TOML.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Principal => "principal",
            Self::Global => "global",
            Self::Run => "run",
            Self::Tenant => "tenant",
            Self::Resource => "resource",
        }
    }
}

impl Kind {
    /// The words in TOML.
    pub const WORDS: [&'static str; 3] = ["count", "sum", "distinct"];

    /// The word in TOML.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Count => "count",
            Self::Sum(_) => "sum",
            Self::Distinct(_) => "distinct",
        }
    }
}

/// Whether `name` can stand behind `context.counters.`.
pub(crate) fn is_name(name: &str) -> bool {
    name.chars().count() <= NAME_CHARS_MAX
        && name.starts_with(|first: char| first.is_ascii_lowercase())
        && name.chars().all(|one| one.is_ascii_lowercase() || one.is_ascii_digit() || one == '_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_action_does_not_have_is_not_measured() {
        assert!(is_measured("message.send", "bytes") && is_measured("agent.run", "calls"));
        assert!(is_measured("sandbox.start", "time_ms") && is_measured("tool.call", "tokens"));
        assert!(is_measured("agent.run", "time_ms") && is_measured("agent.run", "cpu_ms"));
        assert!(!is_measured("tool.call", "cpu_ms") && !is_measured("sandbox.start", "cpu_ms"));
        assert!(!is_measured("message.send", "time_ms") && !is_measured("message.send", "tokens"));
    }

    #[test]
    fn c3_whatever_changes_what_is_counted_changes_the_spelling() {
        let one = CounterSpec::counting("calls", "tool.call", Per::Principal, 60);
        let some = |text: &str| Some(text.to_owned());
        let others = [
            CounterSpec { per: Per::Run, ..one.clone() },
            CounterSpec { kind: Kind::Sum("bytes".into()), ..one.clone() },
            CounterSpec { kind: Kind::Distinct("resource".into()), ..one.clone() },
            CounterSpec { resource: some("t"), ..one.clone() },
            CounterSpec { label: some("t"), ..one.clone() },
            CounterSpec { shown_to: vec!["t".into()], ..one.clone() },
            CounterSpec { cap: Some(1), ..one.clone() },
        ];
        for (at, other) in others.iter().enumerate() {
            assert_ne!(one.spelling(), other.spelling());
            assert!(others.iter().take(at).all(|earlier| earlier.spelling() != other.spelling()));
        }
    }
}
