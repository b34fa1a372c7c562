//! The reading side of a verification: every line in order, its form, number, time, link, and whose turn it was.
//!
//! Not here: the signatures themselves (`desk`), checkpoints (`seals`), what is asked for and answered (`verify`).

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

use symbi_crypto::{KeyId, PublicKey};
use symbi_types::{LogId, Storage};

use super::compromise::Compromise;
use super::desk::{Claim, Desk};
use super::seals::Seals;
use super::{FINDINGS_MAX, Finding, GROUP, Seen, VerifyOptions, Visit, event_type};
use crate::chain::{self, Link, hex};
use crate::event::RECORD_BYTES_MAX;
use crate::glance::glance;
use crate::head::{Point, Slot};
use crate::layout::{self, Lines};
use crate::pipeline::BUFFER_BYTES_MAX;
use crate::record::View;
use crate::recover::{Created, rotated};
use crate::remainder::Remainder;

/// Bytes of records that wait for their group's signature. A log writes groups of no more than its buffer holds.
const WAITING_BYTES_MAX: usize = 64 << 20;
const _: () = assert!(BUFFER_BYTES_MAX + RECORD_BYTES_MAX < WAITING_BYTES_MAX);

/// Shows what stands in a line: at a glance, and strictly where that shows nothing (GL1).
fn show(line: &[u8], seq: Option<u64>, visit: &mut dyn FnMut(&Seen<'_>)) -> Result<(), String> {
    let view;
    let quick = chain::split(line).and_then(|(body, ..)| glance(line, body));
    let seen = match quick {
        Some(seen) => seen,
        None => {
            view = View::parse(line).map_err(|error| error.to_string())?;
            view.seen()
        }
    };
    if seq.is_some_and(|seq| seen.seq != seq) {
        return Err(format!("record {} stands in its place", seen.seq));
    }
    visit(&seen);
    Ok(())
}

/// The reading side.
pub(super) struct Walk<'a, 'v> {
    pub(super) desk: &'a Desk,
    pub(super) visit: Option<Visit<'v>>,
    pub(super) shown: Option<fn(&str) -> bool>,
    /// Lines that are to be shown once their group is signed; none where there are too many.
    waiting: Option<Vec<u8>>,
    pub(super) claims: Vec<Claim>,
    pub(super) slots: Vec<Slot>,
    /// Points that `head` names, met on the way.
    pub(super) met: BTreeMap<u64, (Point, PublicKey)>,
    pub(super) head_records: u64,
    pub(super) log_id: Option<LogId>,
    pub(super) keys: Vec<PublicKey>,
    /// The record after which a key signs (of record 0's: 0), and its fingerprint.
    pub(super) turns: Vec<(u64, KeyId)>,
    pub(super) key_id: String,
    pub(super) signer: Option<PublicKey>,
    pub(super) point: Point,
    /// Behind the last record that has a signature: what stands after it is vouched for by the next one.
    pub(super) settled: Point,
    pub(super) settled_us: u64,
    /// The first record that has no signature yet; `None` after a flaw that leaves it unknown.
    pub(super) group: Option<u64>,
    pub(super) last_us: u64,
    pub(super) tail_bytes: u64,
    pub(super) good: u64,
    pub(super) findings: Vec<Finding>,
    pub(super) truncated: bool,
    pub(super) seals: Seals,
    /// What is kept of records that were pruned.
    pub(super) remainder: Option<Remainder>,
    /// Whether a record of the log says that they were, as the remainder has it (RM1).
    pub(super) pruning_is_recorded: bool,
    /// Keys of which a record says that others had them.
    pub(super) compromises: Vec<Compromise>,
    /// Records below this are taken from a root, or lie before the range.
    pub(super) skipped_to: u64,
    /// Those below this are taken from a root.
    vouched_to: u64,
    pub(super) range: Option<Range<u64>>,
}

impl<'a, 'v> Walk<'a, 'v> {
    pub(super) fn new(
        desk: &'a Desk,
        options: &VerifyOptions,
        vouched_to: u64,
        visit: Option<Visit<'v>>,
    ) -> Self {
        let first = options.range.as_ref().map_or(0, |range| range.start);
        Self {
            seals: Seals::default(),
            remainder: None,
            pruning_is_recorded: false,
            compromises: Vec::new(),
            skipped_to: first.max(vouched_to),
            vouched_to,
            range: options.range.clone(),
            desk,
            visit,
            shown: options.shown,
            waiting: Some(Vec::new()),
            claims: Vec::with_capacity(GROUP),
            slots: Vec::new(),
            met: BTreeMap::new(),
            head_records: 0,
            log_id: None,
            keys: Vec::new(),
            turns: Vec::new(),
            key_id: String::new(),
            signer: None,
            point: Point::START,
            settled: Point::START,
            settled_us: 0,
            group: Some(0),
            last_us: 0,
            tail_bytes: 0,
            good: 0,
            findings: Vec::new(),
            truncated: false,
        }
    }

    pub(super) fn expect(&mut self, slots: &[Slot]) {
        self.slots = slots.to_vec();
        self.head_records = slots.iter().map(|slot| slot.point.records).max().unwrap_or(0);
    }

    pub(super) fn finding(&mut self, seq: u64, reason: impl Into<String>) {
        if self.findings.len() <= FINDINGS_MAX {
            self.findings.push(Finding { seq, reason: reason.into() });
        }
    }

    /// Where records were pruned: begins after them, with the keys and the hashes that are kept of them.
    pub(super) fn begin(&mut self, storage: &dyn Storage, directory: &Path) {
        let remainder = match Remainder::read(storage, directory) {
            Ok(None) => return,
            Ok(Some(remainder)) => remainder,
            Err(error) => return self.finding(0, error.to_string()),
        };
        self.log_id = Some(remainder.log_id);
        self.turns.clone_from(&remainder.turns);
        self.keys.clone_from(&remainder.keys);
        self.key_id = remainder.keys.last().map(|key| key.key_id().to_string()).unwrap_or_default();
        self.signer = remainder.keys.last().copied();
        self.point = remainder.point();
        (self.settled, self.group) = (self.point, Some(remainder.records));
        if self.range.is_none()
            && let Err(reason) = self.seals.begin(storage, directory, &remainder, &self.keys)
        {
            self.finding(0, reason);
        }
        for (_, line) in &remainder.lines {
            if let Some(found) = View::parse(line).ok().and_then(|view| Compromise::of(&view)) {
                self.compromises.push(found);
            }
        }
        self.remainder = Some(remainder);
    }

    pub(super) fn segments(&mut self, storage: &dyn Storage, directory: &Path) {
        // What lies before the remainder's end a crash while pruning left there: it is to be removed, and vouched for by no one.
        let mut after = self.remainder.as_ref().and_then(|remainder| remainder.records.checked_sub(1));
        // The list is read again at its end: a live writer may have begun another segment meanwhile.
        loop {
            let segments = match layout::segments(storage, directory) {
                Ok(segments) => segments,
                Err(error) => return self.finding(self.point.records, error.to_string()),
            };
            let next = segments.into_iter().find(|segment| after.is_none_or(|after| segment.first > after));
            let Some(segment) = next else { return };
            after = Some(segment.first);
            if segment.first != self.point.records {
                self.finding(
                    self.point.records,
                    format!("the next segment begins at record {}", segment.first),
                );
                self.point.records = segment.first;
            }
            self.point.segment = segment.first;
            self.point.length = 0;
            if self.findings.len() > FINDINGS_MAX || self.is_past() {
                return;
            }
            if let Err(error) = self.segment(storage, directory, &segment) {
                self.finding(self.point.records, format!("its segment: {error}"));
            }
        }
    }

    fn segment(
        &mut self,
        storage: &dyn Storage,
        directory: &Path,
        segment: &layout::Segment,
    ) -> std::io::Result<()> {
        let mut lines = match Lines::open(storage, directory, segment) {
            // Sealed since it was listed.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && !segment.sealed => {
                let sealed = layout::Segment { first: segment.first, sealed: true };
                Lines::open(storage, directory, &sealed)?
            }
            other => other?,
        };
        while let Some(line) = lines.next_line()? {
            if self.findings.len() > FINDINGS_MAX || self.is_past() {
                return Ok(());
            }
            let held = if self.point.records < self.skipped_to { self.pass(line) } else { self.line(line) };
            if let Err(reason) = held {
                self.finding(self.point.records, reason);
                self.resume(line);
            }
        }
        if !lines.torn().is_empty() {
            self.tail_bytes = lines.torn().len() as u64;
            let following = layout::segments(storage, directory).unwrap_or_default();
            let last = following.iter().all(|other| other.first <= segment.first);
            if !last || self.point.records < self.head_records || lines.sealed {
                self.finding(self.point.records, "its line has no end");
            }
        }
        Ok(())
    }

    /// Behind the range, and behind the signature of its last group.
    fn is_past(&self) -> bool {
        let settled = self.settled.records == self.point.records;
        settled && self.range.as_ref().is_some_and(|range| self.point.records >= range.end)
    }

    /// A record that a checkpoint vouches for, or that stands before the range: what the next ones need is taken
    /// from it.
    fn pass(&mut self, line: &[u8]) -> Result<(), String> {
        let seq = self.point.records;
        let (body, link, signature) =
            chain::split(line).ok_or("the line does not end in a chain and a signature")?;
        let event_type = event_type(body);
        let (own, rotates) = (event_type.starts_with("log."), event_type == "key.rotated");
        self.signer = self.keys.last().copied();
        if seq == 0 || rotates || own || seq + 1 == self.skipped_to {
            let view = View::parse(line).map_err(|error| error.to_string())?;
            if seq == 0 {
                let created = Created::of(&view).ok_or("record 0 is not a complete `log.created`")?;
                self.log_id = Some(created.log_id);
                self.turn(created.root);
                self.signer = Some(created.root);
            } else if view.event_type == "key.rotated" {
                let (log_id, key) = self.log_id.zip(self.signer).ok_or("record 0 is missing")?;
                // Keys must come from the root by signatures, though nothing else here is checked.
                if chain::link(log_id, seq, &self.point.chain, body) != link {
                    return Err("the chain does not match the body and the records before it".into());
                }
                if !view.signed_by(&key) {
                    return Err("the signature does not verify".into());
                }
                let new = rotated(&view, log_id, &key).ok_or("the new key did not sign the rotation")?;
                self.turn(new);
            }
            self.note(&view);
            self.last_us = view.timestamp_us;
        }
        if let Some(visit) = &mut self.visit
            && seq < self.vouched_to // what only stands before a range is not looked at
            && self.shown.is_none_or(|shown| shown(event_type))
        {
            show(line, Some(seq), visit)?;
        }
        self.seals.add(body, &link);
        self.reach(seq + 1, link, line.len(), signature.is_some());
        Ok(())
    }

    fn line(&mut self, line: &[u8]) -> Result<(), String> {
        let view = View::parse(line).map_err(|error| error.to_string())?;
        let seq = self.point.records;
        if view.seq > seq {
            return Err(format!("it is missing: the next record is {}", view.seq));
        }
        if view.seq < seq {
            return Err(format!("record {} stands in its place", view.seq));
        }
        if (view.event_type == "log.created") != (seq == 0) {
            return Err("`log.created` is record 0, and only that".into());
        }
        if seq == 0 {
            let created = Created::of(&view).ok_or("record 0 is not a complete `log.created`")?;
            self.log_id = Some(created.log_id);
            self.turn(created.root);
        }
        let log_id = self.log_id.ok_or("record 0 is missing, so nothing says which log this is")?;
        let key = *self.keys.last().ok_or("record 0 is missing, so nothing says who signs")?;
        if view.key != self.key_id {
            return Err("not signed with the key whose turn it is".into());
        }
        if view.timestamp_us < self.last_us {
            return Err("its time is before the last record's".into());
        }
        if chain::link(log_id, seq, &self.point.chain, view.body) != view.chain {
            return Err("the chain does not match the body and the records before it".into());
        }
        self.signer = Some(key);
        if let Some((message, signature)) = self.group.and_then(|first| view.claim(first)) {
            self.claim(Claim { seq, key, message, signature });
        }
        if view.event_type == "key.rotated" {
            let new = rotated(&view, log_id, &key).ok_or("the new key did not sign the rotation")?;
            self.turn(new);
        }
        self.note(&view);
        self.last_us = view.timestamp_us;
        self.good += 1;
        self.seals.add(view.body, &view.chain);
        self.reach(seq + 1, view.chain, line.len(), view.signature.is_some());
        self.look(&view)
    }

    /// Shows a record once its group is signed: whoever can write the directory can append records without a signature, and
    /// those are taken back at the end (`settle`).
    fn look(&mut self, view: &View<'_>) -> Result<(), String> {
        let Some(visit) = &mut self.visit else { return Ok(()) };
        let in_range = self.range.as_ref().is_none_or(|range| view.seq < range.end);
        let takes = in_range && self.shown.is_none_or(|shown| shown(&view.event_type));
        if view.signature.is_none() {
            if let Some(waiting) = self.waiting.as_mut().filter(|_| takes) {
                waiting.extend_from_slice(view.line);
                if waiting.len() > WAITING_BYTES_MAX {
                    self.waiting = None;
                }
            }
            return Ok(());
        }
        let Some(waiting) = &mut self.waiting else {
            return Err("its group is longer than any that a log writes".into());
        };
        for line in waiting.split_inclusive(|byte| *byte == b'\n') {
            show(line, None, visit)?;
        }
        waiting.clear();
        if takes {
            visit(&view.seen());
        }
        Ok(())
    }

    /// What the log says of itself.
    fn note(&mut self, view: &View<'_>) {
        if let Some(found) = Compromise::of(view) {
            self.compromises.push(found);
        }
        if let Some(remainder) = self.remainder.as_ref().filter(|_| view.event_type == "log.pruned") {
            let same = view.detail("records") == Some(&remainder.records.to_string())
                && view.detail_text("chain").is_some_and(|chain| chain == hex(&remainder.chain));
            self.pruning_is_recorded |= same;
        }
    }

    fn turn(&mut self, key: PublicKey) {
        self.key_id = key.key_id().to_string();
        self.turns.push((self.point.records, key.key_id()));
        self.keys.push(key);
    }

    fn reach(&mut self, records: u64, chain: Link, bytes: usize, is_signed: bool) {
        self.point.records = records;
        self.point.chain = chain;
        self.point.length += bytes as u64;
        if is_signed {
            (self.settled, self.settled_us, self.group) = (self.point, self.last_us, Some(records));
        }
        if let Some(signer) =
            self.signer.filter(|_| self.slots.iter().any(|slot| slot.point.records == records))
        {
            self.met.insert(records, (self.point, signer));
        }
        self.seals.meet(records, &self.signer, &self.keys);
    }

    /// After a bad line: go on from what it claims, so that one flaw is not taken for many.
    fn resume(&mut self, line: &[u8]) {
        let claimed = View::parse(line).ok();
        let number = claimed.as_ref().map_or(self.point.records, |view| view.seq);
        self.group = match chain::split(line) {
            Some((_, _, Some(_))) => Some(number.saturating_add(1)),
            Some((_, _, None)) => self.group,
            None => None,
        };
        if number < self.point.records {
            self.point.length += line.len() as u64;
            return; // one too many: the next line may be the right one
        }
        if let Some(view) = &claimed {
            self.last_us = self.last_us.max(view.timestamp_us);
            if view.event_type == "key.rotated" {
                let new = view.detail_text("new_key").and_then(|text| chain::unbase64(text.as_bytes()));
                if let Some(new) = new.filter(|_| view.key == self.key_id) {
                    self.turn(PublicKey(new));
                }
            }
        }
        let link = claimed.map(|view| view.chain).or_else(|| chain::split(line).map(|(_, link, _)| link));
        let records = number.saturating_add(1);
        self.point = Point {
            records,
            chain: link.unwrap_or(self.point.chain),
            length: self.point.length + line.len() as u64,
            ..self.point
        };
        self.settled = self.point; // of a trail that has a flaw nothing more is said
    }

    fn claim(&mut self, claim: Claim) {
        self.claims.push(claim);
        if self.claims.len() >= GROUP {
            self.flush();
        }
    }

    pub(super) fn flush(&mut self) {
        if !self.claims.is_empty() {
            self.desk.put(std::mem::replace(&mut self.claims, Vec::with_capacity(GROUP)));
        }
    }
}
