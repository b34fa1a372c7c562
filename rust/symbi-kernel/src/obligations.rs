//! Obligations met: what a permitting rule asks for is held here, or the operation is refused.
//!
//! Why: "allowed if" is worth as much as whoever sees to the if. Whatever is asked for, at an operation where nobody can
//! see to it, is a refusal and not a permit.
//! Not here: which obligations there are (`symbi-policy`), budgets (`monitor::counting`), waiting for persons
//! (`approvals`), the redaction itself (`exit`).
//!
//! Invariants
//! - K104 each obligation of a decision is met, or the operation is refused: there is no third.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::Value as Json;
use symbi_policy::{Approval, Decision, Obligation, is_measured};
use symbi_types::{LabelSet, OperationId};

use crate::approvals::Waiting;
use crate::kernel::{Kernel, lock};
use crate::monitor::Asked;

/// Actions whose payload the kernel takes apart and can blank out.
const REDACTS: [&str; 3] = ["tool.call", "message.send", "message.publish"];
/// Those whose arguments have fields.
const HAS_FIELDS: [&str; 1] = ["tool.call"];
/// Those of which arguments and result can be kept.
const RECORDS: [&str; 3] = ["tool.call", "sandbox.start", "data.search"];
/// Those that change nothing.
const READS: [&str; 4] = ["data.read", "data.search", "message.subscribe", "message.read"];
/// Longest arguments, request and result that are kept whole, sealed, where a rule asks for it; together they fit a record.
pub(crate) const FULL_BYTES_MAX: usize = 49_152;
/// Notices that wait for the host; past it the oldest are let go, and counted. All of them are in the trail.
const NOTICES_MAX: usize = 1_024;

/// What a grant is bound to.
#[derive(Clone, Debug, Default)]
pub(crate) struct Terms {
    /// Labels to blank out.
    pub(crate) redact: Option<LabelSet>,
    /// Fields of the arguments to blank out.
    pub(crate) fields: BTreeSet<String>,
    /// All of it is recorded.
    pub(crate) full: bool,
    /// Who is told.
    pub(crate) notify: BTreeSet<String>,
    /// Persons who must agree.
    pub(crate) approval: Option<Approval>,
    /// The approval that was used.
    pub(crate) approved: Option<Arc<Waiting>>,
    /// All obligations, by name.
    pub(crate) names: Vec<&'static str>,
}

impl Terms {
    /// Nobody is told, nothing more is recorded, nobody was asked.
    pub(crate) fn are_plain(&self) -> bool {
        !self.full && self.notify.is_empty() && self.approved.is_none() && self.fields.is_empty()
    }
}

/// An obligation that cannot be met, and why: for operators.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unmet {
    pub(crate) obligation: &'static str,
    pub(crate) why: &'static str,
}

/// Somebody is to be told of an operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// Who, as the rule names them.
    pub channels: Vec<String>,
    /// The operation.
    pub operation: OperationId,
    /// Its record.
    pub seq: u64,
    /// What it does.
    pub action: &'static str,
    /// On whose behalf.
    pub principal: String,
    /// To what.
    pub resource: String,
    /// The rules that let it through.
    pub rules: Vec<String>,
}

fn attribute(entity: &symbi_policy::Entity, name: &str) -> Option<Json> {
    entity.to_json().get("attrs")?.get(name).cloned()
}

/// Whether what runs, or is started, is in a sandbox of at least this tier.
fn has_tier(asked: &Asked<'_>, least: u8) -> bool {
    let of_resource = ["sandbox.start", "agent.create", "agent.run"];
    let entity = if of_resource.contains(&asked.action.name) { &asked.resource } else { &asked.subject };
    let contained = attribute(entity, "isolation").is_none_or(|isolation| isolation == "sandbox");
    let tier = attribute(entity, "tier").and_then(|tier| tier.as_u64());
    contained && tier.is_some_and(|tier| u64::from(least) <= tier)
}

fn only_reads(asked: &Asked<'_>) -> bool {
    match asked.action.name {
        "tool.call" => attribute(&asked.resource, "effects").is_some_and(|effects| effects == "read"),
        "sandbox.start" => attribute(&asked.resource, "writable").is_some_and(|writable| writable == false),
        other => READS.contains(&other),
    }
}

/// K104. Approvals are looked at last: nobody is asked about what would be refused all the same. `shown`: there is
/// something that a person can be shown besides the arguments.
pub(crate) fn terms(asked: &Asked<'_>, decision: &Decision, shown: bool) -> Result<Terms, Unmet> {
    let mut terms = Terms::default();
    for obligation in decision.obligations() {
        let name = obligation.name();
        let unmet = |why| Err(Unmet { obligation: name, why });
        match obligation {
            Obligation::Redact { labels, fields } => {
                if !REDACTS.contains(&asked.action.name) {
                    return unmet("nothing of this action can be blanked out");
                }
                if !fields.is_empty() && !HAS_FIELDS.contains(&asked.action.name) {
                    return unmet("this action has no fields");
                }
                terms.redact = Some(labels.clone());
                terms.fields.clone_from(fields);
            }
            Obligation::Approval(approval) => {
                if approval.is_impossible() {
                    return unmet("nobody may approve");
                }
                if asked.agreed.as_ref() == Some(approval) {
                    continue; // persons have agreed to the whole that this is a part of
                }
                if asked.arguments.is_none() && !shown {
                    return unmet("nothing binds an approval to this operation");
                }
                terms.approval = Some(approval.clone());
            }
            Obligation::Tier(least) if !has_tier(asked, least.number()) => {
                return unmet("it is not in a sandbox of that tier");
            }
            Obligation::ReadOnly if !only_reads(asked) => return unmet("it can do more than read"),
            Obligation::RecordFull => {
                let fits = asked.arguments.is_some_and(|bytes| bytes.len() <= FULL_BYTES_MAX);
                if !RECORDS.contains(&asked.action.name) || !fits {
                    return unmet("it cannot be recorded whole");
                }
                terms.full = true;
            }
            Obligation::Budget(budget) if asked.unread == Some(budget.measure.as_str()) => {
                return unmet("of what runs in the host's process that cannot be read");
            }
            Obligation::Notify(channels) => terms.notify.clone_from(channels),
            Obligation::Budget(budget) if !is_measured(asked.action.name, &budget.measure) => {
                return unmet("nothing of this action is measured so");
            }
            // Those that hold; and budgets, which were reserved before.
            Obligation::Tier(_) | Obligation::ReadOnly | Obligation::Budget(_) => {}
        }
        terms.names.push(name);
    }
    Ok(terms)
}

/// Blanks out fields: `a.b` is the member `b` of `a`, or of each element where `a` is a list.
pub(crate) fn redact_fields(value: &mut Json, fields: &BTreeSet<String>) {
    for field in fields {
        let path: Vec<&str> = field.split('.').collect();
        blank(value, &path);
    }
}

fn blank(value: &mut Json, path: &[&str]) {
    match (value, path) {
        (Json::Array(values), _) => values.iter_mut().for_each(|one| blank(one, path)),
        (Json::Object(members), [name]) => {
            if let Some(member) = members.get_mut(*name) {
                *member = Json::from("[redacted]");
            }
        }
        (Json::Object(members), [name, rest @ ..]) => {
            if let Some(member) = members.get_mut(*name) {
                blank(member, rest);
            }
        }
        _ => {}
    }
}

/// Notices for the host.
#[derive(Default)]
pub(crate) struct Notices {
    waiting: std::collections::VecDeque<Notice>,
    dropped: u64,
}

impl Kernel {
    /// Somebody is to be told of what was recorded.
    pub(crate) fn notify(&self, notice: Notice) {
        let mut notices = lock(&self.notices);
        if notices.waiting.len() >= NOTICES_MAX {
            notices.waiting.pop_front();
            notices.dropped += 1;
        }
        notices.waiting.push_back(notice);
        drop(notices);
        self.ring();
    }

    /// Whom to tell of what, oldest first; and how many were let go because nobody took them in time. The trail has all.
    #[must_use]
    pub fn take_notices(&self) -> (Vec<Notice>, u64) {
        let mut notices = lock(&self.notices);
        (notices.waiting.drain(..).collect(), notices.dropped)
    }

    /// A refusal because an obligation cannot be met: what exactly is for operators.
    pub(crate) fn refuse_unmet(&self, asked: &Asked<'_>, unmet: Unmet, rules: &[String]) -> crate::Refusal {
        let details = crate::json::Object::new()
            .strings("rules", rules.iter().map(String::as_str))
            .string("obligation", unmet.obligation)
            .string("unmet", unmet.why);
        let text = "a condition under which this is allowed cannot be met";
        self.refuse(asked, crate::RefusalCode::Denied, Some(details), text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn k104_a_field_is_blanked_wherever_its_path_leads() {
        let mut value = json!({"a": {"b": 1, "c": 2}, "list": [{"b": 1}, [{"b": [1, 2]}], 7], "b": 3});
        let fields = ["a.b", "list.b", "absent.x", "b.deeper"].map(str::to_owned).into();
        redact_fields(&mut value, &fields);
        let gone = "[redacted]";
        assert_eq!(value, json!({"a": {"b": gone, "c": 2}, "list": [{"b": gone}, [{"b": gone}], 7], "b": 3}));
    }
}
