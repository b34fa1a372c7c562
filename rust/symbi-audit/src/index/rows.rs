//! A set of rows of one unit: a bit each, 8 KiB, so that two sets meet in a microsecond whatever is in them.

/// Rows of one unit: a row is 16 bits.
pub(crate) const ROWS_MAX: usize = 1 << 16;
const WORDS: usize = ROWS_MAX / 64;

/// A set of rows.
#[derive(Clone)]
pub(crate) struct Rows(Box<[u64; WORDS]>);

impl Rows {
    pub(crate) fn none() -> Self {
        Self(Box::new([0; WORDS]))
    }

    /// The rows from `from` to before `to`.
    pub(crate) fn between(from: usize, to: usize) -> Self {
        let mut rows = Self::none();
        for (number, word) in rows.0.iter_mut().enumerate() {
            let (low, high) =
                (from.saturating_sub(number * 64).min(64), to.saturating_sub(number * 64).min(64));
            if low < high {
                *word = (u64::MAX >> (64 - (high - low))) << low;
            }
        }
        rows
    }

    pub(crate) fn meet(&mut self, other: &Self) {
        self.0.iter_mut().zip(other.0.iter()).for_each(|(to, from)| *to &= from);
    }

    pub(crate) fn join(&mut self, other: &Self) {
        self.0.iter_mut().zip(other.0.iter()).for_each(|(to, from)| *to |= from);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.iter().all(|word| *word == 0)
    }

    /// The rows in ascending order.
    pub(crate) fn ascending(&self) -> Vec<usize> {
        let mut found = Vec::new();
        for (number, word) in self.0.iter().enumerate() {
            let mut left = *word;
            while left != 0 {
                found.push(number * 64 + left.trailing_zeros() as usize);
                left &= left - 1;
            }
        }
        found
    }

    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        self.0.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    pub(crate) fn of_bytes(bytes: &[u8]) -> Option<Self> {
        let mut rows = Self::none();
        (bytes.len() == WORDS * 8).then_some(())?;
        for (to, from) in rows.0.iter_mut().zip(bytes.chunks_exact(8)) {
            *to = u64::from_le_bytes(*from.first_chunk()?);
        }
        Some(rows)
    }
}

impl FromIterator<u16> for Rows {
    fn from_iter<I: IntoIterator<Item = u16>>(rows: I) -> Self {
        let mut set = Self::none();
        for row in rows {
            if let Some(word) = set.0.get_mut(usize::from(row) / 64) {
                *word |= 1 << (row % 64);
            }
        }
        set
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_set_of_rows_is_what_a_plain_set_is(
            left in prop::collection::btree_set(any::<u16>(), 0..200),
            right in prop::collection::btree_set(any::<u16>(), 0..200),
            from in 0..=ROWS_MAX,
            to in 0..=ROWS_MAX,
        ) {
            let one: Rows = left.iter().copied().collect();
            let other: Rows = right.iter().copied().collect();
            let listed = |rows: &Rows| rows.ascending();
            let plain = |rows: Vec<u16>| rows.into_iter().map(usize::from).collect::<Vec<_>>();
            let (mut met, mut joined) = (one.clone(), one.clone());
            met.meet(&other);
            joined.join(&other);
            prop_assert_eq!(listed(&met), plain(left.intersection(&right).copied().collect()));
            prop_assert_eq!(listed(&joined), plain(left.union(&right).copied().collect()));
            prop_assert_eq!(listed(&Rows::between(from, to)), (from..to.max(from)).collect::<Vec<_>>());
            prop_assert_eq!(listed(&Rows::of_bytes(&one.to_bytes()).unwrap()), plain(left.into_iter().collect()));
            prop_assert_eq!(one.is_empty(), listed(&one).is_empty());
        }
    }
}
