//! The index held against the log: each unit is made again in memory, and must be the same to the byte.
//!
//! Why: whoever can write the directory can make a unit, sums and all, that leaves records out. A query cannot see that.
//! Not here: what a unit is (`unit.rs`), whether the log itself holds (`verify`).
//!
//! Invariant
//! - IX5 a unit passes when the same records give the same bytes, and not otherwise.

use std::collections::BTreeMap;
use std::io;

use symbi_types::OpenMode;

use super::build::{Growing, Memo, Place, name};
use super::unit::Header;
use super::{Checked, Index, LOCK};
use crate::layout::{self, Lines, Segment, read_full};
use crate::record::View;
use crate::{LogError, chain};

impl Index {
    /// Holds every unit against the log. Changes nothing. Costs what making the index costs.
    ///
    /// # Errors
    /// [`LogError::Io`] where the log cannot be read.
    pub fn check(&self) -> Result<Checked, LogError> {
        let io = || LogError::io("cannot read the log");
        let names = self.names();
        if names.is_empty() {
            return Ok(Checked {
                missing: self.records().saturating_sub(self.begin()?),
                ..Checked::default()
            });
        }
        let held =
            self.storage.lock(&self.directory.join(LOCK)).map_err(LogError::io("cannot read the index"))?;
        let Some(_held) = held else { return Ok(Checked { busy: true, ..Checked::default() }) };
        let segments = layout::segments(&*self.storage, &self.trail)?;
        let mut checked = Checked::default();
        let mut there: BTreeMap<u64, BTreeMap<u64, Header>> = BTreeMap::new();
        for first in names {
            match self.unit(first) {
                Ok(unit) => drop(there.entry(unit.header.segment).or_default().insert(first, unit.header)),
                Err(_) => checked.wrong.push(first),
            }
        }
        let place = Place {
            storage: &*self.storage,
            trail: &self.trail,
            index: &self.directory,
            log_id: self.log_id,
        };
        for (number, segment) in segments.iter().enumerate() {
            let Some(units) = there.remove(&segment.first) else { continue };
            let behind = number.checked_sub(1).and_then(|before| segments.get(before)).map(|one| one.first);
            let right = place.check(segment, behind, &units).map_err(io())?;
            for (first, unit) in units {
                if right.contains(&first) {
                    checked.records += u64::from(unit.rows);
                } else {
                    checked.wrong.push(first);
                }
            }
        }
        checked.wrong.extend(there.into_values().flat_map(BTreeMap::into_keys)); // of segments that are not there
        checked.wrong.sort_unstable();
        let records = self.records().saturating_sub(self.begin()?);
        checked.missing = records.saturating_sub(checked.records);
        Ok(checked)
    }
}

impl Place<'_> {
    /// Those units of a segment that the same records give again (IX5).
    fn check(
        &self,
        segment: &Segment,
        behind: Option<u64>,
        there: &BTreeMap<u64, Header>,
    ) -> io::Result<Vec<u64>> {
        let mut lines = Lines::open(self.storage, self.trail, segment)?;
        let mut memo = Memo::default();
        let mut before = self.link_before(behind)?;
        let mut right = Vec::new();
        let mut growing: Option<Growing> = None;
        let (mut seq, mut start) = (segment.first, 0);
        while let Some(line) = lines.next_line()? {
            let end = start + line.len() as u64;
            if growing.is_none() && !there.contains_key(&seq) {
                before = chain::split(line).map_or(before, |(_, link, _)| link);
            } else {
                let Some(view) = View::parse(line).ok().filter(|view| view.seq == seq) else { break };
                let mut unit =
                    growing.take().unwrap_or_else(|| self.begin(segment.first, &view, start, before));
                before = view.chain;
                unit.take(&view, end, &mut memo);
                let first = unit.header.first;
                match there.get(&first) {
                    Some(wanted) if wanted.rows == unit.header.rows => {
                        if self.is_content(first, &unit.encode(wanted.complete)?)? {
                            right.push(first);
                        }
                    }
                    _ => growing = Some(unit),
                }
            }
            (seq, start) = (seq + 1, end);
        }
        Ok(right)
    }

    /// Whether a unit's file is these bytes. One more is read at most, whatever size it has.
    fn is_content(&self, first: u64, wanted: &[u8]) -> io::Result<bool> {
        let file = self.storage.open(&self.index.join(name(first)), OpenMode::Read)?;
        let mut bytes = vec![0; wanted.len() + 1];
        let read = read_full(&*file, 0, &mut bytes)?;
        Ok(bytes.get(..read) == Some(wanted))
    }
}
