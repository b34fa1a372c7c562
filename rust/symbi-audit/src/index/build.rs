//! Units out of a segment: every line is read once, in order.
//!
//! A line that is not a record ends the building there: what stands behind is read through by queries, which say so.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::path::Path;

use symbi_types::{LogId, OpenMode, Storage};

use super::fetch::Fetch;
use super::rows::ROWS_MAX;
use super::terms::{self, Field, Term};
use super::unit::{Draft, Header};
use crate::chain::Link;
use crate::layout::{Lines, Segment};
use crate::record::View;

/// Hashes of values that come again are kept, so many.
const MEMO_MAX: usize = 65_536;

/// Plain bytes of a unit, so that its offsets are 32 bits whatever a segment's size is.
const UNIT_BYTES_MAX: u64 = 1 << 31;

/// Hashes, kept.
#[derive(Default)]
pub(super) struct Memo {
    known: HashMap<(Field, String), Term>,
}

impl Memo {
    fn term(&mut self, field: Field, value: &str) -> Term {
        if matches!(field, Field::Event | Field::Operation | Field::Run | Field::DecisionId) {
            return terms::term(field, value); // hardly ever twice
        }
        if let Some(term) = self.known.get(&(field, value.to_owned())) {
            return *term;
        }
        let term = terms::term(field, value);
        if self.known.len() >= MEMO_MAX {
            self.known.clear();
        }
        self.known.insert((field, value.to_owned()), term);
        term
    }
}

/// One unit while it grows.
pub(super) struct Growing {
    pub(super) header: Header,
    draft: Draft,
    types: BTreeSet<String>,
}

/// Where units are put.
pub(crate) struct Place<'a> {
    pub(crate) storage: &'a dyn Storage,
    pub(crate) trail: &'a Path,
    pub(crate) index: &'a Path,
    pub(crate) log_id: LogId,
}

/// What is to be built.
pub(crate) struct Work {
    pub(crate) segment: Segment,
    /// The segment before it; none before the first.
    pub(crate) behind: Option<u64>,
    /// From this record on.
    pub(crate) from: u64,
    /// Nothing more comes into the segment.
    pub(crate) closed: bool,
}

/// A unit's file.
pub(crate) fn name(first: u64) -> String {
    format!("{first:012}.unit")
}

impl Place<'_> {
    /// Makes the units of a segment. Answers the record behind the last that is in them.
    pub(crate) fn build(&self, work: &Work) -> io::Result<u64> {
        let (segment, from, closed) = (&work.segment, work.from, work.closed);
        let mut lines = Lines::open(self.storage, self.trail, segment)?;
        let mut memo = Memo::default();
        let mut growing: Option<Growing> = None;
        let mut before = self.link_before(work.behind)?;
        let (mut seq, mut start) = (segment.first, 0);
        while let Some(line) = lines.next_line()? {
            let end = start + line.len() as u64;
            if seq < from {
                before = crate::chain::split(line).map_or(before, |(_, link, _)| link);
            } else {
                let Ok(view) = View::parse(line) else { break };
                if view.seq != seq {
                    break;
                }
                let unit = growing.get_or_insert_with(|| self.begin(segment.first, &view, start, before));
                before = view.chain;
                unit.take(&view, end, &mut memo);
                if unit.draft.offsets.len() >= ROWS_MAX || end - unit.header.start > UNIT_BYTES_MAX {
                    self.finish(growing.take(), true)?;
                }
            }
            (seq, start) = (seq + 1, end);
        }
        self.finish(growing, closed)?;
        Ok(seq.max(from))
    }

    /// The last link of the segment before.
    pub(super) fn link_before(&self, behind: Option<u64>) -> io::Result<Link> {
        match behind {
            Some(segment) => Fetch::open(self.storage, self.trail, segment)?.link_last(),
            None => Ok([0; 32]),
        }
    }

    pub(super) fn begin(&self, segment: u64, view: &View<'_>, start: u64, link_before: Link) -> Growing {
        let header = Header {
            log_id: self.log_id,
            first: view.seq,
            rows: 0,
            complete: false,
            segment,
            start,
            end: start,
            first_us: view.timestamp_us,
            last_us: view.timestamp_us,
            link_before,
            link_last: link_before,
        };
        Growing { header, draft: Draft::default(), types: BTreeSet::new() }
    }

    fn finish(&self, growing: Option<Growing>, complete: bool) -> io::Result<()> {
        let Some(growing) = growing else { return Ok(()) };
        let first = growing.header.first;
        let bytes = growing.encode(complete)?;
        let waiting = self.index.join(format!("{}.tmp", name(first)));
        let file = self.storage.open(&waiting, OpenMode::Create)?;
        file.set_size(0)?;
        file.write_at(0, &bytes)?;
        file.sync_data()?; // a unit whose blocks came late would be damaged, and made again
        self.storage.rename(&waiting, &self.index.join(name(first)))
    }
}

impl Growing {
    /// The bytes of the unit's file.
    pub(super) fn encode(self, complete: bool) -> io::Result<Vec<u8>> {
        let Self { mut header, mut draft, types } = self;
        header.complete = complete;
        draft.types = types.into_iter().collect();
        draft.encode(&header)
    }

    pub(super) fn take(&mut self, view: &View<'_>, end: u64, memo: &mut Memo) {
        let row = self.draft.offsets.len() as u16; // below `ROWS_MAX`
        self.draft.offsets.push((self.header.end - self.header.start) as u32); // below `UNIT_BYTES_MAX`
        self.draft.times_us.push(view.timestamp_us);
        let terms = &mut self.draft.terms;
        terms::each(view, |field, value| terms.push((memo.term(field, value), row)));
        if !self.types.contains(view.event_type.as_ref()) {
            self.types.insert(view.event_type.clone().into_owned());
        }
        self.header.rows += 1;
        self.header.end = end;
        self.header.last_us = view.timestamp_us;
        self.header.link_last = view.chain;
    }
}
