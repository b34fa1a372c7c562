//! ER7: forgetting a person against holding one.

use std::sync::Arc;

use symbi_kernel::{Erasure, HoldChange, Kernel, OperatorError, RefusalCode};

use crate::world::*;

/// Turns that a thread is given to come as far as it can; more than it needs.
const TURNS: usize = 20_000;

/// Records that are on disk, or wait for it.
fn written(kernel: &Kernel) -> u64 {
    kernel.durable() + kernel.records_waiting() as u64
}

/// Until a record was added, or nobody will add one.
fn until_written(kernel: &Kernel, before: u64) {
    for _ in 0..TURNS {
        if written(kernel) > before {
            return;
        }
        std::thread::yield_now();
    }
}

type Erased = Result<Vec<Erasure>, OperatorError>;

/// Both at once, while the disk stands still: the second begins when the first has been decided and recorded.
fn at_once(world: &World, kernel: &Arc<Kernel>, hold_first: bool) -> (Result<u64, OperatorError>, Erased) {
    let hold = || kernel.change_hold(OPERATOR, "jane", &HoldChange::Add("a case".to_owned()));
    let erase = || kernel.erase_subject(OPERATOR, "jane");
    let stalled = world.stall();
    std::thread::scope(|scope| {
        let before = written(kernel);
        if hold_first {
            let held = scope.spawn(hold);
            until_written(kernel, before);
            let before = written(kernel);
            let erased = scope.spawn(erase);
            until_written(kernel, before);
            drop(stalled);
            (held.join().unwrap(), erased.join().unwrap())
        } else {
            let erased = scope.spawn(erase);
            until_written(kernel, before);
            let before = written(kernel);
            let held = scope.spawn(hold);
            until_written(kernel, before);
            drop(stalled);
            (held.join().unwrap(), erased.join().unwrap())
        }
    })
}

#[test]
fn er7_of_a_hold_and_an_erasure_at_once_one_is_first_and_what_is_held_is_not_erased() {
    let mut world = World::open_to_all().on_stalling_disk();
    let kernel = world.kernel();
    let jane = kernel.labels(&["subject:jane"]).unwrap();
    let known = kernel.pseudonym_of("jane").unwrap().unwrap();
    let (held, erased) = at_once(&world, &kernel, true);
    held.unwrap();
    let Err(OperatorError::Agent(refused)) = erased else { panic!("ER7: it is held") };
    assert_eq!(refusal::<()>(Err(refused)).code, RefusalCode::Denied, "ER7");
    assert_eq!(kernel.holds()[0].pseudonym, known);
    assert_eq!(kernel.labels(&["subject:jane"]).unwrap(), jane, "ER7: her key is there");
    kernel.change_hold(OPERATOR, "jane", &HoldChange::Remove).unwrap();
    let (held, erased) = at_once(&world, &kernel, false);
    assert_eq!(erased.unwrap()[0].pseudonym, known);
    held.unwrap(); // of what may come: nothing is known of her any more
    let holds = kernel.holds();
    assert!(holds.len() == 1 && holds[0].pseudonym != known, "ER7: nobody who was erased is said to be held");
    assert_eq!(kernel.pseudonym_of("jane").unwrap().as_ref(), Some(&holds[0].pseudonym));
}
