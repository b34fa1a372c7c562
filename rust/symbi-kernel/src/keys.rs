//! The runtime's keys on disk.
//!
//! Why: one secret a file, 0600 in a 0700 directory, made once. An agent in a sandbox never sees one; the kernel signs and
//! seals for it. The files are PKCS#8 in PEM, encrypted where there is a passphrase. A file of 32 raw bytes, as the first
//! version wrote them, opens as well; with a passphrase it, and a file in the clear, is replaced by an encrypted one.
//!
//! Invariants
//! - K9 a key file that others may read, or of another length, is refused, not repaired.
//! - K10 a key file is complete and on disk before anything is signed with it.

use std::fs::{self, File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use symbi_crypto::{KeyFileError, hkdf_sha256, is_pem, read_key_file, write_key_file};
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
    /// It is encrypted, and this is not its passphrase.
    #[error(
        "key file `{path}` {problem}; set SYMBI_KEY_PASSPHRASE to the one that it was encrypted with: without it \
         nobody can open the key"
    )]
    Passphrase {
        /// The file.
        path: PathBuf,
        /// That there was none, or another.
        problem: KeyFileError,
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
/// Bytes of a key file; a longer one is none.
const FILE_BYTES_MAX: u64 = 4_097;

/// The two secrets everything else is derived from.
pub(crate) struct Keys {
    signing_seed: Zeroizing<[u8; KEY_BYTES]>,
    master: Zeroizing<[u8; KEY_BYTES]>,
}

impl Keys {
    /// Opens `directory`, making the keys unless `must_exist`.
    pub(crate) fn open(
        directory: &Path,
        must_exist: bool,
        entropy: &dyn Entropy,
        passphrase: Option<&[u8]>,
    ) -> Result<Self, KeyError> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .map_err(|source| KeyError::Io { path: directory.to_owned(), source })?;
        let signing_seed = read_or_make(&directory.join("signing.key"), must_exist, entropy, passphrase)?;
        let master = read_or_make(&directory.join("master.key"), must_exist, entropy, passphrase)?;
        File::open(directory)
            .and_then(|handle| handle.sync_all())
            .map_err(|source| KeyError::Io { path: directory.to_owned(), source })?; // K10
        Ok(Self { signing_seed, master })
    }

    /// Reads the keys of `directory`, and writes nothing.
    pub(crate) fn read(directory: &Path, passphrase: Option<&[u8]>) -> Result<Self, KeyError> {
        let key = |name: &str| read_key(&directory.join(name), passphrase);
        Ok(Self { signing_seed: key("signing.key")?, master: key("master.key")? })
    }

    /// Of a log that has no runtime: one secret in `file`, made unless `must_exist`, for sealing alone.
    pub(crate) fn for_sealing(
        file: &Path,
        must_exist: bool,
        entropy: &dyn Entropy,
    ) -> Result<Self, KeyError> {
        let master = read_or_make(file, must_exist, entropy, None)?;
        if let Some(directory) = file.parent() {
            File::open(directory)
                .and_then(|handle| handle.sync_all())
                .map_err(|source| KeyError::Io { path: directory.to_owned(), source })?; // K10
        }
        Ok(Self { signing_seed: Zeroizing::new([0; KEY_BYTES]), master })
    }

    pub(crate) fn signing_seed(&self) -> &[u8; KEY_BYTES] {
        &self.signing_seed
    }

    /// A key for one purpose. Source: RFC 5869.
    pub(crate) fn derive(&self, salt: &[u8], purpose: &str) -> Zeroizing<[u8; KEY_BYTES]> {
        Zeroizing::new(hkdf_sha256(self.master.as_slice(), salt, format!("symbi/{purpose}/v1\0").as_bytes()))
    }
}

pub(crate) fn read_or_make(
    path: &Path,
    must_exist: bool,
    entropy: &dyn Entropy,
    passphrase: Option<&[u8]>,
) -> Result<Zeroizing<[u8; KEY_BYTES]>, KeyError> {
    let io = |source| KeyError::Io { path: path.to_owned(), source };
    match File::open(path) {
        Ok(file) => {
            let (key, is_encrypted) = read(path, file, passphrase)?;
            if !is_encrypted && passphrase.is_some() {
                write(path, &key, entropy, passphrase)?;
            }
            Ok(key)
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && must_exist => {
            Err(KeyError::Lost { path: path.to_owned() })
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let mut key = Zeroizing::new([0u8; KEY_BYTES]);
            entropy.fill(key.as_mut_slice());
            write(path, &key, entropy, passphrase)?;
            Ok(key)
        }
        Err(error) => Err(io(error)),
    }
}

/// Whole or not at all (K10).
pub(crate) fn write(
    path: &Path,
    key: &[u8; KEY_BYTES],
    entropy: &dyn Entropy,
    passphrase: Option<&[u8]>,
) -> Result<(), KeyError> {
    let io = |source| KeyError::Io { path: path.to_owned(), source };
    let refuse =
        |error: KeyFileError| KeyError::Refused { path: path.to_owned(), problem: error.to_string() };
    let text = write_key_file(key, passphrase, entropy).map_err(refuse)?;
    let fresh = path.with_extension("new");
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&fresh).map_err(io)?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(io)?;
    fs::rename(&fresh, path).map_err(io)
}

/// The secret in a key file.
///
/// # Errors
/// [`KeyError`]: it is not there, others may read it, it is no key, or not under this passphrase.
pub fn read_key(path: &Path, passphrase: Option<&[u8]>) -> Result<Zeroizing<[u8; 32]>, KeyError> {
    let file = File::open(path).map_err(|source| match source.kind() {
        std::io::ErrorKind::NotFound => KeyError::Lost { path: path.to_owned() },
        _ => KeyError::Io { path: path.to_owned(), source },
    })?;
    Ok(read(path, file, passphrase)?.0)
}

/// Writes a key file, whole or not at all, encrypted where there is a passphrase.
///
/// # Errors
/// [`KeyError`]: it could not be written.
pub fn write_key(path: &Path, key: &[u8; 32], passphrase: Option<&[u8]>) -> Result<(), KeyError> {
    write(path, key, &symbi_types::SystemEntropy, passphrase)
}

/// The secret, and whether it was encrypted.
fn read(
    path: &Path,
    mut file: File,
    passphrase: Option<&[u8]>,
) -> Result<(Zeroizing<[u8; KEY_BYTES]>, bool), KeyError> {
    let io = |source| KeyError::Io { path: path.to_owned(), source };
    let refuse = |problem: String| KeyError::Refused { path: path.to_owned(), problem };
    let metadata = file.metadata().map_err(io)?;
    if metadata.mode() & 0o077 != 0 {
        return Err(refuse(format!("has mode {:o}, and others may read it", metadata.mode() & 0o777)));
    }
    let mut bytes = Zeroizing::new(Vec::new());
    (&mut file).take(FILE_BYTES_MAX).read_to_end(&mut bytes).map_err(io)?;
    if let Ok(raw) = <[u8; KEY_BYTES]>::try_from(bytes.as_slice()) {
        return Ok((Zeroizing::new(raw), false)); // as the first version wrote them
    }
    if !is_pem(&bytes) {
        return Err(refuse(format!("has {} bytes and is neither {KEY_BYTES} raw ones nor PEM", bytes.len())));
    }
    let is_encrypted = matches!(read_key_file(&bytes, None), Err(KeyFileError::NeedsPassphrase));
    let key = read_key_file(&bytes, passphrase).map_err(|error| match error {
        KeyFileError::NeedsPassphrase | KeyFileError::WrongPassphrase => {
            KeyError::Passphrase { path: path.to_owned(), problem: error }
        }
        KeyFileError::Malformed | KeyFileError::OtherKey | KeyFileError::OtherCipher => {
            refuse(error.to_string())
        }
    })?;
    Ok((key, is_encrypted))
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
        let first = Keys::open(&keys, false, &SystemEntropy, None).unwrap();
        let again = Keys::open(&keys, true, &SystemEntropy, None).unwrap();
        assert_eq!(first.signing_seed(), again.signing_seed());
        let path = keys.join("signing.key");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(Keys::open(&keys, true, &SystemEntropy, None), Err(KeyError::Refused { .. })));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&path, b"short").unwrap();
        assert!(matches!(Keys::open(&keys, true, &SystemEntropy, None), Err(KeyError::Refused { .. })));
    }

    #[test]
    fn a_key_file_is_pkcs8_and_the_raw_one_of_before_opens_too_and_is_encrypted_when_there_is_a_passphrase() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("signing.key");
        let made = Keys::open(directory.path(), false, &SystemEntropy, None).unwrap();
        assert!(fs::read_to_string(&path).unwrap().starts_with("-----BEGIN PRIVATE KEY-----\n"));
        fs::write(&path, made.signing_seed()).unwrap();
        let raw = Keys::open(directory.path(), true, &SystemEntropy, None).unwrap();
        assert_eq!((raw.signing_seed(), fs::read(&path).unwrap().len()), (made.signing_seed(), KEY_BYTES));
        let sealed = Keys::open(directory.path(), true, &SystemEntropy, Some(b"word")).unwrap();
        assert_eq!(sealed.signing_seed(), made.signing_seed());
        for name in ["signing.key", "master.key"] {
            let path = directory.path().join(name);
            assert!(
                fs::read_to_string(&path).unwrap().starts_with("-----BEGIN ENCRYPTED PRIVATE KEY-----\n")
            );
            assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        }
        assert_eq!(*read_key(&path, Some(b"word")).unwrap(), *made.signing_seed());
        for wrong in [None, Some(b"other".as_slice())] {
            let refused = Keys::open(directory.path(), true, &SystemEntropy, wrong);
            assert!(matches!(refused, Err(KeyError::Passphrase { .. })));
        }
    }

    #[test]
    fn k10_a_lost_key_is_not_replaced_by_a_new_one() {
        let directory = tempfile::tempdir().unwrap();
        assert!(matches!(
            Keys::open(directory.path(), true, &SystemEntropy, None),
            Err(KeyError::Lost { .. })
        ));
    }
}
