//! Rows of equal length, and fetching them before they are needed.
//!
//! Not here: who owns the bytes (`memory`).
#![expect(unsafe_code, reason = "a prefetch is an instruction without a safe name; floats are read as bytes")]

/// Rows to read: the first ones from a file's mapping, those after them from memory. Codes have two floats a row beside.
#[derive(Clone, Copy, Debug)]
pub(crate) struct View<'a> {
    base: &'a [u8],
    base_rows: usize,
    tail: &'a [u8],
    stride: usize,
    factors: [&'a [u8]; 2],
}

/// How many rows ahead are fetched where they are compared one by one: more were measured to be slower.
const AHEAD: usize = 4;

/// Rows that are compared together, and how many ahead of these are fetched (docs/adr/0264).
#[cfg(target_arch = "x86_64")]
const TOGETHER: usize = 4;
#[cfg(target_arch = "x86_64")]
const AHEAD_TOGETHER: usize = 8;

const LINE_BYTES: usize = 64;

/// Bytes of the two floats that stand beside a code: scale and squared norm.
pub(crate) const FACTORS_BYTES: usize = 8;

impl<'a> View<'a> {
    /// `base` holds `base_rows` rows of `stride` bytes, `tail` those after them.
    pub(crate) fn new(base: &'a [u8], base_rows: usize, tail: &'a [u8], stride: usize) -> Self {
        debug_assert!(base.len() >= base_rows * stride, "KN3");
        Self { base, base_rows, tail, stride, factors: [&[], &[]] }
    }

    /// Codes, with the factors of the first rows and of those after them.
    pub(crate) fn with_factors(self, factors: [&'a [u8]; 2]) -> Self {
        Self { factors, ..self }
    }

    /// Scale and squared norm of a row of codes.
    ///
    /// # Panics
    /// Where there is no such row (KN3).
    #[inline(always)]
    #[expect(clippy::indexing_slicing, reason = "a row without its factors must not be read: KN3")]
    pub(crate) fn factors(&self, slot: u32) -> (f32, f32) {
        let slot = slot as usize;
        let (factors, at) = if slot >= self.base_rows {
            (self.factors[1], slot - self.base_rows)
        } else {
            (self.factors[0], slot)
        };
        let [a, b, c, d, e, f, g, h] = factors.as_chunks::<FACTORS_BYTES>().0[at];
        (f32::from_le_bytes([a, b, c, d]), f32::from_le_bytes([e, f, g, h]))
    }

    /// The bytes of a row.
    ///
    /// # Panics
    /// Where there is no such row (KN3).
    #[inline(always)]
    #[expect(clippy::indexing_slicing, reason = "a row that is not there must not be read: KN3")]
    pub(crate) fn row(&self, slot: u32) -> &'a [u8] {
        let slot = slot as usize;
        if slot >= self.base_rows {
            let start = (slot - self.base_rows) * self.stride;
            &self.tail[start..start + self.stride]
        } else {
            let start = slot * self.stride;
            &self.base[start..start + self.stride]
        }
    }

    /// The floats of a row of floats.
    #[inline(always)]
    pub(crate) fn floats(&self, slot: u32) -> &'a [f32] {
        let row = self.row(slot);
        // SAFETY: every bit pattern is a float, and nothing but whole floats is taken; both ends are empty for
        // rows of floats, whose start and stride are multiples of four, which the assertion holds.
        let (head, floats, _) = unsafe { row.align_to::<f32>() };
        assert!(head.is_empty(), "KN3");
        floats
    }

    /// Asks the processor to fetch a whole row, and its factors where there are any.
    #[inline(always)]
    fn fetch(&self, slot: u32) {
        fetch(self.row(slot));
        let slot = slot as usize;
        let (factors, at) = if slot >= self.base_rows {
            (self.factors[1], slot - self.base_rows)
        } else {
            (self.factors[0], slot)
        };
        fetch_line(factors.as_ptr().wrapping_add(FACTORS_BYTES * at));
    }
}

/// Asks the processor to fetch bytes that will be read soon.
#[inline(always)]
fn fetch(bytes: &[u8]) {
    for line in bytes.chunks(LINE_BYTES) {
        fetch_line(line.as_ptr());
    }
}

/// Asks for the lines of a vector, which are many (`fetch_line_many`).
#[inline(always)]
pub(crate) fn fetch_vector(values: &[f32]) {
    for line in values.chunks(LINE_BYTES / 4) {
        fetch_line_many(line.as_ptr());
    }
}

#[inline(always)]
pub(crate) fn fetch_line<T>(address: *const T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch reads nothing that the program can see and cannot fault, whatever the address.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(address.cast());
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: as above; the instruction has no operands but the address and changes no register.
    unsafe {
        std::arch::asm!("prfm pldl1keep, [{0}]", in(reg) address, options(nostack, preserves_flags, readonly));
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let _ = address;
}

/// As `fetch_line`, where many lines follow one another: no nearer than the second cache, to which more may be under way.
#[inline(always)]
pub(crate) fn fetch_line_many<T>(address: *const T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: as in `fetch_line`.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T1 }>(address.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    fetch_line(address);
}

/// Calls `distance` on each code and its factors in order, having fetched the rows a few places ahead.
#[inline(always)]
#[expect(clippy::indexing_slicing, reason = "bounded by the lengths taken here")]
pub(crate) fn each_row(
    view: &View<'_>,
    slots: &[u32],
    out: &mut Vec<f32>,
    mut distance: impl FnMut(&[u8], (f32, f32)) -> f32,
) {
    out.clear();
    out.reserve(slots.len());
    for &slot in &slots[..slots.len().min(AHEAD)] {
        view.fetch(slot);
    }
    for (place, &slot) in slots.iter().enumerate() {
        if place + AHEAD < slots.len() {
            view.fetch(slots[place + AHEAD]);
        }
        out.push(distance(view.row(slot), view.factors(slot)));
    }
}

/// As `each_row`, four codes at a time: their sums then become distances together. Past the end the last one stands again.
#[inline(always)]
#[expect(clippy::indexing_slicing, reason = "bounded by the lengths taken here")]
#[cfg(target_arch = "x86_64")]
pub(crate) fn each_four(
    view: &View<'_>,
    slots: &[u32],
    out: &mut Vec<f32>,
    mut distances: impl FnMut([&[u8]; TOGETHER], [(f32, f32); TOGETHER]) -> [f32; TOGETHER],
) {
    out.clear();
    out.reserve(slots.len() + TOGETHER);
    for &slot in &slots[..slots.len().min(AHEAD_TOGETHER)] {
        view.fetch(slot);
    }
    let last = slots.len().saturating_sub(1);
    for place in (0..slots.len()).step_by(TOGETHER) {
        let ahead = (place + AHEAD_TOGETHER).min(slots.len());
        for &slot in &slots[ahead..(ahead + TOGETHER).min(slots.len())] {
            view.fetch(slot);
        }
        let [a, b, c, d] = [
            slots[place],
            slots[(place + 1).min(last)],
            slots[(place + 2).min(last)],
            slots[(place + 3).min(last)],
        ];
        // Written out: a closure in `map` would be compiled without the features of the function around this.
        let rows = [view.row(a), view.row(b), view.row(c), view.row(d)];
        let factors = [view.factors(a), view.factors(b), view.factors(c), view.factors(d)];
        out.extend_from_slice(&distances(rows, factors));
    }
    out.truncate(slots.len());
}

/// As `each_row` for rows of floats, which are long: two of them are fetched ahead.
#[inline(always)]
pub(crate) fn each_vector(
    view: &View<'_>,
    slots: &[u32],
    out: &mut Vec<f32>,
    mut distance: impl FnMut(&[f32]) -> f32,
) {
    out.clear();
    for (place, &slot) in slots.iter().enumerate() {
        if let Some(&next) = slots.get(place + 2) {
            fetch_vector(view.floats(next));
        }
        out.push(distance(view.floats(slot)));
    }
}

/// A query's integers as the bytes that they are.
#[inline]
#[cfg(target_arch = "x86_64")]
pub(crate) fn as_bytes(query: &[i8]) -> &[u8] {
    // SAFETY: i8 and u8 have the same size and alignment, and every bit pattern is both.
    unsafe { std::slice::from_raw_parts(query.as_ptr().cast(), query.len()) }
}
