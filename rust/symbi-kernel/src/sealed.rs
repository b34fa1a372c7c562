//! Opening what a kernel has sealed, without opening the kernel.
//!
//! Why: `symbi explain` reads a trail beside a running runtime, whose lock it must not take. Whoever can read the keys
//! may read what they seal; nobody else can.
//! Not here: making keys. A directory without them stays without.
//!
//! Invariants
//! - K39 opening a sealed text writes nothing.

use std::path::Path;

use std::collections::HashMap;

use base64::Engine as _;
use symbi_crypto::{Provider, SealingKey};

use crate::kernel::{seal_key, unseal};
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

/// Opens many: the key of an opening is derived once.
pub(crate) struct Opener {
    keys: Keys,
    by_salt: HashMap<[u8; 16], SealingKey>,
}

impl Opener {
    /// None where the keys are not there: then nothing can be opened.
    pub(crate) fn new(data: &Path, passphrase: Option<&[u8]>) -> Option<Self> {
        let keys = Keys::read(&data.join("keys"), passphrase).ok()?;
        Some(Self { keys, by_salt: HashMap::new() })
    }

    /// As [`open_sealed`].
    pub(crate) fn open(&mut self, sealed: &str) -> Option<Vec<u8>> {
        let whole = base64::engine::general_purpose::STANDARD.decode(sealed).ok()?;
        let (salt, rest) = whole.split_first_chunk::<16>()?;
        let (nonce, cipher) = rest.split_first_chunk::<12>()?;
        let keys = &self.keys;
        let key = self.by_salt.entry(*salt).or_insert_with(|| seal_key(Provider::default(), keys, salt));
        let mut plain = cipher.to_vec();
        key.open(*nonce, salt, &mut plain).ok()?;
        Some(plain)
    }
}
