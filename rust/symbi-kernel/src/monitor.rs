//! The reference monitor: the one door.
//!
//! admit ─▶ reserve ─▶ decide ─▶ record intent ─▶ ACT ─▶ record outcome ─▶ settle (or release)
//!
//! Why: no effect without a decision, no decision without a record, and no way to do one without the others. This
//! file is the only one that composes the three.
//! Not here: what an operation means. Callers say what is asked and act on what they are given.
//!
//! Invariants
//! - K20 whatever goes wrong before the decision is recorded ends in a refusal: no act happens.
//! - K21 a refusal gives back every reservation.
//! - K22 the counts that a decision saw stand in its record.
//! - K23 a brake is never refused and never waits for the log.
//! - K24 an internal operation's record is in the log's buffer before its act; an external one's bytes are not given
//!   before its intent is on disk.

use std::sync::Arc;

use symbi_audit::Event;
use symbi_policy::{Decision, Engine, Entity, Obligation, Request, Value};
use symbi_types::{AgentId, DecisionId, LabelSet, OperationId, RunId};

use crate::action::{Action, Class};
use crate::calls::{Expected, Watch};
use crate::denials::{DenialKey, OTHERS, Repeated, Seen};
use crate::flight::{Intent, Pending, Place};
use crate::json::Object;
use crate::kernel::{ActivePolicies, Kernel, lock};
use crate::permit::{Outcome, Permit};
use crate::refusal::{Refusal, RefusalCode};
use crate::violation::consequence;
use crate::window::{CounterKey, Reservation};
use crate::{Principal, exit};

/// How long a permit may be used after it was given, unless the caller asks for less.
pub const PERMIT_MS: u64 = 30_000;
/// Longest request that is kept whole in the record of its denial: a record must always fit, or a denial could hide
/// behind its own size.
const REQUEST_BYTES_MAX: usize = 65_536;
/// Longest class of an error in a record, in characters.
const KIND_CHARS_MAX: usize = 64;
/// What a breaker that is open says: a constant, so that its denials are one record.
const SHUT: &str = "it has failed again and again; try again later";
/// Longest arguments that are kept, sealed, in the record of an external operation; of longer ones only the digest.
const SEALED_BYTES_MAX: usize = 4_096;

/// An operation that is asked for, with everything a decision may look at.
pub(crate) struct Asked<'a> {
    pub(crate) principal: Principal,
    pub(crate) action: &'static Action,
    /// The principal as policies see it.
    pub(crate) subject: Entity,
    pub(crate) resource: Entity,
    /// The principal is an agent that may ask for nothing now.
    pub(crate) barred: Option<Barred>,
    pub(crate) labels: LabelSet,
    pub(crate) bytes: u64,
    /// What policies may look at besides, where the action has more than all others.
    pub(crate) circumstances: Vec<(&'static str, Value)>,
    /// Declared attributes of a tool call.
    pub(crate) call: Option<Entity>,
    /// Keyed digest of the arguments.
    pub(crate) arguments: Option<&'a [u8]>,
    /// The agent that the record is filed under.
    pub(crate) agent: Option<AgentId>,
    pub(crate) run: Option<RunId>,
    /// What it depends on, where a breaker stands before it.
    pub(crate) expected: Option<Arc<Expected>>,
    /// It only reads what was done before: counters show it the state without it (K96).
    pub(crate) replays: bool,
}

/// What the policies in force say, before anything is recorded.
pub(crate) struct Weighed {
    pub(crate) policies: Arc<ActivePolicies>,
    pub(crate) decision: Decision,
    reservations: Vec<Reservation>,
    counters: Vec<(String, u64)>,
}

/// Why an agent may ask for nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Barred {
    /// It is suspended (K43).
    Suspended,
    /// Its run was cancelled (K77).
    Cancelled,
}

/// An operation that may happen.
pub(crate) struct Granted {
    pub(crate) operation: OperationId,
    pub(crate) redact: Option<LabelSet>,
    rules: Vec<String>,
    reservations: Vec<Reservation>,
    /// Of an external operation.
    place: Option<Place>,
    counters: Vec<(String, u64)>,
    enforced: bool,
    /// Those that decided; others may be in force by the time it is recorded.
    policies: Arc<ActivePolicies>,
}

impl Granted {
    pub(crate) fn reservations(&self) -> &[Reservation] {
        &self.reservations
    }

    /// Digest of the policies that decided.
    pub(crate) fn policy(&self) -> &str {
        &self.policies.digest
    }
}

impl Kernel {
    /// Admits, reserves and decides (K20). A refusal is recorded here; a grant is recorded by the caller's next
    /// step, [`Kernel::record_internal`] or [`Kernel::permit`].
    pub(crate) fn decide(&self, asked: &Asked<'_>) -> Result<Granted, Refusal> {
        self.catch_up();
        if asked.action.class == Class::External || self.denials_due() {
            self.flush_denials(false);
        }
        if let Principal::Agent(agent) = asked.principal {
            let admitted = self.admission().admit(agent, self.moment().mono_ns);
            self.touch(agent);
            if !admitted {
                return Err(self.refuse(
                    asked,
                    RefusalCode::RateLimited,
                    None,
                    "too many requests; slow down",
                ));
            }
            self.wait_for_share(agent)?; // K46
        }
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
        if asked.expected.as_ref().is_some_and(|expected| self.is_shut(expected)) {
            return Err(self.refuse(asked, RefusalCode::Unavailable, None, SHUT)); // K95
        }
        let Weighed { policies, decision, reservations, counters } = self.weigh(asked);
        let allowed = !decision.is_denied();
        if allowed || !self.enforce() {
            return Ok(Granted {
                reservations,
                place,
                counters,
                enforced: allowed,
                ..self.grant(decision, &policies)
            });
        }
        if policies.broken() {
            let text = "no policy is in force";
            return Err(self.refuse_under(&policies, asked, RefusalCode::Unavailable, None, text));
        }
        Err(self.refuse_by_policy(asked, &policies, &decision, &counters))
    }

    /// Reserves and decides, and records nothing. A denial that stops something has given back what it reserved.
    pub(crate) fn weigh(&self, asked: &Asked<'_>) -> Weighed {
        let policies = self.policies();
        let engine = &policies.engine;
        let specs = engine.counters_for(asked.action.name);
        let mut reservations = Vec::new();
        let mut counters = Vec::new();
        let now_us = if specs.is_empty() { 0 } else { self.window_us() }; // before the lock (K25)
        // The lock is held from the reservation to the decision: no I/O, microseconds.
        let mut counts = if specs.is_empty() { None } else { Some(self.counters()) };
        if let Some(windows) = counts.as_deref_mut() {
            for spec in specs {
                let principal = match spec.per {
                    symbi_policy::Per::Principal => Some(asked.subject.uid().to_string()),
                    symbi_policy::Per::Global => None,
                };
                let key = CounterKey { name: spec.name.clone(), principal };
                let (count, reservation) = windows.reserve(key, spec.window_us, now_us);
                if asked.replays {
                    windows.release(&reservation); // K96
                } else {
                    reservations.push(reservation);
                }
                counters.push((spec.name.clone(), count - u64::from(asked.replays)));
            }
        }
        let decision = evaluate(engine, asked, &counters);
        if !decision.errors.is_empty() {
            self.note_erring_rules(decision.errors.len());
        }
        if decision.is_denied()
            && self.enforce()
            && let Some(windows) = counts.as_deref_mut()
        {
            reservations.iter().for_each(|reservation| windows.release(reservation)); // K21
        }
        drop(counts);
        Weighed { policies, decision, reservations, counters }
    }

    fn grant(&self, decision: Decision, policies: &Arc<ActivePolicies>) -> Granted {
        let redact = match decision.obligations() {
            [] => None,
            obligations => {
                Some(obligations.iter().fold(LabelSet::default(), |all, obligation| match obligation {
                    Obligation::Redact { labels } => all.union(labels),
                }))
            }
        };
        Granted {
            operation: OperationId::random(self.entropy()),
            redact,
            rules: decision.determining.iter().map(|rule| rule.id.clone()).collect(),
            reservations: Vec::new(),
            place: None,
            counters: Vec::new(),
            enforced: true,
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
        let written = self.append(
            asked.agent,
            asked.run,
            Some(granted.operation),
            "operation",
            &granted,
            asked,
            &details,
        );
        match written {
            Some(seq) => Ok((granted.operation, seq)),
            None => {
                self.release(&granted.reservations); // K21
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
        let details = match asked.arguments {
            Some(arguments) if arguments.len() <= SEALED_BYTES_MAX => {
                details.string("sealed", &self.seal(arguments))
            }
            _ => details,
        };
        let details = details.finish();
        let operation = granted.operation;
        let watch = match asked.expected.as_ref().map(|expected| self.watch(expected, operation)) {
            None => None,
            Some(Some(watch)) => Some(watch),
            Some(None) => {
                self.release(&granted.reservations); // K21
                return Err(self.refuse(asked, RefusalCode::Unavailable, None, SHUT)); // K95
            }
        };
        let journaled = watch.as_ref().is_some_and(Watch::is_journaled);
        let type_ = "operation.intent";
        let Some(seq) =
            self.append(asked.agent, asked.run, Some(operation), type_, &granted, asked, &details)
        else {
            self.release(&granted.reservations); // K21
            if let Some(watch) = watch {
                self.watched(watch, operation, None, false, None);
            }
            return Err(self.unavailable());
        };
        let intent = Intent {
            principal: asked.principal,
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
        let type_ = "operation.replayed";
        let op = Some(operation);
        let Some(seq) = self.append(asked.agent, asked.run, op, type_, granted, asked, &details) else {
            return Err(self.unavailable());
        };
        Ok(Permit::replayed_from(Arc::clone(self), (operation, asked.agent, asked.run), seq, result))
    }

    /// Records how an external operation ended. `acted`: its bytes were taken. `outcome` is none where the permit
    /// was dropped. Answers the record's number, or none where the log cannot write.
    pub(crate) fn settle(
        &self,
        operation: OperationId,
        acted: bool,
        outcome: Option<&Outcome>,
        result: Option<Vec<u8>>,
    ) -> Option<u64> {
        let mut pending = lock(&self.pending).remove(operation)?;
        if let Some(watch) = pending.watch.take() {
            self.watched(watch, operation, outcome, acted, result);
        }
        if pending.reported && outcome.is_none() {
            return None; // K78: it is recorded `unknown`, and is
        }
        let (word, details) = match (outcome, acted) {
            (Some(Outcome::Done), _) => ("done", Object::new()),
            (Some(Outcome::Failed { kind, text }), _) => ("failed", self.describe_error(kind, text)),
            (None, false) => ("released", Object::new()),
            (None, true) => ("unknown", Object::new()),
        };
        if word == "released" {
            self.release(&pending.intent.reservations);
        }
        let details = details.string("outcome", word).string("action", pending.intent.action);
        let details = if pending.reported { details.flag("late", true) } else { details }.finish();
        let event = Event {
            agent_id: pending.intent.agent,
            run: pending.intent.run,
            op: Some(operation),
            ..Event::new("operation.outcome", &details)
        };
        let seq = self.log().append(&event).ok().map(|receipt| receipt.seq);
        if word == "unknown" {
            self.remember_unknown(operation, &pending.intent);
        } else if pending.reported && seq.is_some() {
            lock(&self.unknown).remove(&operation); // K78
        }
        seq
    }

    /// The class of an error plain, what it said sealed. A class comes from outside: one that is not a short word is
    /// text like any other.
    pub(crate) fn describe_error(&self, kind: &str, text: &str) -> Object {
        let word = |one: char| one.is_ascii_alphanumeric() || "._-".contains(one);
        let good = !kind.is_empty() && kind.len() <= KIND_CHARS_MAX && kind.chars().all(word);
        let (kind, text) = if good { (kind, text.to_owned()) } else { ("other", format!("{kind}: {text}")) };
        let details = Object::new().string("error", kind);
        if text.is_empty() { details } else { details.string("sealed", &self.seal(text.as_bytes())) }
    }

    pub(crate) fn describe(&self, asked: &Asked<'_>, granted: &Granted) -> Object {
        let details = Object::new()
            .string("action", asked.action.name)
            .display("principal", asked.principal)
            .display("resource", asked.resource.uid())
            .number("bytes", asked.bytes);
        let details = match asked.arguments {
            Some(arguments) => details.string("arguments", &self.digest(arguments)),
            None => details,
        };
        let details = if granted.rules.is_empty() {
            details
        } else {
            details.strings("rules", granted.rules.iter().map(String::as_str))
        };
        if granted.counters.is_empty() {
            return details;
        }
        let counts =
            granted.counters.iter().fold(Object::new(), |object, (name, count)| object.number(name, *count));
        details.string("subject", &asked.subject.uid().to_string()).raw("counters", &counts.finish()) // K22
    }

    #[expect(clippy::too_many_arguments, reason = "the fields of one record, in its order")]
    fn append(
        &self,
        agent: Option<AgentId>,
        run: Option<RunId>,
        op: Option<OperationId>,
        event_type: &str,
        granted: &Granted,
        asked: &Asked<'_>,
        details: &str,
    ) -> Option<u64> {
        let decision = match (&granted.redact, granted.enforced) {
            (_, false) => "unenforced",
            (Some(_), _) => "redact",
            (None, _) => "allow",
        };
        let event = Event {
            agent_id: agent,
            run,
            op,
            decision: Some(decision),
            policy: Some(&granted.policies.digest),
            labels: &asked.labels,
            ..Event::new(event_type, details)
        };
        let seq = self.log().append(&event).ok()?.seq;
        if let Principal::Agent(agent) = asked.principal {
            lock(&self.shares).add(agent, seq);
        }
        Some(seq)
    }

    /// A refusal that policy decided: the public message of its rule, and the whole request in the log.
    fn refuse_by_policy(
        &self,
        asked: &Asked<'_>,
        policies: &ActivePolicies,
        decision: &Decision,
        counters: &[(String, u64)],
    ) -> Refusal {
        let message = decision.message().unwrap_or("not allowed").to_owned();
        // Its own budget is spent if, and only if, it would be allowed as the first of its window.
        let first: Vec<(String, u64)> = counters.iter().map(|(name, _)| (name.clone(), 1)).collect();
        let over_budget = !counters.is_empty() && !evaluate(&policies.engine, asked, &first).is_denied();
        let code = if over_budget { RefusalCode::OverBudget } else { RefusalCode::Denied };
        let rules = decision.determining.iter().map(|rule| rule.id.as_str());
        let recorded = request(asked, counters).to_record();
        let request = serde_json::to_string(&recorded).unwrap_or_else(|_| "null".to_owned());
        let details = Object::new()
            .strings("rules", rules)
            .string("reason", decision.reason.map_or("", symbi_policy::Reason::as_str));
        let details = match &asked.call {
            _ if request.len() > REQUEST_BYTES_MAX => details.number("request_bytes", request.len() as u64),
            // The declared attributes of a call are taken from its arguments, and those are never plain.
            Some(_) => details.string("request_sealed", &self.seal(request.as_bytes())),
            None => details.raw("request", &request),
        };
        let refusal = self.refuse_under(policies, asked, code, Some(details), &message);
        if let (Principal::Agent(agent), Some(consequence)) = (asked.principal, consequence(decision)) {
            self.violated(agent, consequence, recorded, refusal.decision); // K79
        }
        refusal
    }

    /// Records a refusal, or counts it with the identical ones of its window.
    pub(crate) fn refuse(
        &self,
        asked: &Asked<'_>,
        code: RefusalCode,
        details: Option<Object>,
        message: &str,
    ) -> Refusal {
        self.refuse_under(&self.policies(), asked, code, details, message)
    }

    fn refuse_under(
        &self,
        policies: &ActivePolicies,
        asked: &Asked<'_>,
        code: RefusalCode,
        details: Option<Object>,
        message: &str,
    ) -> Refusal {
        let key = DenialKey {
            principal: asked.principal,
            action: asked.action.name,
            resource: asked.resource.uid().to_string(),
            code,
            rule: message.to_owned(),
        };
        let now_us = self.log().now();
        let (key, seen) = {
            let mut denials = self.denials();
            let key = denials.key(key);
            let seen = denials.see(&key, now_us);
            (key, seen)
        };
        match seen {
            Seen::Again(decision, due) => {
                let seq = due.and_then(|repeated| self.record_repeated(&repeated));
                Refusal { code, decision, message: message.to_owned(), seq }
            }
            Seen::First => {
                let decision = DecisionId::random(self.entropy());
                // What stands for all others says nothing of the one that happened to be the first.
                let details = details.filter(|_| key.action != OTHERS);
                let details = details
                    .unwrap_or_else(Object::new)
                    .string("action", key.action)
                    .display("principal", asked.principal)
                    .string("resource", &key.resource)
                    .string("code", code.as_str())
                    .display("decision_id", decision)
                    .string("message", message)
                    .number("count", 1)
                    .finish();
                let event = Event {
                    agent_id: asked.agent,
                    run: asked.run,
                    decision: Some("deny"),
                    policy: Some(&policies.digest),
                    labels: &asked.labels,
                    ..Event::new("operation.denied", &details)
                };
                self.denials().opened(key, decision, now_us);
                self.garbage_is_left();
                let seq = self.log().append(&event).ok().map(|receipt| receipt.seq);
                if let (Principal::Agent(agent), Some(seq)) = (asked.principal, seq) {
                    lock(&self.shares).add(agent, seq);
                }
                Refusal { code, decision, message: message.to_owned(), seq }
            }
        }
    }

    fn record_repeated(&self, repeated: &Repeated) -> Option<u64> {
        let details = Object::new()
            .string("action", repeated.key.action)
            .display("principal", repeated.key.principal)
            .string("resource", &repeated.key.resource)
            .string("code", repeated.key.code.as_str())
            .display("decision_id", repeated.decision)
            .number("count", repeated.count)
            .number("since_us", repeated.since_us)
            .number("until_us", repeated.until_us)
            .finish();
        let agent_id = match repeated.key.principal {
            Principal::Agent(agent) => Some(agent),
            Principal::Host | Principal::Operator(_) => None,
        };
        let event = Event { agent_id, decision: Some("deny"), ..Event::new("operation.denied", &details) };
        self.log().append(&event).ok().map(|receipt| receipt.seq)
    }

    /// Writes the repetitions whose window has ended, or all of them.
    pub(crate) fn flush_denials(&self, all: bool) {
        let now_us = self.log().now();
        if !all && !self.denials().due(now_us) {
            return;
        }
        let due = self.denials().close_before(now_us, all);
        for repeated in &due {
            self.record_repeated(repeated);
        }
    }

    /// Writes at most `limit` of the repetitions whose window has ended; how many it wrote.
    pub(crate) fn flush_some_denials(&self, limit: usize) -> usize {
        let now_us = self.log().now();
        if !self.denials().due(now_us) {
            return 0;
        }
        let due = self.denials().close_some(now_us, limit);
        for repeated in &due {
            self.record_repeated(repeated);
        }
        due.len()
    }

    fn denials_due(&self) -> bool {
        // Cheap enough for every operation, and then nothing is left to a timer.
        let now_us = self.log().now(); // before the lock (K25)
        self.denials().due(now_us)
    }

    /// The log cannot write, so nothing can be recorded, not even this.
    pub(crate) fn unavailable(&self) -> Refusal {
        Refusal {
            code: RefusalCode::Unavailable,
            decision: DecisionId::random(self.entropy()),
            message: "the trail cannot be written; nothing may happen until the runtime is reopened"
                .to_owned(),
            seq: None,
        }
    }

    /// Effective labels of what is about to leave, as `reader` may cite.
    pub(crate) fn label_payload(
        &self,
        payload: &mut exit::Payload,
        carried: &LabelSet,
        reader: &str,
    ) -> (LabelSet, exit::Labelled) {
        match payload {
            exit::Payload::Bytes(bytes) => (exit::label_bytes(bytes, carried), exit::Labelled::default()),
            exit::Payload::Parts(parts) => {
                let chunks = crate::knowledge::ReaderChunks { kernel: self, reader };
                let labelled = exit::label_parts(parts, carried, &chunks);
                (labelled.all.clone(), labelled)
            }
        }
    }
}

/// The request as the engine takes it.
fn request<'a>(asked: &'a Asked<'_>, counters: &[(String, u64)]) -> Request<'a> {
    let long = |number: u64| Value::Long(i64::try_from(number).unwrap_or(i64::MAX));
    let counts = counters.iter().map(|(name, count)| (name.clone(), long(*count))).collect();
    let request = Request::new(&asked.subject, asked.action.name, &asked.resource)
        .with("labels", Value::labels(&asked.labels))
        .with("bytes", long(asked.bytes))
        .with("counters", Value::Record(counts));
    let request =
        asked.circumstances.iter().fold(request, |request, (name, value)| request.with(*name, value.clone()));
    match &asked.call {
        Some(call) => request.with("call", Value::Entity(call.uid().clone())).entity(call),
        None => request,
    }
}

fn evaluate(engine: &Engine, asked: &Asked<'_>, counters: &[(String, u64)]) -> Decision {
    engine.evaluate(&request(asked, counters))
}
