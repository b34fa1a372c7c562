//! The reference monitor: the one door.
//!
//! admit ─▶ reserve ─▶ decide ─▶ record intent ─▶ ACT ─▶ record outcome ─▶ settle (or release)
//!
//! Why: no effect without a decision, no decision without a record, and no way to do one without the others. This
//! file is the only one that composes the three; what is asked, recorded, refused and settled stands in the files below it.
//! Not here: what an operation means. Callers say what is asked and act on what they are given.
//!
//! Invariants
//! - K20 whatever goes wrong before the decision is recorded ends in a refusal: no act happens.
//! - K21 a refusal gives back every reservation.
//! - K22 the counts that a decision saw stand in its record.
//! - K23 a brake is never refused and never waits for the log.
//! - K24 an internal operation's record is in the log's buffer before its act; an external one's bytes are not given
//!   before its intent is on disk.

mod asked;
pub(crate) mod counting;
mod describing;
mod outcome;
mod refusing;

use std::sync::Arc;

use symbi_policy::{Decision, Engine};
use symbi_types::{LabelSet, OperationId};

use crate::Principal;
use crate::action::Class;
use crate::approvals::Waiting;
use crate::calls::Watch;
use crate::content::Showing;
use crate::counters::Reservation;
use crate::flight::{Intent, Pending, Place};
use crate::json::Object;
use crate::kernel::{ActivePolicies, Kernel, lock};
use crate::obligations::{FULL_BYTES_MAX, Notice, Terms, terms};
use crate::permit::Permit;
use crate::refusal::{Refusal, RefusalCode};

pub(crate) use asked::request;
pub(crate) use asked::{Asked, Barred};
use counting::{Allowance, CPU_MS, Unpaid, is_of_runs};

/// How long a permit may be used after it was given, unless the caller asks for less.
pub const PERMIT_MS: u64 = 30_000;
/// What a breaker that is open says: a constant, so that its denials are one record.
const SHUT: &str = "it has failed again and again; try again later";
/// What whoever carries data of an erased person is told.
const ERASED: &str =
    "this carries data of a person who was erased; stop the agent that has read it, and schedule it anew";
/// Longest arguments that are kept, sealed, in the record of an external operation; of longer ones only the digest.
const SEALED_BYTES_MAX: usize = 4_096;

/// What the policies in force say, before anything is recorded.
pub(crate) struct Weighed {
    pub(crate) policies: Arc<ActivePolicies>,
    pub(crate) decision: Decision,
    reservations: Vec<Reservation>,
    counters: Vec<(String, u64)>,
    /// A cap that does not hold it, or a counter that cannot count it.
    unpaid: Option<Unpaid>,
    /// How much the run may take, where budgets of time bound it (K176).
    allowance: Allowance,
}

/// An operation that may happen.
pub(crate) struct Granted {
    pub(crate) operation: OperationId,
    pub(crate) redact: Option<LabelSet>,
    pub(crate) terms: Terms,
    rules: Vec<String>,
    reservations: Vec<Reservation>,
    /// Of an external operation.
    place: Option<Place>,
    counters: Vec<(String, u64)>,
    enforced: bool,
    allowance: Allowance,
    /// Those that decided; others may be in force by the time it is recorded.
    policies: Arc<ActivePolicies>,
}

/// The time of a run.
#[derive(Clone)]
pub(crate) struct Timed {
    pub(crate) reservations: Vec<Reservation>,
    pub(crate) allowance: Allowance,
}

/// What a grant took, to be given back where its operation does not happen.
#[derive(Clone, Default)]
pub(crate) struct Held {
    pub(crate) reservations: Vec<Reservation>,
    pub(crate) approved: Option<Arc<Waiting>>,
}

impl Granted {
    /// Of a run: the time that it has reserved, and how much of it it may take.
    pub(crate) fn timed(&self) -> Option<Timed> {
        let timed = self.reservations.iter().filter(|one| is_of_runs(&one.measure));
        let reservations: Vec<Reservation> = timed.cloned().collect();
        let counts_cpu = reservations.iter().any(|one| one.measure == CPU_MS);
        let allowance = Allowance { counts_cpu, ..self.allowance };
        (!reservations.is_empty()).then_some(Timed { reservations, allowance })
    }

    pub(crate) fn held(&self) -> Held {
        Held { reservations: self.reservations.clone(), approved: self.terms.approved.clone() }
    }

    /// Digest of the policies that decided.
    pub(crate) fn policy(&self) -> &str {
        &self.policies.digest
    }

    pub(crate) fn policies(&self) -> &Arc<ActivePolicies> {
        &self.policies
    }

    pub(crate) fn rules(&self) -> &[String] {
        &self.rules
    }

    /// What its record says of it.
    pub(crate) fn word(&self) -> &'static str {
        match (&self.redact, self.enforced) {
            (_, false) => "unenforced",
            (Some(_), _) => "redact",
            (None, _) => "allow",
        }
    }

    /// Whether counters were read for it, or its terms are told to somebody: then it has a record of its own (K22).
    pub(crate) fn is_counted(&self) -> bool {
        !self.counters.is_empty() || !self.reservations.is_empty() || !self.terms.are_plain()
    }

    /// The same permission with what was counted for it, for the one record of it.
    pub(crate) fn counted_once(&self) -> Self {
        Self {
            operation: self.operation,
            redact: self.redact.clone(),
            terms: self.terms.clone(),
            rules: self.rules.clone(),
            reservations: self.reservations.clone(),
            place: None,
            counters: self.counters.clone(),
            enforced: self.enforced,
            allowance: self.allowance,
            policies: Arc::clone(&self.policies),
        }
    }
}

impl Kernel {
    /// Admits, reserves and decides (K20). A refusal is recorded here; a grant is recorded by the caller's next
    /// step, [`Kernel::record_internal`] or [`Kernel::permit`].
    pub(crate) fn decide(&self, asked: &Asked<'_>) -> Result<Granted, Refusal> {
        self.decide_showing(asked, None)
    }

    /// As [`Kernel::decide`]; where persons must agree, they are shown what `showing` makes.
    pub(crate) fn decide_showing(&self, asked: &Asked<'_>, showing: Showing<'_>) -> Result<Granted, Refusal> {
        self.admit(asked)?;
        self.decide_admitted(asked, showing)
    }

    /// Lets a principal ask, if it has not asked too often and its records do not wait for the disk. Several that are asked
    /// for together are admitted as one.
    pub(crate) fn admit(&self, asked: &Asked<'_>) -> Result<(), Refusal> {
        self.catch_up();
        if asked.action.class == Class::External || self.denials_due() {
            self.flush_denials(false);
        }
        let Principal::Agent(agent) = asked.principal else { return Ok(()) };
        let admitted = self.admission().admit(agent, self.moment().mono_ns);
        self.touch(agent);
        if !admitted {
            let text = "too many requests; slow down";
            return Err(self.refuse(asked, RefusalCode::RateLimited, None, text));
        }
        if !asked.action.name.starts_with("message.") {
            self.close_traffic(agent, None)?; // what it said before stands before what it does
        }
        self.wait_for_share(agent) // K46
    }

    /// What [`Kernel::decide`] does for whom was admitted.
    pub(crate) fn decide_admitted(
        &self,
        asked: &Asked<'_>,
        showing: Showing<'_>,
    ) -> Result<Granted, Refusal> {
        let place = match asked.action.class {
            Class::Internal => None,
            Class::External => match self.place(asked.principal) {
                Some(place) => Some(place),
                None => {
                    let text = "too many operations under way; wait for one to end";
                    return Err(self.refuse(asked, RefusalCode::RateLimited, None, text)); // K8
                }
            },
        };
        if !self.log_is_healthy() {
            return Err(self.unavailable());
        }
        if let Some(barred) = asked.barred {
            let (code, text) = match barred {
                Barred::Suspended => (RefusalCode::Suspended, "the agent is suspended"),
                Barred::Cancelled => (RefusalCode::Cancelled, "the run was cancelled"),
            };
            return Err(self.refuse(asked, code, None, text));
        }
        if !self.subjects().can_seal(&asked.labels) {
            return Err(self.refuse(asked, RefusalCode::Denied, None, ERASED)); // ER6
        }
        if asked.expected.as_ref().is_some_and(|expected| self.is_shut(expected)) {
            return Err(self.refuse(asked, RefusalCode::Unavailable, None, SHUT)); // K95
        }
        let weighed = self.weigh(asked);
        self.sample(asked, &weighed.counters, &weighed.decision);
        if !weighed.decision.is_denied() || !self.enforce() {
            return Ok(Granted { place, ..self.granted(asked, weighed, showing)? });
        }
        if weighed.policies.broken() {
            let text = "no policy is in force";
            return Err(self.refuse_under(&weighed.policies, asked, RefusalCode::Unavailable, None, text));
        }
        Err(self.refuse_weighed(asked, &weighed))
    }

    /// What was weighed and may happen, on its terms.
    pub(crate) fn granted(
        &self,
        asked: &Asked<'_>,
        weighed: Weighed,
        showing: Showing<'_>,
    ) -> Result<Granted, Refusal> {
        let Weighed { policies, decision, reservations, counters, unpaid, allowance } = weighed;
        let enforced = !decision.is_denied();
        let rules: Vec<String> = decision.determining.iter().map(|rule| rule.id.clone()).collect();
        match self.bind(asked, &decision, (&rules, &policies.digest), unpaid, showing) {
            Ok(terms) => {
                let granted = self.grant(terms, rules, &policies);
                let allowance = if self.enforce() { allowance } else { Allowance::default() };
                Ok(Granted { reservations, counters, enforced, allowance, ..granted })
            }
            Err(refusal) => {
                self.release(&reservations); // K21
                Err(*refusal)
            }
        }
    }

    /// What was weighed and may not.
    pub(crate) fn refuse_weighed(&self, asked: &Asked<'_>, weighed: &Weighed) -> Refusal {
        self.refuse_by_policy(asked, &weighed.policies, &weighed.decision, &weighed.counters)
    }

    fn grant(&self, terms: Terms, rules: Vec<String>, policies: &Arc<ActivePolicies>) -> Granted {
        Granted {
            operation: OperationId::random(self.entropy()),
            redact: terms.redact.clone(),
            terms,
            rules,
            reservations: Vec::new(),
            place: None,
            counters: Vec::new(),
            enforced: true,
            allowance: Allowance::default(),
            policies: Arc::clone(policies),
        }
    }

    /// Puts the one record of an internal operation into the log's buffer (K24) and answers its number.
    ///
    /// # Errors
    /// The log cannot write: nothing may happen.
    pub(crate) fn record_internal(
        &self,
        asked: &Asked<'_>,
        granted: Granted,
        extra: impl FnOnce(Object) -> Object,
    ) -> Result<(OperationId, u64), Refusal> {
        let details = extra(self.describe(asked, &granted)).finish();
        match self.append(granted.operation, "operation", &granted, asked, &details) {
            Some(seq) => {
                self.tell(asked, &granted, seq);
                Ok((granted.operation, seq))
            }
            None => {
                self.undo(&granted.held()); // K21
                Err(self.unavailable())
            }
        }
    }

    /// Records the intent of an external operation and makes its permit. `bytes` are what was decided on; `extra` is
    /// recorded with the intent.
    pub(crate) fn permit(
        self: &Arc<Self>,
        asked: &Asked<'_>,
        granted: Granted,
        labels: LabelSet,
        bytes: Vec<u8>,
        timeout_ms: u64,
        extra: impl FnOnce(Object) -> Object,
    ) -> Result<Permit, Refusal> {
        let details = extra(self.describe(asked, &granted));
        let kept_bytes_max = if granted.terms.full { FULL_BYTES_MAX } else { SEALED_BYTES_MAX };
        let details = match asked.arguments {
            Some(arguments) if arguments.len() <= kept_bytes_max => {
                details.string("sealed", &self.seal_for(&asked.labels, arguments))
            }
            _ => details,
        };
        let details = details.finish();
        let operation = granted.operation;
        let watch = match asked.expected.as_ref().map(|expected| self.watch(expected, operation)) {
            None => None,
            Some(Some(watch)) => Some(watch),
            Some(None) => {
                self.undo(&granted.held()); // K21
                return Err(self.refuse(asked, RefusalCode::Unavailable, None, SHUT)); // K95
            }
        };
        let journaled = watch.as_ref().is_some_and(Watch::is_journaled) || granted.terms.full;
        let Some(seq) = self.append(operation, "operation.intent", &granted, asked, &details) else {
            self.undo(&granted.held()); // K21
            if let Some(watch) = watch {
                self.watched(watch, operation, None, false, None);
            }
            return Err(self.unavailable());
        };
        self.tell(asked, &granted, seq);
        let intent = Intent {
            full: granted.terms.full,
            principal: asked.principal,
            persons: asked.labels.subjects(),
            agent: asked.agent,
            run: asked.run,
            seq,
            resource: asked.resource.uid().to_string(),
            action: asked.action.name,
            reservations: granted.reservations,
        };
        lock(&self.pending).insert(operation, Pending::new(intent, watch, granted.place));
        let deadline_ns = self.moment().mono_ns.saturating_add(timeout_ms.min(PERMIT_MS) * 1_000_000);
        let permit = Permit::new(
            Arc::clone(self),
            (operation, asked.agent, asked.run),
            seq,
            deadline_ns,
            labels,
            bytes,
        );
        Ok(if journaled { permit.journaled() } else { permit })
    }

    /// Records that a call is answered with what it had done before, and makes what hands that over (K96).
    pub(crate) fn replay(
        self: &Arc<Self>,
        asked: &Asked<'_>,
        granted: &Granted,
        operation: OperationId,
        result: Arc<[u8]>,
    ) -> Result<Permit, Refusal> {
        let details = self.describe(asked, granted).string("outcome", "replayed").finish();
        let Some(seq) = self.append(operation, "operation.replayed", granted, asked, &details) else {
            return Err(self.unavailable());
        };
        Ok(Permit::replayed_from(Arc::clone(self), (operation, asked.agent, asked.run), seq, result))
    }
}

impl Kernel {
    /// What a decision to let pass is bound to: budgets, obligations, persons (K104).
    fn bind(
        &self,
        asked: &Asked<'_>,
        decision: &Decision,
        (rules, policy): (&[String], &str),
        unpaid: Option<Unpaid>,
        showing: Showing<'_>,
    ) -> Result<Terms, Box<Refusal>> {
        if !self.enforce() {
            return Ok(terms(asked, decision, showing.is_some()).unwrap_or_default());
        }
        if let Some(unpaid) = unpaid {
            let details = Object::new().strings("rules", rules.iter().map(String::as_str));
            return Err(Box::new(self.refuse_unpaid(asked, unpaid, details)));
        }
        let mut terms = terms(asked, decision, showing.is_some())
            .map_err(|unmet| Box::new(self.refuse_unmet(asked, unmet, rules)))?;
        if let (Some(approval), false) = (&terms.approval, asked.replays) {
            let approved = self.approved(asked, approval, (rules, policy), showing)?;
            terms.approved = Some(Arc::from(approved));
        }
        Ok(terms)
    }

    /// Whom its rules name is told of what was recorded.
    fn tell(&self, asked: &Asked<'_>, granted: &Granted, seq: u64) {
        if granted.terms.notify.is_empty() {
            return;
        }
        self.notify(Notice {
            channels: granted.terms.notify.iter().cloned().collect(),
            operation: granted.operation,
            seq,
            action: asked.action.name,
            principal: asked.principal.to_string(),
            resource: asked.resource.uid().to_string(),
            rules: granted.rules.clone(),
        });
    }
}

pub(crate) fn evaluate(engine: &Engine, asked: &Asked<'_>, counters: &[(String, u64)]) -> Decision {
    engine.evaluate(&request(asked, counters))
}
