//! Reading the trail again at the opening: what is unknown, what was counted, what the projections miss.
//!
//! Why: the log is the truth. After kill -9 the rest is derived from it again.
//! Cost: one pass over all records; about 5 µs each.
//!
//! Invariants
//! - K37 an external operation with an intent and neither outcome nor resolution is unknown, and stays reserved.
//! - K38 counts after a restart are what they would have been without it, as far as the windows reach.

use std::collections::HashMap;

use serde_json::Value as Json;
use symbi_audit::{Reader, Record};
use symbi_crypto::Provider;
use symbi_policy::{CounterSpec, Per};
use symbi_store::{Projection, Store, StoreError};
use symbi_types::{AgentId, OperationId};

use crate::kernel::{KernelError, unseal};
use crate::keys::Keys;
use crate::window::{CounterKey, Counters, Reservation};

/// An operation of which nobody knows whether it happened.
#[derive(Clone, Debug)]
pub struct Unknown {
    /// The operation.
    pub operation: OperationId,
    /// Its intent's record.
    pub seq: u64,
    /// What was to be done.
    pub action: String,
    /// The agent it is filed under.
    pub agent: Option<AgentId>,
    /// On whose behalf.
    pub principal: String,
    /// To what.
    pub resource: String,
    /// When, microseconds since the epoch.
    pub at_us: u64,
    pub(crate) reservations: Vec<Reservation>,
}

/// What the opening gathered.
#[derive(Default)]
pub(crate) struct Recovery {
    pub(crate) unknown: HashMap<OperationId, Unknown>,
    pub(crate) counters: Counters,
    /// How far the wall clock was set forwards, in all.
    pub(crate) jumped_us: u64,
    documents: Vec<(u64, Projection)>,
    /// Of this opening: what any sealed, each opens.
    provider: Provider,
}

impl Recovery {
    pub(crate) fn by(provider: Provider) -> Self {
        Self { provider, ..Self::default() }
    }

    /// Reads the records before `end`.
    pub(crate) fn read(
        &mut self,
        reader: &Reader,
        end: u64,
        specs: &[CounterSpec],
        keys: &Keys,
    ) -> Result<(), KernelError> {
        let unreadable = |error: &dyn std::fmt::Display| KernelError::Recovery(error.to_string());
        let mut before_us = 0;
        for record in reader.records(0) {
            let record = record?;
            if record.seq >= end {
                break;
            }
            if record.event_type == "clock.anomaly" {
                let details = serde_json::from_str(&record.details).map_err(|error| unreadable(&error))?;
                self.jump(&details, before_us);
            }
            before_us = record.timestamp_us;
            if record.event_type.starts_with("operation") {
                let details = serde_json::from_str(&record.details).map_err(|error| unreadable(&error))?;
                self.take(&record, &details, specs, keys);
            }
        }
        Ok(())
    }

    /// A clock that was set forwards. The log's time was at least that of the record before.
    fn jump(&mut self, details: &Json, before_us: u64) {
        let number = |key: &str| details.get(key).and_then(Json::as_u64).unwrap_or(0);
        let by_us = number("wall_us").saturating_sub(number("expected_us").max(before_us));
        self.jumped_us = self.jumped_us.saturating_add(by_us);
    }

    fn take(&mut self, record: &Record, details: &Json, specs: &[CounterSpec], keys: &Keys) {
        match record.event_type.as_str() {
            "operation.intent" => {
                let reservations = self.count(record.timestamp_us, details, specs);
                let Some(operation) = record.operation() else { return };
                let text = |key: &str| details.get(key).and_then(Json::as_str).unwrap_or_default().to_owned();
                self.unknown.insert(
                    operation,
                    Unknown {
                        operation,
                        seq: record.seq,
                        action: text("action"),
                        agent: record.agent(),
                        principal: text("principal"),
                        resource: text("resource"),
                        at_us: record.timestamp_us,
                        reservations,
                    },
                );
            }
            "operation.outcome" | "operation.resolved" => {
                let Some(operation) = record.operation() else { return };
                let outcome = details.get("outcome").and_then(Json::as_str).unwrap_or_default();
                if outcome == "unknown" {
                    return; // K37: known to be unknown is unknown
                }
                let gives_back = outcome == "released"
                    || (record.event_type == "operation.resolved" && outcome == "failed");
                let ended = self.unknown.remove(&operation).filter(|_| gives_back);
                for reservation in ended.iter().flat_map(|ended| &ended.reservations) {
                    self.counters.release(reservation);
                }
            }
            "operation" => {
                self.count(record.timestamp_us, details, specs);
                let sealed = details.get("projection").and_then(Json::as_str);
                let plain = sealed.and_then(|sealed| unseal(self.provider, keys, sealed));
                if let Some(projection) =
                    plain.and_then(|plain| serde_json::from_slice::<Projection>(&plain).ok())
                {
                    self.documents.push((record.seq, projection));
                }
            }
            _ => {}
        }
    }

    /// K38.
    fn count(&mut self, at_us: u64, details: &Json, specs: &[CounterSpec]) -> Vec<Reservation> {
        let at_us = at_us.saturating_sub(self.jumped_us);
        let Some(counted) = details.get("counters").and_then(Json::as_object) else { return Vec::new() };
        let subject = details.get("subject").and_then(Json::as_str).unwrap_or_default();
        counted
            .keys()
            .filter_map(|name| {
                let spec = specs.iter().find(|spec| spec.name == *name)?;
                let principal = match spec.per {
                    Per::Principal => Some(subject.to_owned()),
                    Per::Global => None,
                };
                let key = CounterKey { name: name.clone(), principal };
                Some(self.counters.reserve(key, spec.window_us, at_us).1)
            })
            .collect()
    }

    /// Applies to the store what it has not seen.
    pub(crate) fn project(&mut self, store: &Store) -> Result<(), StoreError> {
        store.apply_many(&std::mem::take(&mut self.documents))?;
        Ok(())
    }
}
