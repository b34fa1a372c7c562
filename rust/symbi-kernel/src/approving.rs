//! Asking persons, and taking their word: each a record, each under policy.
//!
//! Not here: where an approval stands (`approvals`), what a person is shown (`content`), who the person is (the control
//! socket checks user id and token).
//!
//! Invariants
//! - K109 an operation that waits holds no reservation, and is decided again when it comes back.
//! - K110 only an operator's word counts, whatever the policies say; it is on disk before it is worth anything.

use std::time::Duration;

use symbi_audit::Event;
use symbi_policy::{Approval, vocabulary};
use symbi_types::{DecisionId, LabelSet, OperationId};

use crate::Principal;
use crate::agents::AgentError;
use crate::approvals::{Found, NoVote, Vote, Waiting, Word};
use crate::content;
use crate::content::Showing;
use crate::json::Object;
use crate::kernel::{Kernel, lock};
use crate::monitor::{Asked, Granted, Held};
use crate::operators::OperatorError;
use crate::refusal::{Refusal, RefusalCode};

/// How long a person's word waits for its record; a disk that takes longer is broken.
const RECORD_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest arguments that a person can be shown, and so asked about.
const SHOWN_BYTES_MAX: usize = 98_304;
/// What whoever waits is told.
const WAITS: &str = "a person must approve this first";

impl Kernel {
    /// Whether persons have agreed to exactly this; if so, their approval is used. If not, they are asked (K109).
    pub(crate) fn approved(
        &self,
        asked: &Asked<'_>,
        approval: &Approval,
        (rules, policy): (&[String], &str),
        showing: Showing<'_>,
    ) -> Result<Box<Waiting>, Box<Refusal>> {
        self.expire_approvals();
        let made = match (asked.arguments, showing) {
            (None, Some(show)) => show(),
            _ => Vec::new(),
        };
        let arguments = asked.arguments.unwrap_or(&made);
        let name = asked.agent.and_then(|agent| self.name_of(agent).ok());
        let (subject, resource) =
            (asked.subject.uid().to_string(), content::resource(asked, name.as_deref()));
        let binding = self.binding([&subject, asked.action.name, &resource], arguments, &asked.labels);
        let now_us = self.log().now();
        let found = lock(&self.approvals).look(&binding, now_us);
        let known = |id: OperationId| Object::new().display("approval", id);
        let again = |id, code, text: &str| {
            let refusal = self.refuse(asked, code, Some(known(id)), text);
            Box::new(Refusal { approval: Some(id), ..refusal })
        };
        match found {
            Found::Used(used) => return Ok(used),
            Found::Waits(id) | Found::Changed(id) => {
                return Err(again(id, RefusalCode::NeedsApproval, WAITS));
            }
            Found::Denied(id) => return Err(again(id, RefusalCode::Denied, "a person has said no")),
            Found::Nothing => {}
        }
        if arguments.len() > SHOWN_BYTES_MAX {
            let text = "this is too large to be shown to a person, and only a person could allow it";
            return Err(Box::new(self.refuse(asked, RefusalCode::Denied, None, text)));
        }
        if !lock(&self.approvals).has_room(&subject) {
            let text = "too many operations wait for a person";
            return Err(Box::new(self.refuse(asked, RefusalCode::RateLimited, None, text)));
        }
        let id = OperationId::random(self.entropy());
        let decision = DecisionId::random(self.entropy());
        let expires_us = now_us.saturating_add(approval.expires_s.saturating_mul(1_000_000));
        let sealed = self.seal_for(&asked.labels, arguments);
        let details = Object::new()
            .string("action", asked.action.name)
            .display("principal", asked.principal)
            .string("subject", &subject)
            .string("resource", &resource)
            .strings("rules", rules.iter().map(String::as_str))
            .number("count", u64::from(approval.count))
            .strings("approvers", approval.approvers.iter().map(String::as_str))
            .number("asked_us", now_us)
            .number("expires_us", expires_us)
            .string("binding", &binding)
            .string("code", RefusalCode::NeedsApproval.as_str())
            .display("decision_id", decision)
            .string("message", WAITS)
            .string("sealed", &sealed)
            .finish();
        let event = Event {
            agent_id: asked.agent,
            run: asked.run,
            op: Some(id),
            decision: Some(RefusalCode::NeedsApproval.as_str()),
            policy: Some(policy),
            labels: &asked.labels,
            ..Event::new("approval.requested", &details)
        };
        let Ok(receipt) = self.log().append(&event) else { return Err(Box::new(self.unavailable())) };
        lock(&self.approvals).insert(Waiting {
            id,
            seq: receipt.seq,
            action: asked.action.name.to_owned(),
            principal: asked.principal.to_string(),
            subject,
            resource,
            agent: asked.agent,
            run: asked.run,
            rules: rules.to_vec(),
            labels: asked.labels.clone(),
            asked_us: now_us,
            expires_us,
            count: approval.count,
            approvers: approval.approvers.clone(),
            votes: Vec::new(),
            state: crate::approvals::ApprovalState::Waiting,
            modified: false,
            binding,
            sealed,
        });
        self.ring(); // the host may want to tell somebody
        Err(Box::new(Refusal {
            code: RefusalCode::NeedsApproval,
            decision,
            message: WAITS.to_owned(),
            seq: Some(receipt.seq),
            approval: Some(id),
        }))
    }

    /// What an approval is bound to: who, what, to what, and the very content, in one spelling; in hex. Keyed by the persons
    /// that it concerns.
    fn binding(&self, of: [&str; 3], arguments: &[u8], labels: &LabelSet) -> String {
        let [_, action, resource] = of;
        let spelled = content::spelling(action, resource, arguments);
        let mut text = Vec::new();
        for part in of.map(str::as_bytes).into_iter().chain([spelled.as_deref().unwrap_or(arguments)]) {
            text.extend_from_slice(&(part.len() as u64).to_be_bytes());
            text.extend_from_slice(part);
        }
        self.digest_for(labels, &text)
    }

    /// Operations that wait for a person, or have an answer that was not used yet; oldest first.
    #[must_use]
    pub fn approvals(&self) -> Vec<Waiting> {
        self.expire_approvals();
        lock(&self.approvals).list()
    }

    /// One of them.
    #[must_use]
    pub fn approval(&self, id: OperationId) -> Option<Waiting> {
        self.expire_approvals();
        lock(&self.approvals).get(id).cloned()
    }

    /// What is to be done, in the clear: for the person who is asked, and for whoever carries it out.
    #[must_use]
    pub fn approval_arguments(&self, id: OperationId) -> Option<Vec<u8>> {
        let sealed = lock(&self.approvals).get(id)?.sealed.clone();
        self.unseal(&sealed)
    }

    /// Takes a person's word. `name`: the token that was shown. Answers the record, which is on disk (K110).
    ///
    /// # Errors
    /// Refused; no such operation waits; his word does not count (K106).
    pub fn say(&self, by: Principal, name: &str, id: OperationId, word: &Word) -> Result<u64, OperatorError> {
        self.expire_approvals();
        let invalid = |text: &str| OperatorError::from(AgentError::Invalid(text.to_owned()));
        let waiting = lock(&self.approvals).get(id).cloned();
        let waiting = waiting.ok_or_else(|| refused_vote(NoVote::Absent))?;
        let resource = vocabulary::named("Runtime", "runtime")
            .map_err(|error| AgentError::Invalid(error.to_string()))?;
        let asked = self.ask(by, "operation.approve", resource)?;
        let asked = Asked { agent: waiting.agent, ..asked };
        if !matches!(by, Principal::Operator(_)) {
            let text = "only an operator's word counts";
            return Err(AgentError::from(self.refuse(&asked, RefusalCode::Denied, None, text)).into());
        }
        let vote = Vote { operator: by.to_string(), name: name.to_owned(), at_us: self.log().now() };
        self.may_vote(&asked, id, &vote)?;
        let changed = match word {
            Word::Approve | Word::Deny => None,
            Word::Modify(arguments) => {
                Some(self.changed(&waiting, arguments).ok_or_else(|| refused_vote(NoVote::Unchangeable))?)
            }
        };
        let granted = self.decide(&asked).map_err(AgentError::from)?;
        let (type_, said) = match word {
            Word::Approve => ("approval.granted", "approve"),
            Word::Modify(_) => ("approval.granted", "modify"),
            Word::Deny => ("approval.denied", "deny"),
        };
        let details = self
            .describe(&asked, &granted)
            .string("name", name)
            .string("word", said)
            .number("at_us", vote.at_us);
        let details = match &changed {
            None => details.string("binding", &waiting.binding),
            Some((binding, sealed)) => {
                details.string("before", &waiting.binding).string("binding", binding).string("sealed", sealed)
            }
        };
        let details = details.finish();
        let event = Event {
            agent_id: waiting.agent,
            run: waiting.run,
            op: Some(id),
            decision: Some("allow"),
            policy: Some(granted.policy()),
            ..Event::new(type_, &details)
        };
        let written = self.log().append(&event).map_err(|_| AgentError::from(self.unavailable()));
        let seq = match written {
            Ok(receipt) => receipt.seq,
            Err(error) => {
                self.undo(&granted.held()); // K21
                return Err(error.into());
            }
        };
        self.wait_durable(seq, RECORD_TIMEOUT).map_err(|_| AgentError::from(self.unavailable()))?;
        {
            let mut approvals = lock(&self.approvals);
            // Of two that speak at once each is looked at again: the first may have decided it.
            approvals.may_vote(id, &vote).map_err(refused_vote)?;
            approvals
                .vote(id, vote, *word == Word::Deny, changed)
                .ok_or_else(|| invalid("it waits no more"))?;
        }
        self.ring();
        Ok(seq)
    }

    /// A word that does not count because of who says it is a refusal, and recorded.
    fn may_vote(&self, asked: &Asked<'_>, id: OperationId, vote: &Vote) -> Result<(), OperatorError> {
        let no = match lock(&self.approvals).may_vote(id, vote) {
            Ok(_) => return Ok(()),
            Err(no) => no,
        };
        let text = match no {
            NoVote::Requester => "whoever asked cannot approve it",
            NoVote::NotNamed => "the rule names other persons for this",
            other => return Err(refused_vote(other)),
        };
        let details = Object::new().display("approval", id).string("name", &vote.name);
        Err(AgentError::from(self.refuse(asked, RefusalCode::Denied, Some(details), text)).into())
    }

    /// The same operation with other content: what it is bound to then, and its text, sealed. None where it cannot be.
    fn changed(&self, waiting: &Waiting, arguments: &[u8]) -> Option<(String, String)> {
        let text = content::changed(&waiting.action, &self.unseal(&waiting.sealed)?, arguments)?;
        let of = [waiting.subject.as_str(), waiting.action.as_str(), waiting.resource.as_str()];
        (text.len() <= SHOWN_BYTES_MAX).then(|| {
            let labels = &waiting.labels;
            (self.binding(of, &text, labels), self.seal_for(labels, &text))
        })
    }

    /// What was held for an operation that does not happen: what it reserved, and the approval that it used.
    pub(crate) fn undo(&self, held: &Held) {
        self.release(&held.reservations);
        if let Some(approval) = &held.approved {
            lock(&self.approvals).put_back(Waiting::clone(approval));
        }
    }

    /// As [`Kernel::undo`], of each.
    pub(crate) fn undo_all<'a>(&self, grants: impl IntoIterator<Item = &'a Granted>) {
        grants.into_iter().for_each(|granted| self.undo(&granted.held()));
    }

    /// What has waited too long waits no more, which is recorded (K107).
    pub(crate) fn expire_approvals(&self) {
        if lock(&self.approvals).len() == 0 {
            return;
        }
        let now_us = self.log().now();
        let gone = lock(&self.approvals).expire(now_us);
        for one in &gone {
            let details = Object::new()
                .string("action", &one.action)
                .string("resource", &one.resource)
                .string("state", one.state.as_str())
                .finish();
            let event = Event {
                agent_id: one.agent,
                run: one.run,
                op: Some(one.id),
                ..Event::new("approval.expired", &details)
            };
            let _ = self.log().append(&event); // it is over all the same: its time stands in its request
        }
    }
}

fn refused_vote(no: NoVote) -> OperatorError {
    let text = match no {
        NoVote::Absent => return AgentError::Absent("operation that waits for a person").into(),
        NoVote::Decided => "it is decided already",
        NoVote::Again => "this person has approved it already",
        NoVote::Requester => "whoever asked cannot approve it",
        NoVote::NotNamed => "the rule names other persons for this",
        NoVote::Unchangeable => content::CHANGEABLE,
    };
    AgentError::Invalid(text.to_owned()).into()
}
