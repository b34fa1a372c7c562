//! Threads that stand by for shares of work: half of a batch is sealed, or opened, here and half there.
//!
//! Why: a signature and its check take longer than everything else together, and a second core is there. Starting a thread
//! for each batch costs as much as several messages; these start with the first batch that is worth it, and sleep between.
//! Not here: what a share is. It owns what it works on, so that nobody waits for a borrow.
//!
//! Invariants
//! - CW1 each share is worked on once, and comes back in its place.
//! - CW2 nobody waits for a thread that has not begun: what still lies in line is done by whoever gave it.
//! - CW3 a share that panics panics in who gave it, and the threads go on.
//! - CW4 once warm, dividing allocates nothing.

use std::any::Any;
use std::collections::VecDeque;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, PoisonError};

use crate::sync::{Condvar, Mutex, MutexGuard, thread};

/// Work that can be done on any thread, in place.
pub trait Share: Any + Send {
    /// Does it.
    fn work(&mut self);
}

type Done = Result<Box<dyn Share>, Box<dyn Any + Send>>;

#[derive(Default)]
struct Line {
    next: u64,
    waiting: VecDeque<(u64, Box<dyn Share>)>,
    done: Vec<(u64, Done)>,
    threads: usize,
    is_closed: bool,
}

#[derive(Default)]
struct Shared {
    line: Mutex<Line>,
    given: Condvar,
    done: Condvar,
}

impl Shared {
    fn line(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stand_by(&self) {
        let mut line = self.line();
        while !line.is_closed {
            let Some((ticket, mut share)) = line.waiting.pop_front() else {
                line = self.given.wait(line).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            drop(line);
            let done = catch_unwind(AssertUnwindSafe(|| share.work())).map(|()| share); // CW3
            line = self.line();
            line.done.push((ticket, done));
            self.done.notify_all();
        }
    }
}

/// The threads. They end with it.
pub struct Crew {
    shared: Arc<Shared>,
    hands: usize,
    /// After a fork there are no threads, and nobody who could be told.
    process: u32,
}

impl fmt::Debug for Crew {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Crew({})", self.hands)
    }
}

impl Crew {
    /// A crew of so many, whoever gives the work among them. No thread is started yet.
    #[must_use]
    pub fn new(hands: usize) -> Self {
        Self { shared: Arc::default(), hands: hands.max(1), process: std::process::id() }
    }

    /// How many work at once.
    #[must_use]
    pub const fn hands(&self) -> usize {
        self.hands
    }

    /// Has all shares done: the first here, the others wherever somebody is free.
    ///
    /// # Panics
    /// As a share does (CW3).
    pub fn divide<S: Share>(&self, shares: &mut [Option<Box<S>>]) {
        let Some((first, others)) = shares.split_first_mut() else { return };
        let begin = self.give(others);
        if let Some(share) = first {
            share.work();
        }
        for (ticket, place) in (begin..).zip(others) {
            *place = self.get_back(ticket);
        }
    }

    fn give<S: Share>(&self, shares: &mut [Option<Box<S>>]) -> u64 {
        let mut line = self.shared.line();
        let begin = line.next;
        for share in shares.iter_mut() {
            let ticket = line.next;
            line.next += 1;
            if let Some(share) = share.take() {
                line.waiting.push_back((ticket, share));
            }
        }
        while line.threads + 1 < self.hands.min(shares.len() + 1) {
            let shared = Arc::clone(&self.shared);
            let thread = thread::Builder::new().name("symbi-bus".to_owned());
            if thread.spawn(move || shared.stand_by()).is_err() {
                break; // what lies in line is done by who gave it (CW2)
            }
            line.threads += 1;
        }
        drop(line);
        for _ in shares {
            self.shared.given.notify_one();
        }
        begin
    }

    fn get_back<S: Share>(&self, ticket: u64) -> Option<Box<S>> {
        let mut line = self.shared.line();
        loop {
            if let Some(at) = line.waiting.iter().position(|(other, _)| *other == ticket) {
                let (_, mut share) = line.waiting.remove(at)?;
                drop(line);
                share.work(); // CW2
                return (share as Box<dyn Any>).downcast().ok();
            }
            if let Some(at) = line.done.iter().position(|(other, _)| *other == ticket) {
                let (_, done) = line.done.swap_remove(at);
                drop(line);
                return match done {
                    Ok(share) => (share as Box<dyn Any>).downcast().ok(),
                    Err(panic) => resume_unwind(panic), // CW3
                };
            }
            line = self.shared.done.wait(line).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        if self.process == std::process::id() {
            self.shared.line().is_closed = true;
            self.shared.given.notify_all();
        }
    }
}

#[cfg(test)]
#[cfg(not(feature = "interleavings"))] // with it there are no threads outside shuttle
mod tests {
    use super::*;

    struct Sum {
        numbers: Vec<u64>,
        sum: u64,
        times: usize,
    }

    impl Share for Sum {
        fn work(&mut self) {
            self.times += 1;
            assert!(!self.numbers.contains(&u64::MAX), "a number that nobody can add");
            self.sum = self.numbers.iter().sum();
        }
    }

    fn shares(of: u64, each: u64) -> Vec<Option<Box<Sum>>> {
        let share = |at: u64| Sum { numbers: (at * each..(at + 1) * each).collect(), sum: 0, times: 0 };
        (0..of).map(|at| Some(Box::new(share(at)))).collect()
    }

    #[test]
    fn cw1_each_share_is_done_once_and_comes_back_in_its_place_from_many_threads_at_once() {
        for hands in [1, 2, 5] {
            let crew = Crew::new(hands);
            std::thread::scope(|scope| {
                for _ in 0..4 {
                    scope.spawn(|| {
                        for round in 1..200 {
                            let mut shares = shares(1 + round % 6, 10);
                            crew.divide(&mut shares);
                            for (share, plain) in shares.iter().zip(self::shares(1 + round % 6, 10)) {
                                let (share, plain) = (share.as_ref().unwrap(), plain.unwrap());
                                assert_eq!(share.times, 1, "CW1");
                                assert_eq!(share.sum, plain.numbers.iter().sum::<u64>(), "CW1");
                            }
                        }
                    });
                }
            });
        }
    }

    #[test]
    fn cw2_a_crew_of_one_does_all_itself() {
        let crew = Crew::new(1);
        let mut shares = shares(5, 3);
        crew.divide(&mut shares);
        assert!(shares.iter().all(|share| share.as_ref().unwrap().times == 1));
        assert_eq!(crew.shared.line().threads, 0, "CW2");
    }

    #[test]
    fn cw3_a_share_that_panics_panics_in_who_gave_it_and_the_crew_goes_on() {
        let crew = Crew::new(3);
        for _ in 0..20 {
            let mut bad = shares(3, 4);
            bad[2].as_mut().unwrap().numbers.push(u64::MAX);
            assert!(catch_unwind(AssertUnwindSafe(|| crew.divide(&mut bad))).is_err(), "CW3");
            let mut good = shares(3, 4);
            crew.divide(&mut good);
            assert_eq!(good[2].as_ref().unwrap().sum, 8 + 9 + 10 + 11);
        }
    }
}
