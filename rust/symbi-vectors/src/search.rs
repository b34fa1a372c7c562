//! Walks over the graph.
//!
//! Why one routine for building and searching: what is built with the walk is found by the walk.
//! Not here: measuring hits again in full precision (`rescore`), looking at everything (`scan`).
//!
//! Invariants
//! - SE1 `among` gives only slots that its predicate accepts.
//! - SE2 a walk gives distinct slots, nearest first, at most as many as it was to keep.
//!
//! Source: Malkov & Yashunin, algorithms 2 and 5.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::atomic::Ordering;

use crate::candidates::{Candidates, distance_of, key, place_from, slot_from, slot_of};
use crate::codes::Query;
use crate::graph::{Entry, NONE};
use crate::options::SLOTS_MAX;
use crate::store::Store;
use crate::visited::Visited;

/// What a search needs besides the index; reused, so that none allocates.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    pub query: Query,
    pub visited: Visited,
    pub candidates: Candidates,
    pub slots: Vec<u32>,
    pub distances: Vec<f32>,
    pub frontier: BinaryHeap<Reverse<u64>>,
    pub hits: Vec<(f32, u64)>,
    pub keys: Vec<u64>,
    pub taken: Vec<u32>,
    pub near: Vec<u64>,
}

impl Scratch {
    /// Estimates the distances of `self.slots`.
    fn estimate(&mut self, store: &Store) {
        store.codec.estimate(&self.query, &store.walked(), &self.slots, &mut self.distances);
    }

    /// Goes down from the entry to `layer` + 1, always to the nearest; where to go on from.
    ///
    /// What was seen once is not looked at again, in lower layers too: it was not nearer then. Of those that are equally near the
    /// nearest to `node` by slot is gone to, where one is to be linked.
    pub(crate) fn descend(&mut self, store: &Store, entry: Entry, layer: u32, node: Option<u32>) -> u32 {
        let node = node.unwrap_or(SLOTS_MAX as u32 - 1);
        let mut at = entry.slot;
        if entry.level > layer {
            self.visited.begin(store.slots());
            self.visited.insert(at);
            self.slots.clear();
            self.slots.push(at);
            self.estimate(store);
            let mut nearest = key(self.distances.first().copied().unwrap_or(0.0), place_from(node, at));
            for layer in (layer + 1..=entry.level).rev() {
                loop {
                    self.neighbours(store, at, layer);
                    self.estimate(store);
                    let before = nearest;
                    for (&slot, &distance) in self.slots.iter().zip(&self.distances) {
                        nearest = nearest.min(key(distance, place_from(node, slot)));
                    }
                    at = slot_from(node, slot_of(nearest));
                    if nearest == before {
                        break;
                    }
                }
            }
        }
        at
    }

    /// The slots near the query that a walk in the lowest layer from `from` meets, in `candidates`: the nearest `kept` of all
    /// that were compared, of which the nearest `ef` were gone on from.
    pub(crate) fn walk(&mut self, store: &Store, from: u32, ef: usize, kept: usize) {
        self.candidates.reset_to_give(ef, kept);
        self.walk_on::<false>(store, from, 0, 0);
    }

    /// As `walk` in `layer`, for `node`, which is to be linked; the slots in `self.slots`, without itself. Of those that are
    /// equally near there are only the few that are nearest to it by slot: copies of one vector would otherwise be all that
    /// it is linked to (`prune`).
    pub(crate) fn walk_apart(&mut self, store: &Store, from: u32, layer: u32, ef: usize, node: u32) {
        self.candidates.reset(ef);
        self.walk_on::<true>(store, from, layer, node);
        let found = self.candidates.keys().iter().map(|&key| slot_from(node, slot_of(key)));
        self.slots.clear();
        self.slots.extend(found.filter(|&slot| slot != node));
    }

    #[inline(always)]
    fn walk_on<const APART: bool>(&mut self, store: &Store, from: u32, layer: u32, node: u32) {
        let slot_of = |key| if APART { slot_from(node, slot_of(key)) } else { slot_of(key) };
        self.visited.begin(store.slots());
        self.visited.insert(from);
        self.slots.clear();
        self.slots.push(from);
        self.keep::<APART>(store, layer, node);
        while let Some(next) = self.candidates.next() {
            if let Some(following) = self.candidates.peek()
                && layer == 0
            {
                store.graph.fetch(slot_of(following));
            }
            self.neighbours(store, slot_of(next), layer);
            self.keep::<APART>(store, layer, node);
        }
    }

    /// Estimates `slots` and keeps what is near; the links of what will be expanded next are asked for at once.
    #[inline(always)]
    fn keep<const APART: bool>(&mut self, store: &Store, layer: u32, node: u32) {
        self.estimate(store);
        for (&slot, &distance) in self.slots.iter().zip(&self.distances) {
            let leads = if APART {
                self.candidates.push_apart(key(distance, place_from(node, slot)))
            } else {
                self.candidates.push(key(distance, slot))
            };
            if leads && layer == 0 {
                store.graph.fetch(slot);
            }
        }
    }

    /// The links of `slot` that were not seen yet, in `slots`.
    #[inline(always)]
    fn neighbours(&mut self, store: &Store, slot: u32, layer: u32) {
        let mut fresh = 0;
        // Every node is in the lowest layer; its level would be one more line of memory.
        if layer == 0 || layer <= store.graph.level(slot) {
            let list = store.graph.list(slot, layer);
            self.slots.resize(list.len(), NONE);
            for word in list {
                let link = word.load(Ordering::Acquire);
                if link == NONE {
                    break;
                }
                // Half of all links were seen before, in no order that could be foreseen: so no branch.
                if let Some(place) = self.slots.get_mut(fresh) {
                    *place = link;
                }
                fresh += usize::from(self.visited.insert(link));
            }
        }
        self.slots.truncate(fresh);
    }

    /// As `walk` in the lowest layer, keeping only what `accept` takes; the others are passed through (SE1).
    ///
    /// Goes on until the nearest unexpanded node is farther than all that is kept, however many were refused.
    pub(crate) fn among(&mut self, store: &Store, from: u32, ef: usize, accept: impl Fn(u32) -> bool) {
        self.visited.begin(store.slots());
        self.candidates.reset(ef);
        self.frontier.clear();
        self.visited.insert(from);
        self.slots.clear();
        self.slots.push(from);
        self.estimate(store);
        loop {
            for (&slot, &distance) in self.slots.iter().zip(&self.distances) {
                let key = key(distance, slot);
                if self.candidates.bound().is_none_or(|bound| key < bound) {
                    self.frontier.push(Reverse(key));
                }
                if accept(slot) {
                    self.candidates.push(key);
                }
            }
            let Some(Reverse(next)) = self.frontier.pop() else { break };
            if self.candidates.bound().is_some_and(|bound| distance_of(next) > distance_of(bound)) {
                break;
            }
            self.neighbours(store, slot_of(next), 0);
            self.estimate(store);
            if let Some(Reverse(following)) = self.frontier.peek() {
                store.graph.fetch(slot_of(*following));
            }
        }
    }
}
