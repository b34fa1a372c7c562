//! Which slots a search has seen, without clearing a table for each.
//!
//! Why: a table of epochs is one load and one store a slot, without a branch; a hash set is many times that, and
//! clearing a bitmap of a million slots for each search is a hundred kilobytes. Epochs are bytes, so that the table of
//! 20,000 slots lies in the nearest cache; it is cleared once in 255 searches.
//!
//! Invariants
//! - VI1 a slot is new exactly once after each `begin`, also when the epoch wraps round.

/// See the header.
#[derive(Debug, Default)]
pub(crate) struct Visited {
    epochs: Vec<u8>,
    epoch: u8,
}

impl Visited {
    /// Forgets everything; makes room for `slots`.
    pub(crate) fn begin(&mut self, slots: usize) {
        if self.epochs.len() < slots {
            self.epochs.resize(slots + slots / 4, 0);
        }
        self.epoch = self.epoch.wrapping_add(1);
        if self.epoch == 0 {
            self.epochs.fill(0); // VI1: 255 searches ago may otherwise look like now
            self.epoch = 1;
        }
    }

    /// Whether `slot` was not seen since `begin`; from now on it was.
    #[inline(always)]
    pub(crate) fn insert(&mut self, slot: u32) -> bool {
        let Some(epoch) = self.epochs.get_mut(slot as usize) else { return false };
        let before = std::mem::replace(epoch, self.epoch);
        before != self.epoch
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// VI1: also past 256 searches.
    #[test]
    fn vi1_new_once_after_each_begin() {
        let mut visited = Visited::default();
        for round in 0..140_000_usize {
            visited.begin(10 + round / 1000);
            assert!(visited.insert(3) && !visited.insert(3), "{round}");
            assert!(visited.insert(4));
        }
    }
}
