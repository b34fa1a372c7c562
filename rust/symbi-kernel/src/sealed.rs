//! Opening what a kernel has sealed, without opening the kernel.
//!
//! Why: `symbi explain` reads a trail beside a running runtime, whose lock it must not take. Whoever can read the keys
//! may read what they seal; nobody else can.
//! Not here: making keys. A directory without them stays without.
//!
//! Invariants
//! - K39 opening a sealed text writes nothing.

use std::path::Path;

use symbi_crypto::Provider;

use crate::kernel::unseal;
use crate::keys::{KeyError, Keys};

/// What stands in a sealed field of this data directory's trail; none where its keys did not seal it.
///
/// # Errors
/// The keys are not there, or not as they must be.
pub fn open_sealed(
    data: &Path,
    sealed: &str,
    passphrase: Option<&[u8]>,
) -> Result<Option<Vec<u8>>, KeyError> {
    let directory = data.join("keys");
    if !directory.is_dir() {
        return Err(KeyError::Lost { path: directory }); // K39: `Keys::open` would make the directory
    }
    let keys = Keys::read(&directory, passphrase)?;
    Ok(unseal(Provider::default(), &keys, sealed))
}
