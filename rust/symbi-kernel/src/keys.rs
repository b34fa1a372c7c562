//! The runtime's keys on disk.
//!
//! Why: one secret a file, 0600 in a 0700 directory, made once and never overwritten. An agent in a sandbox never
//! sees one; the kernel signs and seals for it.
//!
//! Invariants
//! - K9 a key file that others may read, or of another length, is refused, not repaired.
//! - K10 a key file is complete and on disk before anything is signed with it.

use std::fs::{self, File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use symbi_crypto::hkdf_sha256;
use symbi_types::Entropy;
use zeroize::Zeroizing;

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file system said no.
    #[error("key file `{path}`: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What it said.
        source: std::io::Error,
    },
    /// K9.
    #[error(
        "key file `{path}` {problem}; restore it from a backup, or run `chmod 600` if only its mode is wrong"
    )]
    Refused {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// There is a trail, but its key is gone.
    #[error(
        "the trail exists and its key `{path}` does not: restore the key, or name another data directory"
    )]
    Lost {
        /// The file.
        path: PathBuf,
    },
}

impl KeyError {
    /// The signing key of `directory` is none that anybody could verify with.
    pub(crate) fn unusable(directory: &Path, error: &symbi_crypto::SignatureError) -> Self {
        Self::Refused { path: directory.join("signing.key"), problem: format!("cannot be used: {error}") }
    }
}

const KEY_BYTES: usize = 32;

/// The two secrets everything else is derived from.
pub(crate) struct Keys {
    signing_seed: Zeroizing<[u8; KEY_BYTES]>,
    master: Zeroizing<[u8; KEY_BYTES]>,
}

impl Keys {
    /// Opens `directory`, making the keys unless `must_exist`.
    pub(crate) fn open(directory: &Path, must_exist: bool, entropy: &dyn Entropy) -> Result<Self, KeyError> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .map_err(|source| KeyError::Io { path: directory.to_owned(), source })?;
        let signing_seed = read_or_make(&directory.join("signing.key"), must_exist, entropy)?;
        let master = read_or_make(&directory.join("master.key"), must_exist, entropy)?;
        File::open(directory)
            .and_then(|handle| handle.sync_all())
            .map_err(|source| KeyError::Io { path: directory.to_owned(), source })?; // K10
        Ok(Self { signing_seed, master })
    }

    pub(crate) fn signing_seed(&self) -> &[u8; KEY_BYTES] {
        &self.signing_seed
    }

    /// A key for one purpose. Source: RFC 5869.
    pub(crate) fn derive(&self, salt: &[u8], purpose: &str) -> Zeroizing<[u8; KEY_BYTES]> {
        Zeroizing::new(hkdf_sha256(self.master.as_slice(), salt, format!("symbi/{purpose}/v1\0").as_bytes()))
    }
}

fn read_or_make(
    path: &Path,
    must_exist: bool,
    entropy: &dyn Entropy,
) -> Result<Zeroizing<[u8; KEY_BYTES]>, KeyError> {
    let io = |source| KeyError::Io { path: path.to_owned(), source };
    match File::open(path) {
        Ok(file) => read(path, file),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && must_exist => {
            Err(KeyError::Lost { path: path.to_owned() })
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let mut key = Zeroizing::new([0u8; KEY_BYTES]);
            entropy.fill(key.as_mut_slice());
            let fresh = path.with_extension("new");
            let mut file = OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(&fresh)
                .map_err(io)?;
            file.write_all(key.as_slice()).and_then(|()| file.sync_all()).map_err(io)?;
            fs::rename(&fresh, path).map_err(io)?;
            Ok(key)
        }
        Err(error) => Err(io(error)),
    }
}

fn read(path: &Path, mut file: File) -> Result<Zeroizing<[u8; KEY_BYTES]>, KeyError> {
    let io = |source| KeyError::Io { path: path.to_owned(), source };
    let refuse = |problem: String| KeyError::Refused { path: path.to_owned(), problem };
    let metadata = file.metadata().map_err(io)?;
    if metadata.mode() & 0o077 != 0 {
        return Err(refuse(format!("has mode {:o}, and others may read it", metadata.mode() & 0o777)));
    }
    if metadata.len() != KEY_BYTES as u64 {
        return Err(refuse(format!("has {} bytes instead of {KEY_BYTES}", metadata.len())));
    }
    let mut key = Zeroizing::new([0u8; KEY_BYTES]);
    file.read_exact(key.as_mut_slice()).map_err(io)?;
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;
    use symbi_types::SystemEntropy;

    #[test]
    fn k9_a_key_that_others_may_read_or_of_another_length_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let keys = directory.path().join("keys");
        let first = Keys::open(&keys, false, &SystemEntropy).unwrap();
        let again = Keys::open(&keys, true, &SystemEntropy).unwrap();
        assert_eq!(first.signing_seed(), again.signing_seed());
        let path = keys.join("signing.key");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(Keys::open(&keys, true, &SystemEntropy), Err(KeyError::Refused { .. })));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&path, b"short").unwrap();
        assert!(matches!(Keys::open(&keys, true, &SystemEntropy), Err(KeyError::Refused { .. })));
    }

    #[test]
    fn k10_a_lost_key_is_not_replaced_by_a_new_one() {
        let directory = tempfile::tempdir().unwrap();
        assert!(matches!(Keys::open(directory.path(), true, &SystemEntropy), Err(KeyError::Lost { .. })));
    }
}
