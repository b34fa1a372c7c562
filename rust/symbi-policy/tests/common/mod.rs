//! Seeded randomness for tests: one seed, one case; a failure prints the seed.

/// Splitmix64: small, and the same everywhere.
pub struct Dice(u64);

#[allow(dead_code, reason = "each test file uses its part")]
impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ 0x5851_F42D_4C95_7F2D)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// 0 to `bound - 1`.
    pub fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(bound).unwrap()).unwrap()
    }

    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    /// True once in `of` times.
    pub fn once_in(&mut self, of: usize) -> bool {
        self.below(of) == 0
    }
}

/// Cases of a run: a CI share, or the long run that `SYMBI_LONG=1` asks for.
pub fn cases(short: u64, long: u64) -> u64 {
    if std::env::var_os("SYMBI_LONG").is_some_and(|value| value == "1") { long } else { short }
}
