//! The scheduler against a plain list that follows the written rule, step by step, over random histories.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use symbi_scheduler::{
    Decision, Lack, Node, NodeId, Options, PASSED_MAX, Priority, Reason, Scheduler, Task, TaskError, TaskId,
    Why,
};
use symbi_types::{AgentId, Entropy, ResourceVector};

const CAPACITY: ResourceVector = ResourceVector::from_array([8, 8, 0, 0, 0, 2]);

const NODE: Node = Node { id: NodeId(0), capacity: CAPACITY };

fn start(real: &mut Scheduler) -> Option<TaskId> {
    real.next().map(|decision| match decision {
        Decision::Start { task, .. } => task,
        other => panic!("nothing is ever suspended here: {other:?}"),
    })
}

/// Bytes of one number, so that agent `n` has the same id in every run.
struct Numbered(u8);

impl Entropy for Numbered {
    fn fill(&self, buffer: &mut [u8]) {
        buffer.fill(self.0);
    }
}

fn agent(number: u8) -> AgentId {
    AgentId::random(&Numbered(number))
}

/// A list of tasks, oldest first. Everything is computed from it, slowly.
#[derive(Default)]
struct Model {
    passed: BTreeMap<TaskId, u32>, // by the head that was passed
    tasks: Vec<(Task, bool)>,      // the task, and whether it runs
}

impl Model {
    fn free(&self) -> ResourceVector {
        let running = self.tasks.iter().filter(|(_, running)| *running);
        running.fold(CAPACITY, |free, (task, _)| free.checked_sub(&task.need).expect("Q1"))
    }

    fn candidates(&self) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.tasks.len()).filter(|at| !self.tasks[*at].1).collect();
        order.sort_by_key(|at| (Reverse(self.tasks[*at].0.priority), *at));
        let mut seen: BTreeSet<Option<AgentId>> =
            self.tasks.iter().filter(|(_, running)| *running).map(|(task, _)| task.agent).collect();
        order.retain(|at| seen.insert(self.tasks[*at].0.agent));
        order
    }

    fn next(&mut self) -> Option<TaskId> {
        let free = self.free();
        let mut head: Option<usize> = None;
        let mut chosen = None;
        for at in self.candidates() {
            let need = self.tasks[at].0.need;
            if !free.fits(&need) {
                head = head.or(Some(at));
            } else if head.is_none_or(|head| self.spares(head, &free, &need)) {
                chosen = Some(at);
                break;
            }
        }
        let chosen = chosen?;
        if let Some(head) = head {
            *self.passed.entry(self.tasks[head].0.id).or_default() += 1;
        }
        self.tasks[chosen].1 = true;
        Some(self.tasks[chosen].0.id)
    }

    /// No durations are known: what passes the head takes nothing that it waits for, and not too often.
    fn spares(&self, head: usize, free: &ResourceVector, need: &ResourceVector) -> bool {
        let head = &self.tasks[head].0;
        let mut amounts = free.to_array().into_iter().zip(need.to_array()).zip(head.need.to_array());
        let spares = amounts.all(|((free, need), wanted)| need == 0 || wanted == 0 || need + wanted <= free);
        spares && self.passed.get(&head.id).is_none_or(|passed| *passed < u32::from(PASSED_MAX))
    }

    fn find(&self, id: u64) -> Option<usize> {
        self.tasks.iter().position(|(task, _)| task.id == TaskId(id))
    }
}

#[derive(Clone, Debug)]
enum Step {
    Submit { id: u64, agent: u8, priority: u8, need: ResourceVector },
    Next,
    Complete(u64),
    Cancel(u64),
    CancelAgent(u8),
}

fn step() -> impl Strategy<Value = Step> {
    let need = (0..=9u64, 0..=5u64, 0..=1u64).prop_map(|(memory_mb, cpu_millicores, sandboxes)| {
        ResourceVector { memory_mb, cpu_millicores, sandboxes, ..ResourceVector::default() }
    });
    let priority = prop_oneof![Just(0u8), Just(63), Just(64), Just(128), Just(255)];
    prop_oneof![
        6 => (0..40u64, 0..12u8, priority, need)
            .prop_map(|(id, agent, priority, need)| Step::Submit { id, agent, priority, need }),
        5 => Just(Step::Next),
        4 => (0..40u64).prop_map(Step::Complete),
        1 => (0..40u64).prop_map(Step::Cancel),
        1 => (0..12u8).prop_map(Step::CancelAgent),
    ]
}

fn submit(real: &mut Scheduler, model: &mut Model, task: Task) {
    let answer = real.submit(task);
    if !CAPACITY.fits(&task.need) {
        assert!(matches!(answer, Err(TaskError::NeverFits { .. })), "Q4");
    } else if model.find(task.id.0).is_some() {
        assert_eq!(answer, Err(TaskError::Duplicate { task: task.id }));
    } else {
        assert_eq!(answer, Ok(()));
        model.passed.remove(&task.id);
        model.tasks.push((task, false));
    }
}

fn apply(real: &mut Scheduler, model: &mut Model, step: Step) {
    match step {
        Step::Submit { id, agent: number, priority, need } => {
            let priority = Priority(priority);
            submit(real, model, Task { agent: Some(agent(number)), priority, ..Task::new(TaskId(id), need) });
        }
        Step::Next => assert_eq!(start(real), model.next()),
        Step::Complete(id) => match model.find(id) {
            None => assert_eq!(real.complete(TaskId(id)), Err(TaskError::Unknown { task: TaskId(id) })),
            Some(at) if model.tasks[at].1 => {
                let (task, _) = model.tasks.remove(at);
                assert_eq!(real.complete(TaskId(id)), Ok(task.need), "Q2");
            }
            Some(_) => assert_eq!(real.complete(TaskId(id)), Err(TaskError::NotRunning { task: TaskId(id) })),
        },
        Step::Cancel(id) => match model.find(id) {
            None => assert_eq!(real.cancel(TaskId(id)), Err(TaskError::Unknown { task: TaskId(id) })),
            Some(at) if model.tasks[at].1 => {
                assert_eq!(real.cancel(TaskId(id)), Err(TaskError::Running { task: TaskId(id) }));
            }
            Some(at) => {
                model.tasks.remove(at);
                assert_eq!(real.cancel(TaskId(id)), Ok(()));
            }
        },
        Step::CancelAgent(number) => {
            let mine = |task: &(Task, bool)| !task.1 && task.0.agent == Some(agent(number));
            let mut gone: Vec<Task> =
                model.tasks.iter().filter(|task| mine(task)).map(|task| task.0).collect();
            gone.sort_by_key(|task| Reverse(task.priority));
            model.tasks.retain(|task| !mine(task));
            let ids: Vec<TaskId> = gone.into_iter().map(|task| task.id).collect();
            assert_eq!(real.cancel_agent(agent(number)), ids);
        }
    }
}

fn same(real: &Scheduler, model: &Model) {
    assert_eq!(real.verify(), Ok(()));
    assert_eq!(real.free(NODE.id).unwrap(), model.free(), "Q1");
    assert_eq!(real.running(), model.tasks.iter().filter(|task| task.1).count());
    assert_eq!(real.waiting(), model.tasks.iter().filter(|task| !task.1).count());
    let agents: BTreeSet<Option<AgentId>> = model.tasks.iter().map(|task| task.0.agent).collect();
    assert_eq!(real.agents(), agents.len(), "A2");
    let mut order: Vec<&(Task, bool)> = model.tasks.iter().filter(|task| !task.1).collect();
    order.sort_by_key(|task| Reverse(task.0.priority));
    for (wanted, (task, _)) in order.into_iter().enumerate() {
        let Some(Why::Waiting { position, reason }) = real.why(task.id) else { panic!("it waits") };
        assert_eq!(position, wanted);
        if let Reason::Lacks { lacking, .. } = reason {
            assert!(lacking.iter().all(|lack: &Lack| lack.have < lack.need) && !lacking.is_empty());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn the_same_history_gives_the_same_answers_as_a_plain_list(steps in proptest::collection::vec(step(), 1..160)) {
        let mut real = Scheduler::new(&[NODE], Options::default()).unwrap();
        let mut model = Model::default();
        for step in steps {
            apply(&mut real, &mut model, step);
            same(&real, &model);
        }
        // Eventual progress: when what runs completes, everything that waits gets its turn.
        while !model.tasks.is_empty() {
            while let Some(started) = start(&mut real) {
                assert_eq!(model.next(), Some(started));
            }
            assert_eq!(model.next(), None);
            let at = model.tasks.iter().position(|task| task.1).expect("Q4: something can run");
            let (task, _) = model.tasks.remove(at);
            assert!(real.complete(task.id).is_ok());
        }
        assert_eq!(real.free(NODE.id).unwrap(), CAPACITY);
        assert_eq!(real.agents(), 0);
    }
}
