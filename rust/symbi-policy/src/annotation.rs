//! Annotations: what a policy says besides yes or no.
//!
//! Invariants
//! - T1 an annotation that is not in the list is an error: a misspelt `@obligation` must not become a plain permit.
//! - T2 an obligation stands on a permit and is complete: `@obligation("redact")` with `@labels("…")`;
//!   what says more about one does not stand without it.
//! - T3 a message is constant, short and printable: it is shown to agents, and in terminals.
//! - T4 a consequence stands on a forbid: what is let through has none.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use cedar_policy_core::ast;
use symbi_types::LabelSet;

use crate::counter::{WINDOW_S_MAX, is_name};
use crate::decision::{Consequence, Rule, RuleEffect};
use crate::diagnostic::{Diagnostic, nearest, place};
use crate::obligation::{Approval, Budget, Obligation};

/// Longest `@id`, in characters: it is a column of tables and a field of records.
pub(crate) const ID_CHARS_MAX: usize = 64;
/// Longest `@message`, in characters: one or two sentences.
pub(crate) const MESSAGE_CHARS_MAX: usize = 300;
/// Most different persons that one rule may ask for.
const APPROVALS_MAX: u32 = 16;
/// How long an operation waits for its approvals where a rule does not say.
const EXPIRES_S: u64 = 24 * 3_600;
/// Longest time it may wait.
const EXPIRES_S_MAX: u64 = 31 * 24 * 3_600;

const ANNOTATIONS: [&str; 13] = [
    "id",
    "message",
    "obligation",
    "on_violation",
    "labels",
    "fields",
    "approvers",
    "approvals",
    "expires",
    "tier",
    "budget",
    "record",
    "notify",
];
/// An annotation that says more about an obligation, and which.
const PARAMETERS: [(&str, &str); 9] = [
    ("labels", "redact"),
    ("fields", "redact"),
    ("approvers", "approval"),
    ("approvals", "approval"),
    ("expires", "approval"),
    ("tier", "tier"),
    ("budget", "budget"),
    ("record", "record"),
    ("notify", "notify"),
];

/// One policy of one source, as far as its annotations go.
pub(crate) struct Subject<'a> {
    pub source: &'a Arc<str>,
    pub text: &'a str,
    pub offset: usize,
    pub effect: ast::Effect,
    pub annotations: BTreeMap<&'a str, &'a ast::Annotation>,
}

impl Subject<'_> {
    fn find(&self, name: &str, code: &'static str, message: String, help: Option<String>) -> Diagnostic {
        let offset = self
            .annotations
            .get(name)
            .and_then(|one| one.loc.as_ref())
            .map_or(self.offset, |loc| loc.start());
        Diagnostic::error(self.source, place(self.text, offset), code, message, help)
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.annotations.get(name).map(|one| one.val.as_str())
    }

    pub(crate) fn rule(&self) -> Result<Rule, Vec<Diagnostic>> {
        let mut findings = Vec::new();
        for name in self.annotations.keys() {
            if !ANNOTATIONS.contains(name) {
                let all = ANNOTATIONS.map(|name| format!("`@{name}`")).join(", ");
                let help = match nearest(name, ANNOTATIONS) {
                    Some(near) => format!("did you mean `@{near}`? accepted: {all}"),
                    None => format!("accepted: {all}"),
                };
                let message = format!("unknown annotation `@{name}`");
                findings.push(self.find(name, "policy.annotation", message, Some(help))); // T1
            }
        }
        let (line, column) = place(self.text, self.offset);
        let id = self.id(line, &mut findings);
        let message = self.message(&mut findings);
        let obligations = self.obligations(&id, &mut findings);
        let consequence = self.consequence(&mut findings);
        if !findings.is_empty() {
            return Err(findings);
        }
        let effect = match self.effect {
            ast::Effect::Permit => RuleEffect::Permit,
            ast::Effect::Forbid => RuleEffect::Forbid,
        };
        Ok(Rule {
            id,
            source: Arc::clone(self.source),
            line,
            column,
            effect,
            message,
            obligations,
            consequence,
        })
    }

    fn id(&self, line: usize, findings: &mut Vec<Diagnostic>) -> String {
        let Some(id) = self.get("id") else { return format!("{}:{line}", self.source) };
        let plain = |one: char| one.is_ascii_alphanumeric() || "._-/".contains(one);
        if id.is_empty() || id.len() > ID_CHARS_MAX || !id.chars().all(plain) {
            let help = format!("accepted: 1 to {ID_CHARS_MAX} of a-z, A-Z, 0-9, `.`, `_`, `-`, `/`");
            let message = "the value of `@id` is not a rule's name".to_owned();
            findings.push(self.find("id", "policy.annotation", message, Some(help)));
        }
        id.to_owned()
    }

    fn message(&self, findings: &mut Vec<Diagnostic>) -> Option<String> {
        let message = self.get("message")?;
        let hidden = |one: char| {
            one.is_control()
                || matches!(one, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{e0000}'..='\u{e007f}' | '\u{feff}')
        };
        if message.is_empty() || message.chars().count() > MESSAGE_CHARS_MAX || message.chars().any(hidden) {
            let help = format!("accepted: 1 to {MESSAGE_CHARS_MAX} printable characters, on one line");
            let text = "the value of `@message` cannot be shown".to_owned();
            findings.push(self.find("message", "policy.annotation", text, Some(help))); // T3
        }
        Some(message.to_owned())
    }

    fn obligations(&self, id: &str, findings: &mut Vec<Diagnostic>) -> Vec<Obligation> {
        let words: Vec<&str> = self.get("obligation").map_or_else(Vec::new, split);
        if self.get("obligation").is_some() && self.effect == ast::Effect::Forbid {
            let message =
                "an obligation on a `forbid`: nothing is let through, so nothing can be owed".to_owned();
            let help = Some("put it on the `permit` that lets the rest pass".to_owned());
            findings.push(self.find("obligation", "policy.obligation", message, help)); // T2
        }
        for (parameter, word) in PARAMETERS {
            if self.annotations.contains_key(parameter) && !words.contains(&word) {
                let message = format!("`@{parameter}` without `@obligation(\"{word}\")`");
                let help = Some(format!("write `@obligation(\"{word}\")` beside it"));
                findings.push(self.find(parameter, "policy.obligation", message, help)); // T2
            }
        }
        let mut obligations = Vec::new();
        for word in words {
            match self.obligation(word, id) {
                Ok(obligation) => obligations.push(obligation),
                Err(finding) => findings.push(*finding),
            }
        }
        obligations
    }

    /// T2.
    fn obligation(&self, word: &str, id: &str) -> Result<Obligation, Box<Diagnostic>> {
        let accepted =
            || Obligation::WORDS.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ");
        match word {
            "redact" => self.redaction(),
            "approval" => self.approval(),
            "tier" => {
                let text = self.needed("tier", "tier", "@tier(\"gvisor\")")?;
                text.parse()
                    .map(Obligation::Tier)
                    .map_err(|error: symbi_types::TierError| self.wrong("tier", error.to_string(), None))
            }
            "read_only" => Ok(Obligation::ReadOnly),
            "budget" => self.budget(id),
            "record" => match self.needed("record", "record", "@record(\"full\")")? {
                "full" => Ok(Obligation::RecordFull),
                other => Err(self.wrong(
                    "record",
                    format!("`{other}` is not a level of records"),
                    Some("accepted: `full`".to_owned()),
                )),
            },
            "notify" => {
                let channels =
                    self.names("notify", self.needed("notify", "notify", "@notify(\"security\")")?)?;
                Ok(Obligation::Notify(channels))
            }
            other => {
                let help = match nearest(other, Obligation::WORDS) {
                    Some(near) => format!("did you mean `{near}`? accepted: {}", accepted()),
                    None => format!("accepted: {}", accepted()),
                };
                Err(self.wrong("obligation", format!("unknown obligation `{other}`"), Some(help)))
            }
        }
    }

    fn wrong(&self, name: &str, message: String, help: Option<String>) -> Box<Diagnostic> {
        Box::new(self.find(name, "policy.obligation", message, help))
    }

    /// A parameter that an obligation cannot do without.
    fn needed(&self, name: &str, word: &str, example: &str) -> Result<&str, Box<Diagnostic>> {
        self.get(name).ok_or_else(|| {
            let message = format!("`@obligation(\"{word}\")` does not say what");
            self.wrong("obligation", message, Some(format!("write `{example}` beside it")))
        })
    }

    fn redaction(&self) -> Result<Obligation, Box<Diagnostic>> {
        if self.get("labels").is_none() && self.get("fields").is_none() {
            let message = "`@obligation(\"redact\")` does not say what".to_owned();
            let help = "write `@labels(\"personal\")` or `@fields(\"patient.name\")`, or several with commas, beside it";
            return Err(self.wrong("obligation", message, Some(help.to_owned())));
        }
        let labels = self.get("labels").map_or(Ok(LabelSet::default()), |list| {
            list.split(',')
                .map(|label| label.trim().parse())
                .collect::<Result<LabelSet, _>>()
                .map_err(|error: symbi_types::LabelError| self.wrong("labels", error.to_string(), None))
        })?;
        let fields = match self.get("fields") {
            None => BTreeSet::new(),
            Some(list) => self.names("fields", list)?,
        };
        Ok(Obligation::Redact { labels, fields })
    }

    fn approval(&self) -> Result<Obligation, Box<Diagnostic>> {
        let count = self.get("approvals").map_or(Some(1), |text| text.trim().parse::<u32>().ok());
        let Some(count) = count.filter(|count| (1..=APPROVALS_MAX).contains(count)) else {
            let help = Some(format!("accepted: 1 to {APPROVALS_MAX}"));
            return Err(self.wrong("approvals", "not a number of approvals".to_owned(), help));
        };
        let approvers = match self.get("approvers") {
            None => BTreeSet::new(),
            Some(list) => self.names("approvers", list)?,
        };
        let expires_s = self.get("expires").map_or(Some(EXPIRES_S), seconds);
        let Some(expires_s) = expires_s.filter(|seconds| *seconds <= EXPIRES_S_MAX) else {
            let help = Some("accepted: `90s`, `15m`, `24h`, `7d`; at most 31 days".to_owned());
            return Err(self.wrong("expires", "not a duration".to_owned(), help));
        };
        let approval = Approval { count, approvers, expires_s };
        if approval.is_impossible() {
            let message = format!("{count} approvals by {} persons", approval.approvers.len());
            return Err(self.wrong("approvers", message, Some("name more of them, or ask for fewer".into())));
        }
        Ok(Obligation::Approval(approval))
    }

    /// `10 calls per 60s`
    fn budget(&self, id: &str) -> Result<Obligation, Box<Diagnostic>> {
        let text = self.needed("budget", "budget", "@budget(\"10 calls per 60s\")")?;
        let words: Vec<&str> = text.split_whitespace().collect();
        if let [cap, measure, "per", window] = words[..]
            && let Ok(cap) = cap.parse::<u64>()
            && let Some(window_s) = seconds(window)
            && is_name(measure)
            && cap <= 1 << 53
            && window_s <= WINDOW_S_MAX.unsigned_abs()
        {
            let measure = measure.to_owned();
            let window_us = window_s * 1_000_000;
            return Ok(Obligation::Budget(Budget { rule: id.to_owned(), measure, cap, window_us }));
        }
        let help = "accepted: `10 calls per 60s`, `500000 tokens per 24h`; at most 31 days";
        Err(self.wrong("budget", format!("`{text}` is not a budget"), Some(help.to_owned())))
    }

    /// Names with commas: of operators, fields, channels.
    fn names(&self, parameter: &str, list: &str) -> Result<BTreeSet<String>, Box<Diagnostic>> {
        let plain = |name: &&str| {
            !name.is_empty()
                && name.len() <= ID_CHARS_MAX
                && name.chars().all(|one| one.is_ascii_alphanumeric() || "._-:/".contains(one))
        };
        let names = split(list);
        if names.is_empty() || !names.iter().all(plain) {
            let help = format!(
                "accepted: names of a-z, A-Z, 0-9, `.`, `_`, `-`, `:`, `/`, with commas, up to {ID_CHARS_MAX} characters"
            );
            return Err(self.wrong(parameter, format!("not a list of names: `{list}`"), Some(help)));
        }
        Ok(names.into_iter().map(str::to_owned).collect())
    }

    fn consequence(&self, findings: &mut Vec<Diagnostic>) -> Option<Consequence> {
        let name = self.get("on_violation")?;
        if self.effect == ast::Effect::Permit {
            let message = "a consequence on a `permit`: what it lets through violates nothing".to_owned();
            let help = Some("put it on the `forbid` that is not to be run into".to_owned());
            findings.push(self.find("on_violation", "policy.on_violation", message, help)); // T4
        }
        if let Some(known) = Consequence::ALL.into_iter().find(|one| one.as_str() == name) {
            return Some(known);
        }
        let accepted = "accepted: `suspend`, `terminate`";
        let help = match nearest(name, Consequence::ALL.map(Consequence::as_str)) {
            Some(near) => format!("did you mean `{near}`? {accepted}"),
            None => accepted.to_owned(),
        };
        let message = format!("unknown consequence `{name}`");
        findings.push(self.find("on_violation", "policy.on_violation", message, Some(help)));
        None
    }
}

fn split(list: &str) -> Vec<&str> {
    list.split(',').map(str::trim).collect()
}

/// `90s`, `15m`, `24h`, `7d`
fn seconds(text: &str) -> Option<u64> {
    let text = text.trim();
    let unit = match text.chars().last()? {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        'd' => 86_400,
        _ => return None,
    };
    let number: u64 = text.get(..text.len() - 1)?.parse().ok()?;
    number.checked_mul(unit).filter(|seconds| *seconds > 0)
}
