//! Whole verdicts, against the written rule, and the stores of what failed.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use proptest::prelude::*;
use symbi_supervisor::{
    Class, Counts, DEAD_BYTES_MAX, DEAD_MAX, DeadTask, DeadTasks, Effects, FAILURES_MAX, Failed,
    FailureWindow, Jitter, KINDS_MAX, OTHER_KINDS, Options, Reason, Supervision, Supervisor, Verdict,
};
use symbi_types::{AgentId, Entropy, RunId};

/// Bytes of one number, so that agent `n` has the same id in every run.
struct Numbered(u8);

impl Entropy for Numbered {
    fn fill(&self, buffer: &mut [u8]) {
        buffer.fill(self.0);
    }
}

fn failed<'a>(supervision: Option<&'a Supervision>, class: Class, attempt: u32) -> Failed<'a> {
    Failed {
        agent: AgentId::random(&Numbered(1)),
        name: "one",
        has_worker: true,
        supervision,
        class,
        code: class.as_str(),
        attempt,
        effects: Effects::Replayable,
    }
}

fn plain() -> Supervision {
    Supervision { retries: 2, backoff_ms: 10, jitter: Jitter::None, ..Supervision::default() }
}

#[test]
fn nothing_follows_for_who_asked_for_nothing() {
    let mut supervisor = Supervisor::new(Options::default());
    let judged = supervisor.judge(&failed(None, Class::Transient, 1), 0, 0);
    assert_eq!((judged.verdict, judged.reason), (Verdict::None, Reason::NotAsked));
    assert_eq!(supervisor.counts().kinds().next(), Some((Class::Transient, "transient", 1)));
}

#[test]
fn sv19_a_task_is_tried_as_often_as_was_asked_for() {
    let (mut supervisor, plain) = (Supervisor::new(Options::default()), plain());
    let mut judge = |class, attempt| supervisor.judge(&failed(Some(&plain), class, attempt), 0, 0);
    assert_eq!(judge(Class::Transient, 1).verdict, Verdict::Retry { after_ms: 10 });
    assert_eq!(judge(Class::Transient, 2).verdict, Verdict::Retry { after_ms: 20 });
    let last = judge(Class::Transient, 3);
    assert_eq!((last.verdict, last.reason), (Verdict::Dead, Reason::Attempts));
    for class in Class::ALL.into_iter().filter(|class| class.is_final()) {
        assert!(!matches!(judge(class, 1).verdict, Verdict::Retry { .. }), "{class}");
    }
    assert_eq!(judge(Class::Bug, 1).reason, Reason::Kind);
    assert_eq!(judge(Class::Cancelled, 1).verdict, Verdict::None);
}

#[test]
fn sv20_a_task_whose_effects_cannot_be_replayed_is_not_tried_again() {
    let (mut supervisor, plain) = (Supervisor::new(Options::default()), plain());
    let lost = Failed { effects: Effects::Lost, ..failed(Some(&plain), Class::Transient, 1) };
    let judged = supervisor.judge(&lost, 0, 0);
    assert_eq!((judged.verdict, judged.reason), (Verdict::Dead, Reason::Effects));
    assert_eq!(supervisor.retries_left("one", 0).0, 10, "and nothing was taken for it");
}

#[test]
fn sv21_restarts_within_the_window_then_the_end() {
    let supervision =
        Supervision { retries: 0, restarts: Some(2), window_ms: 1_000, ..Supervision::default() };
    let mut supervisor = Supervisor::new(Options::default());
    let mut at =
        |class, ms: u64| supervisor.judge(&failed(Some(&supervision), class, 1), ms * 1_000_000, 0).verdict;
    assert_eq!(at(Class::Bug, 0), Verdict::Restart);
    assert_eq!(at(Class::Denied, 1), Verdict::Dead, "a refusal does not count");
    assert_eq!(at(Class::Limit, 600), Verdict::Restart);
    assert_eq!(at(Class::Bug, 1_000), Verdict::Restart, "the first is out of the window");
    assert_eq!(at(Class::Bug, 1_100), Verdict::Escalate);
    let in_process = Failed { has_worker: false, ..failed(Some(&supervision), Class::Bug, 1) };
    supervisor.forget(in_process.agent);
    assert_eq!(supervisor.judge(&in_process, 0, 0).verdict, Verdict::Dead, "there is no worker to restart");
}

proptest! {
    #[test]
    fn sv15_a_window_counts_what_a_list_counts(
        waits in prop::collection::vec(0..50u64, 1..500),
        window_ns in 1..400u64,
    ) {
        let (mut window, mut times, mut now_ns) = (FailureWindow::default(), Vec::new(), 0u64);
        for wait in waits {
            now_ns += wait;
            times.push(now_ns);
            let inside = times.iter().filter(|time| now_ns - **time < window_ns).count();
            prop_assert_eq!(window.add(now_ns, window_ns), inside.min(FAILURES_MAX));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, ..ProptestConfig::default() })]
    #[test]
    fn sv16_sv17_the_dead_are_kept_within_bounds_and_all_are_counted(
        sizes in prop::collection::vec(0..200_000usize, 1..400),
    ) {
        let (mut dead, mut all) = (DeadTasks::default(), Vec::new());
        for (at, size) in sizes.iter().enumerate() {
            let task = DeadTask {
                task: RunId::random(&Numbered(1)),
                run: RunId::random(&Numbered(2)),
                agent: AgentId::random(&Numbered(3)),
                name: at.to_string(),
                attempts: 1,
                class: Class::Other,
                code: String::new(),
                reason: "kind",
                at_us: 0,
                input_sealed: "x".repeat(*size),
                text_sealed: String::new(),
            };
            dead.add(task.clone());
            all.push(task);
            let kept: Vec<&DeadTask> = dead.kept().collect();
            prop_assert!(kept.len() <= DEAD_MAX, "SV16");
            prop_assert!(kept.iter().map(|task| task.input_sealed.len()).sum::<usize>() <= DEAD_BYTES_MAX);
            prop_assert_eq!(kept.len() as u64 + dead.dropped(), all.len() as u64, "SV17");
            if let Some(last) = all.len().checked_sub(kept.len() + 1) {
                let bytes: usize = all[last..].iter().map(|task| task.input_sealed.len()).sum();
                prop_assert!(kept.len() == DEAD_MAX || bytes > DEAD_BYTES_MAX, "none goes without need");
            }
            let newest = all.iter().skip(all.len() - kept.len()).map(|task| &task.name);
            prop_assert!(newest.eq(kept.iter().map(|task| &task.name)), "the oldest goes first");
        }
    }
}

#[test]
fn sv18_invented_names_do_not_grow_the_table_and_all_are_counted() {
    let mut counts = Counts::default();
    for number in 0..3 * KINDS_MAX {
        counts.add(Class::Other, &format!("Error{number}"));
    }
    counts.add(Class::Other, &"x".repeat(10_000));
    assert!(counts.kinds().count() <= KINDS_MAX + 1);
    assert_eq!(counts.kinds().map(|(_, _, count)| count).sum::<u64>(), 3 * KINDS_MAX as u64 + 1);
    assert!(counts.kinds().any(|(_, code, count)| code == OTHER_KINDS && count > KINDS_MAX as u64));
}
