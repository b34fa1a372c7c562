//! What a verification comes to when every line was looked at: the end, the beginning, `head`, checkpoints, the key.

use symbi_crypto::PublicKey;
use symbi_types::LogId;

use super::compromise::distrusted;
use super::walk::Walk;
use super::{FINDINGS_MAX, Level, Verification, VerifyError, VerifyOptions};
use crate::chain::hex;
use crate::head::Point;
use crate::pipeline::lock;

impl Walk<'_, '_> {
    /// Records at the end whose group has no signature yet are being written, or a crash left them: like a line without
    /// an end they are told and not judged. Not so before the end of `head`.
    fn settle(&mut self) {
        if !self.findings.is_empty() || self.settled.records == self.point.records {
            return;
        }
        if self.settled.records < self.head_records || self.range.is_some() {
            return self.finding(self.settled.records, "no signature follows");
        }
        self.tail_bytes += self.point.length.saturating_sub(self.settled.length);
        self.good = self.good.saturating_sub(self.point.records - self.settled.records);
        (self.point, self.last_us) = (self.settled, self.settled_us);
    }

    /// Records are missing at the beginning: the log must say so itself, and a checkpoint must vouch for their hashes.
    fn check_remainder(&mut self) {
        let Some(records) = self.remainder.as_ref().map(|remainder| remainder.records) else { return };
        if !self.pruning_is_recorded {
            self.finding(records, "records before it are missing, and none says that they were pruned");
        } else if self.seals.largest() < records {
            self.finding(
                records,
                "without a checkpoint nothing vouches for the hashes of the records before it",
            );
        }
    }

    fn check_head(&mut self) {
        if self.point.records < self.head_records {
            self.truncated = true;
            let reason = format!("the log ends here, `head` names {} records", self.head_records);
            return self.finding(self.point.records, reason);
        }
        for slot in std::mem::take(&mut self.slots) {
            let start = self.keys.first().map(|root| (Point::START, *root));
            let met =
                if slot.point.records == 0 { start } else { self.met.get(&slot.point.records).copied() };
            let last = slot.point.records.saturating_sub(1);
            match met {
                Some((point, _)) if Some(slot.log_id) != self.log_id || point != slot.point => {
                    self.finding(last, "`head` names another record");
                }
                Some((_, signer)) if !slot.signed_by(&signer) => {
                    self.finding(last, "the signature of `head` does not verify");
                }
                Some(_) => {}
                None => self.finding(last, "`head` names a record that does not hold"),
            }
        }
    }

    pub(super) fn conclude(mut self, options: &VerifyOptions) -> Result<Verification, VerifyError> {
        let bad = std::mem::take(&mut lock(&self.desk.state).bad);
        self.good = self.good.saturating_sub(bad.len() as u64);
        for seq in bad {
            self.finding(seq, "the signature does not verify");
        }
        self.settle();
        if self.findings.is_empty() && self.point.records == 0 {
            self.finding(0, "there are no records");
        }
        let pruned = self.remainder.as_ref().map_or(0, |remainder| remainder.records);
        if self.range.as_ref().is_some_and(|range| range.end <= pruned) {
            self.finding(pruned, "all records of the range were pruned");
        }
        if let Some(range) = self.range.as_ref().filter(|range| self.point.records < range.end) {
            let (end, wanted) = (self.point.records, range.end);
            self.truncated = true;
            self.finding(end, format!("the log ends here, the range at {wanted}"));
        }
        if self.findings.is_empty() && self.range.is_none() {
            self.check_remainder();
        }
        // `head` and checkpoints are judged only on a trail that holds: on another they would say the same again.
        if self.findings.is_empty() && self.range.is_none() {
            self.check_head();
        }
        let mut witnessed_s = None;
        if self.findings.is_empty() && self.range.is_none() {
            match self.seals.judge(self.log_id, self.point.records, &options.witnesses) {
                Ok(times) => witnessed_s = times,
                Err(fault) => {
                    self.truncated = fault.truncated;
                    self.finding(fault.seq, fault.reason);
                }
            }
        }
        let known = [self.keys.first(), self.signer.as_ref()];
        if let Some(key) =
            options.key.filter(|key| known.iter().flatten().all(|known| known.key_id() != *key))
        {
            let own = self.keys.first().map(|root| root.key_id().to_string()).unwrap_or_default();
            self.finding(0, format!("the trail's key is `{own}`, not `{key}`"));
        }
        self.findings.sort_by_key(|finding| finding.seq);
        let mut findings = self.findings.into_iter();
        if let Some(first) = findings.next() {
            return Err(VerifyError {
                seq: first.seq,
                reason: first.reason,
                truncated: self.truncated,
                others: findings.take(FINDINGS_MAX).collect(),
                good: self.good,
            });
        }
        let records =
            self.range.as_ref().map_or(self.point.records, |range| range.end.min(self.point.records));
        let complete = !options.checkpoints.is_empty() && self.range.is_none();
        Ok(Verification {
            first: self.range.as_ref().map_or(0, |range| range.start).max(pruned),
            pruned,
            distrusted: distrusted(&self.compromises, &self.turns, records),
            complete_to: if complete { self.seals.given_to() } else { 0 },
            checkpoint: self.seals.stored(),
            witnessed_s,
            records,
            head: hex(&self.point.chain),
            level: match options.key {
                _ if complete => Level::Complete,
                Some(_) => Level::Authentic,
                None => Level::Consistent,
            },
            log_id: self.log_id.unwrap_or(LogId([0; 16])),
            keys: self.keys.iter().map(PublicKey::key_id).collect(),
            last_us: self.last_us,
            tail_bytes: self.tail_bytes,
        })
    }
}
