//! The transition table against the specification, every state with every cause.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::collections::BTreeSet;

use symbi_scheduler::{Cause, IllegalTransition, State, TRANSITIONS};

/// Spec L1 to L4, written a second time: the arrows between states, whatever their cause.
const ARROWS: [(State, State); 9] = [
    (State::Initializing, State::Ready),
    (State::Initializing, State::Failed),
    (State::Ready, State::Running),
    (State::Running, State::Ready),
    (State::Running, State::Suspended),
    (State::Suspended, State::Running),
    (State::Suspended, State::Terminated),
    (State::Ready, State::Terminated),
    (State::Failed, State::Terminated),
];

#[test]
fn l1_to_l4_the_table_holds_the_arrows_of_the_specification_and_no_other() {
    let table: BTreeSet<_> = TRANSITIONS.iter().map(|(from, _, to)| (*from, *to)).collect();
    assert_eq!(table, ARROWS.into_iter().collect());
}

#[test]
fn l5_every_pair_that_is_not_a_row_is_refused_by_name() {
    let mut allowed = 0;
    for state in State::ALL {
        for cause in Cause::ALL {
            let rows: Vec<_> = TRANSITIONS.iter().filter(|row| row.0 == state && row.1 == cause).collect();
            match state.after(cause) {
                Ok(to) => {
                    assert_eq!(rows, [&(state, cause, to)], "L6");
                    allowed += 1;
                }
                Err(refused) => {
                    assert!(rows.is_empty());
                    assert_eq!(refused, IllegalTransition { from: state, cause });
                    let text = format!("an agent that is `{state}` cannot change by `{cause}`");
                    assert_eq!(refused.to_string(), text);
                }
            }
        }
    }
    assert_eq!(allowed, TRANSITIONS.len());
}

#[test]
fn l0_an_agent_begins_initializing_and_nothing_leaves_terminated() {
    assert_eq!(State::ALL[0], State::Initializing);
    assert!(TRANSITIONS.iter().all(|(_, _, to)| *to != State::Initializing));
    assert!(Cause::ALL.into_iter().all(|cause| State::Terminated.after(cause).is_err()));
    assert_eq!(
        State::ALL.into_iter().filter(|state| state.is_final()).collect::<Vec<_>>(),
        [State::Terminated]
    );
}

#[test]
fn l4_a_forced_stop_ends_an_agent_in_any_state_and_passes_suspended_from_running() {
    for state in State::ALL {
        let mut at = state;
        let mut passed = Vec::new();
        for cause in state.stop(true).unwrap() {
            at = at.after(*cause).unwrap();
            passed.push(at);
        }
        assert_eq!(at, State::Terminated, "{state}");
        if state == State::Running {
            assert_eq!(passed, [State::Suspended, State::Terminated]);
        }
    }
}

#[test]
fn l4_a_graceful_stop_waits_for_a_running_agent_only() {
    for state in State::ALL {
        assert_eq!(state.stop(false).is_none(), state == State::Running, "{state}");
    }
    assert_eq!(State::Ready.stop(false), Some(&[Cause::Shutdown][..]));
}

#[test]
fn names_are_lower_case_and_read_back() {
    for state in State::ALL {
        assert_eq!(state.to_string().parse(), Ok(state));
        assert_eq!(state.as_str(), state.as_str().to_ascii_lowercase());
    }
    for cause in Cause::ALL {
        assert_eq!(cause.to_string().parse(), Ok(cause));
    }
    assert_eq!("Ready".parse::<State>().unwrap_err().to_string(), "`Ready` is no state of an agent");
    assert!("".parse::<Cause>().is_err());
}
