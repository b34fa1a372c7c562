//! What an operation costs, and the decision between reserving it and giving it back.
//!
//! Why: the cost of an operation is added to the counters before the policies are asked, under one lock that is held until
//! they have answered: of two that want the last one, one sees that it is gone. Caps of budgets are looked at under the
//! same lock.
//! Not here: the counts (`counters`), which counters there are (`symbi-policy`).
//!
//! Invariants
//! - K102 no counter with a cap is above it by a grant: what is in flight included, whatever the order of threads.
//! - K176 a run reserves the time that it may take before it begins, on the clock and of processors: what is left of each of
//!   its budgets at most, and no more than its own limit. It is stopped when it has taken that.
//! - K240 what of an operation cannot be read is not counted as nothing: where a counter counts it, the operation is refused.
//! - K103 what an operation reserved stands in its record, so that the log alone gives every count again.

use std::collections::BTreeMap;
use std::sync::{Arc, MutexGuard};

use serde_json::Value as Json;
use symbi_audit::write_json_string;
use symbi_policy::{Budget, CounterSpec, Decision, Kind, Obligation, Per, Uid};

use super::{Asked, Weighed};
use crate::Principal;
use crate::counters::{CounterKey, Counters, Reservation};
use crate::json::Object;
use crate::kernel::Kernel;
use crate::rehearsal::Rehearsed;
use crate::window::Added;

/// The measure of time, which the monitor takes itself: from the act to its outcome, in milliseconds.
pub(crate) const TIME_MS: &str = "time_ms";
/// The measure of processor time of runs, which their host reads, in milliseconds.
pub(crate) const CPU_MS: &str = "cpu_ms";
/// The measure of operations.
const CALLS: &str = "calls";

/// The action whose time is bounded while it goes on.
const RUN: &str = "agent.run";

/// A counter as one operation meets it.
struct Meeting<'a> {
    name: &'a str,
    key: CounterKey,
    window_us: u64,
    /// None: it is only looked at.
    added: Option<Added>,
    measure: &'a str,
    cap: Option<u64>,
}

/// Why counters refuse what policies let pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Unpaid {
    /// A budget is spent: its name, what it would come to, and its cap.
    Spent { name: String, count: u64, cap: u64 },
    /// This counter counts what cannot be read of the operation (K240).
    Unread { name: String, measure: &'static str },
}

/// How much a run may take, in milliseconds, where budgets bound it (K176).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Allowance {
    /// On the clock, while it is at work.
    pub time_ms: Option<u64>,
    /// Of processors.
    pub cpu_ms: Option<u64>,
    /// A counter counts its processor time: who carries it out says what it has used.
    pub counts_cpu: bool,
}

impl Allowance {
    fn of(&mut self, measure: &str) -> &mut Option<u64> {
        if measure == CPU_MS { &mut self.cpu_ms } else { &mut self.time_ms }
    }
}

/// Whether a run reserves this before it begins, and says at its end what it came to.
pub(crate) fn is_of_runs(measure: &str) -> bool {
    measure == TIME_MS || measure == CPU_MS
}

impl Meeting<'_> {
    /// Whether a grant would go over the cap. An amount that is known only afterwards needs that something is left.
    fn is_over(&self, count: u64) -> bool {
        let open = self.added == Some(Added::Amount(0));
        self.cap.is_some_and(|cap| cap < count || (open && cap <= count))
    }
}

fn amount(asked: &Asked<'_>, measure: &str) -> u64 {
    match measure {
        CALLS => 1,
        "bytes" => asked.bytes,
        other => asked.amounts.iter().filter(|(name, _)| name == other).map(|(_, amount)| amount).sum(),
    }
}

/// The most that a run may take by its agent's own limit.
fn limit(asked: &Asked<'_>, measure: &str) -> u64 {
    match amount(asked, measure) {
        0 => u64::MAX,
        limit => limit,
    }
}

fn concerns(spec: &CounterSpec, asked: &Asked<'_>) -> bool {
    let id = asked.resource.uid().id();
    let here = spec.resource.as_deref().is_none_or(|wanted| match wanted.strip_suffix('*') {
        Some(beginning) => id.starts_with(beginning),
        None => id == wanted,
    });
    spec.action == asked.action.name
        && here
        && spec.label.as_deref().is_none_or(|label| asked.labels.contains(label))
}

impl Kernel {
    fn meet<'a>(&self, spec: &'a CounterSpec, asked: &Asked<'_>) -> Meeting<'a> {
        let subject = || asked.subject.uid().to_string();
        let of = match spec.per {
            Per::Global => None,
            Per::Principal if spec.cap.is_some() => Some(self.budgeted(asked)),
            Per::Principal => Some(subject()),
            Per::Run => Some(asked.run.map_or_else(subject, |run| run.to_string())),
            Per::Tenant => Some(self.tenant_of(asked).unwrap_or_else(subject)),
            Per::Resource => Some(asked.resource.uid().to_string()),
        };
        let digested = |text: &str| {
            let digest = self.digest_bytes_for(&asked.labels, text.as_bytes());
            digest.first_chunk().map_or(0, |first| u64::from_be_bytes(*first))
        };
        let added = match &spec.kind {
            _ if asked.replays || !concerns(spec, asked) => None, // K96
            Kind::Count => Some(Added::Amount(1)),
            Kind::Sum(measure) => Some(Added::Amount(amount(asked, measure))),
            Kind::Distinct(of) => match of.strip_prefix("call.") {
                None => Some(Added::Value(digested(&asked.resource.uid().to_string()))),
                Some(name) => {
                    let value = asked.attributes.iter().find(|(known, _)| known == name);
                    value.map(|(_, value)| Added::Value(digested(value)))
                }
            },
        };
        let measure = if let Kind::Sum(measure) = &spec.kind { measure } else { "" };
        let key = CounterKey { name: spec.name.clone(), of };
        Meeting { name: &spec.name, key, window_us: spec.window_us, added, measure, cap: spec.cap }
    }

    /// The agent whose budget an operation is on: the one that asks, or the one that others ask something of.
    fn budgeted(&self, asked: &Asked<'_>) -> String {
        let named = match (asked.principal, asked.agent) {
            (Principal::Host | Principal::Operator(_), _) if asked.resource.uid().type_name() == "Agent" => {
                return asked.resource.uid().to_string();
            }
            (Principal::Host | Principal::Operator(_), Some(agent)) => self.name_of(agent).ok(),
            _ => None,
        };
        let agent = named.and_then(|name| Uid::new("Agent", &name).ok());
        agent.as_ref().unwrap_or_else(|| asked.subject.uid()).to_string()
    }

    /// All that is counted, as a snapshot holds it. For tests: what it comes to after a crash is what it was before.
    #[doc(hidden)]
    #[must_use]
    pub fn count_rows(&self) -> Vec<String> {
        let in_order = |mut row: Json| {
            if let Some(values) = row.get_mut(4).and_then(Json::as_array_mut) {
                values.sort_by_key(Json::to_string);
            }
            row.to_string()
        };
        let now_us = self.window_us();
        let mut counters = self.counters();
        counters.expire(now_us);
        let mut rows: Vec<String> = counters.rows().into_iter().map(in_order).collect();
        rows.sort();
        rows
    }

    fn tenant_of(&self, asked: &Asked<'_>) -> Option<String> {
        let agents = self.agents();
        Some(format!("tenant:{}", agents.get(asked.agent?)?.spec.tenant))
    }

    /// Reserves and decides, and records nothing. A denial that stops something has given back what it reserved.
    pub(crate) fn weigh(&self, asked: &Asked<'_>) -> Weighed {
        let policies = self.policies();
        // What needs other locks, before this one (K25).
        let mut meetings: Vec<Meeting<'_>> =
            policies.counters(asked.action.name).map(|spec| self.meet(spec, asked)).collect();
        let unread = asked.unread.and_then(|measure| {
            let counts = |one: &&Meeting<'_>| one.measure == measure && one.added.is_some();
            meetings.iter().find(counts).map(|one| Unpaid::Unread { name: one.name.to_owned(), measure })
        });
        let counted = !meetings.is_empty() || policies.has_budgets;
        let now_us = if counted { self.window_us() } else { 0 };
        let mut weighed = Weighed {
            decision: Decision::engine_failed(),
            reservations: Vec::new(),
            counters: Vec::new(),
            unpaid: None,
            allowance: Allowance::default(),
            policies: Arc::clone(&policies),
        };
        weighed.unpaid = unread;
        // The lock is held from the reservation to the decision: no I/O, microseconds.
        let mut counts: Option<MutexGuard<'_, Counters>> = counted.then(|| self.counters());
        if let Some(windows) = counts.as_deref_mut() {
            if asked.action.name == RUN {
                weighed.allow(windows, &mut meetings, asked, now_us);
            }
            for one in &meetings {
                let count = weighed.reserve(windows, one, now_us);
                weighed.counters.push((one.name.to_owned(), count));
            }
        }
        weighed.decision = self.evaluate_or_recall(&policies, asked, &weighed.counters);
        if !weighed.decision.errors.is_empty() {
            self.note_erring_rules(weighed.decision.errors.len());
        }
        if let Some(windows) = counts.as_deref_mut() {
            if !weighed.decision.is_denied() && !asked.replays {
                weighed.spend(windows, asked, now_us);
            }
            if self.enforce() && (weighed.decision.is_denied() || weighed.unpaid.is_some()) {
                weighed.reservations.drain(..).for_each(|reservation| windows.release(&reservation)); // K21
            }
        }
        drop(counts);
        weighed
    }

    /// What the operation has come to is known: estimates give way to it. Answers what was adjusted, for the record.
    pub(crate) fn adjust(&self, reservations: &mut [Reservation], used: &BTreeMap<String, u64>) {
        if used.is_empty() || reservations.iter().all(|one| one.measure.is_empty()) {
            return;
        }
        let now_us = self.window_us(); // before the lock (K25)
        let mut counters = self.counters();
        for reservation in reservations {
            let Some(spent) = used.get(&reservation.measure).copied() else { continue };
            counters.adjust(reservation, spent, now_us);
            reservation.added = Added::Amount(spent);
        }
    }
}

impl Weighed {
    /// What it reserved, for a record of another kind than an operation's.
    pub(crate) fn describe_reservations(&self, details: Object) -> Object {
        if self.reservations.is_empty() {
            return details;
        }
        details.raw("reserved", &write_reservations(&self.reservations))
    }

    /// What it came to, with everything given back that it reserved (K241).
    pub(crate) fn given_back(self, kernel: &Kernel) -> Rehearsed {
        kernel.release(&self.reservations);
        Rehearsed {
            rules: self.decision.determining.iter().map(|rule| rule.id.clone()).collect(),
            effect: self.decision.effect,
            paid: self.unpaid.is_none(),
            counters: self.counters,
        }
    }

    /// Adds one counter's share and remembers a cap that does not hold it (K102).
    fn reserve(&mut self, windows: &mut Counters, one: &Meeting<'_>, now_us: u64) -> u64 {
        let Some(added) = one.added else { return windows.count(&one.key, one.window_us, now_us) };
        let (count, reservation) =
            windows.reserve(one.key.clone(), one.window_us, now_us, added, one.measure);
        self.reservations.push(reservation);
        if let (true, Some(cap)) = (one.is_over(count), one.cap)
            && self.unpaid.is_none()
        {
            self.unpaid = Some(Unpaid::Spent { name: one.name.to_owned(), count, cap });
        }
        count
    }

    /// K176: the least that is left of any budget of time, in each counter of time.
    fn allow(
        &mut self,
        windows: &mut Counters,
        meetings: &mut [Meeting<'_>],
        asked: &Asked<'_>,
        now_us: u64,
    ) {
        for measure in [TIME_MS, CPU_MS] {
            let timed = || |one: &&mut Meeting<'_>| one.measure == measure && one.added.is_some();
            let allowance = self.allowance.of(measure);
            for one in meetings.iter_mut().filter(timed()) {
                let Some(cap) = one.cap else { continue };
                let left = cap.saturating_sub(windows.count(&one.key, one.window_us, now_us));
                *allowance = Some(allowance.unwrap_or_else(|| limit(asked, measure)).min(left));
            }
            let Some(allowance_ms) = *allowance else { continue };
            meetings.iter_mut().filter(timed()).for_each(|one| one.added = Some(Added::Amount(allowance_ms)));
        }
    }

    /// What the rules that let it through allow to be spent by them.
    fn spend(&mut self, windows: &mut Counters, asked: &Asked<'_>, now_us: u64) {
        let budgets: Vec<Budget> = self
            .decision
            .obligations()
            .iter()
            .filter_map(|one| if let Obligation::Budget(budget) = one { Some(budget.clone()) } else { None })
            .collect();
        for budget in budgets {
            let name = counter_of(&budget);
            let one = Meeting {
                name: &name,
                key: CounterKey { name: name.clone(), of: Some(asked.subject.uid().to_string()) },
                window_us: budget.window_us,
                added: Some(Added::Amount(amount(asked, &budget.measure))),
                measure: if budget.measure == CALLS { "" } else { &budget.measure },
                cap: Some(budget.cap),
            };
            let mut one = [one];
            if asked.action.name == RUN {
                self.allow(windows, &mut one, asked, now_us);
            }
            for one in &one {
                self.reserve(windows, one, now_us);
            }
        }
    }
}

/// The counter of a rule's own budget; no declared counter has such a name.
fn counter_of(budget: &Budget) -> String {
    format!("{}/{}", budget.rule, budget.measure)
}

/// Reservations as they stand in a record (K103): `[name, of, window, amount or "value", measure]` each.
pub(crate) fn write_reservations(reservations: &[Reservation]) -> String {
    let mut text = vec![b'['];
    for (at, one) in reservations.iter().enumerate() {
        if at > 0 {
            text.push(b',');
        }
        text.push(b'[');
        write_json_string(&one.key.name, &mut text);
        text.push(b',');
        match &one.key.of {
            Some(of) => write_json_string(of, &mut text),
            None => text.extend_from_slice(b"null"),
        }
        let added = match one.added {
            Added::Amount(amount) => amount.to_string(),
            Added::Value(value) => format!("\"{value:016x}\""),
        };
        text.extend_from_slice(format!(",{},{added},", one.window_us).as_bytes());
        write_json_string(&one.measure, &mut text);
        text.push(b']');
    }
    text.push(b']');
    String::from_utf8(text).unwrap_or_else(|_| "[]".to_owned())
}

/// One row of [`write_reservations`], not placed in any window yet.
fn read_reservation(row: &Json) -> Option<Reservation> {
    let key =
        CounterKey { name: row.get(0)?.as_str()?.to_owned(), of: row.get(1)?.as_str().map(str::to_owned) };
    let added = match row.get(3)? {
        Json::String(value) => Added::Value(u64::from_str_radix(value, 16).ok()?),
        amount => Added::Amount(amount.as_u64()?),
    };
    Some(Reservation::unplaced(key, row.get(2)?.as_u64()?, added, row.get(4)?.as_str()?))
}

/// Reserves again what a record says (K103), as of `at_us`.
pub(crate) fn reserve_again(counters: &mut Counters, written: &Json, at_us: u64) -> Vec<Reservation> {
    let rows = written.as_array().into_iter().flatten().filter_map(read_reservation);
    rows.map(|one| counters.reserve(one.key, one.window_us, at_us, one.added, &one.measure).1).collect()
}

/// Reservations that a snapshot names and its rows count, with the buckets they stand in.
pub(crate) fn reserved_at(written: &Json, buckets: &Json) -> Option<Vec<Reservation>> {
    let (rows, buckets) = (written.as_array()?, buckets.as_array()?);
    rows.iter().zip(buckets).map(|(row, at)| Some(read_reservation(row)?.in_bucket(at.as_u64()?))).collect()
}
