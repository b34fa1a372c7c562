//! What is accepted and what is refused: every answer to a submission is judged by the books.
//!
//! Why: a refusal for a reason that does not hold loses work, and an acceptance that should have been refused waits for
//! ever or breaks a promise.
//!
//! Invariants
//! - N15 a refused request says why and changes nothing.
//! - N18 a deadline is promised exactly where the demand test of all promised ones allows it.

use std::collections::BTreeSet;

use symbi_scheduler::{Task, TaskError, Tier};
use symbi_types::ResourceVector;

use crate::ledger::{Broken, Entry, Ledger, Place, ensure};
use crate::plan::Job;

impl Ledger {
    /// Books what was accepted; of what was refused, that the reason holds (N15).
    pub fn submitted(
        &mut self,
        now_ns: u64,
        job: Job,
        task: Task,
        answer: Result<(), TaskError>,
    ) -> Result<(), Broken> {
        let share = self.tenants.get(&task.tenant);
        let entry = Entry {
            task,
            job,
            place: Place::Waiting,
            node: None,
            held: false,
            claims: None,
            deadline_ns: task.deadline_ns,
            ran_ns: 0,
            arrived_ns: now_ns,
            number: self.accepted,
            since_ns: now_ns,
            left_ns: job.runs_ns,
            stretch: 0,
            passed: 0,
            inherits: BTreeSet::new(),
        };
        let fits = self.nodes.values().any(|machine| self.could_hold(machine, &entry));
        let fits = fits || task.need == ResourceVector::default(); // it waits for the first node
        let known = self.tasks.contains_key(&task.id);
        let full = self.options.tasks_max <= self.tasks.len();
        let waits = |entry: &&Entry| entry.place == Place::Waiting && entry.task.tenant == task.tenant;
        let waiting = self.tasks.values().filter(waits).count();
        let crowded = share.and_then(|share| share.waiting_max).is_some_and(|most| most <= waiting);
        let poor = share.and_then(|share| share.quota).is_some_and(|quota| !quota.fits(&task.need));
        let incomplete =
            task.tier == Tier::Realtime && (task.deadline_ns.is_none() || task.duration_ns.is_none());
        let promised = task.tier != Tier::Realtime || incomplete || self.can_promise(now_ns, &entry);
        let holds = match answer {
            Ok(()) => fits && !known && !full && !crowded && !poor && !incomplete && promised,
            Err(TaskError::NeverFits { lack, .. }) => !fits && lack.have < lack.need,
            Err(TaskError::Duplicate { .. }) => known,
            Err(TaskError::Full { .. }) => full,
            Err(TaskError::TenantFull { .. }) => crowded,
            Err(TaskError::OverQuota { lack, .. }) => poor && lack.have < lack.need,
            Err(TaskError::Incomplete { .. }) => incomplete,
            Err(TaskError::Deadline { earliest_ns, .. }) => task.deadline_ns < Some(earliest_ns) && !promised,
            Err(_) => false,
        };
        ensure!(holds, "N15 says why", "submit {task:?}: {answer:?}");
        if answer.is_ok() {
            self.accepted += 1;
            self.tasks.insert(task.id, entry);
        }
        Ok(())
    }

    /// N18: for its own deadline and each later one that was promised, the work due by then is no more than the
    /// realtime share of all processors does until then, less what those that run still have to do.
    fn can_promise(&self, now_ns: u64, new: &Entry) -> bool {
        let work = |of: &Entry, left_ns: u64| i128::from(of.task.need.cpu_millicores) * i128::from(left_ns);
        let told_ns = |of: &Entry| of.task.duration_ns.unwrap_or(0).saturating_sub(of.ran_ns);
        let realtime = || self.tasks.values().filter(|of| of.task.tier == Tier::Realtime);
        let runs = realtime().filter(|of| matches!(of.place, Place::Running | Place::Suspending));
        let running: i128 = runs.map(|of| work(of, (of.since_ns + told_ns(of)).saturating_sub(now_ns))).sum();
        let waiting = || realtime().filter(|of| of.place == Place::Waiting).chain([new]);
        let processors: u64 = self.nodes.values().map(|machine| machine.capacity.cpu_millicores).sum();
        let rate = i128::from(processors) * i128::from(self.options.realtime_percent);
        let kept = |by_ns: u64| {
            let due: i128 =
                waiting().filter(|of| of.deadline_ns <= Some(by_ns)).map(|of| work(of, told_ns(of))).sum();
            (due + running) * 100 <= rate * (i128::from(by_ns) - i128::from(now_ns))
        };
        let own_ns = new.deadline_ns.expect("a realtime task has one");
        let later = waiting().filter_map(|of| of.deadline_ns).filter(|by_ns| own_ns <= *by_ns);
        let idle = new.task.need.cpu_millicores == 0; // it takes nothing from the others
        now_ns.saturating_add(told_ns(new)) <= own_ns && (idle || later.into_iter().all(kept))
    }
}
