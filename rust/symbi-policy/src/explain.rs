//! Why: the rule, its place, the clause that decided with the values it saw, and the one change that would allow.
//!
//! Why here: only who compiled the set knows the clauses. Cost does not matter; it runs when a person asks.
//! Not here: who may see the values (the kernel: they have the labels of the request).
//!
//! Invariants
//! - X1 a change is named only when it alone is enough: that clause of that rule coming out the other way, every other
//!   clause and rule as it is, turns the decision.
//! - X2 (in `change`) an attribute or a membership is named only when the request so changed is allowed.

use cedar_policy_core::ast::{ActionConstraint, EntityUID, Expr, SlotEnv};

use crate::change::{Change, join};
use crate::compile::Compiled;
use crate::decision::{Decision, Reason, RuleEffect};
use crate::engine::Engine;
use crate::evaluate::{Scene, cedar_request, visit};
use crate::expression::{Clause, conjuncts, reads};
use crate::index::{Scope, action_matches};
use crate::request::Request;
use crate::store::Store;
use crate::value::uid_to_json;

/// Longest value shown, in characters: more is cut and marked.
const VALUE_CHARS_MAX: usize = 200;

/// An answer to "why?".
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Explanation {
    /// `allow`, `deny`, `redact`.
    pub decision: String,
    /// One sentence.
    pub summary: String,
    /// The rule that decided or, when no permit applied, the one that came closest.
    pub rule: Option<String>,
    /// Its source.
    pub source: Option<String>,
    /// Its line, 1-based.
    pub line: Option<usize>,
    /// The clause that decided, as it is written.
    pub clause: Option<String>,
    /// What the clause read: expression and value.
    pub values: Vec<(String, String)>,
    /// The single change that would allow it, where there is one (X1).
    pub change_that_would_allow: Option<String>,
    /// The rules that determined the decision.
    pub determining: Vec<String>,
    /// Every clause that stands against it, with what it read: of the rules that forbid, or of the permit that came
    /// closest. At most [`FAILING_MAX`].
    pub failing: Vec<Failing>,
    /// The change of one attribute or membership of this very request that would allow it, tried (X2).
    pub single_change: Option<Change>,
}

/// Clauses told at most: a person reads no more.
pub const FAILING_MAX: usize = 32;

/// A clause that stands in the way.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Failing {
    /// Its rule.
    pub rule: String,
    /// The rule's source.
    pub source: String,
    /// The rule's line, 1-based.
    pub line: usize,
    /// As it is written.
    pub clause: String,
    /// What it read: expression and value.
    pub values: Vec<(String, String)>,
}

impl Engine {
    /// Explains a decision of this engine on this request.
    #[must_use]
    pub fn explain(&self, request: &Request<'_>, decision: &Decision) -> Explanation {
        self.explain_with(request, decision, None)
    }

    /// Like [`Engine::explain`], for [`Engine::evaluate_in`].
    #[must_use]
    pub fn explain_in(&self, request: &Request<'_>, decision: &Decision, store: &Store) -> Explanation {
        self.explain_with(request, decision, Some(store))
    }

    fn explain_with(&self, request: &Request<'_>, decision: &Decision, store: Option<&Store>) -> Explanation {
        let mut told =
            Explanation { decision: decision.effect.as_str().to_owned(), ..Explanation::default() };
        let Some(action) = self.action(request.action, store) else {
            told.summary = format!("action `{}` is not in the schema", request.action);
            return told;
        };
        told.determining = decision.determining.iter().map(|rule| rule.id.clone()).collect();
        let asked = Asked { request, store };
        visit(request, cedar_request(request, &action), &action, store, |scene| {
            self.tell(scene, &asked, decision, &mut told)
        });
        told.failing.truncate(FAILING_MAX);
        if told.summary.is_empty() {
            "the entities of the request disagree with one another".clone_into(&mut told.summary);
        }
        told
    }

    fn tell(&self, scene: &Scene<'_>, asked: &Asked<'_>, decision: &Decision, told: &mut Explanation) {
        self.tell_forbids(scene, decision, told);
        let all = || self.layers.iter().flat_map(|layer| &layer.rules);
        let first = decision.rule().and_then(|rule| all().find(|compiled| compiled.rule == *rule));
        match (decision.reason, first) {
            (None, Some(permit)) => {
                told.summary = format!("rule `{}` permits it", permit.rule.id);
                told.at(permit);
                told.whole_body(scene, permit);
            }
            (Some(Reason::ForbidFailed), Some(forbid)) => {
                let why = decision.errors.first().map_or("", |failure| failure.message.as_str());
                told.summary =
                    format!("rule `{}` forbids, because it could not be evaluated: {why}", forbid.rule.id);
                told.at(forbid);
                told.whole_body(scene, forbid);
            }
            (Some(Reason::Forbidden), Some(forbid)) => {
                told.summary = format!("rule `{}` forbids it", forbid.rule.id);
                told.at(forbid);
                told.whole_body(scene, forbid);
                let permitted = all().any(|one| one.rule.effect == RuleEffect::Permit && one.applies(scene));
                if permitted && decision.determining.len() == 1 {
                    told.change_that_would_allow = escape(forbid);
                    let clauses = forbid.condition.as_deref().map(conjuncts).unwrap_or_default();
                    told.single_change = clauses.iter().find_map(|clause| {
                        let turned = Clause { wanted: !clause.wanted, ..*clause };
                        self.change_of_clause(asked.request, asked.store, &turned)
                    });
                }
            }
            _ => self.tell_missing_permit(scene, asked, told),
        }
    }

    /// Every clause of every rule that forbids.
    fn tell_forbids(&self, scene: &Scene<'_>, decision: &Decision, told: &mut Explanation) {
        if !matches!(decision.reason, Some(Reason::Forbidden | Reason::ForbidFailed)) {
            return;
        }
        let all = self.layers.iter().flat_map(|layer| &layer.rules);
        for compiled in all.filter(|one| decision.determining.contains(&one.rule)) {
            let Some(condition) = &compiled.condition else {
                told.failing.push(Failing::of(compiled, "true".to_owned(), Vec::new()));
                continue;
            };
            for clause in conjuncts(condition) {
                let values = values(scene, clause.expression, &compiled.slots);
                told.failing.push(Failing::of(compiled, written(&clause), values));
            }
        }
    }

    /// The permit with the fewest things against it.
    fn tell_missing_permit(&self, scene: &Scene<'_>, asked: &Asked<'_>, told: &mut Explanation) {
        "no rule permits it".clone_into(&mut told.summary);
        let permits = self.layers.iter().flat_map(|layer| &layer.rules);
        let permits = permits.filter(|compiled| compiled.rule.effect == RuleEffect::Permit);
        let nearest = permits
            .map(|compiled| (Obstacles::of(compiled, scene), compiled))
            .min_by_key(|(obstacles, _)| obstacles.weight());
        let Some((obstacles, compiled)) = nearest.filter(|(obstacles, _)| obstacles.action_matches) else {
            return;
        };
        told.summary = format!("no rule permits it; `{}` comes closest", compiled.rule.id);
        told.at(compiled);
        if let Some(first) = obstacles.found.first() {
            told.clause = Some(first.text.clone());
            told.values.clone_from(&first.values);
        }
        let failing = |one: &Obstacle| Failing::of(compiled, one.text.clone(), one.values.clone());
        told.failing.extend(obstacles.found.iter().map(failing));
        if let [only] = obstacles.found.as_slice() {
            told.change_that_would_allow = Some(only.change.clone());
            told.single_change = self.single_change(scene, asked, compiled);
        }
    }

    /// X2, for a permit that one thing keeps from applying.
    fn single_change(&self, scene: &Scene<'_>, asked: &Asked<'_>, permit: &Compiled) -> Option<Change> {
        for (var, scope, entity) in [
            ("principal", &permit.principal, scene.principal),
            ("resource", &permit.resource, scene.resource),
        ] {
            if let Scope::In(group) | Scope::IsIn(_, group) = scope
                && !scope.matches(entity)
            {
                let group = uid_to_json(group);
                return self.change_of(asked.request, asked.store, |json| join(json, var, &group));
            }
        }
        let failing =
            |clause: &Clause<'_>| scene.truth(clause.expression, &permit.slots) != Ok(clause.wanted);
        let clause = conjuncts(permit.condition.as_deref()?).into_iter().find(failing)?;
        self.change_of_clause(asked.request, asked.store, &clause)
    }
}

/// What is explained.
struct Asked<'a> {
    request: &'a Request<'a>,
    store: Option<&'a Store>,
}

impl Failing {
    fn of(compiled: &Compiled, clause: String, values: Vec<(String, String)>) -> Self {
        let rule = &compiled.rule;
        Self { rule: rule.id.clone(), source: rule.source.to_string(), line: rule.line, clause, values }
    }
}

impl Compiled {
    fn applies(&self, scene: &Scene<'_>) -> bool {
        self.head_matches(scene.principal, scene.action, scene.resource) && scene.holds(self) == Ok(true)
    }
}

impl Explanation {
    fn at(&mut self, compiled: &Compiled) {
        self.rule = Some(compiled.rule.id.clone());
        self.source = Some(compiled.rule.source.to_string());
        self.line = Some(compiled.rule.line);
    }

    fn whole_body(&mut self, scene: &Scene<'_>, compiled: &Compiled) {
        let Some(condition) = &compiled.condition else { return };
        let clauses: Vec<String> = conjuncts(condition).iter().map(written).collect();
        self.clause = Some(clauses.join(" && "));
        self.values = values(scene, condition, &compiled.slots);
    }
}

/// What stands between a request and a permit.
struct Obstacles {
    action_matches: bool,
    scope: usize,
    found: Vec<Obstacle>,
}

struct Obstacle {
    text: String,
    values: Vec<(String, String)>,
    change: String,
}

impl Obstacles {
    fn of(compiled: &Compiled, scene: &Scene<'_>) -> Self {
        let mut found = Vec::new();
        let action_matches = action_matches(&compiled.action, scene.action);
        if !action_matches {
            found.push(Obstacle::head("action", &show_action(&compiled.action), scene.action.uid().cedar()));
        }
        for (name, scope, entity) in [
            ("principal", &compiled.principal, scene.principal),
            ("resource", &compiled.resource, scene.resource),
        ] {
            if !scope.matches(entity) {
                found.push(Obstacle::head(name, &show_scope(scope), entity.uid().cedar()));
            }
        }
        let scope = found.len();
        if let Some(condition) = &compiled.condition {
            for clause in conjuncts(condition) {
                match scene.truth(clause.expression, &compiled.slots) {
                    Ok(truth) if truth == clause.wanted => {}
                    outcome => found.push(Obstacle::clause(scene, &clause, &compiled.slots, outcome.err())),
                }
            }
        }
        Self { action_matches, scope, found }
    }

    /// A wrong action is no near miss; a matching head is nearer than any other.
    fn weight(&self) -> (bool, usize, usize) {
        (!self.action_matches, self.scope, self.found.len())
    }
}

impl Obstacle {
    fn head(name: &str, wanted: &str, actual: &EntityUID) -> Self {
        let text = format!("{name} {wanted}");
        let change = format!("it would be allowed if the rule said `{name} == {actual}` in its head");
        Self { text, values: vec![(name.to_owned(), actual.to_string())], change }
    }

    fn clause(scene: &Scene<'_>, clause: &Clause<'_>, slots: &SlotEnv, error: Option<String>) -> Self {
        let text = written(clause);
        let change = match error {
            None => format!("it would be allowed if `{text}` held"),
            Some(error) => format!("it would be allowed if `{text}` could be evaluated and held: {error}"),
        };
        Self { values: values(scene, clause.expression, slots), text, change }
    }
}

/// X1: one clause of a forbid that no longer holds is enough, when it has a clause at all.
fn escape(forbid: &Compiled) -> Option<String> {
    let clauses = conjuncts(forbid.condition.as_deref()?);
    let written: Vec<String> = clauses.iter().map(|clause| format!("`{}`", self::written(clause))).collect();
    match written.as_slice() {
        [] => None,
        [only] => Some(format!("it would be allowed if {only} did not hold")),
        several => Some(format!("it would be allowed if one of {} did not hold", several.join(", "))),
    }
}

/// The clause as its author wrote it, negated where an `unless` stands around it.
fn written(clause: &Clause<'_>) -> String {
    let text = text_of(clause.expression);
    if clause.wanted { text } else { format!("!({text})") }
}

fn text_of(expression: &Expr) -> String {
    let snippet = expression.source_loc().and_then(|loc| loc.snippet());
    let text = snippet.map_or_else(|| expression.to_string(), str::to_owned);
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn values(scene: &Scene<'_>, expression: &Expr, slots: &SlotEnv) -> Vec<(String, String)> {
    reads(expression)
        .into_iter()
        .map(|read| {
            let value = match scene.evaluator.interpret(read, slots) {
                Ok(value) => value.to_string(),
                Err(_) => "absent".to_owned(),
            };
            (text_of(read), cut(value))
        })
        .collect()
}

fn cut(text: String) -> String {
    if text.chars().count() <= VALUE_CHARS_MAX {
        return text;
    }
    let kept: String = text.chars().take(VALUE_CHARS_MAX).collect();
    format!("{kept}…")
}

fn show_scope(scope: &Scope) -> String {
    match scope {
        Scope::Any => String::new(),
        Scope::Is(kind) => format!("is {kind}"),
        Scope::Equal(uid) => format!("== {uid}"),
        Scope::In(uid) => format!("in {uid}"),
        Scope::IsIn(kind, uid) => format!("is {kind} in {uid}"),
    }
}

fn show_action(action: &ActionConstraint) -> String {
    match action {
        ActionConstraint::Any => String::new(),
        ActionConstraint::Eq(uid) => format!("== {uid}"),
        ActionConstraint::In(list) => {
            format!("in [{}]", list.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))
        }
    }
}
