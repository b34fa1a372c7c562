//! A hasher for names that are numbers: two multiplications, the same on every machine.
//!
//! Why not the standard one: it costs more than a whole queue operation. A product of 128 bits, folded, mixes high and
//! low bits alike, so that names in steps of any power of two spread as random ones do.
//! Not here: protection against a caller who computes names so that they collide. Names of tasks are given by the
//! kernel, or by the program that embeds the scheduler for itself.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher};

/// A map by names and needs.
pub(crate) type Map<K, V> = HashMap<K, V, Folded>;

const FIRST: u64 = 0x9E37_79B9_7F4A_7C15; // 2^64 divided by the golden ratio
const SECOND: u64 = 0xD6E8_FEB8_6659_FD93; // odd, as many ones as zeros

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Folded;

impl BuildHasher for Folded {
    type Hasher = Fold;
    fn build_hasher(&self) -> Fold {
        Fold(FIRST)
    }
}

#[derive(Debug)]
pub(crate) struct Fold(u64);

#[inline]
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    (product as u64) ^ (product >> 64) as u64
}

/// A name's hash, with its information in the highest bits.
#[inline]
pub(crate) fn mix(name: u64) -> u64 {
    fold(name ^ SECOND, FIRST)
}

impl Hasher for Fold {
    fn finish(&self) -> u64 {
        fold(self.0, SECOND)
    }

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word.iter_mut().zip(chunk).for_each(|(to, from)| *to = *from);
            self.write_u64(u64::from_le_bytes(word));
        }
    }

    fn write_u64(&mut self, word: u64) {
        self.0 = fold(self.0 ^ word, FIRST | 1).wrapping_add(word.rotate_left(32));
    }

    fn write_u32(&mut self, word: u32) {
        self.write_u64(word.into());
    }

    fn write_u8(&mut self, word: u8) {
        self.write_u64(word.into());
    }

    fn write_usize(&mut self, word: usize) {
        self.write_u64(word as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_steps_of_any_power_of_two_spread_over_the_table() {
        const BUCKETS: u64 = 1 << 12;
        for shift in 0..52 {
            let mut counts = vec![0u32; BUCKETS as usize];
            for number in 0..BUCKETS {
                counts[(Folded.hash_one(number << shift) % BUCKETS) as usize] += 1;
            }
            // Random ones leave 37 % empty and put at most 8 or so into one.
            let empty = counts.iter().filter(|count| **count == 0).count();
            assert!(empty < 2_200, "steps of 2^{shift}: {empty} of {BUCKETS} are empty");
            assert!(counts.iter().all(|count| *count < 32), "steps of 2^{shift}");
        }
    }
}
