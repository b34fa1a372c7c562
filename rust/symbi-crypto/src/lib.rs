//! Identities, sealing, signatures, batch verification.
//!
//! Why: every proof and every secret of the runtime goes through this crate, so that there is one place to read,
//! two implementations to choose from, and no algorithm to negotiate.
//! Not here: where keys lie, what is signed, when keys change. No I/O, no time, no randomness of its own: seeds come
//! from `symbi_types::Entropy`, nonces from counters.
//!
//! Invariants
//! - C1 what is signed begins with `"symbi/<purpose>/v1\0"`: a signature for one purpose is refused for every other.
//! - C2 a signature is accepted only by the strict rule (canonical S and R, no point of small order).
//! - C3 a nonce is a counter and is never given out twice; past 2^32 it is refused.
//! - C4 no secret is printed: `Debug` shows the key id at most; seeds and derived keys are zeroized by their types.

mod agree;
mod batch;
mod ed25519;
mod hash;
mod hpke;
mod keyfile;
pub mod merkle;
mod provider;
mod seal;
mod sign;

pub use agree::{AgreementError, AgreementKey};
pub use batch::{Signed, SignerKey, verify_each, verify_many};
pub use hash::{Sha256, hkdf_sha256, hmac_sha256, sha256};
pub use hpke::{HPKE_OVERHEAD_BYTES, HpkeError, hpke_open, hpke_seal};
pub use keyfile::{KeyFileError, is_pem, read_key_file, write_key_file};
pub use provider::{Provider, ProviderError};
pub use seal::{NonceCounter, NonceError, SealError, SealingKey, TAG_BYTES};
pub use sign::{KeyId, KeyIdError, PublicKey, SignatureError, SigningKey, VerifyingKey};
