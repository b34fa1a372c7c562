//! Ed25519 as aws-lc computes it, without the allocations of its key objects.
//!
//! Why: `aws_lc_rs::signature::Ed25519KeyPair::sign` allocates for each signature, and a message of the bus allocates
//! nothing. Same library, same code underneath, one layer less.
//! Not here: keys as users know them (`sign`), the strict rule.
#![expect(unsafe_code, reason = "one call of a C function with buffers of known sizes")]

/// Signs `message` with `private`: the 32-byte seed, then the 32-byte public key.
pub(crate) fn sign(message: &[u8], private: &[u8; 64]) -> Option<[u8; 64]> {
    let mut signature = [0u8; 64];
    // SAFETY: the function writes 64 bytes to its first argument and reads `len` bytes of the message and 64 of the
    // key, which is what these point to; it keeps none of the pointers. A slice's pointer is never null.
    let done = unsafe {
        aws_lc_sys::ED25519_sign(signature.as_mut_ptr(), message.as_ptr(), message.len(), private.as_ptr())
    };
    (done == 1).then_some(signature)
}
