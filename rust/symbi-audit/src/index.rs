//! The index: where the records are that a query asks for, so that one agent's day in ten million is found in milliseconds.
//!
//! A projection in files of its own, `index/` in the trail's directory: a unit for each 65,536 records (`unit.rs`), which
//! holds hashes of what records are found by (`terms.rs`) and where their lines stand. Made by readers, behind the log and
//! never on its writer's path; what it does not cover is read through.
//! Why not in SQLite: ADR-0221. Not here: what a query is (`query.rs`), verifying.
//!
//! Invariants
//! - IX1 an answer is a record of the log, read from there: it follows the link of the record before it, has its number,
//!   and is what was asked for. What the index says only chooses where to look.
//! - IX2 units whose links lead to one another count as long as the link of the last one's last record is the log's: of
//!   another log, or of one that was cut back and grew differently, they are passed over, and made again.
//! - IX3 a damaged, missing or unreadable unit costs time, no answer: its records are read through.
//! - IX4 nothing here takes the writer's lock; who builds holds a lock of the index, and others read through meanwhile.

mod build;
mod check;
mod fetch;
mod rows;
mod terms;
mod unit;

use std::collections::{HashMap, HashSet, VecDeque};
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use symbi_types::{LogId, OpenMode, Storage};

use crate::head::{self, HEAD};
use crate::layout::{self, Segment};
use crate::reader::LinePlace;
use crate::{LogError, Query, Reader, Record, chain};
use build::{Place, Work, name};
use fetch::Fetch;
use rows::Rows;
use unit::{Header, Unit};

/// The directory in the trail's.
const INDEX: &str = "index";
/// Held by who builds.
const LOCK: &str = "lock";
/// So many records are read through in a few milliseconds; from so many on, units are made.
const BEHIND_MAX: u64 = 8_192;

/// What a query found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// The answers, in the order that was asked for.
    pub records: Vec<Record>,
    /// There are more behind the last of them.
    pub more: bool,
    /// Units that were passed over: damaged, or not of this log.
    pub passed_over: usize,
}

/// How far the index is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Indexed {
    /// Records that are in it.
    pub records: u64,
    /// Segments of the log.
    pub segments: usize,
    /// Segments that still have records to take in; 0 also where somebody else is at it.
    pub left: usize,
    /// Somebody else builds.
    pub busy: bool,
}

/// The index held against the log, unit by unit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checked {
    /// Records that are in units which say what the log says.
    pub records: u64,
    /// First records of units that say something else, or nothing that can be read.
    pub wrong: Vec<u64>,
    /// Records of the log that no unit has: queries read them through.
    pub missing: u64,
    /// Somebody builds; nothing was looked at.
    pub busy: bool,
}

/// A trail's index, for reading and for building.
pub struct Index {
    reader: Reader,
    storage: Arc<dyn Storage>,
    trail: PathBuf,
    directory: PathBuf,
    log_id: LogId,
    /// Headers of complete units: they do not change.
    headers: Mutex<HashMap<u64, Header>>,
}

/// Records that follow each other, and the unit that they are in.
struct Span {
    from: u64,
    to: u64,
    unit: Option<Header>,
    /// Of one without a unit: where it begins, as the unit before it says.
    place: Option<LinePlace>,
}

impl Index {
    /// The index of a trail; there need not be one yet.
    ///
    /// # Errors
    /// As [`Reader::summary`].
    pub fn open(reader: &Reader) -> Result<Self, LogError> {
        let log_id = reader.summary()?.log_id;
        let (storage, trail) = reader.parts();
        Ok(Self {
            reader: reader.clone(),
            storage: Arc::clone(storage),
            trail: trail.to_path_buf(),
            directory: trail.join(INDEX),
            log_id,
            headers: Mutex::default(),
        })
    }

    fn unit(&self, first: u64) -> io::Result<Unit> {
        let unit = Unit::open(self.storage.open(&self.directory.join(name(first)), OpenMode::Read)?)?;
        let ours = unit.header.first == first && unit.header.log_id == self.log_id;
        ours.then_some(unit)
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "a unit of another log"))
    }

    fn header(&self, first: u64) -> io::Result<Header> {
        let mut headers = self.headers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(header) = headers.get(&first) {
            return Ok(header.clone());
        }
        let header = self.unit(first)?.header;
        if header.complete {
            headers.insert(first, header.clone());
        }
        Ok(header)
    }

    /// The first records of the units that lie there, in order; none where there is no index.
    fn names(&self) -> Vec<u64> {
        let names = self.storage.list(&self.directory).unwrap_or_default();
        let mut found: Vec<u64> = names
            .iter()
            .filter_map(|name| name.strip_suffix(".unit").filter(|digits| digits.len() == 12)?.parse().ok())
            .collect();
        found.sort_unstable();
        found
    }

    /// All records from `begin` on, in order: units (IX2), and between and behind them what none covers.
    fn spans(&self, begin: u64, passed_over: &mut usize) -> Vec<Span> {
        let mut units: Vec<Header> = Vec::new();
        let mut fetch = None;
        for first in self.names() {
            let end = units.last().map_or(begin, Header::end_seq);
            match self.header(first) {
                Ok(header) if header.first < end => {}
                Ok(header) => {
                    let follows =
                        |last: &Header| last.end_seq() == first && last.link_last == header.link_before;
                    if !units.last().is_none_or(follows) {
                        *passed_over += self.drop_strangers(&mut units, &mut fetch);
                    }
                    units.push(header);
                }
                Err(_) => *passed_over += 1,
            }
        }
        *passed_over += self.drop_strangers(&mut units, &mut fetch);
        let (mut spans, mut at, mut place) = (Vec::new(), begin, None);
        for unit in units {
            if at < unit.first {
                spans.push(Span { from: at, to: unit.first, unit: None, place });
            }
            at = unit.end_seq();
            place = Some(LinePlace { segment: unit.segment, offset: unit.end, seq: at });
            spans.push(Span { from: unit.first, to: at, unit: Some(unit), place: None });
        }
        spans.push(Span { from: at, to: u64::MAX, unit: None, place });
        spans
    }

    /// Takes away the last units as long as they are not of the log (IX2); answers how many.
    fn drop_strangers(&self, units: &mut Vec<Header>, fetch: &mut Option<Fetch>) -> usize {
        let before = units.len();
        while units.last().is_some_and(|last| !self.is_of_log(last, fetch)) {
            units.pop();
        }
        before - units.len()
    }

    fn begin(&self) -> Result<u64, LogError> {
        Ok(layout::segments(&*self.storage, &self.trail)?.first().map_or(0, |segment| segment.first))
    }

    /// The answers to a query (IX1). What the index does not cover is read through.
    ///
    /// # Errors
    /// [`LogError::ChainBroken`] where a record is not what the one before it leads to, [`LogError::Io`].
    pub fn query(&self, query: &Query) -> Result<Found, LogError> {
        let wanted = query.limit.map_or(usize::MAX, |limit| limit.saturating_add(1));
        let mut found = Found::default();
        let mut spans = self.spans(self.begin()?, &mut found.passed_over);
        if query.newest_first {
            spans.reverse();
        }
        let mut fetch = None;
        for span in spans {
            let (from, to) = (span.from.max(query.first_seq()), span.to.min(query.end_seq()));
            let room = wanted - found.records.len();
            if from >= to || room == 0 {
                continue;
            }
            let by_unit = match span.unit.filter(|_| query != &Query::default()) {
                Some(header) if !is_in_time(&header, query) => continue,
                Some(header) => {
                    let answers = self.answers(&header, query, (from, to), room, &mut fetch)?;
                    found.passed_over += usize::from(answers.is_none());
                    answers
                }
                None => None,
            };
            let answers = match by_unit {
                Some(answers) => answers,
                None => self.reader.scan(query, from, to, room, span.place)?, // IX3
            };
            found.records.extend(answers);
        }
        if let Some(limit) = query.limit {
            found.more = found.records.len() > limit;
            found.records.truncate(limit);
        }
        Ok(found)
    }

    /// The answers in a unit; `None` where the unit cannot be used.
    fn answers(
        &self,
        header: &Header,
        query: &Query,
        (from, to): (u64, u64),
        room: usize,
        fetch: &mut Option<Fetch>,
    ) -> Result<Option<Vec<Record>>, LogError> {
        let (unit, rows) = match self.candidates(header, query, (from, to)) {
            Ok(found) => found,
            Err(error) => {
                self.forget(header.first, &error);
                return Ok(None);
            }
        };
        if rows.is_empty() {
            return Ok(Some(Vec::new()));
        }
        if !self.reach(header.segment, fetch) {
            return Ok(None); // gone meanwhile
        }
        let mut ascending = rows.ascending();
        if query.newest_first {
            ascending.reverse();
        }
        let mut found = Vec::new();
        for row in ascending {
            if found.len() >= room {
                break;
            }
            let seq = header.first + row as u64;
            let (start, end) = match unit.place(row) {
                Ok(place) => place,
                Err(error) => {
                    self.forget(header.first, &error);
                    return Ok(None);
                }
            };
            let Some(fetch) = fetch.as_mut() else { return Ok(None) };
            let (line, before) = fetch
                .line(start, end)
                .map_err(|error| LogError::broken(seq, format!("its segment: {error}")))?;
            let record = self.checked(seq, &line, &before.unwrap_or(header.link_before))?;
            if query.takes(&record) {
                found.push(record);
            }
        }
        Ok(Some(found))
    }

    /// A unit that cannot be used: the next who builds makes a damaged one again. Where it cannot be removed it is
    /// passed over each time.
    fn forget(&self, first: u64, error: &io::Error) {
        self.headers.lock().unwrap_or_else(PoisonError::into_inner).remove(&first);
        if error.kind() == io::ErrorKind::InvalidData {
            let _ = self.storage.remove(&self.directory.join(name(first)));
        }
    }

    /// IX1: a record, and the one of this number.
    fn checked(&self, seq: u64, line: &[u8], before: &chain::Link) -> Result<Record, LogError> {
        let Some((body, link, _)) = chain::split(line) else {
            return Err(LogError::broken(seq, "the line does not end in a chain and a signature"));
        };
        if chain::link(self.log_id, seq, before, body) != link {
            let reason = "the chain does not match the body and the records before it";
            return Err(LogError::broken(seq, reason));
        }
        let record = Record::parse(line).map_err(|error| LogError::broken(seq, error.to_string()))?;
        match record.seq == seq {
            true => Ok(record),
            false => Err(LogError::broken(seq, format!("its number is {}", record.seq))),
        }
    }

    fn candidates(&self, header: &Header, query: &Query, (from, to): (u64, u64)) -> io::Result<(Unit, Rows)> {
        let unit = self.unit(header.first)?;
        if unit.header != *header {
            return Err(io::Error::other("made again meanwhile"));
        }
        let row = |seq: u64| usize::try_from(seq.saturating_sub(header.first)).unwrap_or(usize::MAX);
        let (begin, end) = unit.rows_between(query.since_us, query.until_us)?;
        let mut rows = Rows::between(begin.max(row(from)), end.min(row(to)));
        for term in terms::wanted(query) {
            if rows.is_empty() {
                break;
            }
            rows.meet(&unit.rows_of(term)?);
        }
        if let Some(beginning) = query.event_type.as_deref().and_then(|kind| kind.strip_suffix('*')) {
            let mut any = Rows::none();
            for kind in unit.types()?.iter().filter(|kind| kind.starts_with(beginning)) {
                any.join(&unit.rows_of(terms::term(terms::Field::Type, kind))?);
            }
            rows.meet(&any);
        }
        Ok((unit, rows))
    }

    /// Opens a segment, if it is not the one that is open.
    fn reach(&self, segment: u64, fetch: &mut Option<Fetch>) -> bool {
        if !fetch.as_ref().is_some_and(|fetch| fetch.is_of(segment)) {
            *fetch = Fetch::open(&*self.storage, &self.trail, segment).ok();
        }
        fetch.is_some()
    }

    /// IX2, of one unit.
    fn is_of_log(&self, unit: &Header, fetch: &mut Option<Fetch>) -> bool {
        self.reach(unit.segment, fetch)
            && fetch.as_mut().and_then(|fetch| fetch.link_before(unit.end).ok()) == Some(unit.link_last)
    }

    /// Whether there is so much to take in that a query should have it done first. Small trails are read through.
    ///
    /// # Errors
    /// [`LogError::Io`].
    pub fn is_behind(&self) -> Result<bool, LogError> {
        let spans = self.spans(self.begin()?, &mut 0);
        let records = self.records();
        let missing = spans.iter().filter(|span| span.unit.is_none());
        Ok(missing.map(|span| span.to.min(records).saturating_sub(span.from)).sum::<u64>() >= BEHIND_MAX)
    }

    /// How many records the log has, as its `head` says; a little fewer while it is written.
    fn records(&self) -> u64 {
        let slots = self.storage.open(&self.trail.join(HEAD), OpenMode::Read).ok();
        let slots = slots.and_then(|file| head::read(&*file).ok());
        slots.into_iter().flatten().flatten().map(|slot| slot.point.records).max().unwrap_or(0)
    }

    /// Takes in what the log has and the index has not: at most `segments_max` segments, beside each other on `threads`
    /// threads. Units that are damaged, or not of this log, are removed first (IX2).
    ///
    /// # Errors
    /// [`LogError::Io`] where the index cannot be written; the log is not touched.
    pub fn build(&self, segments_max: usize, threads: usize) -> Result<Indexed, LogError> {
        let io = || LogError::io("cannot write the index");
        self.storage.create_directory(&self.directory).map_err(io())?;
        let Some(_held) = self.storage.lock(&self.directory.join(LOCK)).map_err(io())? else {
            return Ok(Indexed { busy: true, ..Indexed::default() }); // IX4
        };
        let segments = layout::segments(&*self.storage, &self.trail)?;
        let kept = self.tidy(&segments).map_err(io())?;
        let mut work = VecDeque::new();
        let mut records: u64 = kept.values().map(|header| u64::from(header.rows)).sum();
        for (number, segment) in segments.iter().enumerate() {
            let behind = number.checked_sub(1).and_then(|before| segments.get(before)).map(|one| one.first);
            let mut from = segment.first;
            while let Some(unit) =
                kept.get(&from).filter(|unit| unit.complete && unit.segment == segment.first)
            {
                from = unit.end_seq();
            }
            let next = segments.get(number + 1).map(|next| next.first);
            let known = kept.get(&from).map_or(from, Header::end_seq);
            if next.unwrap_or_else(|| self.records()) > known || next.is_some_and(|next| next > from) {
                records -= kept.get(&from).map_or(0, |unit| u64::from(unit.rows));
                work.push_back(Work { segment: segment.clone(), behind, from, closed: next.is_some() });
            }
        }
        let left = work.len().saturating_sub(segments_max);
        work.truncate(segments_max);
        let place = Place {
            storage: &*self.storage,
            trail: &self.trail,
            index: &self.directory,
            log_id: self.log_id,
        };
        let (work, added) = (Mutex::new(work), Mutex::new(Ok(0)));
        let take = || work.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        let run = || {
            while let Some(work) = take() {
                let from = work.from;
                let built = build(&place, work).map(|to| to - from);
                let mut added = added.lock().unwrap_or_else(PoisonError::into_inner);
                match (&mut *added, built) {
                    (Ok(sum), Ok(more)) => *sum += more,
                    (Ok(_), Err(error)) => *added = Err(error),
                    (Err(_), _) => {}
                }
            }
        };
        std::thread::scope(|scope| {
            for _ in 1..threads.clamp(1, 16) {
                scope.spawn(run);
            }
            run();
        });
        let added = added.into_inner().unwrap_or_else(PoisonError::into_inner).map_err(io())?;
        self.storage.sync_directory(&self.directory).map_err(io())?;
        Ok(Indexed { records: records + added, segments: segments.len(), left, busy: false })
    }

    /// Removes what is of no use; answers the rest.
    fn tidy(&self, segments: &[Segment]) -> io::Result<HashMap<u64, Header>> {
        let firsts: HashSet<u64> = segments.iter().map(|segment| segment.first).collect();
        self.headers.lock().unwrap_or_else(PoisonError::into_inner).clear();
        let (mut kept, mut end, mut fetch) = (HashMap::new(), 0, None);
        for first in self.names() {
            let unit = self.unit(first).ok().filter(|unit| {
                unit.header.first >= end
                    && firsts.contains(&unit.header.segment)
                    && self.is_of_log(&unit.header, &mut fetch)
            });
            match unit {
                Some(unit) => {
                    end = unit.header.end_seq();
                    kept.insert(first, unit.header);
                }
                None => self.storage.remove(&self.directory.join(name(first)))?,
            }
        }
        Ok(kept)
    }

    /// Removes the whole index, so that [`Index::build`] begins again.
    ///
    /// # Errors
    /// [`LogError::Io`].
    pub fn remove(&self) -> Result<(), LogError> {
        let io = || LogError::io("cannot remove the index");
        self.headers.lock().unwrap_or_else(PoisonError::into_inner).clear();
        for name in self.storage.list(&self.directory).unwrap_or_default() {
            if name.ends_with(".unit") || name.ends_with(".unit.tmp") {
                self.storage.remove(&self.directory.join(name)).map_err(io())?;
            }
        }
        Ok(())
    }
}

/// Builds one segment; sealed meanwhile it has another name, and is tried once more.
fn build(place: &Place<'_>, mut work: Work) -> io::Result<u64> {
    match place.build(&work) {
        Err(error) if error.kind() == io::ErrorKind::NotFound && !work.segment.sealed => {
            work.segment.sealed = true;
            place.build(&work)
        }
        other => other,
    }
}

fn is_in_time(header: &Header, query: &Query) -> bool {
    query.since_us.is_none_or(|since_us| header.last_us >= since_us)
        && query.until_us.is_none_or(|until_us| header.first_us < until_us)
}
