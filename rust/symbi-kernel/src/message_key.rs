//! The key that vouches for agents on the bus: which one it is, and how it is exchanged on disk.
//!
//! Why: until it is exchanged for the first time it is the key that signs the log. After that it is one of its own, in
//! `keys/messages.key`; the trail says which, so that neither a lost file nor an old one can bring a former key back.
//! Not here: exchanging it in force (`agent_keys`), what it vouches for (`symbi_bus`).
//!
//! Invariants
//! - K200 the key in force is the last one that the trail names; where its file is gone the runtime does not open.
//! - K201 a kill at any moment of an exchange leaves the old key or the new one in force, never none.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use symbi_crypto::{KeyId, Provider, SigningKey};
use symbi_types::Entropy;
use zeroize::Zeroizing;

use crate::keys::{KeyError, read_or_make, write};

const FILE: &str = "messages.key";
/// The new key, until the trail names it.
const NEXT: &str = "messages.next";

/// The key in force: `named` by the trail, or the one that signs the log (K200).
pub(crate) fn open(
    directory: &Path,
    (named, of_log): (Option<KeyId>, &SigningKey),
    provider: Provider,
    entropy: &dyn Entropy,
    passphrase: Option<&[u8]>,
) -> Result<SigningKey, KeyError> {
    let Some(named) = named else { return Ok(of_log.clone()) };
    for name in [FILE, NEXT] {
        let path = directory.join(name);
        if !path.exists() {
            continue;
        }
        let seed = read_or_make(&path, true, entropy, passphrase)?;
        let key = SigningKey::from_seed(provider, &seed);
        if key.key_id() == named {
            if name == NEXT {
                settle(directory)?; // K201: killed between the record and the file's name
            }
            return Ok(key);
        }
    }
    Err(KeyError::Lost { path: directory.join(FILE) })
}

/// Makes the next key and lays its file beside the one in force.
pub(crate) fn prepare(
    directory: &Path,
    provider: Provider,
    entropy: &dyn Entropy,
    passphrase: Option<&[u8]>,
) -> Result<SigningKey, KeyError> {
    let mut seed = Zeroizing::new([0u8; 32]);
    entropy.fill(seed.as_mut_slice());
    write(&directory.join(NEXT), &seed, entropy, passphrase)?;
    sync(directory)?;
    Ok(SigningKey::from_seed(provider, &seed))
}

/// The trail names the next key: its file is the one from now on.
pub(crate) fn settle(directory: &Path) -> Result<(), KeyError> {
    let (next, file) = (directory.join(NEXT), directory.join(FILE));
    fs::rename(next, &file).map_err(|source| KeyError::Io { path: file, source })?;
    sync(directory)
}

fn sync(directory: &Path) -> Result<(), KeyError> {
    let path = PathBuf::from(directory);
    File::open(directory).and_then(|handle| handle.sync_all()).map_err(|source| KeyError::Io { path, source })
}
