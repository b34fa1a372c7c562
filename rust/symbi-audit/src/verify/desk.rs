//! Where groups of signatures lie until a thread checks them.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, PoisonError};

use symbi_crypto::{PublicKey, Signed, verify_many};

use super::FINDINGS_MAX;
use crate::chain::Message;
use crate::pipeline::lock;

/// Groups waiting before the reading thread helps.
const GROUPS_MAX: usize = 4;

/// A record whose signature is to be checked.
pub(super) struct Claim {
    pub(super) seq: u64,
    pub(super) key: PublicKey,
    pub(super) message: Message,
    pub(super) signature: [u8; 64],
}

#[derive(Default)]
pub(super) struct DeskState {
    pub(super) groups: VecDeque<Vec<Claim>>,
    pub(super) closed: bool,
    pub(super) bad: Vec<u64>,
}

/// Where groups of signatures lie until somebody checks them.
#[derive(Default)]
pub(super) struct Desk {
    pub(super) state: Mutex<DeskState>,
    arrived: Condvar,
}

impl Desk {
    pub(super) fn put(&self, group: Vec<Claim>) {
        let mut state = lock(&self.state);
        state.groups.push_back(group);
        let crowded = state.groups.len() > GROUPS_MAX;
        let mine = if crowded { state.groups.pop_front() } else { None };
        drop(state);
        match mine {
            Some(group) => self.check(&group),
            None => self.arrived.notify_one(),
        }
    }

    pub(super) fn close(&self) {
        lock(&self.state).closed = true;
        self.arrived.notify_all();
    }

    pub(super) fn check_until_closed(&self) {
        loop {
            let mut state = lock(&self.state);
            let group = loop {
                if let Some(group) = state.groups.pop_front() {
                    break group;
                }
                if state.closed {
                    return;
                }
                state = self.arrived.wait(state).unwrap_or_else(PoisonError::into_inner);
            };
            drop(state);
            self.check(&group);
        }
    }

    fn check(&self, group: &[Claim]) {
        let mut from = 0;
        while let Some(rest) = group.get(from..).filter(|rest| !rest.is_empty()) {
            let signed: Vec<Signed<'_>> = rest
                .iter()
                .map(|claim| Signed {
                    key: &claim.key,
                    message: claim.message.as_ref(),
                    signature: &claim.signature,
                })
                .collect();
            let Err(at) = verify_many(&signed) else { return };
            let mut state = lock(&self.state);
            state.bad.extend(rest.get(at).map(|claim| claim.seq));
            if state.bad.len() > FINDINGS_MAX {
                return;
            }
            drop(state);
            from += at + 1;
        }
    }
}
