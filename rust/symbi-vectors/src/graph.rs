//! Layers of links between slots.
//!
//! Why words of atomics: searches read the lists while a writer changes them. A list that is being rewritten may be
//! seen half old, half new; each entry is a slot that was linked, so a search at worst looks at one too many or too
//! few. Who writes a list holds its node's lock, a bit that is spun on: lists are rewritten in microseconds.
//! Not here: how a list is read and written (`lists`), which links are good (`prune`), who may see a slot (`store`).
//!
//! Invariants
//! - GR1 a list holds distinct slots other than its node's own, then only `NONE`.
//! - GR2 a slot stands in a list only after its own row and lists were written (release, acquire).
//! - GR3 a list is written only under its node's lock.
//!
//! Source: Malkov & Yashunin, arXiv:1603.09320.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::kernels::fetch_line;
pub(crate) use crate::lists::NONE;
use crate::lists::{self, Guard, LOCKED};
use crate::memory::Rows;
use crate::seeds::mix;

/// The highest layer: with the smallest `m` that is more than 2^16 nodes to a node of it.
pub(crate) const LEVEL_MAX: u32 = 16;

/// Where searches begin: the node of the highest layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub slot: u32,
    pub level: u32,
}

/// Links of all slots, in all layers.
#[derive(Debug)]
pub(crate) struct Graph {
    m: usize,
    seed: u64,
    /// Nodes made so far; what the next node's level is drawn from.
    pub(crate) drawn: u64,
    /// Lowest layer: 2 m words a node.
    pub(crate) base: Rows,
    /// Level of each node, and its lock.
    heads: Vec<AtomicU32>,
    /// First word of each node's lists above the lowest layer, m words a layer.
    upper_at: Vec<u32>,
    pub(crate) upper: Vec<AtomicU32>,
    /// Places in `upper` that are free again, by level.
    upper_free: Vec<Vec<u32>>,
    entry: AtomicU64,
}

#[expect(clippy::indexing_slicing, reason = "a slot that is not there must end in a panic")]
impl Graph {
    pub(crate) fn new(m: usize, seed: u64) -> Self {
        Self::over(m, seed, Rows::new(8 * m))
    }

    /// A graph whose lowest layer is `base`; `restore` gives it the rest.
    pub(crate) fn over(m: usize, seed: u64, base: Rows) -> Self {
        Self {
            m,
            seed,
            drawn: 0,
            base,
            heads: Vec::new(),
            upper_at: Vec::new(),
            upper: Vec::new(),
            upper_free: vec![Vec::new(); LEVEL_MAX as usize + 1],
            entry: AtomicU64::new(u64::MAX),
        }
    }

    /// Takes levels and upper lists as they were saved.
    pub(crate) fn restore(&mut self, levels: &[u8], upper: &[u32], entry: Option<Entry>, drawn: u64) {
        self.drawn = drawn;
        self.heads = levels.iter().map(|&level| AtomicU32::new(u32::from(level))).collect();
        let mut at = 0;
        self.upper_at = levels
            .iter()
            .map(|&level| {
                let here = if level == 0 { NONE } else { at };
                at += u32::from(level) * self.m as u32;
                here
            })
            .collect();
        self.upper = upper.iter().map(|&word| AtomicU32::new(word)).collect();
        self.set_entry(entry);
    }

    pub(crate) fn level(&self, slot: u32) -> u32 {
        self.heads[slot as usize].load(Ordering::Relaxed) & !LOCKED
    }

    /// Gives `slot`, new or free again, empty lists up to a level that is drawn. One new slot at a time, in order.
    pub(crate) fn place(&mut self, slot: u32) -> std::io::Result<()> {
        let level = self.draw();
        if slot as usize == self.heads.len() {
            self.base.grow(slot as usize + 1)?;
            self.heads.push(AtomicU32::new(0));
            self.upper_at.push(NONE);
        } else {
            let old = self.level(slot);
            if old > 0 {
                self.upper_free[old as usize].push(self.upper_at[slot as usize]);
            }
        }
        self.heads[slot as usize] = AtomicU32::new(level);
        self.upper_at[slot as usize] = NONE;
        if level > 0 {
            let words = level as usize * self.m;
            let at = self.upper_free[level as usize].pop().unwrap_or_else(|| {
                let at = self.upper.len() as u32;
                self.upper.resize_with(at as usize + words, || AtomicU32::new(NONE));
                at
            });
            self.upper_at[slot as usize] = at;
        }
        for layer in 0..=level {
            for word in self.list(slot, layer) {
                word.store(NONE, Ordering::Relaxed);
            }
        }
        Ok(())
    }

    /// One in m nodes goes a layer up, one in m of those another: in integers, so that every machine agrees.
    fn draw(&mut self) -> u32 {
        let mut bits = mix(self.seed ^ mix(self.drawn));
        self.drawn += 1;
        let mut level = 0;
        while level < LEVEL_MAX && bits.is_multiple_of(self.m as u64) {
            bits = mix(bits);
            level += 1;
        }
        level
    }

    /// The words of a node's list in a layer that it has.
    #[inline(always)]
    pub(crate) fn list(&self, slot: u32, layer: u32) -> &[AtomicU32] {
        if layer == 0 {
            return self.base.words(slot);
        }
        let at = self.upper_at[slot as usize] as usize + (layer as usize - 1) * self.m;
        &self.upper[at..at + self.m]
    }

    /// Adds a node's links in a layer to `out`; nothing where it is not in that layer.
    pub(crate) fn links(&self, slot: u32, layer: u32, out: &mut Vec<u32>) {
        if layer <= self.level(slot) {
            out.extend(lists::links(self.list(slot, layer)));
        }
    }

    /// Replaces a list (GR3: `_guard` is the node's).
    pub(crate) fn write(&self, slot: u32, layer: u32, links: &[u32], guard: &Guard<'_>) {
        let list = self.list(slot, layer);
        debug_assert!(links.len() <= list.len() && !links.contains(&slot), "GR1");
        lists::write(list, links, guard); // GR2
    }

    /// Appends a link where there is room and it is not there yet; false where there is no room.
    pub(crate) fn append(&self, slot: u32, layer: u32, link: u32, guard: &Guard<'_>) -> bool {
        lists::append(self.list(slot, layer), link, guard) // GR1, GR2
    }

    /// Waits for a node's lock.
    pub(crate) fn lock(&self, slot: u32) -> Guard<'_> {
        lists::lock(&self.heads[slot as usize])
    }

    /// Asks for the lines of a list of the lowest layer.
    #[inline(always)]
    pub(crate) fn fetch(&self, slot: u32) {
        for line in self.base.words(slot).chunks(16) {
            fetch_line(line.as_ptr());
        }
    }

    pub(crate) fn entry(&self) -> Option<Entry> {
        let word = self.entry.load(Ordering::Acquire);
        let entry = Entry { slot: word as u32, level: (word >> 32) as u32 };
        (entry.slot != NONE).then_some(entry)
    }

    pub(crate) fn set_entry(&self, entry: Option<Entry>) {
        let word = entry.map_or(u64::MAX, |entry| u64::from(entry.level) << 32 | u64::from(entry.slot));
        self.entry.store(word, Ordering::Release);
    }

    /// Makes `slot` the entry where it is higher than the one there is.
    pub(crate) fn raise_entry(&self, slot: u32) {
        let level = self.level(slot);
        let word = u64::from(level) << 32 | u64::from(slot);
        let higher = |current| {
            let none = current as u32 == NONE;
            (none || level > (current >> 32) as u32).then_some(word)
        };
        let _ = self.entry.fetch_update(Ordering::AcqRel, Ordering::Acquire, higher);
    }

    /// Bytes of links, levels and places.
    pub(crate) fn bytes(&self) -> usize {
        let (own, mapped) = self.base.bytes();
        own + mapped + 4 * (self.heads.len() + self.upper_at.len() + self.upper.len())
    }

    /// Where a slot's upper lists begin, for writing them in order.
    pub(crate) fn upper_words(&self, slot: u32) -> &[AtomicU32] {
        let words = self.level(slot) as usize * self.m;
        match self.upper_at[slot as usize] {
            NONE => &[],
            at => &self.upper[at as usize..at as usize + words],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graph(nodes: u32) -> Graph {
        let mut graph = Graph::new(4, 1);
        for slot in 0..nodes {
            graph.place(slot).unwrap();
        }
        graph
    }

    /// GR1: a list holds a link once, and a full one takes no more.
    #[test]
    fn gr1_lists_hold_distinct_links() {
        let graph = graph(20);
        let guard = graph.lock(3);
        for link in [5, 6, 5, 7, 8, 9, 10, 11, 12] {
            assert!(graph.append(3, 0, link, &guard));
        }
        assert!(!graph.append(3, 0, 13, &guard) && graph.append(3, 0, 12, &guard));
        let mut links = Vec::new();
        graph.links(3, 0, &mut links);
        assert_eq!(links, [5, 6, 7, 8, 9, 10, 11, 12]);
        graph.write(3, 0, &[1, 2], &guard);
        links.clear();
        graph.links(3, 0, &mut links);
        assert_eq!(links, [1, 2]);
    }

    /// GR2, GR3: two threads that write one list lose no link, and a reader sees only links that were written.
    #[test]
    fn gr2_gr3_writers_take_turns() {
        let mut graph = Graph::new(128, 1);
        for slot in 0..300 {
            graph.place(slot).unwrap();
        }
        let graph = &graph;
        std::thread::scope(|scope| {
            for half in 0..2 {
                scope.spawn(move || {
                    for link in 0..100 {
                        let guard = graph.lock(299);
                        assert!(graph.append(299, 0, 100 * half + link, &guard));
                    }
                });
            }
            let mut links = Vec::new();
            while links.len() < 200 {
                links.clear();
                graph.links(299, 0, &mut links);
                assert!(links.iter().all(|&link| link < 200));
            }
        });
    }

    #[test]
    fn one_in_m_nodes_is_a_layer_up() {
        let graph = graph(10_000);
        let above = (0..10_000).filter(|&slot| graph.level(slot) > 0).count();
        assert!((2300..2700).contains(&above), "{above}");
    }

    #[test]
    fn a_slot_that_is_placed_again_gives_its_lists_back() {
        let mut graph = graph(100);
        let words = graph.upper.len();
        for round in 0..50 {
            for slot in 0..100 {
                graph.place(slot).unwrap();
                assert!(
                    graph.upper_words(slot).iter().all(|word| word.load(Ordering::Relaxed) == NONE),
                    "{round}"
                );
            }
        }
        assert!(graph.upper.len() < 4 * words + 400, "{} of {words}", graph.upper.len());
    }
}
