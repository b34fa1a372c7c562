//! Asking the processor for memory that is needed a little later.
//!
//! Why: of a hundred thousand tasks, the one that is next lies anywhere, and a decision mostly waits for memory. Who
//! works off a batch knows what comes, and can have it brought meanwhile.
//! Not here: any effect on what is decided. Without it everything is the same, and slower.
#![expect(unsafe_code, reason = "a hint to the processor, which neither reads nor writes")]

/// The value is needed soon.
#[inline(always)]
pub(crate) fn fetch<T>(value: &T) {
    let address: *const T = value;
    #[cfg(target_arch = "x86_64")]
    // SAFETY: SSE is there on every x86-64; a prefetch faults on no address, and this one is of a live value.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(address.cast());
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: `prfm` faults on no address, and changes neither memory, stack nor flags.
    unsafe {
        std::arch::asm!(
            "prfm pldl1keep, [{address}]",
            address = in(reg) address,
            options(nostack, preserves_flags, readonly)
        );
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let _ = address;
}
