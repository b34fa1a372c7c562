//! The scheduler's books beside the second set: every sum, every count, every place.
//!
//! Not here: how the second set is kept (`ledger`).
//!
//! Invariants
//! - N3 what is free on a node is its capacity less what its tasks hold, to the last unit, and never less than nothing.
//! - N5 none is lost: what was accepted is known until it ends, and every count agrees.

use symbi_scheduler::{Scheduler, Tier, Totals, Why};
use symbi_types::ResourceVector;

use crate::ledger::{Broken, Entry, Ledger, Place, ensure, sum};

impl Ledger {
    /// Compares the scheduler's books with these. Of the tasks, one in `of` is asked about, another each time; its own
    /// check of itself, which is slow, is asked for every fourth time.
    pub fn check(&self, scheduler: &Scheduler, turn: u64, of: u64) -> Result<(), Broken> {
        let mut sums = Totals::default();
        for (node, machine) in &self.nodes {
            let held = self.held_on(*node);
            let left = machine.capacity.checked_sub(&held);
            let said = scheduler.free(*node);
            let reserved = left.zip(said).and_then(|(left, said)| left.checked_sub(&said));
            ensure!(
                reserved.is_some(),
                "N3 to the last unit",
                "{node}: {said:?} free, by these books {left:?}"
            );
            sums.capacity = sum([sums.capacity, machine.capacity].into_iter());
            sums.allocated = sum([sums.allocated, held].into_iter());
            sums.reserved = sum([sums.reserved, reserved.unwrap_or_default()].into_iter());
        }
        let totals = scheduler.totals();
        ensure!(totals == sums, "N3 to the last unit", "{totals:?}, by these books {sums:?}");
        let made = self.tasks.values().any(|entry| entry.place == Place::Suspending);
        let idle = made || sums.reserved == ResourceVector::default();
        ensure!(
            idle,
            "N3 nothing is kept for nobody",
            "{totals:?}, and nothing is on its way to stand still"
        );
        for tenant in self.tenants.keys() {
            let used = sum([self.used_by(*tenant), self.claimed_by(*tenant)].into_iter());
            let said = scheduler.used(*tenant);
            ensure!(
                said == Some(used),
                "N7 to the last unit",
                "{tenant} uses {said:?}, by these books {used:?}"
            );
        }
        self.count(scheduler)?;
        for (at, (id, entry)) in self.tasks.iter().enumerate() {
            if (at as u64 + turn).is_multiple_of(of) {
                let why = scheduler.why(*id);
                ensure!(
                    agrees(entry, why.as_ref()),
                    "N5 none is lost",
                    "{id} is {entry:?}, said to be {why:?}"
                );
            }
        }
        if !turn.is_multiple_of(4) {
            return Ok(());
        }
        scheduler.verify().map_err(|text| Broken { rule: "the scheduler's own books", text })
    }

    fn count(&self, scheduler: &Scheduler) -> Result<(), Broken> {
        let counts = scheduler.counts();
        let of = |place| {
            Tier::ALL.map(|tier| {
                self.tasks.values().filter(|entry| entry.place == place && entry.task.tier == tier).count()
            })
        };
        let places = [Place::Waiting, Place::Running, Place::Suspending, Place::Standing].map(of);
        let told = [counts.waiting, counts.running, counts.suspending, counts.suspended];
        ensure!(told == places, "N5 every count agrees", "{told:?}, by these books {places:?}");
        let missed = counts.deadlines_missed;
        ensure!(
            missed == self.missed,
            "N5 every count agrees",
            "{missed} missed, by these books {}",
            self.missed
        );
        Ok(())
    }
}

fn agrees(entry: &Entry, why: Option<&Why>) -> bool {
    match (entry.place, why) {
        (Place::Waiting, Some(Why::Waiting { .. })) => true,
        (Place::Running, Some(Why::Running { node })) => entry.node == Some(*node),
        (Place::Suspending, Some(Why::Suspending { node, .. })) => entry.node == Some(*node),
        (Place::Standing, Some(Why::Suspended { node, held, .. })) => {
            entry.node == Some(*node) && entry.held == *held
        }
        _ => false,
    }
}
