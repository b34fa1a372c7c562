//! Which deadlines can be promised: a test of demand against what realtime tasks are given of all processors.
//!
//! A realtime task brings work (processor share × duration). It is admitted only if, for its own deadline and for each
//! later one that was promised, the work due by then is no more than what the realtime share of all processors does
//! until then. With `D` a deadline, `demand(D)` the work of waiting tasks due by `D`, `running` what those that run
//! still have to do and `rate` the share, the test at time `t` is
//! `demand(D) + running ≤ rate × (D − t)`; so `demand(D) − rate × D` is kept, which no passing of time changes, in a
//! tree by deadline with its maximum over each subtree. A test and a change cost O(log n).
//!
//! Not here: a proof. Tasks run whole on one node, so what fits in sum may not fit in pieces; other resources are not
//! tested; estimates may be wrong. Missed deadlines are counted.
//!
//! Source: Liu & Layland 1973; Baruah, Rosier & Howell 1990 (processor demand). Decision:
//! docs/adr/0104-deadlines-are-promised-by-demand.md.
//!
//! Invariants
//! - D1 the tree holds exactly the realtime tasks that wait, and `running` those that run within their estimate.
//! - D2 a deadline that was promised stays feasible by the test when others are admitted after it.

use std::collections::BTreeMap;

use crate::column::{NONE, Slot, Slots};

#[derive(Clone, Copy, Debug)]
struct Branch {
    key: (u64, u64), // deadline, order of arrival
    work: i128,
    shuffle: u64,
    left: Slot,
    right: Slot,
    sum: i128,
    /// The most, over its deadlines, of the work due by then within the subtree less what is done by then.
    late: i128,
}

/// What a test needs to know of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Demand {
    pub(crate) deadline_ns: u64,
    pub(crate) duration_ns: u64,
    pub(crate) cpu_millicores: u64,
    pub(crate) seq: u64,
}

impl Demand {
    fn work(&self) -> i128 {
        i128::from(self.cpu_millicores) * i128::from(self.duration_ns)
    }
}

#[derive(Debug)]
pub(crate) struct Admission {
    branches: Slots<Branch>,
    root: Slot,
    rate: i128,                         // hundredths of millicores
    running: BTreeMap<(u64, u64), u64>, // (estimated end, order of arrival): millicores
    running_at_end: i128,
    running_rate: i128,
}

const SCALE: i128 = 100; // the rate is a percentage: work is counted in hundredths as well

impl Admission {
    pub(crate) fn new() -> Self {
        Self {
            branches: Slots::new(),
            root: NONE,
            rate: 0,
            running: BTreeMap::new(),
            running_at_end: 0,
            running_rate: 0,
        }
    }

    /// How many promised tasks wait, and how many run within their estimates.
    pub(crate) fn len(&self) -> (usize, usize) {
        (self.branches.len(), self.running.len())
    }

    /// Sets what realtime tasks are given. Promises that were made stay. Cost: O(n).
    pub(crate) fn set_rate(&mut self, cpu_millicores: u64, percent: u8) {
        self.rate = i128::from(cpu_millicores) * i128::from(percent);
        self.renew(self.root);
    }

    fn renew(&mut self, at: Slot) {
        if at != NONE {
            let Branch { left, right, .. } = self.branches[at];
            self.renew(left);
            self.renew(right);
            self.join(at);
        }
    }

    /// Forgets those that run longer than they were to.
    pub(crate) fn advance(&mut self, now_ns: u64) {
        while let Some(first) = self.running.first_entry().filter(|first| first.key().0 <= now_ns) {
            let (end_ns, millicores) = (first.key().0, first.remove());
            self.count(end_ns, millicores, -1);
        }
    }

    fn count(&mut self, end_ns: u64, millicores: u64, sign: i128) {
        self.running_rate += sign * i128::from(millicores);
        self.running_at_end += sign * i128::from(millicores) * i128::from(end_ns);
    }

    /// The earliest deadline that could be promised is said where this one cannot.
    pub(crate) fn test(&self, task: &Demand, now_ns: u64) -> Result<(), u64> {
        let now = i128::from(now_ns);
        let soonest_ns = now_ns.saturating_add(task.duration_ns);
        let running = self.running_at_end - self.running_rate * now;
        let added = (task.work() + running) * SCALE + self.rate * now;
        let mut least = i128::from(soonest_ns);
        if 0 < task.work() {
            if self.rate == 0 {
                return Err(u64::MAX);
            }
            // The last promised deadline that would be late if this task came before it.
            let late = self.last_late(added);
            let (after, due) = late.map_or((0, 0), |(deadline_ns, due)| (i128::from(deadline_ns), due));
            let done = (due + added + self.rate - 1).div_euclid(self.rate);
            least = least.max(after).max(done);
            let feasible = i128::from(soonest_ns) <= i128::from(task.deadline_ns)
                && i128::from(task.deadline_ns) >= after
                && self.due_by(task.deadline_ns) + added <= self.rate * i128::from(task.deadline_ns);
            if feasible {
                return Ok(());
            }
        } else if soonest_ns <= task.deadline_ns {
            return Ok(());
        }
        Err(u64::try_from(least).unwrap_or(u64::MAX))
    }

    /// The work promised by then.
    fn due_by(&self, deadline_ns: u64) -> i128 {
        let (mut at, mut due) = (self.root, 0);
        while at != NONE {
            let branch = &self.branches[at];
            if branch.key.0 <= deadline_ns {
                due += self.sum(branch.left) + branch.work;
                at = branch.right;
            } else {
                at = branch.left;
            }
        }
        due
    }

    /// The last deadline that would be late with so much more to do, and the work due by then.
    fn last_late(&self, added: i128) -> Option<(u64, i128)> {
        let (mut at, mut before) = (self.root, 0);
        if at == NONE || self.branches[at].late + added <= 0 {
            return None;
        }
        loop {
            let branch = &self.branches[at];
            let due = before + self.sum(branch.left) + branch.work;
            if branch.right != NONE && 0 < due + self.branches[branch.right].late + added {
                (at, before) = (branch.right, due);
            } else if 0 < due - self.rate * i128::from(branch.key.0) + added {
                return Some((branch.key.0, due));
            } else {
                at = branch.left;
                assert!(at != NONE, "D1: a subtree that is late has a deadline that is");
            }
        }
    }

    /// The task waits, and its deadline is promised.
    pub(crate) fn wait(&mut self, task: &Demand) {
        let work = task.work() * SCALE;
        let key = (task.deadline_ns, task.seq);
        let shuffle = (task.seq ^ 0x9E37_79B9_7F4A_7C15).wrapping_mul(0xD6E8_FEB8_6659_FD93).rotate_left(29);
        let shuffle = shuffle.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let branch = Branch { key, work, shuffle, left: NONE, right: NONE, sum: 0, late: 0 };
        let slot = self.branches.insert(branch);
        self.join(slot);
        let (left, right) = self.split(self.root, key);
        let left = self.merge(left, slot);
        self.root = self.merge(left, right);
    }

    /// The task waits no more.
    pub(crate) fn leave(&mut self, task: &Demand) {
        let key = (task.deadline_ns, task.seq);
        let (left, rest) = self.split(self.root, key);
        let (own, right) = self.split(rest, (key.0, key.1 + 1));
        assert!(own != NONE, "D1: a task that waits was promised its deadline");
        self.branches.remove(own);
        self.root = self.merge(left, right);
    }

    /// The task runs, and will for so long.
    pub(crate) fn run(&mut self, task: &Demand, now_ns: u64) {
        let end_ns = now_ns.saturating_add(task.duration_ns);
        if now_ns < end_ns && self.running.insert((end_ns, task.seq), task.cpu_millicores).is_none() {
            self.count(end_ns, task.cpu_millicores, 1);
        }
    }

    /// The task runs no more, which it was to do until `end_ns`.
    pub(crate) fn end(&mut self, end_ns: u64, seq: u64) {
        if let Some(millicores) = self.running.remove(&(end_ns, seq)) {
            self.count(end_ns, millicores, -1);
        }
    }

    fn sum(&self, at: Slot) -> i128 {
        if at == NONE { 0 } else { self.branches[at].sum }
    }

    fn join(&mut self, at: Slot) {
        let Branch { left, right, work, key, .. } = self.branches[at];
        let due = self.sum(left) + work;
        let mut late = due - self.rate * i128::from(key.0);
        if left != NONE {
            late = late.max(self.branches[left].late);
        }
        let mut sum = due;
        if right != NONE {
            late = late.max(due + self.branches[right].late);
            sum += self.branches[right].sum;
        }
        let branch = &mut self.branches[at];
        (branch.sum, branch.late) = (sum, late);
    }

    /// Those before `key`, and the others.
    fn split(&mut self, at: Slot, key: (u64, u64)) -> (Slot, Slot) {
        if at == NONE {
            return (NONE, NONE);
        }
        let Branch { key: own, left, right, .. } = self.branches[at];
        if own < key {
            let (low, high) = self.split(right, key);
            self.branches[at].right = low;
            self.join(at);
            (at, high)
        } else {
            let (low, high) = self.split(left, key);
            self.branches[at].left = high;
            self.join(at);
            (low, at)
        }
    }

    fn merge(&mut self, left: Slot, right: Slot) -> Slot {
        if left == NONE || right == NONE {
            return if left == NONE { right } else { left };
        }
        if self.branches[right].shuffle < self.branches[left].shuffle {
            self.branches[left].right = self.merge(self.branches[left].right, right);
            self.join(left);
            left
        } else {
            self.branches[right].left = self.merge(left, self.branches[right].left);
            self.join(right);
            right
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The rule itself: what is due by each promised deadline from the new one on, against what is done by then.
    fn feasible(waiting: &[Demand], new: &Demand, now_ns: u64, rate: i128) -> bool {
        let all = || waiting.iter().chain([new]);
        let fits = |deadline_ns: u64| {
            let due: i128 = all().filter(|task| task.deadline_ns <= deadline_ns).map(Demand::work).sum();
            due * SCALE <= rate * (i128::from(deadline_ns) - i128::from(now_ns))
        };
        let later = all().filter(|task| new.deadline_ns <= task.deadline_ns);
        now_ns + new.duration_ns <= new.deadline_ns
            && (new.work() == 0 || later.into_iter().all(|task| fits(task.deadline_ns)))
    }

    #[test]
    fn d1_d2_the_tree_says_what_the_rule_says_and_the_earliest_is_the_earliest() {
        let mut random = 3u64;
        let mut below = |limit: u64| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (random >> 33) % limit
        };
        let mut admission = Admission::new();
        admission.set_rate(1_000, 50);
        let (mut waiting, mut now_ns, mut refused) = (Vec::<Demand>::new(), 0, 0);
        for seq in 0..4_000 {
            now_ns += below(20);
            let duration_ns = 1 + below(40);
            let deadline_ns = now_ns + below(400);
            let task = Demand { deadline_ns, duration_ns, cpu_millicores: below(600), seq };
            let answer = admission.test(&task, now_ns);
            assert_eq!(answer.is_ok(), feasible(&waiting, &task, now_ns, admission.rate), "D2: {task:?}");
            match answer {
                Ok(()) => {
                    admission.wait(&task);
                    waiting.push(task);
                }
                Err(earliest_ns) => {
                    refused += 1;
                    let at = |deadline_ns| Demand { deadline_ns, ..task };
                    assert_eq!(admission.test(&at(earliest_ns), now_ns), Ok(()), "D2");
                    let before =
                        (task.deadline_ns..earliest_ns).all(|ns| admission.test(&at(ns), now_ns).is_err());
                    assert!(before, "D2: none before {earliest_ns} is feasible");
                }
            }
            if below(3) == 0 && !waiting.is_empty() {
                let gone = waiting.swap_remove(below(waiting.len() as u64) as usize);
                admission.leave(&gone);
            }
            assert_eq!(admission.len().0, waiting.len(), "D1");
        }
        assert!(400 < refused && refused < 3_600, "both answers were met: {refused}");
    }

    #[test]
    fn d1_what_runs_counts_until_its_estimate_is_over() {
        let mut admission = Admission::new();
        admission.set_rate(1_000, 100);
        let task = Demand { deadline_ns: 100, duration_ns: 100, cpu_millicores: 1_000, seq: 0 };
        admission.run(&task, 0);
        let next = |deadline_ns| Demand { deadline_ns, duration_ns: 10, cpu_millicores: 1_000, seq: 1 };
        assert_eq!(admission.test(&next(50), 0), Err(110));
        assert_eq!(admission.test(&next(110), 0), Ok(()));
        assert_eq!(admission.test(&next(109), 99), Err(110));
        admission.advance(100);
        assert_eq!((admission.test(&next(110), 100), admission.running_rate), (Ok(()), 0));
        admission.set_rate(0, 100);
        assert_eq!(admission.test(&next(u64::MAX), 100), Err(u64::MAX));
    }
}
