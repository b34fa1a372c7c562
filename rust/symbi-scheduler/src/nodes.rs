//! The nodes: what each has free, which tasks are there, and the first of them with room.
//!
//! Why: placement is asked in every decision. What is free lies together, 16 nodes a block with the most that any of
//! them has of each resource, so that full blocks are skipped; and each class of tasks remembers before which node there
//! is no room for it. That memory is mended from a short log of the nodes where something was given back since.
//!
//! Invariants
//! - N1 a node's capacity is what is free, what its tasks hold and what is reserved for claims; none is negative.
//! - N2 a block's summary is at least what any of its nodes has free.
//! - N3 no open node before a hint that is up to date has room for the hint's class, but for the reserved one.

use symbi_types::ResourceVector;

use crate::column::{Column, NONE, Slot};
use crate::hash::Map;
use crate::heap::Heap;
use crate::options::OptionsError;
use crate::resources::{add, sub};
use crate::task::{Node, NodeId};

/// Nodes that may be there at once.
pub(crate) const NODES_MAX: usize = 1 << 16;
/// Of each resource on one node, so that the sum over all nodes stays far within 64 bits.
const AMOUNT_MAX: u64 = 1 << 46;
const BLOCK: Slot = 16;
const LOG: u64 = 64;
const NOTHING: ResourceVector = ResourceVector::from_array([0; ResourceVector::DIMENSIONS]);

/// What is free on a node, and whether tasks may start there.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Room {
    pub(crate) free: ResourceVector,
    pub(crate) open: bool,
}

/// What an urgent task has of a node while it waits for the rest.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Claim {
    pub(crate) task: Slot,
    pub(crate) need: ResourceVector,
    pub(crate) got: ResourceVector,
}

#[derive(Debug)]
pub(crate) struct NodeEntry {
    pub(crate) id: NodeId,
    pub(crate) capacity: ResourceVector,
    /// Kept for critical tasks.
    pub(crate) headroom: ResourceVector,
    /// What its claims have.
    pub(crate) reserved: ResourceVector,
    pub(crate) claims: Vec<Claim>,
    /// The list of tasks that run, in the order in which they began to.
    pub(crate) first: Slot,
    pub(crate) last: Slot,
    /// The list of tasks that stand still.
    pub(crate) still: Slot,
    /// Those of them that may go on, by rank.
    pub(crate) suspended: Heap,
    /// Whether it is in the list of nodes where something may go on.
    pub(crate) listed: bool,
    pub(crate) lost: bool,
}

/// Before which node there is no room for a class, as of which change.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Hint {
    pub(crate) node: Slot,
    pub(crate) seen: u64,
}

#[derive(Debug)]
pub(crate) struct Nodes {
    entries: Column<NodeEntry>,
    pub(crate) rooms: Column<Room>,
    blocks: Column<ResourceVector>, // N2
    by_id: Map<NodeId, Slot>,
    spare: Vec<Slot>,
    /// How often something was given back, and where the last times.
    pub(crate) raises: u64,
    log: [Slot; LOG as usize],
    /// The node that a head has reserved: hints and `first_from` leave it out, it is looked at by itself.
    reserved: Slot,
    /// Counts changes of what the nodes are.
    pub(crate) shape: u64,
    pub(crate) capacity: ResourceVector,
}

impl Nodes {
    pub(crate) fn new() -> Self {
        Self {
            entries: Column::new(),
            rooms: Column::new(),
            blocks: Column::new(),
            by_id: Map::default(),
            spare: Vec::new(),
            raises: 0,
            log: [NONE; LOG as usize],
            reserved: NONE,
            shape: 1,
            capacity: ResourceVector::default(),
        }
    }

    pub(crate) fn find(&self, node: NodeId) -> Option<Slot> {
        self.by_id.get(&node).copied()
    }

    /// How many slots there are, those of lost nodes included.
    pub(crate) fn len(&self) -> Slot {
        self.rooms.len()
    }

    pub(crate) fn slots(&self) -> impl Iterator<Item = Slot> {
        (0..self.len()).filter(|node| !self.entries[*node].lost)
    }

    /// Adds a node, or opens a drained one of that name again if nothing is on it.
    pub(crate) fn add(&mut self, node: Node, headroom_percent: u8) -> Result<Slot, OptionsError> {
        if node.capacity.to_array().into_iter().any(|amount| AMOUNT_MAX < amount) {
            return Err(OptionsError::TooLarge { node: node.id });
        }
        let percent = |amount: u64| amount * u64::from(headroom_percent) / 100;
        let entry = NodeEntry {
            id: node.id,
            capacity: node.capacity,
            headroom: ResourceVector::from_array(node.capacity.to_array().map(percent)),
            reserved: ResourceVector::default(),
            claims: Vec::new(),
            first: NONE,
            last: NONE,
            still: NONE,
            suspended: Heap::default(),
            listed: false,
            lost: false,
        };
        let room = Room { free: node.capacity, open: true };
        let slot = match self.find(node.id) {
            Some(slot) => {
                let there = &self.entries[slot];
                let empty = there.first == NONE && there.still == NONE && there.claims.is_empty();
                if self.rooms[slot].open || !empty {
                    return Err(OptionsError::DuplicateNode { node: node.id });
                }
                sub(&mut self.capacity, &there.capacity);
                let listed = there.listed;
                self.entries[slot] = NodeEntry { listed, ..entry };
                self.rooms[slot] = room;
                slot
            }
            None if NODES_MAX <= self.by_id.len() => return Err(OptionsError::Nodes { limit: NODES_MAX }),
            None => match self.spare.pop() {
                Some(slot) => {
                    let listed = self.entries[slot].listed;
                    self.entries[slot] = NodeEntry { listed, ..entry };
                    self.rooms[slot] = room;
                    slot
                }
                None => {
                    self.rooms.push(room);
                    self.entries.push(entry)
                }
            },
        };
        if slot / BLOCK == self.blocks.len() {
            self.blocks.push(ResourceVector::default());
        }
        self.by_id.insert(node.id, slot);
        add(&mut self.capacity, &node.capacity);
        self.shape += 1;
        self.raised(slot);
        Ok(slot)
    }

    pub(crate) fn drain(&mut self, slot: Slot) {
        self.rooms[slot].open = false;
        self.shape += 1;
    }

    /// Forgets the node. Nothing is on it any more.
    pub(crate) fn lose(&mut self, slot: Slot) {
        let entry = &mut self.entries[slot];
        assert!(self.rooms[slot].free == entry.capacity, "N1: nothing is left on a node that is lost");
        assert!(entry.first == NONE && entry.still == NONE && entry.claims.is_empty(), "N1");
        entry.lost = true;
        self.by_id.remove(&entry.id);
        let capacity = std::mem::take(&mut entry.capacity);
        sub(&mut self.capacity, &capacity);
        self.rooms[slot] = Room { free: ResourceVector::default(), open: false };
        self.spare.push(slot);
        self.shape += 1;
    }

    pub(crate) fn take(&mut self, slot: Slot, amount: &ResourceVector) {
        sub(&mut self.rooms[slot].free, amount);
    }

    /// Takes back what a task or a claim had, and gives it to claims first. What of them is whole now goes to `ready`.
    pub(crate) fn give_back(&mut self, slot: Slot, amount: &ResourceVector, ready: &mut impl Extend<Slot>) {
        let mut rest = *amount;
        let entry = &mut self.entries[slot];
        for claim in &mut entry.claims {
            if claim.got == claim.need {
                continue;
            }
            let mut wanted = claim.need;
            sub(&mut wanted, &claim.got);
            let part = wanted.minimum(&rest);
            sub(&mut rest, &part);
            add(&mut claim.got, &part);
            add(&mut entry.reserved, &part);
            if claim.got == claim.need {
                ready.extend([claim.task]);
            }
        }
        let free = &mut self.rooms[slot].free;
        add(free, &rest);
        assert!(entry.capacity.fits(free), "N1: no more is given back than was taken");
        self.raised(slot);
    }

    fn raised(&mut self, slot: Slot) {
        let free = self.rooms[slot].free;
        let summary = &mut self.blocks[slot / BLOCK];
        *summary = summary.maximum(&free); // N2
        if let Some(last) = self.log.get_mut((self.raises % LOG) as usize) {
            *last = slot;
        }
        self.raises += 1;
    }

    /// The nodes where something was given back since `seen`; `None` when that is too long ago to be known.
    pub(crate) fn raised_since(&self, seen: u64) -> Option<impl Iterator<Item = Slot>> {
        let recent = (seen..self.raises).map(|at| self.log.get((at % LOG) as usize).copied().unwrap_or(NONE));
        (self.raises - seen <= LOG).then_some(recent)
    }

    /// Whether `need` fits there now; a guarded one leaves the headroom.
    #[inline]
    pub(crate) fn has_room(&self, slot: Slot, need: &ResourceVector, guarded: bool) -> bool {
        let room = &self.rooms[slot];
        let headroom = if guarded { &self.entries[slot].headroom } else { &NOTHING };
        room.open && room.free.fits(need) && (!guarded || fits_beside(&room.free, need, headroom))
    }

    /// What is free there; for a guarded need, beyond the headroom.
    pub(crate) fn usable(&self, slot: Slot, guarded: bool) -> ResourceVector {
        let free = self.rooms[slot].free;
        if guarded { beyond(&free, &self.entries[slot].headroom) } else { free }
    }

    /// What it has in all; for a guarded need, beyond the headroom.
    pub(crate) fn whole(&self, slot: Slot, guarded: bool) -> ResourceVector {
        let NodeEntry { capacity, headroom, .. } = &self.entries[slot];
        if guarded { beyond(capacity, headroom) } else { *capacity }
    }

    /// Whether it fits, and the node is not the reserved one.
    fn takes(&self, slot: Slot, need: &ResourceVector, guarded: bool) -> bool {
        slot != self.reserved && self.has_room(slot, need, guarded)
    }

    pub(crate) fn reserved(&self) -> Option<Slot> {
        (self.reserved != NONE).then_some(self.reserved)
    }

    /// Leaves another node out of hints. The former one is there again, as if something were given back.
    pub(crate) fn reserve(&mut self, slot: Slot) {
        let former = std::mem::replace(&mut self.reserved, slot);
        if former != NONE && former != slot {
            self.raised(former);
        }
    }

    /// Whether `need` would fit there if nothing else were there.
    pub(crate) fn could_hold(&self, slot: Slot, need: &ResourceVector, guarded: bool) -> bool {
        let entry = &self.entries[slot];
        let headroom = if guarded { &entry.headroom } else { &NOTHING };
        self.rooms[slot].open && fits_beside(&entry.capacity, need, headroom)
    }

    /// Mends a hint by what was given back since it was up to date (N3).
    pub(crate) fn refresh(&self, hint: &mut Hint, need: &ResourceVector, guarded: bool) {
        match self.raised_since(hint.seen) {
            None => hint.node = 0,
            Some(raised) => {
                for node in raised {
                    if node < hint.node && self.takes(node, need, guarded) {
                        hint.node = node;
                    }
                }
            }
        }
        hint.seen = self.raises;
    }

    /// The most that is free, of each resource, on any node where something was given back since `seen`; `None` when
    /// that is too long ago.
    pub(crate) fn most_since(&self, seen: u64) -> Option<ResourceVector> {
        let raised = self.raised_since(seen)?.filter(|node| *node != self.reserved);
        Some(raised.fold(NOTHING, |most, node| most.maximum(&self.rooms[node].free)))
    }

    /// Whether a hint says that there was no room anywhere, and still says so; then it is up to date.
    #[inline]
    pub(crate) fn is_still_full(&self, hint: &mut Hint, need: &ResourceVector) -> bool {
        if hint.node < self.len() || LOG < self.raises - hint.seen {
            return false;
        }
        for at in hint.seen..self.raises {
            let node = self.log.get((at % LOG) as usize).copied().unwrap_or(NONE);
            if node != self.reserved && self.rooms[node].free.fits(need) {
                return false;
            }
        }
        hint.seen = self.raises;
        true
    }

    /// The first node from `from` on with room, by blocks, but for the reserved one.
    pub(crate) fn first_from(&mut self, from: Slot, need: &ResourceVector, guarded: bool) -> Option<Slot> {
        let mut at = from;
        while at < self.len() {
            let block = at / BLOCK;
            let end = ((block + 1) * BLOCK).min(self.len());
            if self.blocks[block].fits(need) {
                let whole = at == block * BLOCK;
                if let Some(found) = (at..end).find(|node| self.takes(*node, need, guarded)) {
                    return Some(found);
                }
                if whole {
                    let free = (at..end).map(|node| self.rooms[node].free);
                    self.blocks[block] = free.fold(NOTHING, |most, free| most.maximum(&free));
                }
            }
            at = end;
        }
        None
    }

    /// # Errors
    /// N2, and where.
    pub(crate) fn verify(&self) -> Result<(), String> {
        for slot in 0..self.len() {
            if !self.blocks[slot / BLOCK].fits(&self.rooms[slot].free) {
                return Err(format!("N2: node slot {slot}"));
            }
        }
        Ok(())
    }
}

/// Whether `need` fits into `have` and leaves `headroom` of what it needs at all.
fn fits_beside(have: &ResourceVector, need: &ResourceVector, headroom: &ResourceVector) -> bool {
    let parts = have.to_array().into_iter().zip(need.to_array()).zip(headroom.to_array());
    parts.into_iter().all(|((have, need), headroom)| need == 0 || need.saturating_add(headroom) <= have)
}

/// What `have` has beyond `headroom`.
fn beyond(have: &ResourceVector, headroom: &ResourceVector) -> ResourceVector {
    let mut amounts = have.to_array();
    for (amount, headroom) in amounts.iter_mut().zip(headroom.to_array()) {
        *amount = amount.saturating_sub(headroom);
    }
    ResourceVector::from_array(amounts)
}

impl std::ops::Index<Slot> for Nodes {
    type Output = NodeEntry;
    fn index(&self, slot: Slot) -> &NodeEntry {
        &self.entries[slot]
    }
}

impl std::ops::IndexMut<Slot> for Nodes {
    fn index_mut(&mut self, slot: Slot) -> &mut NodeEntry {
        &mut self.entries[slot]
    }
}
