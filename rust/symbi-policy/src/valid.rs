//! Whether a policy passes Cedar's validator, sooner.
//!
//! Why: the validator types every policy in every environment of the schema, each action with each kind of principal and
//! resource: 88 in the schema of symbi. A policy whose head names one action can be true in a few of them; in the others
//! its head alone is false, and nothing more of it is looked at. Ours types it only where its head can hold; it says yes,
//! or it does not know, and then the validator is asked about everything, and says what is wrong.
//! Not here: findings.
//!
//! Invariants
//! - VA1 of what is surely valid here, Cedar's validator finds neither an error nor a warning. The reverse need not hold.

use std::iter::once;

use cedar_policy_core::ast::{
    ActionConstraint, EntityType, EntityUID, PolicySet, PrincipalOrResourceConstraint as Constraint, Template,
};
use cedar_policy_core::validator::typecheck::{PolicyCheck, Typechecker};
use cedar_policy_core::validator::types::RequestEnv;
use cedar_policy_core::validator::{ValidationMode, Validator, ValidatorSchema, confusable_string_checks};

/// VA1, for all of a set.
pub(crate) fn surely_valid(validator: &Validator, set: &PolicySet) -> bool {
    let schema = validator.schema();
    let typechecker = Typechecker::new(schema, ValidationMode::Strict);
    schema.check_complete().is_ok()
        && set.all_templates().all(|policy| is_valid(schema, &typechecker, policy))
}

fn is_valid(schema: &ValidatorSchema, typechecker: &Typechecker<'_>, policy: &Template) -> bool {
    if policy.slots().next().is_some()
        || Validator::validate_entity_types_and_literals(schema, policy).next().is_some()
        || confusable_string_checks(once(policy)).next().is_some()
    {
        return false;
    }
    let mut applies = false;
    for environment in schema.unlinked_request_envs(ValidationMode::Strict) {
        if !can_hold(schema, policy, &environment) {
            continue;
        }
        match typechecker.typecheck_by_single_request_env(policy, &environment) {
            PolicyCheck::Success(_) => applies = true,
            PolicyCheck::Irrelevant(errors, _) if errors.is_empty() => {}
            PolicyCheck::Irrelevant(..) | PolicyCheck::Fail(_) => return false,
        }
    }
    applies // one that never does is warned of
}

/// False where the head alone is false, whatever follows it.
fn can_hold(schema: &ValidatorSchema, policy: &Template, environment: &RequestEnv<'_>) -> bool {
    let RequestEnv::DeclaredAction { principal, action, resource, .. } = environment else { return true };
    let named = |uid: &EntityUID| {
        let below =
            || schema.get_action_id(uid).is_some_and(|group| group.descendants().any(|one| one == *action));
        uid == *action || below()
    };
    let acts = match policy.action_constraint() {
        ActionConstraint::Any => true,
        ActionConstraint::Eq(uid) => uid.as_ref() == *action,
        ActionConstraint::In(list) => list.iter().any(|uid| named(uid)),
    };
    acts && is_kind(policy.principal_constraint().as_inner(), principal)
        && is_kind(policy.resource_constraint().as_inner(), resource)
}

fn is_kind(constraint: &Constraint, kind: &EntityType) -> bool {
    match constraint {
        Constraint::Is(wanted) | Constraint::IsIn(wanted, _) => wanted.as_ref() == kind,
        Constraint::Eq(_) => constraint.get_euid().is_none_or(|uid| uid.entity_type() == kind),
        Constraint::Any | Constraint::In(_) => true,
    }
}

#[cfg(test)]
mod tests {
    use cedar_policy_core::parser::parse_policyset;

    use super::*;
    use crate::schema::Schema;

    const PRINCIPALS: [&str; 7] = [
        "principal",
        "principal is Agent",
        "principal == Agent::\"a\"",
        "principal == Host::\"host\"",
        "principal in Agent::\"a\"",
        "principal is Host in Agent::\"a\"",
        "principal == Clown::\"c\"",
    ];
    const ACTIONS: [&str; 6] = [
        "action",
        "action == Action::\"tool.call\"",
        "action in [Action::\"data.read\", Action::\"message.send\"]",
        "action in Action::\"limit.breach\"",
        "action == Action::\"tool.cal\"",
        "action in [Action::\"agent.stop\", Action::\"nothing\"]",
    ];
    const RESOURCES: [&str; 7] = [
        "resource",
        "resource is Tool",
        "resource in ToolServer::\"s\"",
        "resource == Tool::\"t\"",
        "resource is Document in Collection::\"c\"",
        "resource == Agent::\"a\"",
        "resource in Agent::\"a\"",
    ];
    const BODIES: [&str; 14] = [
        "",
        "when { context.bytes < 4096 }",
        "when { context.labels.contains(\"a\") }",
        "when { context.bite < 4096 }",
        "when { principal.tier > 1 }",
        "when { resource.risk == \"low\" }",
        "when { resource.risk == 3 }",
        "when { context has call && context.call.hasTag(\"x\") }",
        "when { context.call.hasTag(\"x\") }",
        "when { principal is Agent && principal.tier > 1 }",
        "when { false }",
        "unless { context.limit == \"pids\" }",
        "when { principal == Agent::\"b\" }",
        "when { context.labels.contains(\"p\u{0430}y\") }",
    ];

    /// VA1 over every head and body: whatever is said to be valid, the validator is content with; and what people write
    /// is said to be.
    #[test]
    fn va1_what_is_surely_valid_is_valid_for_cedar_without_a_warning() {
        let validator = Validator::new(Schema::Symbi.build(&[]).unwrap().unwrap());
        let (mut sure, mut content) = (0, 0);
        for principal in PRINCIPALS {
            for (action, resource) in ACTIONS.iter().flat_map(|action| RESOURCES.map(|one| (action, one))) {
                for body in BODIES {
                    let text = format!("permit ({principal}, {action}, {resource}) {body};");
                    let set = parse_policyset(&text).unwrap();
                    let ours = surely_valid(&validator, &set);
                    if !ours && content > 0 && (principal.len() + body.len()) % 3 != 0 {
                        continue; // the validator takes its time: of those that are not sure a third is shown to it
                    }
                    let result = validator.validate(&set, ValidationMode::Strict);
                    let silent = result.validation_errors().next().is_none()
                        && result.validation_warnings().next().is_none();
                    assert!(!ours || silent, "VA1 {text}");
                    sure += usize::from(ours);
                    content += usize::from(silent);
                }
            }
        }
        assert!(sure > 200 && sure == content, "{sure} of {content}");
    }

    #[test]
    fn va1_a_set_with_a_template_or_one_bad_policy_is_not_sure() {
        let validator = Validator::new(Schema::Symbi.build(&[]).unwrap().unwrap());
        let sure = |text: &str| surely_valid(&validator, &parse_policyset(text).unwrap());
        let good = "permit (principal is Agent, action == Action::\"tool.call\", resource is Tool);";
        assert!(sure(good) && sure(&good.repeat(3)) && sure(""));
        assert!(!sure(
            "permit (principal == ?principal, action == Action::\"tool.call\", resource is Tool);"
        ));
        assert!(!sure(&format!(
            "{good} permit (principal, action == Action::\"tool.call\", resource is Topic);"
        )));
    }
}
