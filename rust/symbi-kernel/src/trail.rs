//! What operators do to the trail itself: another key, a key that others had, a hold, pruning.
//!
//! Not here: how the log does it (`symbi-audit`); key files, which the caller keeps (`symbi/audit/keys.py`).
//!
//! Invariants
//! - K190 each is decided like any operation, and recorded with who asked; what refuses it leaves the trail as it is.
//! - K191 nothing is pruned that this kernel would read again: records from its last snapshot on, documents that the store has
//!   not, and whatever is younger than the longest window a counter can have.

use std::time::Duration;

use symbi_audit::{LogError, Pruned};
use symbi_crypto::{KeyId, SigningKey};
use symbi_policy::{Entity, WINDOW_S_MAX, vocabulary};

use crate::Principal;
use crate::agents::AgentError;
use crate::kernel::{Kernel, lock};
use crate::operators::OperatorError;

const RECORD_TIMEOUT: Duration = Duration::from_secs(10);

/// No younger record is pruned: a counter may reach so far back.
const YOUNG_US: u64 = WINDOW_S_MAX.unsigned_abs() * 1_000_000;

impl Kernel {
    /// From the next record on another key signs the trail; both sign the record of it. The caller keeps the seed, durably,
    /// before. Certificates of agents keep the key of this opening.
    ///
    /// # Errors
    /// Refused, or the trail cannot be written: the old key stays.
    pub fn rotate_trail_key(&self, by: Principal, seed: &[u8; 32]) -> Result<(u64, KeyId), OperatorError> {
        let mut options = lock(&self.log_options);
        let new = SigningKey::from_seed(self.provider(), seed);
        self.allow(by, "key.change", named("Key", "trail")?, |details| {
            details.string("change", "rotate").string("new", &new.key_id().to_string())
        })?;
        let receipt = self.log().rotate(&new).map_err(failed)?;
        self.log().wait_durable(receipt.seq, RECORD_TIMEOUT).map_err(failed)?;
        let id = new.key_id();
        options.signing_key = new;
        Ok((receipt.seq, id))
    }

    /// Records that others had a key of the trail from a record on. Answers the record of it.
    ///
    /// # Errors
    /// Refused; it is the key that signs now, or none of the trail's.
    pub fn mark_key_compromised(
        &self,
        by: Principal,
        key: KeyId,
        from: u64,
        reason: &str,
    ) -> Result<u64, OperatorError> {
        self.allow(by, "key.change", named("Key", "trail")?, |details| {
            details.string("change", "compromised").string("key", &key.to_string()).number("from", from)
        })?;
        self.log().mark_compromised(key, from, reason, &by.to_string()).map_err(failed)
    }

    /// Puts a legal hold on the trail in force, or releases it. Answers the record.
    ///
    /// # Errors
    /// Refused; one is in force already, or none is.
    pub fn hold_trail(&self, by: Principal, on: bool, reason: &str) -> Result<u64, OperatorError> {
        let change = if on { "hold" } else { "release" };
        self.allow(by, "data.erase", named("Runtime", "runtime")?, |details| {
            details.string("change", change).string("of", "trail")
        })?;
        self.log().hold(on, reason, &by.to_string()).map_err(failed)
    }

    /// Removes the oldest segments of the trail, all of whose records are from before `before_us` (K191). `None` where there
    /// are none.
    ///
    /// # Errors
    /// Refused; a hold is in force; the trail cannot be written.
    pub fn prune_trail(&self, by: Principal, before_us: u64) -> Result<Option<Pruned>, OperatorError> {
        let Some((before_us, keep_from)) = self.prunable(before_us) else { return Ok(None) };
        self.allow(by, "data.erase", named("Runtime", "runtime")?, |details| {
            details.string("change", "prune").string("of", "trail").number("before_us", before_us)
        })?;
        self.log().prune(before_us, keep_from, &by.to_string()).map_err(failed)
    }

    /// Up to which time and record it may be pruned; `None` where nothing may.
    fn prunable(&self, before_us: u64) -> Option<(u64, u64)> {
        let (snapshot, documents_end) = crate::snapshot::reads_from(&self.reader().ok()?).ok()??;
        // Documents that the store has not are read from the trail, however old they are.
        let applied = self.store().applied_seq().ok()?;
        let keep_from = if applied < documents_end { snapshot.min(applied) } else { snapshot };
        Some((before_us.min(self.log().now().saturating_sub(YOUNG_US)), keep_from))
    }

    /// What is older than `age` goes by itself, as the configuration says; a hold, or a disk that fails, leaves it for later.
    pub(crate) fn prune_by_age(&self, age: Duration) {
        let age_us = u64::try_from(age.as_micros()).unwrap_or(u64::MAX);
        let Some((before_us, keep_from)) = self.prunable(self.log().now().saturating_sub(age_us)) else {
            return;
        };
        if self.log().can_prune(before_us, keep_from).unwrap_or(false) {
            // Held, or not written: the next snapshot tries again, and `verify` says what is there.
            let _ = self.log().prune(before_us, keep_from, "audit.retention_days");
        }
    }

    /// Decides an operation on the trail and records that it was allowed (K190).
    fn allow(
        &self,
        by: Principal,
        action: &str,
        resource: Entity,
        describe: impl FnOnce(crate::json::Object) -> crate::json::Object,
    ) -> Result<(), OperatorError> {
        let asked = self.ask(by, action, resource)?;
        let granted = self.decide(&asked).map_err(AgentError::from)?;
        self.record_internal(&asked, granted, describe).map_err(AgentError::from)?;
        Ok(())
    }
}

fn failed(error: LogError) -> OperatorError {
    OperatorError::Trail(error)
}

fn named(kind: &str, id: &str) -> Result<Entity, AgentError> {
    vocabulary::named(kind, id).map_err(|error| AgentError::Invalid(error.to_string()))
}
