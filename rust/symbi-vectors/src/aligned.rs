//! Floats that begin where a line of memory does.
//!
//! Why: a register of 64 bytes that is loaded across two lines is two reads, and a query is read again for every vector that
//! it is compared with. `Vec` promises the alignment of one float.
//! Not here: rows, which lie in pages of their own (`memory`).
//!
//! Invariants
//! - AL1 the values are those that were put in, and the first lies at a multiple of 64 bytes.

use std::ops::{Deref, DerefMut};

const LINE_FLOATS: usize = 16;

/// See the header. Reused, so that no search allocates.
#[derive(Debug, Default)]
pub(crate) struct Aligned {
    values: Vec<f32>,
    start: usize,
    length: usize,
}

impl Aligned {
    /// Takes these values instead of its own.
    pub(crate) fn fill(&mut self, values: impl ExactSizeIterator<Item = f32>) {
        self.length = values.len();
        let room = self.length + LINE_FLOATS;
        if self.values.len() < room {
            self.values.resize(room, 0.0);
        }
        self.start = self.values.as_ptr().align_offset(LINE_FLOATS * size_of::<f32>()).min(LINE_FLOATS);
        for (place, value) in self.iter_mut().zip(values) {
            *place = value;
        }
    }
}

#[expect(clippy::indexing_slicing, reason = "`fill` has made room for start and length")]
impl Deref for Aligned {
    type Target = [f32];

    #[inline(always)]
    fn deref(&self) -> &[f32] {
        &self.values[self.start..self.start + self.length]
    }
}

#[expect(clippy::indexing_slicing, reason = "`fill` has made room for start and length")]
impl DerefMut for Aligned {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.values[self.start..self.start + self.length]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn al1_the_first_value_lies_on_a_line_whatever_the_length() {
        let mut aligned = Aligned::default();
        assert!(aligned.is_empty());
        for length in [3, 0, 1, 16, 1536, 17] {
            let values: Vec<f32> = (0..length).map(|at| at as f32).collect();
            aligned.fill(values.iter().copied());
            assert_eq!(&aligned[..], &values[..]);
            assert!(length == 0 || (aligned.as_ptr() as usize).is_multiple_of(64), "{length}");
        }
    }
}
