//! Compiling: from texts to rules, checked against the schema, all or nothing.
//!
//! Invariants
//! - D6 any error refuses the whole set, and all errors are reported at once.
//! - D5 rules are numbered by source name and place, so the order in which sources came does not show.
//! - M1 a template without a link is an error: it looks like a rule and protects nobody.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::num::NonZero;
use std::sync::Arc;
use std::thread::available_parallelism;

use cedar_policy_core::ast::{self, ActionConstraint, Expr, PolicySet, SlotEnv, SlotId};
use cedar_policy_core::parser;
use cedar_policy_core::validator::types::Type;
use cedar_policy_core::validator::{ValidationError, ValidationMode, ValidationWarning, Validator};

use crate::annotation::Subject;
use crate::cache::is_stable;
use crate::decision::Rule;
use crate::diagnostic::{Diagnostic, Severity, from_cedar, from_parse, nearest, place};
use crate::direct::Direct;
use crate::entity::Uid;
use crate::expression::{Counters, counters};
use crate::index::{Index, Scope};
use crate::nesting::{BRACKETS_MAX, OPERATORS_MAX, pieces, too_deep, with_stacks};
use crate::valid::surely_valid;
use crate::vocabulary::UNASKED;

/// Largest source, in bytes: a thousand policies with comments stay far below it.
pub const SOURCE_BYTES_MAX: usize = 1024 * 1024;
/// Bytes of a source from which on it is read on several threads.
const PIECES_BYTES_MIN: usize = 32 * 1024;
/// Threads that one source is read on.
const PIECES_MAX: usize = 8;
/// Policies of one set: the index stays flat far beyond it, compile time does not.
pub const POLICIES_MAX: usize = 20_000;

/// One text with a name, usually a file's path.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Source {
    /// Where it is from: diagnostics and default rule names show it.
    pub name: String,
    /// Cedar policies.
    pub text: String,
}

/// A template made into a rule by filling its slots.
#[derive(Clone, Debug)]
pub struct Link {
    /// The template's `@id`.
    pub template: String,
    /// The rule's name.
    pub id: String,
    /// `?principal`.
    pub principal: Option<Uid>,
    /// `?resource`.
    pub resource: Option<Uid>,
}

/// One rule, ready to be evaluated.
#[derive(Debug)]
pub(crate) struct Compiled {
    pub rule: Arc<Rule>,
    pub action: ActionConstraint,
    pub principal: Scope,
    pub resource: Scope,
    /// What stands in `when` and `unless`; none when there is nothing left to evaluate.
    pub condition: Option<Arc<Expr>>,
    /// The same in a form of our own; none where that could answer nothing.
    pub direct: Option<Direct>,
    pub slots: SlotEnv,
    pub counters: Counters,
    /// Its answer to the same request stays the same (CA1).
    pub stable: bool,
}

/// Rules and their index.
#[derive(Debug, Default)]
pub(crate) struct Layer {
    pub rules: Vec<Compiled>,
    pub index: Index,
}

/// What a compile yields besides the rules.
pub(crate) struct Outcome {
    pub layer: Layer,
    pub warnings: Vec<Diagnostic>,
}

pub(crate) fn compile(
    sources: &[Source],
    links: &[Link],
    validator: Option<&Validator>,
) -> Result<Outcome, Vec<Diagnostic>> {
    let mut work =
        Work { links, validator, findings: Vec::new(), rules: Vec::new(), linked: vec![false; links.len()] };
    let mut sorted: Vec<&Source> = sources.iter().collect();
    sorted.sort();
    for (index, source) in sorted.iter().enumerate() {
        if sorted.get(index + 1).is_some_and(|next| next.name == source.name) {
            let message = format!("two sources are named `{}`", source.name);
            work.findings.push(Diagnostic::error(
                &source.name,
                (1, 1),
                "policy.duplicate_source",
                message,
                None,
            ));
        }
        work.source(source);
    }
    work.finish()
}

struct Work<'a> {
    links: &'a [Link],
    validator: Option<&'a Validator>,
    findings: Vec<Diagnostic>,
    rules: Vec<Compiled>,
    linked: Vec<bool>,
}

impl Work<'_> {
    fn source(&mut self, source: &Source) {
        let mut refuse = |code, message: String| {
            self.findings.push(Diagnostic::error(&source.name, (1, 1), code, message, None));
        };
        if source.text.len() > SOURCE_BYTES_MAX {
            refuse(
                "policy.limit",
                format!("`{}` bytes: at most {SOURCE_BYTES_MAX} are accepted", source.text.len()),
            );
            return;
        }
        if source.text.trim().is_empty() {
            return;
        }
        if let Some((at, what)) = too_deep(&source.text, "([{") {
            let message = format!("too many {what} in one policy");
            let help = format!(
                "at most {BRACKETS_MAX} open brackets, and {OPERATORS_MAX} characters of operators, are accepted"
            );
            let place = place(&source.text, at);
            self.findings.push(Diagnostic::error(&source.name, place, "policy.limit", message, Some(help)));
            return;
        }
        if source.text.len() >= PIECES_BYTES_MIN && self.in_pieces(source) {
            return;
        }
        let mut set = match parser::parse_policyset(&source.text) {
            Ok(set) => set,
            Err(errors) => {
                self.findings.extend(from_parse(&source.name, &source.text, errors));
                return;
            }
        };
        let name: Arc<str> = source.name.as_str().into();
        let linked = self.link_templates(source, &name, &mut set);
        if let Some(validator) = self.validator.filter(|validator| !surely_valid(validator, &set)) {
            self.validate(validator, source, &set);
        }
        self.policies(source, &name, &set, &linked, 0);
    }

    /// A large text, on several threads; false where anything is to be said of it, or a template stands in it: then it
    /// is read as a whole, and every place is the right one.
    fn in_pieces(&mut self, source: &Source) -> bool {
        let threads = available_parallelism().map_or(1, NonZero::get).min(PIECES_MAX);
        let parts = pieces(&source.text, threads);
        if parts.len() < 2 {
            return false;
        }
        let validator = self.validator;
        let read = with_stacks(parts, |(from, piece)| {
            let set = parser::parse_policyset(piece).ok().filter(|set| set.templates().next().is_none())?;
            validator.is_none_or(|validator| surely_valid(validator, &set)).then_some((from, set))
        });
        let Some(sets) = read.and_then(|sets| sets.into_iter().collect::<Option<Vec<_>>>()) else {
            return false;
        };
        let name: Arc<str> = source.name.as_str().into();
        let (rules, findings) = (self.rules.len(), self.findings.len());
        for (from, set) in &sets {
            self.policies(source, &name, set, &HashMap::new(), *from);
        }
        if self.findings.len() > findings {
            self.findings.truncate(findings);
            self.rules.truncate(rules);
            return false;
        }
        true
    }

    fn policies(
        &mut self,
        source: &Source,
        name: &Arc<str>,
        set: &PolicySet,
        linked: &HashMap<String, usize>,
        from: usize,
    ) {
        let mut policies: Vec<&ast::Policy> = set.policies().collect();
        policies.sort_by_key(|policy| (offset(policy.loc()), policy.id().clone()));
        for policy in policies {
            let id = linked.get(policy.id().as_ref()).copied();
            self.policy(source, name, policy, id, from);
        }
    }

    /// M1. Returns the names of links, by policy id.
    fn link_templates(
        &mut self,
        source: &Source,
        name: &Arc<str>,
        set: &mut PolicySet,
    ) -> HashMap<String, usize> {
        let mut linked = HashMap::new();
        let templates: Vec<(ast::PolicyID, Option<String>, usize)> = set
            .templates()
            .map(|template| {
                let id = annotations(template.annotations()).get("id").map(|one| one.val.to_string());
                (template.id().clone(), id, offset(template.loc()))
            })
            .collect();
        for (template, id, at) in templates {
            let mut links = 0_usize;
            for (position, link) in self.links.iter().enumerate() {
                if id.as_deref() != Some(link.template.as_str()) {
                    continue;
                }
                links += 1;
                if let Some(done) = self.linked.get_mut(position) {
                    *done = true;
                }
                let key = format!("link:{position}");
                let fill = |slot: SlotId, uid: &Option<Uid>| {
                    uid.as_ref().map(|uid| (slot, uid.cedar().as_ref().clone()))
                };
                let values =
                    [fill(SlotId::principal(), &link.principal), fill(SlotId::resource(), &link.resource)];
                let values: HashMap<SlotId, ast::EntityUID> = values.into_iter().flatten().collect();
                match set.link(template.clone(), ast::PolicyID::from_string(&key), values) {
                    Ok(_) => {
                        linked.insert(key, position);
                    }
                    Err(error) => {
                        let message = format!("link `{}`: {error}", link.id);
                        let place = place(&source.text, at);
                        self.findings.push(Diagnostic::error(name, place, "policy.link", message, None));
                    }
                }
            }
            if links == 0 {
                let help = match id {
                    Some(id) => format!("link `{id}` to an entity, or write the entity in place of the slot"),
                    None => {
                        "give it an `@id` and link it, or write the entity in place of the slot".to_owned()
                    }
                };
                let message = "a template that is not linked: it has no effect";
                let place = place(&source.text, at);
                self.findings.push(Diagnostic::error(name, place, "policy.template", message, Some(help)));
            }
        }
        linked
    }

    fn validate(&mut self, validator: &Validator, source: &Source, set: &PolicySet) {
        let places: HashMap<&ast::PolicyID, usize> =
            set.all_templates().map(|template| (template.id(), offset(template.loc()))).collect();
        let first = places.values().copied().min().unwrap_or(0);
        let result = validator.validate(set, ValidationMode::Strict);
        for error in result.validation_errors() {
            let mut finding = from_cedar(&source.name, &source.text, first, error_code(error), error);
            if let ValidationError::UnsafeAttributeAccess(_) = error {
                finding.help = finding.help.or_else(|| self.nearest_counter(&finding.message));
            }
            if let ValidationError::UnrecognizedActionId(found) = error {
                let unasked =
                    UNASKED.iter().find(|(name, _)| found.actual_action_id.contains(&format!("\"{name}\"")));
                finding.help = unasked.map(|(_, instead)| (*instead).to_owned()).or(finding.help);
            }
            self.findings.push(finding);
        }
        // A rule that has no applicable action is told so, and not also that it is false.
        let without_action: HashSet<&ast::PolicyID> = result
            .validation_warnings()
            .filter_map(|warning| match warning {
                ValidationWarning::InvalidActionApplication(found) => Some(&found.policy_id),
                _ => None,
            })
            .collect();
        for warning in result.validation_warnings() {
            if let ValidationWarning::ImpossiblePolicy(found) = warning
                && without_action.contains(&found.policy_id)
            {
                continue;
            }
            let (code, severity) = warning_code(warning);
            let finding = from_cedar(&source.name, &source.text, first, code, warning);
            self.findings.push(if severity == Severity::Error { finding } else { finding.warning() });
        }
    }

    /// Cedar suggests attributes that are near; for counters the whole list is the better help.
    fn nearest_counter(&self, message: &str) -> Option<String> {
        let wrong = message.split('`').nth(1)?;
        let schema = self.validator?.schema();
        let mut names: Vec<String> = schema
            .actions()
            .filter_map(|action| schema.context_type(action))
            .flat_map(counter_names)
            .collect();
        names.sort();
        names.dedup();
        nearest(wrong, names.iter().map(String::as_str)).map(|near| format!("did you mean `{near}`?"))
    }

    /// `from`: where the text that was parsed begins in the source.
    fn policy(
        &mut self,
        source: &Source,
        name: &Arc<str>,
        policy: &ast::Policy,
        link: Option<usize>,
        from: usize,
    ) {
        let subject = Subject {
            source: name,
            text: &source.text,
            offset: from + offset(policy.loc()),
            effect: policy.effect(),
            annotations: annotations(policy.annotations()),
        };
        let mut rule = match subject.rule() {
            Ok(rule) => rule,
            Err(findings) => return self.findings.extend(findings),
        };
        if let Some(link) = link.and_then(|position| self.links.get(position)) {
            rule.id = link.id.clone();
        }
        let template = policy.template();
        let principal =
            Scope::new(template.principal_constraint().as_inner(), SlotId::principal(), policy.env());
        let resource =
            Scope::new(template.resource_constraint().as_inner(), SlotId::resource(), policy.env());
        let (Ok(principal), Ok(resource)) = (principal, resource) else {
            let place = (rule.line, rule.column);
            let message = "a slot that no link fills";
            self.findings.push(Diagnostic::error(name, place, "policy.link", message, None));
            return;
        };
        let condition = policy.non_scope_constraints_arc().cloned();
        let read = condition.as_deref().map_or(Counters::Named(Vec::new()), counters);
        let condition = condition.filter(|expr| !is_true(expr));
        self.rules.push(Compiled {
            rule: Arc::new(rule),
            action: policy.action_constraint().clone(),
            principal,
            resource,
            direct: condition.as_deref().and_then(|expr| Direct::of(expr, policy.env())),
            condition,
            slots: policy.env().clone(),
            counters: read,
            stable: policy.non_scope_constraints_arc().is_none_or(|body| is_stable(body)),
        });
    }

    fn finish(mut self) -> Result<Outcome, Vec<Diagnostic>> {
        self.check_ids();
        for (link, done) in self.links.iter().zip(&self.linked) {
            if !done {
                let message =
                    format!("link `{}` names template `{}`, which does not exist", link.id, link.template);
                self.findings.push(Diagnostic::error("links", (1, 1), "policy.link", message, None));
            }
        }
        if self.rules.len() > POLICIES_MAX {
            let message = format!("`{}` policies: at most {POLICIES_MAX} are accepted", self.rules.len());
            self.findings.push(Diagnostic::error("policies", (1, 1), "policy.limit", message, None));
        }
        self.findings.sort_by(|a, b| {
            (&a.source, a.line, a.column, a.code, &a.message)
                .cmp(&(&b.source, b.line, b.column, b.code, &b.message))
        });
        self.findings.dedup();
        if self.findings.iter().any(|finding| finding.severity == Severity::Error) {
            // Warnings of a set with errors are mostly echoes of them: a wrong action also "can never apply".
            self.findings.retain(|finding| finding.severity == Severity::Error);
            return Err(self.findings);
        }
        let mut layer = Layer { rules: self.rules, index: Index::default() };
        for (position, compiled) in (0_u32..).zip(&layer.rules) {
            layer.index.insert(position, &compiled.action, &compiled.principal, &compiled.resource);
        }
        Ok(Outcome { layer, warnings: self.findings })
    }

    fn check_ids(&mut self) {
        let mut seen: BTreeMap<&str, &Rule> = BTreeMap::new();
        let mut findings = Vec::new();
        for compiled in &self.rules {
            let rule = &compiled.rule;
            // Rules without `@id` on one line share a name; that only blurs a report, so it is not an error.
            let named = rule.id != format!("{}:{}", rule.source, rule.line);
            if let Some(earlier) = seen.insert(&rule.id, rule).filter(|_| named) {
                let message = format!("rule `{}` is named twice", rule.id);
                let help = format!("the other is at {}:{}:{}", earlier.source, earlier.line, earlier.column);
                let place = (rule.line, rule.column);
                findings.push(Diagnostic::error(
                    &rule.source,
                    place,
                    "policy.duplicate_id",
                    message,
                    Some(help),
                ));
            }
        }
        self.findings.extend(findings);
    }
}

fn annotations<'a>(
    all: impl Iterator<Item = (&'a ast::AnyId, &'a ast::Annotation)>,
) -> BTreeMap<&'a str, &'a ast::Annotation> {
    all.map(|(name, annotation)| (name.as_ref(), annotation)).collect()
}

fn offset(loc: Option<&parser::Loc>) -> usize {
    loc.map_or(0, parser::Loc::start)
}

fn is_true(expression: &Expr) -> bool {
    matches!(expression.expr_kind(), ast::ExprKind::Lit(ast::Literal::Bool(true)))
}

fn counter_names(context: &Type) -> Vec<String> {
    let Type::Record { attrs, .. } = context else { return Vec::new() };
    match attrs.get_attr("counters").map(|one| one.attr_type.as_ref()) {
        Some(Type::Record { attrs, .. }) => attrs.keys().map(ToString::to_string).collect(),
        _ => Vec::new(),
    }
}

fn error_code(error: &ValidationError) -> &'static str {
    match error {
        ValidationError::UnrecognizedEntityType(_) => "policy.unknown_entity_type",
        ValidationError::UnrecognizedActionId(_) => "policy.unknown_action",
        ValidationError::UnsafeAttributeAccess(_) => "policy.unknown_attribute",
        ValidationError::UnsafeOptionalAttributeAccess(_) | ValidationError::UnsafeTagAccess(_) => {
            "policy.optional"
        }
        ValidationError::UndefinedFunction(_) => "policy.unknown_function",
        _ => "policy.type",
    }
}

/// Text that reads otherwise than it runs is refused; a rule that can never apply is pointed out.
fn warning_code(warning: &ValidationWarning) -> (&'static str, Severity) {
    match warning {
        ValidationWarning::BidiCharsInString(_) | ValidationWarning::BidiCharsInIdentifier(_) => {
            ("policy.bidi", Severity::Error)
        }
        ValidationWarning::MixedScriptString(_)
        | ValidationWarning::MixedScriptIdentifier(_)
        | ValidationWarning::ConfusableIdentifier(_) => ("policy.confusable", Severity::Warning),
        ValidationWarning::ImpossiblePolicy(_) | ValidationWarning::InvalidActionApplication(_) => {
            ("policy.impossible", Severity::Warning)
        }
    }
}
