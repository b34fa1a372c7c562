//! Proposing policies: the least set that covers what was recorded.
//!
//! Why: whoever lets agents run freely at first wants to close the door behind what they were seen to do. Least means: no
//! principal, action, resource or label that was not seen together; among such sets, few rules.
//! Not here: reading records, and judging: what was seen may be what should never have happened. A person reads it first.
//!
//! Invariants
//! - LN1 the proposal compiles against the schema of symbi without errors or warnings.
//! - LN2 the proposal allows every request that was given, and what the built-in set decides needs no rule.
//! - LN3 the same requests give the same text, in whatever order they came.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use serde_json::Value as Json;

use crate::compile::Source;
use crate::diagnostic::Diagnostic;
use crate::engine::Engine;
use crate::entity::Entity;
use crate::request::Request;
use crate::schema::Schema;

/// Entities named in one rule; more become rules of their own, for the text stays readable.
const NAMED_MAX: usize = 32;

/// Whom a rule is for, or on what: in words of Cedar, sorted.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Target {
    /// `is Host`: there is one, or their ids are random.
    Kind(&'static str),
    /// One of these, all of one type.
    Named(String, BTreeSet<String>),
    /// Everything in it.
    Within(&'static str, String),
}

/// What must hold besides.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Bounds {
    /// Labels of what is carried.
    labels: BTreeSet<String>,
    /// Labels of the document.
    resource_labels: Option<BTreeSet<String>>,
    /// Of a sandbox: lowest tier, network, writable.
    sandbox: Option<(i64, bool, bool)>,
}

impl Bounds {
    fn widen(&mut self, other: &Self) {
        self.labels.extend(other.labels.iter().cloned());
        match (&mut self.resource_labels, &other.resource_labels) {
            (Some(ours), Some(theirs)) => ours.extend(theirs.iter().cloned()),
            (ours, theirs) => *ours = ours.take().or_else(|| theirs.clone()),
        }
        self.sandbox = match (self.sandbox, other.sandbox) {
            (Some(ours), Some(theirs)) => Some((ours.0.min(theirs.0), ours.1 | theirs.1, ours.2 | theirs.2)),
            (ours, theirs) => ours.or(theirs),
        };
    }
}

/// Collects requests that must be allowed.
#[derive(Debug)]
pub struct Learner {
    builtin: Engine,
    seen: BTreeMap<(Target, String, Target), Bounds>,
    requests: u64,
}

/// What is proposed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proposal {
    /// Cedar.
    pub text: String,
    /// How many rules.
    pub rules: usize,
    /// How many requests they cover.
    pub requests: u64,
}

impl Learner {
    /// Nothing seen yet.
    ///
    /// # Errors
    /// None in practice: the built-in set compiles.
    pub fn new() -> Result<Self, Vec<Diagnostic>> {
        let builtin = Engine::compile(Schema::Symbi, &[] as &[Source], &[])?;
        Ok(Self { builtin, seen: BTreeMap::new(), requests: 0 })
    }

    /// One request that must be allowed.
    pub fn add(&mut self, request: &Request<'_>) {
        self.requests += 1;
        // LN2. Nothing is permitted of a breach: there, silence leaves things alone.
        if request.action == "limit.breach" || !self.builtin.evaluate(request).is_denied() {
            return;
        }
        let labels =
            request.context.iter().find(|(name, _)| name == "labels").map(|(_, value)| value.to_json());
        let resource = request.resource.to_json();
        let bounds = Bounds {
            labels: texts(labels.as_ref()),
            resource_labels: (request.resource.uid().type_name() == "Document")
                .then(|| texts(resource.pointer("/attrs/labels"))),
            sandbox: sandbox(&resource),
        };
        let key = (principal(request.principal), request.action.to_owned(), target(request.resource));
        self.seen.entry(key).or_insert_with(|| bounds.clone()).widen(&bounds);
    }

    /// What another has seen, too.
    pub fn merge(&mut self, other: Self) {
        self.requests += other.requests;
        for (key, bounds) in other.seen {
            self.seen.entry(key).or_insert_with(|| bounds.clone()).widen(&bounds);
        }
    }

    /// The rules.
    #[must_use]
    pub fn propose(&self) -> Proposal {
        // Joined are only rules that differ in one place, so nothing is permitted that was not seen.
        let mut by_actions: BTreeMap<(Target, Target, Bounds), BTreeSet<String>> = BTreeMap::new();
        for ((principal, action, resource), bounds) in &self.seen {
            let key = (principal.clone(), resource.clone(), bounds.clone());
            by_actions.entry(key).or_default().insert(action.clone());
        }
        let rules = by_actions.into_iter().map(|((principal, resource, bounds), actions)| Rule {
            principal,
            actions,
            resource,
            bounds,
        });
        let rules = joined(rules.collect(), |rule| &mut rule.resource);
        let rules = joined(rules, |rule| &mut rule.principal);
        let mut text = String::from(
            "// Proposed from a trail: what was seen, and nothing else. Read it before you use it: what was seen may be\n\
             // what should not have happened.\n",
        );
        for (number, rule) in rules.iter().enumerate() {
            let _ = write!(text, "\n@id(\"learned-{}\")\n{}", number + 1, rule.text());
        }
        Proposal { text, rules: rules.len(), requests: self.requests }
    }
}

/// A rule in the making.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Rule {
    principal: Target,
    actions: BTreeSet<String>,
    resource: Target,
    bounds: Bounds,
}

/// Joins rules that differ only in the names at one place.
fn joined(rules: Vec<Rule>, place: impl Fn(&mut Rule) -> &mut Target) -> Vec<Rule> {
    let mut found: BTreeMap<Rule, Vec<String>> = BTreeMap::new();
    let mut others = Vec::new();
    for mut rule in rules {
        let Target::Named(kind, names) = place(&mut rule).clone() else {
            others.push(rule);
            continue;
        };
        *place(&mut rule) = Target::Named(kind, BTreeSet::new());
        found.entry(rule).or_default().extend(names);
    }
    for (shape, mut names) in found {
        names.sort();
        names.dedup();
        for part in names.chunks(NAMED_MAX) {
            let mut rule = shape.clone();
            if let Target::Named(_, empty) = place(&mut rule) {
                empty.extend(part.iter().cloned());
            }
            others.push(rule);
        }
    }
    others.sort();
    others
}

impl Rule {
    fn text(&self) -> String {
        let mut clauses = Vec::new();
        let principal = head("principal", &self.principal, &mut clauses);
        let resource = head("resource", &self.resource, &mut clauses);
        let actions: Vec<String> = self.actions.iter().map(|name| format!("Action::{name:?}")).collect();
        let action = match actions.as_slice() {
            [one] => format!("action == {one}"),
            all => format!("action in [{}]", all.join(", ")),
        };
        clauses.push(within("context.labels", &self.bounds.labels));
        clauses.extend(self.bounds.resource_labels.as_ref().map(|labels| within("resource.labels", labels)));
        if let Some((tier, network, writable)) = self.bounds.sandbox {
            clauses.push(format!("resource.tier >= {tier}"));
            let closed = [(network, "!resource.network"), (writable, "!resource.writable")];
            clauses.extend(closed.into_iter().filter(|(open, _)| !open).map(|(_, text)| text.to_owned()));
        }
        let body = clauses.join(" &&\n  ");
        format!("permit (\n  {principal},\n  {action},\n  {resource}\n)\nwhen {{\n  {body}\n}};\n")
    }
}

fn head(name: &str, target: &Target, clauses: &mut Vec<String>) -> String {
    match target {
        Target::Kind(kind) => format!("{name} is {kind}"),
        Target::Within(kind, within) => format!("{name} is {kind} in {within}"),
        Target::Named(kind, names) => match names.iter().collect::<Vec<_>>().as_slice() {
            [one] => format!("{name} == {one}"),
            all => {
                let all: Vec<&str> = all.iter().map(|one| one.as_str()).collect();
                clauses.push(format!("[{}].contains({name})", all.join(", ")));
                format!("{name} is {kind}")
            }
        },
    }
}

fn within(what: &str, labels: &BTreeSet<String>) -> String {
    if labels.is_empty() {
        return format!("{what}.isEmpty()");
    }
    let listed: Vec<String> = labels.iter().map(|label| format!("{label:?}")).collect();
    format!("[{}].containsAll({what})", listed.join(", "))
}

fn principal(entity: &Entity) -> Target {
    match entity.uid().type_name().as_str() {
        "Host" => Target::Kind("Host"),
        "Operator" => Target::Kind("Operator"),
        kind => Target::Named(kind.to_owned(), BTreeSet::from([entity.uid().to_string()])),
    }
}

fn target(entity: &Entity) -> Target {
    let kind = entity.uid().type_name();
    match kind.as_str() {
        "Sandbox" => Target::Kind("Sandbox"), // its id is random
        "Document" => {
            let json = entity.to_json();
            let of = |field: &str| json.pointer(&format!("/ancestors/0/{field}")).and_then(Json::as_str);
            match (of("type"), of("id")) {
                (Some(kind), Some(id)) => Target::Within("Document", format!("{kind}::{id:?}")),
                _ => Target::Kind("Document"),
            }
        }
        _ => Target::Named(kind, BTreeSet::from([entity.uid().to_string()])),
    }
}

fn texts(json: Option<&Json>) -> BTreeSet<String> {
    let members = json.and_then(Json::as_array).into_iter().flatten();
    members.filter_map(Json::as_str).map(str::to_owned).collect()
}

fn sandbox(resource: &Json) -> Option<(i64, bool, bool)> {
    if resource.get("type").and_then(Json::as_str) != Some("Sandbox") {
        return None;
    }
    let attribute = |name: &str| resource.pointer(&format!("/attrs/{name}"));
    let flag = |name: &str| attribute(name).and_then(Json::as_bool);
    Some((attribute("tier")?.as_i64()?, flag("network")?, flag("writable")?))
}
