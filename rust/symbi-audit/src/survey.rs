//! Many questions in one pass over a trail that is verified on the way: what reports stand on.
//!
//! Why not the index: a report says what is not there, too, and nothing that a projection leaves out may be missing from it.
//!
//! Invariants
//! - SU1 there is an answer only where the trail holds.
//! - SU2 what is counted is what [`Query::takes`] takes, over every record.

use std::path::Path;

use crate::query::Named;
use crate::{Query, Record, Seen, Verification, VerifyError, VerifyOptions, verify_with};

/// Records that are named of each answer: the first ones and the last ones.
const NAMED_FIRST: usize = 3;
const NAMED_LAST: usize = 3;

/// What was found of one query.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// How many records.
    pub count: u64,
    /// Some of them, by their numbers: the first and the last ones.
    pub named: Vec<u64>,
    /// How many in each part of the time.
    pub over_time: Vec<u64>,
}

impl Tally {
    fn add(&mut self, seq: u64, part: Option<usize>) {
        self.count += 1;
        if self.named.len() >= NAMED_FIRST + NAMED_LAST {
            self.named.remove(NAMED_FIRST);
        }
        self.named.push(seq);
        if let Some(counter) = part.and_then(|part| self.over_time.get_mut(part)) {
            *counter += 1;
        }
    }
}

/// The time between `since_us` and `until_us`, in equal parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Times {
    /// At this time or later, microseconds since the Unix epoch.
    pub since_us: u64,
    /// Before this time.
    pub until_us: u64,
    /// How many parts.
    pub parts: usize,
}

impl Times {
    fn part(&self, time_us: u64) -> Option<usize> {
        let width = self.until_us.checked_sub(self.since_us).filter(|width| *width > 0)?;
        let at = u128::from(time_us.checked_sub(self.since_us)?) * self.parts as u128 / u128::from(width);
        usize::try_from(at).ok().filter(|part| *part < self.parts)
    }
}

/// Verifies a trail and counts the answers to each query within `times`.
///
/// # Errors
/// As [`crate::verify`] (SU1).
pub fn survey(
    directory: &Path,
    options: &VerifyOptions,
    queries: &[Query],
    times: &Times,
) -> Result<(Verification, Vec<Tally>), VerifyError> {
    let mut tallies = vec![Tally { over_time: vec![0; times.parts], ..Tally::default() }; queries.len()];
    let mut visit = |seen: &Seen<'_>| {
        let Some(part) = times.part(seen.timestamp_us) else { return };
        let Ok(record) = Record::parse(seen.line) else { return }; // it was parsed a moment ago
        let named = Named::of(&record.details);
        for (query, tally) in queries.iter().zip(&mut tallies) {
            if query.takes_named(&record, &named) {
                tally.add(record.seq, Some(part));
            }
        }
    };
    let verified = verify_with(directory, options, &mut visit)?;
    Ok((verified, tallies))
}
