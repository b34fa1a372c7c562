//! Annotations: what a policy says besides yes or no.
//!
//! Invariants
//! - T1 an annotation that is not in the list is an error: a misspelt `@obligation` must not become a plain permit.
//! - T2 an obligation stands on a permit and is complete: `@obligation("redact")` with `@labels("…")`.
//! - T3 a message is constant, short and printable: it is shown to agents, and in terminals.
//! - T4 a consequence stands on a forbid: what is let through has none.

use std::collections::BTreeMap;
use std::sync::Arc;

use cedar_policy_core::ast;
use symbi_types::LabelSet;

use crate::decision::{Consequence, Obligation, Rule, RuleEffect};
use crate::diagnostic::{Diagnostic, nearest, place};

/// Longest `@id`, in characters: it is a column of tables and a field of records.
pub(crate) const ID_CHARS_MAX: usize = 64;
/// Longest `@message`, in characters: one or two sentences.
pub(crate) const MESSAGE_CHARS_MAX: usize = 300;

const ANNOTATIONS: [&str; 5] = ["id", "message", "obligation", "labels", "on_violation"];
const OBLIGATIONS: [&str; 1] = ["redact"];

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
                let accepted = "accepted: `@id`, `@message`, `@obligation`, `@labels`, `@on_violation`";
                let help = match nearest(name, ANNOTATIONS) {
                    Some(near) => format!("did you mean `@{near}`? {accepted}"),
                    None => accepted.to_owned(),
                };
                let message = format!("unknown annotation `@{name}`");
                findings.push(self.find(name, "policy.annotation", message, Some(help))); // T1
            }
        }
        let (line, column) = place(self.text, self.offset);
        let id = self.id(line, &mut findings);
        let message = self.message(&mut findings);
        let obligations = self.obligations(&mut findings);
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

    fn obligations(&self, findings: &mut Vec<Diagnostic>) -> Vec<Obligation> {
        let Some(name) = self.get("obligation") else {
            if self.annotations.contains_key("labels") {
                let message = "`@labels` without `@obligation`".to_owned();
                let help = Some("write `@obligation(\"redact\")` beside it".to_owned());
                findings.push(self.find("labels", "policy.obligation", message, help));
            }
            return Vec::new();
        };
        if self.effect == ast::Effect::Forbid {
            let message =
                "an obligation on a `forbid`: nothing is let through, so nothing can be owed".to_owned();
            let help = Some("put it on the `permit` that lets the rest pass".to_owned());
            findings.push(self.find("obligation", "policy.obligation", message, help)); // T2
        }
        if !OBLIGATIONS.contains(&name) {
            let help = match nearest(name, OBLIGATIONS) {
                Some(near) => format!("did you mean `{near}`? accepted: `redact`"),
                None => "accepted: `redact`".to_owned(),
            };
            findings.push(self.find(
                "obligation",
                "policy.obligation",
                format!("unknown obligation `{name}`"),
                Some(help),
            ));
            return Vec::new();
        }
        match self.labels() {
            Ok(labels) => vec![Obligation::Redact { labels }],
            Err(finding) => {
                findings.push(finding);
                Vec::new()
            }
        }
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

    fn labels(&self) -> Result<LabelSet, Diagnostic> {
        let Some(list) = self.get("labels") else {
            let message = "`@obligation(\"redact\")` does not say what".to_owned();
            let help = Some("write `@labels(\"personal\")`, or several with commas, beside it".to_owned());
            return Err(self.find("obligation", "policy.obligation", message, help));
        };
        list.split(',').map(|label| label.trim().parse()).collect::<Result<LabelSet, _>>().map_err(
            |error: symbi_types::LabelError| {
                self.find("labels", "policy.obligation", error.to_string(), None)
            },
        )
    }
}
