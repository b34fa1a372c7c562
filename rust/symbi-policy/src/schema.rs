//! Schemas: what a policy may look at.
//!
//! Invariants
//! - S1 each declared counter is a required `Long` in `context.counters` of its own action and of those it is
//!   shown to, and of no other.

use cedar_policy_core::ast;
use cedar_policy_core::extensions::Extensions;
use cedar_policy_core::validator::ValidatorSchema;

use crate::builtin;
use crate::compile::SOURCE_BYTES_MAX;
use crate::counter::{COUNTERS_MAX, CounterSpec, is_name};
use crate::diagnostic::{Diagnostic, from_cedar, nearest};
use crate::nesting::{BRACKETS_MAX, too_deep};
use crate::vocabulary::ACTIONS;

/// What policies are checked against.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Schema {
    /// The schema of symbi, with the declared counters, and the operator set before every other.
    Symbi,
    /// A schema of one's own, in Cedar's schema language.
    Text {
        /// For diagnostics.
        name: String,
        /// The text.
        text: String,
    },
    /// None: any entity, action and attribute. A misspelt attribute is then found only when it is read.
    Unchecked,
}

impl Schema {
    /// The text that is parsed, and digested.
    pub(crate) fn text(&self, counters: &[CounterSpec]) -> Option<String> {
        match self {
            Self::Symbi => Some(with_counters(counters)),
            Self::Text { text, .. } => Some(text.clone()),
            Self::Unchecked => None,
        }
    }

    fn name(&self) -> &str {
        match self {
            Self::Symbi => "builtin:schema",
            Self::Text { name, .. } => name,
            Self::Unchecked => "",
        }
    }

    pub(crate) fn build(&self, counters: &[CounterSpec]) -> Result<Option<ValidatorSchema>, Vec<Diagnostic>> {
        let mut findings = check_counters(counters);
        if let (Self::Text { name, .. }, false) = (self, counters.is_empty()) {
            let message = "counters need the schema of symbi, or none";
            findings.push(Diagnostic::error(name, (1, 1), "counters.schema", message, None));
        }
        if !findings.is_empty() {
            return Err(findings);
        }
        let Some(text) = self.text(counters) else { return Ok(None) };
        if text.len() > SOURCE_BYTES_MAX
            || too_deep(&text, "([{<").is_some_and(|(_, what)| what == "brackets")
        {
            let message =
                format!("a schema has at most {SOURCE_BYTES_MAX} bytes and {BRACKETS_MAX} open brackets");
            return Err(vec![Diagnostic::error(self.name(), (1, 1), "schema.limit", message, None)]);
        }
        match ValidatorSchema::from_cedarschema_str(&text, Extensions::all_available()) {
            Ok((schema, _warnings)) => Ok(Some(schema)),
            Err(error) => Err(vec![from_cedar(self.name(), &text, 0, "schema.invalid", &error)]),
        }
    }
}

fn check_counters(counters: &[CounterSpec]) -> Vec<Diagnostic> {
    let mut findings = Vec::new();
    let mut find = |code, message: String, help| {
        findings.push(Diagnostic::error("counters", (1, 1), code, message, help))
    };
    if counters.len() > COUNTERS_MAX {
        find(
            "counters.limit",
            format!("`{}` counters: at most {COUNTERS_MAX} are accepted", counters.len()),
            None,
        );
    }
    for (index, counter) in counters.iter().enumerate() {
        if !is_name(&counter.name) {
            find("counters.value", format!("`{}` is not a counter's name", counter.name), None);
        }
        if counters.iter().take(index).any(|earlier| earlier.name == counter.name) {
            find("counters.duplicate", format!("counter `{}` is declared twice", counter.name), None);
        }
        if !ACTIONS.contains(&counter.action.as_str()) {
            let help = nearest(&counter.action, ACTIONS).map(|near| format!("did you mean `{near}`?"));
            find("counters.value", format!("`{}` is not an action", counter.action), help);
        }
    }
    findings
}

/// S1: the empty record behind each action's `counters:` is filled.
fn with_counters(counters: &[CounterSpec]) -> String {
    let mut sorted: Vec<&CounterSpec> = counters.iter().collect();
    sorted.sort();
    let mut text = builtin::SCHEMA.to_owned();
    for action in ACTIONS {
        let fields: Vec<String> = sorted
            .iter()
            .filter(|counter| counter.is_seen_by(action))
            .map(|counter| format!("{}: Long", counter.name))
            .collect();
        let Some((before, after)) = text.split_once(&format!("action \"{action}\" ")) else { continue };
        let after = after.replacen("counters: {}", &format!("counters: {{ {} }}", fields.join(", ")), 1);
        text = format!("{before}action \"{action}\" {after}");
    }
    text
}

/// The id under which callers name an action: bare for `Action::"x"`, in full for `Clinic::Action::"x"`.
pub(crate) fn action_name(uid: &ast::EntityUID) -> String {
    if uid.entity_type().name().is_unqualified() {
        let id: &str = uid.eid().as_ref();
        id.to_owned()
    } else {
        uid.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::counter::Per;

    #[test]
    fn the_schema_and_the_table_name_the_same_actions() {
        let schema = Schema::Symbi.build(&[]).unwrap().unwrap();
        let mut names: Vec<String> = schema.actions().map(action_name).collect();
        names.sort();
        let mut table: Vec<&str> = ACTIONS.to_vec();
        table.sort_unstable();
        assert_eq!(names, table);
    }

    #[test]
    fn s1_each_action_can_have_a_counter_of_its_own() {
        let counters: Vec<CounterSpec> = ACTIONS
            .iter()
            .enumerate()
            .map(|(index, action)| CounterSpec::counting(&format!("counter_{index}"), action, Per::Global, 1))
            .collect();
        let text = with_counters(&counters);
        for (index, action) in ACTIONS.iter().enumerate() {
            let body = text.split(&format!("action \"{action}\" ")).nth(1).unwrap();
            let body = body.split("};").next().unwrap();
            assert!(body.contains(&format!("counters: {{ counter_{index}: Long }}")), "{action}");
        }
        assert!(Schema::Symbi.build(&counters).is_ok());
    }

    #[test]
    fn c2_a_counter_is_declared_once() {
        let one = CounterSpec::counting("calls", "tool.call", Per::Principal, 1);
        let findings = Schema::Symbi.build(&[one.clone(), one]).unwrap_err();
        assert_eq!(findings[0].code, "counters.duplicate");
    }
}
