//! Batch between tenants, all of whom always have work: each is served by its weight.
//!
//! Why apart: in a run with everything else, room and turns decide who starts. Here each task takes the whole node.
//! Source of the bound: Goyal et al., "Start-time Fair Queueing", 1996: between two tenants that always wait, what was
//! served by weight differs by no more than one task of each.
//!
//! Invariants
//! - N20 what tenants were served, by weight, differs by no more than the largest task of each of the two.

use symbi_scheduler::{Decision, Node, NodeId, Options, Scheduler, Share, Task, TaskId, TenantId, Tier};
use symbi_testkit::SeededEntropy;
use symbi_types::ResourceVector;

use crate::ledger::{Broken, ensure};
use crate::plan::MS;

const TASKS: u64 = 24; // of each tenant
const LONGEST_MS: u64 = 50;

/// One node, three tenants, all tasks there from the beginning.
pub fn check(seed: u64) -> Result<(), Broken> {
    let dice = SeededEntropy::new(seed);
    let capacity = ResourceVector { cpu_millicores: 1_000, ..ResourceVector::default() };
    let node = Node { id: NodeId(0), capacity };
    let mut scheduler = Scheduler::new(&[node], Options::default()).expect("in range");
    let weights: Vec<u32> = (0..3).map(|_| dice.pick(&[1, 2, 5, 10])).collect();
    let mut tasks = Vec::new();
    for id in 0..3 * TASKS {
        let tenant = TenantId(u32::try_from(id % 3).unwrap());
        let share = Share { weight: weights[tenant.0 as usize], ..Share::default() };
        scheduler.set_tenant(tenant, share).expect("in range");
        let duration_ns = Some(dice.between(1, LONGEST_MS) * MS);
        tasks.push(Task { tenant, tier: Tier::Batch, duration_ns, ..Task::new(TaskId(id), capacity) });
        scheduler.submit(tasks[tasks.len() - 1]).expect("it fits");
    }
    let (mut now_ns, mut served, mut left) = (0, [0; 3], [TASKS; 3]);
    while left.iter().all(|left| 0 < *left) {
        let Some(Decision::Start { task, .. }) = scheduler.next() else {
            return Err(Broken { rule: "N17 no node idles in vain", text: format!("{left:?} wait") });
        };
        let Task { tenant, duration_ns, .. } = tasks[usize::try_from(task.0).unwrap()];
        now_ns += duration_ns.unwrap_or_default();
        served[tenant.0 as usize] += duration_ns.unwrap_or_default();
        left[tenant.0 as usize] -= 1;
        scheduler.advance(now_ns);
        scheduler.complete(task).expect("it runs");
        for (a, b) in [(0, 1), (0, 2), (1, 2)] {
            let by_weight = |at: usize, ns: u64| ns / u64::from(weights[at]);
            let apart = by_weight(a, served[a]).abs_diff(by_weight(b, served[b]));
            let most = by_weight(a, LONGEST_MS * MS) + by_weight(b, LONGEST_MS * MS);
            ensure!(apart <= most, "N20 fair shares", "{a} and {b} of {weights:?} were served {served:?}");
        }
    }
    Ok(())
}
