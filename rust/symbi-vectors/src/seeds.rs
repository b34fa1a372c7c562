//! Randomness from a seed: the same on every machine and in every run.
//!
//! Source: Steele, Lea & Flood 2014 (SplitMix64's finaliser).

use std::hash::{BuildHasher, Hasher};

/// Spreads the bits of a number over all 64.
pub(crate) fn mix(value: u64) -> u64 {
    let mut bits = value.wrapping_add(0x9E37_79B9_7F4A_7C15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    bits ^ (bits >> 31)
}

/// Hashes ids: one multiplication chain, seeded so that ids cannot be chosen to collide in every index.
#[derive(Clone, Copy, Debug)]
pub(crate) struct IdHashing(pub u64);

/// See [`IdHashing`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct IdHasher(u64);

impl BuildHasher for IdHashing {
    type Hasher = IdHasher;

    fn build_hasher(&self) -> IdHasher {
        IdHasher(self.0)
    }
}

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = mix(self.0 ^ u64::from(byte));
        }
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = mix(self.0 ^ value);
    }
}
