//! Linking new nodes into the graph, and mending it where nodes go away.
//!
//! Not here: which of the candidates to take (`prune`), the order of locks around it (`index`).
//!
//! Invariants
//! - LI1 after `mend` no list of a node that stays names a hidden slot.
//!
//! Source: Malkov & Yashunin, algorithm 1; Singh et al. 2021 (FreshDiskANN) for mending in passes.

use crate::prune::{Pairs, Room, choose};
use crate::search::Scratch;
use crate::store::Store;

/// Live nodes that a mended list is chosen from, at most.
const NEIGHBOURHOOD: usize = 200;

/// Links `slot`, whose row is written and which stands in no list, into all its layers.
pub(crate) fn link(store: &Store, pairs: &Pairs<'_>, slot: u32, scratch: &mut Scratch, taken: &mut Vec<u32>) {
    let graph = &store.graph;
    let level = graph.level(slot);
    if let Some(entry) = graph.entry() {
        scratch.query.exact.fill(store.vectors.view().floats(slot).iter().copied());
        store.codec.prepare(&mut scratch.query);
        let top = level.min(entry.level);
        let mut from = scratch.descend(store, entry, top, Some(slot));
        for layer in (0..=top).rev() {
            scratch.walk_apart(store, from, layer, store.options.ef_construct, slot);
            from = scratch.slots.first().copied().unwrap_or(from);
            pairs.near_first(slot, &scratch.slots, &mut scratch.keys);
            let room = Room::new(store, layer, store.options.m);
            choose(pairs, slot, &scratch.keys, room, &mut scratch.near, taken);
            graph.write(slot, layer, taken, &graph.lock(slot));
            for &other in taken.iter() {
                link_back(store, pairs, other, slot, layer, scratch);
            }
        }
    }
    graph.raise_entry(slot);
}

/// Adds the link `from` → `to`, choosing anew where the list is full.
fn link_back(store: &Store, pairs: &Pairs<'_>, from: u32, to: u32, layer: u32, scratch: &mut Scratch) {
    let graph = &store.graph;
    let guard = graph.lock(from);
    if graph.append(from, layer, to, &guard) {
        return;
    }
    scratch.slots.clear();
    graph.links(from, layer, &mut scratch.slots);
    scratch.slots.push(to);
    pairs.near_first(from, &scratch.slots, &mut scratch.keys);
    let limit = graph.list(from, layer).len();
    let room = Room::new(store, layer, limit);
    choose(pairs, from, &scratch.keys, room, &mut scratch.near, &mut scratch.slots);
    graph.write(from, layer, &scratch.slots, &guard);
}

/// Takes hidden slots out of the lists of `slots`: their own links take the places (LI1).
///
/// A node that is left alone in the lowest layer is put into `lonely`, to be linked anew.
pub(crate) fn mend(
    store: &Store,
    pairs: &Pairs<'_>,
    slots: std::ops::Range<u32>,
    scratch: &mut Scratch,
    lonely: &mut Vec<u32>,
) {
    for slot in slots.filter(|&slot| store.is_live(slot)) {
        for layer in 0..=store.graph.level(slot) {
            let left = mend_list(store, pairs, slot, layer, scratch);
            if left == 0 && layer == 0 {
                lonely.push(slot);
            }
        }
    }
}

/// How many links the list has afterwards; one where it had none to lose.
fn mend_list(store: &Store, pairs: &Pairs<'_>, slot: u32, layer: u32, scratch: &mut Scratch) -> usize {
    let graph = &store.graph;
    let Scratch { slots: near, keys, visited, candidates: _, .. } = scratch;
    near.clear();
    graph.links(slot, layer, near);
    if near.is_empty() || near.iter().all(|&link| store.is_live(link)) {
        return near.len().max(1);
    }
    // Through hidden nodes to what is behind them: a whole neighbourhood may have gone at once.
    visited.begin(store.slots());
    visited.insert(slot);
    near.retain(|&link| visited.insert(link));
    let (mut place, mut live) = (0, 0);
    while let Some(&at) = near.get(place).filter(|_| live < NEIGHBOURHOOD) {
        if store.is_live(at) {
            live += 1;
        } else {
            let known = near.len();
            graph.links(at, layer, near);
            let mut fresh = known;
            for other in known..near.len() {
                if let Some(&link) = near.get(other).filter(|&&link| visited.insert(link)) {
                    near.swap(fresh, other);
                    debug_assert!(near.get(fresh) == Some(&link), "GR1");
                    fresh += 1;
                }
            }
            near.truncate(fresh);
        }
        place += 1;
    }
    near.retain(|&link| store.is_live(link));
    pairs.near_first(slot, near, keys);
    let limit = graph.list(slot, layer).len();
    let mut taken = std::mem::take(&mut scratch.taken);
    choose(pairs, slot, &scratch.keys, Room::new(store, layer, limit), &mut scratch.near, &mut taken);
    graph.write(slot, layer, &taken, &graph.lock(slot));
    // Both ways, as for a new node: what only hidden nodes pointed to must be found again.
    for &other in &taken {
        link_back(store, pairs, other, slot, layer, scratch);
    }
    let left = taken.len();
    scratch.taken = taken;
    left
}
