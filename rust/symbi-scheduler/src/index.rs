//! Names to slots: where a task, or an agent, is found by what others call it.
//!
//! Why not a map of the standard library: it keeps the names a second time and cannot say beforehand which line of
//! cache it will read. Here a cell is 8 bytes, a part of the name's hash and the slot; whether the name is the right
//! one is looked up where it is kept anyway. Eight names in a row share a line, since most names are counted up.
//! Cells are probed one after the other, and what leaves is closed up behind.
//! Not here: protection against a caller who computes names so that they collide (see `hash`).
//!
//! Invariants
//! - X1 a name that was put in and not taken out is found by probing from its home without a gap.

use crate::column::{NONE, Slot};
use crate::fetch::fetch;
use crate::hash::mix;

const LINE: usize = 8;
const LINES_MIN: usize = 8;
/// Cells that may be full, of eight.
const FULL: usize = 5;
const EMPTY: u64 = u64::MAX; // the slot in it is `NONE`

#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
struct Line([u64; LINE]);

#[derive(Debug)]
pub(crate) struct Index {
    lines: Vec<Line>,
    len: usize,
}

/// The lowest three bits of the name, so that neighbours lie together, below 29 bits of its hash.
fn tag(name: u64) -> u64 {
    ((mix(name >> 3) >> 35) << 3) | (name & 7)
}

fn slot(cell: u64) -> Slot {
    cell as Slot
}

impl Index {
    pub(crate) fn new() -> Self {
        Self { lines: vec![Line([EMPTY; LINE]); LINES_MIN], len: 0 }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    fn mask(&self) -> usize {
        self.lines.len() * LINE - 1
    }

    /// Where a cell of that tag belongs.
    fn home(&self, tag: u64) -> usize {
        let bits = self.lines.len().trailing_zeros();
        (((tag >> 3) >> (29 - bits)) << 3 | (tag & 7)) as usize
    }

    #[expect(clippy::indexing_slicing, reason = "X1: places are below the mask")]
    fn cell(&self, at: usize) -> u64 {
        self.lines[at / LINE].0[at % LINE]
    }

    #[expect(clippy::indexing_slicing, reason = "X1: places are below the mask")]
    fn set(&mut self, at: usize, cell: u64) {
        self.lines[at / LINE].0[at % LINE] = cell;
    }

    /// The name is asked for soon.
    #[inline]
    pub(crate) fn expect(&self, name: u64) {
        if let Some(line) = self.lines.get(self.home(tag(name)) / LINE) {
            fetch(line);
        }
    }

    /// Where the name stands, and its slot; `is` says whether a slot has that name.
    #[inline]
    fn probe(&self, tag: u64, is: impl Fn(Slot) -> bool) -> Result<(usize, Slot), usize> {
        let (mut at, mask) = (self.home(tag), self.mask());
        loop {
            let cell = self.cell(at);
            if cell >> 32 == tag && is(slot(cell)) {
                return Ok((at, slot(cell)));
            }
            if cell == EMPTY {
                return Err(at);
            }
            at = (at + 1) & mask;
        }
    }

    #[inline]
    pub(crate) fn find(&self, name: u64, is: impl Fn(Slot) -> bool) -> Option<Slot> {
        self.probe(tag(name), is).ok().map(|(_, slot)| slot)
    }

    /// Puts a name in that is not there.
    pub(crate) fn insert(&mut self, name: u64, slot: Slot) {
        assert!(slot != NONE, "X1: a cell without a slot is empty");
        if (self.mask() + 1) * FULL <= self.len * 8 {
            self.grow();
        }
        self.len += 1;
        self.put(tag(name) << 32 | u64::from(slot));
    }

    fn put(&mut self, cell: u64) {
        if let Err(at) = self.probe(cell >> 32, |_| false) {
            self.set(at, cell);
        }
    }

    /// Cost: O(n), and a constant a name over all.
    fn grow(&mut self) {
        let lines = vec![Line([EMPTY; LINE]); self.lines.len() * 2];
        for line in std::mem::replace(&mut self.lines, lines) {
            for cell in line.0.into_iter().filter(|cell| *cell != EMPTY) {
                self.put(cell);
            }
        }
    }

    /// Takes out a name that is there.
    pub(crate) fn remove(&mut self, name: u64, is: impl Fn(Slot) -> bool) {
        let Ok((mut hole, _)) = self.probe(tag(name), is) else { return };
        let mask = self.mask();
        self.len -= 1;
        let mut at = hole;
        loop {
            at = (at + 1) & mask;
            let cell = self.cell(at);
            if cell == EMPTY {
                break;
            }
            let from_home = at.wrapping_sub(self.home(cell >> 32)) & mask;
            if at.wrapping_sub(hole) & mask <= from_home {
                self.set(hole, cell); // X1: no gap between a home and its cell
                hole = at;
            }
        }
        self.set(hole, EMPTY);
    }

    /// The slots of all names, in no order that means anything.
    pub(crate) fn slots(&self) -> impl Iterator<Item = Slot> {
        self.lines.iter().flat_map(|line| line.0).filter(|cell| *cell != EMPTY).map(slot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn x1_names_are_found_as_in_a_plain_map_whatever_comes_and_goes() {
        let (mut index, mut names) = (Index::new(), Vec::<u64>::new());
        let mut plain = std::collections::BTreeMap::new();
        let mut random = 9u64;
        for _ in 0..60_000 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            // Names that are counted up, names in large steps, and few enough to come again.
            let name = match random >> 62 {
                0 => (random >> 33) % 700,
                1 => ((random >> 33) % 300) << 40,
                2 => ((random >> 33) % 300) << 3,
                _ => (random >> 33) % 100 * 0x0101_0101_0101,
            };
            let is = |slot: Slot| names[slot as usize] == name;
            assert_eq!(index.find(name, is), plain.get(&name).copied(), "X1");
            if plain.remove(&name).is_some() {
                index.remove(name, is);
            } else {
                plain.insert(name, names.len() as Slot);
                index.insert(name, names.len() as Slot);
                names.push(name);
            }
            assert_eq!(index.len(), plain.len());
        }
        let (mut left, mut wanted): (Vec<Slot>, Vec<Slot>) =
            (index.slots().collect(), plain.into_values().collect());
        left.sort_unstable();
        wanted.sort_unstable();
        assert_eq!(left, wanted);
    }

    #[test]
    fn names_in_steps_of_any_power_of_two_are_found_within_a_few_lines() {
        for shift in 0..50 {
            let mut index = Index::new();
            (0..5_000u64).for_each(|number| index.insert(number << shift, number as Slot));
            for number in 0..5_000u64 {
                let tag = tag(number << shift);
                let found = index.probe(tag, |slot| u64::from(slot) == number);
                let far = (found.unwrap().0.wrapping_sub(index.home(tag))) & index.mask();
                assert!(far < 64 * LINE, "steps of 2^{shift}: {number} is {far} from its home");
            }
        }
    }
}
