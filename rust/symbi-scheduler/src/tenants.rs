//! Whose account tasks are on: quotas, and the fair share of the batch tier.
//!
//! Fair share is fair queueing by virtual time: each tenant has a clock that its batch tasks move on by cost / weight
//! when they start, and the tenant whose clock is furthest behind is served next. Cost is the dominant share (the
//! largest part of all nodes that the task takes of any resource) × its duration: the estimate when it starts, put
//! right when it is over. A tenant that comes back after a pause starts at the present, so that it cannot save up.
//!
//! Source: Ghodsi et al., "Dominant Resource Fairness", NSDI 2011; Goyal et al., "Start-time Fair Queueing", 1996.
//! Decision: docs/adr/0103-batch-is-fair-queueing.md.
//!
//! Invariants
//! - F1 a tenant stands in `active` by its clock exactly while one of its batch classes may be looked at.
//! - F2 what a tenant uses is the sum of the needs of its tasks that were handed out or claim; those that stand still
//!   count whole.
//! - F3 a tenant that comes back after others were served is not behind the present: a pause earns nothing. One whose
//!   only task is taken out and put elsewhere keeps what it is owed.

use symbi_types::ResourceVector;

use crate::column::{Column, NONE, Slot};
use crate::front::Front;
use crate::hash::Map;
use crate::heap::{Item, Places};
use crate::options::{OptionsError, Share};
use crate::rank::Rank;
use crate::task::TenantId;

/// Tenants that may be known: each costs some hundred bytes for ever.
pub(crate) const TENANTS_MAX: usize = 1 << 16;
/// A dominant share of everything.
pub(crate) const WHOLE: u64 = 1 << 16;
/// What a task without an estimate is charged for when it starts.
pub(crate) const DURATION_UNKNOWN_NS: u64 = 1_000_000_000;
/// Past it all clocks are set back together; at full use of everything by weight 1 that is after four years.
const CLOCK_MAX: u64 = 1 << 63;

#[derive(Debug)]
pub(crate) struct Tenant {
    pub(crate) id: TenantId,
    pub(crate) share: Share,
    pub(crate) used: ResourceVector, // F2
    pub(crate) waiting: usize,
    clock: u64,
    listed: Option<Rank>, // F1
    /// How often somebody had been served when it last had no batch work.
    left: u64,
    /// Its batch classes.
    pub(crate) batch: Front,
    /// Its classes of any tier whose first task its quota does not allow now.
    pub(crate) aside: Front,
    /// How often a younger one passed the first of those, and which that was.
    pub(crate) passed: u8,
    pub(crate) passed_seq: u64,
}

#[derive(Debug)]
pub(crate) struct Tenants {
    entries: Column<Tenant>,
    by_id: Map<TenantId, Slot>,
    /// Those with batch work, by their clocks.
    pub(crate) active: Front,
    places: Places,
    present: u64,
    /// How often somebody was served.
    served: u64,
}

impl Tenants {
    pub(crate) fn new() -> Self {
        Self {
            entries: Column::new(),
            by_id: Map::default(),
            active: Front::default(),
            places: Places::new(),
            present: 0,
            served: 0,
        }
    }

    pub(crate) fn find(&self, tenant: TenantId) -> Option<Slot> {
        self.by_id.get(&tenant).copied()
    }

    pub(crate) fn is_full(&self) -> bool {
        TENANTS_MAX <= self.by_id.len()
    }

    pub(crate) fn slots(&self) -> std::ops::Range<Slot> {
        0..self.entries.len()
    }

    /// The tenant, with the usual share if it was never set.
    pub(crate) fn enter(&mut self, id: TenantId) -> Result<Slot, OptionsError> {
        if let Some(slot) = self.find(id) {
            return Ok(slot);
        }
        if self.is_full() {
            return Err(OptionsError::Tenants { limit: TENANTS_MAX });
        }
        self.places.push(NONE);
        let slot = self.entries.push(Tenant {
            id,
            share: Share::default(),
            used: ResourceVector::default(),
            waiting: 0,
            clock: 0,
            listed: None,
            left: 0,
            batch: Front::default(),
            aside: Front::default(),
            passed: 0,
            passed_seq: 0,
        });
        self.by_id.insert(id, slot);
        Ok(slot)
    }

    /// Puts the tenant where its clock says, after its batch classes came, went or were served (F1).
    pub(crate) fn relist(&mut self, slot: Slot) {
        let tenant = &mut self.entries[slot];
        let wanted = (!tenant.batch.is_empty()).then(|| {
            if tenant.listed.is_none() && tenant.left != self.served {
                tenant.clock = tenant.clock.max(self.present); // F3
            }
            Rank { key: tenant.clock, seq: slot.into() }
        });
        let listed = std::mem::replace(&mut tenant.listed, wanted);
        if listed == wanted {
            return;
        }
        if wanted.is_none() {
            tenant.left = self.served;
        }
        if let Some(rank) = listed {
            self.active.remove(Item::new(rank, slot), &mut self.places);
        }
        if let Some(rank) = wanted {
            self.active.insert(Item::new(rank, slot), &mut self.places);
        }
    }

    /// Moves the tenant's clock on for a task that starts now; the present is where it stood.
    pub(crate) fn charge(&mut self, slot: Slot, cost: u64) {
        self.present = self.present.max(self.entries[slot].clock);
        self.served += 1;
        self.correct(slot, 0, cost);
        if CLOCK_MAX < self.present {
            self.set_back();
        }
    }

    /// Puts right what was charged when the true cost is known.
    pub(crate) fn correct(&mut self, slot: Slot, charged: u64, cost: u64) {
        let tenant = &mut self.entries[slot];
        let weight = u64::from(tenant.share.weight);
        tenant.clock = tenant.clock.saturating_add(cost / weight).saturating_sub(charged / weight);
        self.relist(slot);
    }

    fn set_back(&mut self) {
        let by = self.present;
        self.present = 0;
        for slot in self.slots() {
            let tenant = &mut self.entries[slot];
            tenant.clock = tenant.clock.saturating_sub(by);
            self.relist(slot);
        }
    }

    /// # Errors
    /// F1 or W1, and where.
    pub(crate) fn verify(&self) -> Result<(), String> {
        self.active.verify(&self.places)?;
        for slot in self.slots() {
            let tenant = &self.entries[slot];
            let rank = Rank { key: tenant.clock, seq: slot.into() };
            if tenant.listed != (!tenant.batch.is_empty()).then_some(rank) {
                return Err(format!("F1: tenant {}", tenant.id));
            }
        }
        match self.active.len() == self.entries.iter().filter(|tenant| tenant.listed.is_some()).count() {
            true => Ok(()),
            false => Err("F1: another tenant is listed".to_owned()),
        }
    }
}

impl Tenant {
    /// Where it stands among the others.
    pub(crate) fn clock(&self) -> (u64, u64) {
        self.listed.map_or((u64::MAX, 0), |rank| (rank.key, rank.seq))
    }
}

impl std::ops::Index<Slot> for Tenants {
    type Output = Tenant;
    fn index(&self, slot: Slot) -> &Tenant {
        &self.entries[slot]
    }
}

impl std::ops::IndexMut<Slot> for Tenants {
    fn index_mut(&mut self, slot: Slot) -> &mut Tenant {
        &mut self.entries[slot]
    }
}

/// The cost of holding `share` of everything for so long.
pub(crate) fn cost(share: u64, duration_ns: u64) -> u64 {
    share.saturating_mul(duration_ns / 1_000).max(1)
}

/// The largest part of `all` that `need` takes of any resource, in parts of [`WHOLE`]; at least one part.
pub(crate) fn dominant_share(need: &ResourceVector, all: &ResourceVector) -> u64 {
    let parts = need.to_array().into_iter().zip(all.to_array());
    let shares = parts.filter(|(_, all)| 0 < *all).map(|(need, all)| {
        u64::try_from(u128::from(need) * u128::from(WHOLE) / u128::from(all)).unwrap_or(u64::MAX)
    });
    shares.max().unwrap_or(0).clamp(1, WHOLE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f3_a_pause_earns_nothing_and_what_was_overcharged_is_given_back() {
        let mut tenants = Tenants::new();
        let (a, b) = (tenants.enter(TenantId(1)).unwrap(), tenants.enter(TenantId(2)).unwrap());
        let mut places = Places::new();
        places.push(NONE);
        places.push(NONE);
        let rank = Rank { key: 0, seq: 0 };
        tenants[a].batch.insert(Item::new(rank, 0), &mut places);
        tenants.relist(a);
        for _ in 0..10 {
            tenants.charge(a, 100);
        }
        tenants[b].batch.insert(Item::new(rank, 1), &mut places);
        tenants.relist(b);
        let clock = |tenants: &Tenants, slot| tenants.entries[slot].clock;
        assert_eq!((clock(&tenants, a), clock(&tenants, b)), (1_000, 900), "F3");
        assert_eq!(tenants.active.first().map(Item::slot), Some(b));
        tenants.correct(a, 100, 0);
        assert_eq!(tenants.active.first().map(Item::slot), Some(a), "F1: equal clocks go by age");
        assert_eq!(tenants.verify(), Ok(()));
        tenants.charge(b, u64::MAX);
        tenants.charge(b, 1);
        assert_eq!(clock(&tenants, a), 0, "all are set back together");
    }
}
