//! Codes of all slots, and their factors beside them.
//!
//! Why two tables: the factors of a hundred thousand vectors fit the second cache, and a code of 384 or 1536 dimensions is
//! three whole lines of memory where it would be four.
//! Not here: what they mean (`codes`).

use super::Codec;
use crate::kernels::{FACTORS_BYTES, View};
use crate::memory::Rows;

/// See the header.
#[derive(Debug)]
pub(crate) struct Table {
    codes: Rows,
    factors: Rows,
}

impl Table {
    pub(crate) fn new(codec: &Codec) -> Self {
        Self::over(Rows::new(codec.code_bytes()), Rows::new(FACTORS_BYTES))
    }

    pub(crate) fn over(codes: Rows, factors: Rows) -> Self {
        Self { codes, factors }
    }

    pub(crate) fn grow(&mut self, rows: usize) -> std::io::Result<()> {
        self.codes.grow(rows)?;
        self.factors.grow(rows)
    }

    /// Takes a row as `Codec::encode` has written it.
    pub(crate) fn put(&mut self, slot: u32, row: &[u8]) {
        let (code, factors) = row.split_at(row.len() - FACTORS_BYTES);
        self.codes.row_mut(slot).copy_from_slice(code);
        self.factors.row_mut(slot).copy_from_slice(factors);
    }

    #[inline]
    pub(crate) fn view(&self) -> View<'_> {
        self.codes.view().with_factors(self.factors.halves())
    }

    /// Codes and factors of the first `rows` rows, each in at most two pieces.
    pub(crate) fn pieces(&self, rows: usize) -> [[&[u8]; 2]; 2] {
        [&self.codes, &self.factors].map(|table| table.pieces(rows))
    }

    /// Codes and factors in a file's map.
    pub(crate) fn mapped(&self) -> [&[u8]; 2] {
        [&self.codes, &self.factors].map(Rows::mapped)
    }

    /// See `Rows::will_read`: all that is in a file's map.
    pub(crate) fn will_read(&self) {
        [&self.codes, &self.factors].iter().for_each(|table| table.will_read(0..usize::MAX));
    }

    /// Bytes of all rows, in memory or mapped.
    pub(crate) fn bytes(&self) -> usize {
        [&self.codes, &self.factors].iter().map(|table| table.bytes()).map(|(own, mapped)| own + mapped).sum()
    }
}
