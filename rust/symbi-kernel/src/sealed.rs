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
use std::sync::Arc;

use base64::Engine as _;
use symbi_crypto::{NonceCounter, Provider, SealError, SealingKey};

use crate::kernel::{Kernel, seal_key};
use crate::keys::{KeyError, Keys};
use crate::subjects::{Opened, Subjects};

/// What stands in a sealed field of this data directory's trail.
///
/// # Errors
/// The keys are not there, or not as they must be.
pub fn open_sealed(data: &Path, sealed: &str, passphrase: Option<&[u8]>) -> Result<Opened, KeyError> {
    let directory = data.join("keys");
    if !directory.is_dir() {
        return Err(KeyError::Lost { path: directory }); // K39: `Keys::open` would make the directory
    }
    let keys = Arc::new(Keys::read(&directory, passphrase)?);
    Ok(Subjects::reader(data, keys).open_any(sealed))
}

/// The pseudonym of a person; none where nothing is known of it. Writes nothing.
///
/// # Errors
/// The keys are not there, not as they must be, or it cannot be a name.
pub fn pseudonym_in(
    data: &Path,
    subject: &str,
    passphrase: Option<&[u8]>,
) -> Result<Option<String>, crate::KernelError> {
    let keys = Arc::new(Keys::read(&data.join("keys"), passphrase)?);
    Ok(Subjects::reader(data, keys).known(subject)?)
}

/// Bytes that stand under a message's seal besides its payload, where it has no label and no topic.
const HEADER_BYTES: usize = 164;

impl Kernel {
    /// Seals and opens a payload so many times as a message is sealed and opened, under a fresh key: for benches, what the
    /// seal of a message costs without its signature.
    ///
    /// # Errors
    /// [`SealError`], where what was opened is not what was sealed.
    pub fn seal_and_open(&self, payload: &[u8], times: u64) -> Result<(), SealError> {
        let mut key = [0u8; 32];
        self.entropy().fill(&mut key);
        let key = SealingKey::new(Provider::default(), key);
        let mut data = payload.to_vec();
        let mut numbers = NonceCounter::new();
        for _ in 0..times {
            let nonce = numbers.next_nonce().map_err(|_| SealError)?;
            key.seal(nonce, &[0; HEADER_BYTES], &mut data)?;
            key.open(nonce, &[0; HEADER_BYTES], &mut data)?;
        }
        if data == payload { Ok(()) } else { Err(SealError) }
    }
}

/// Opens many: the key of an opening is derived once.
pub(crate) struct Opener {
    keys: Arc<Keys>,
    subjects: Subjects,
    by_salt: HashMap<[u8; 16], SealingKey>,
}

impl Opener {
    /// None where the keys are not there: then nothing can be opened.
    pub(crate) fn new(data: &Path, passphrase: Option<&[u8]>) -> Option<Self> {
        let keys = Arc::new(Keys::read(&data.join("keys"), passphrase).ok()?);
        let subjects = Subjects::reader(data, Arc::clone(&keys));
        Some(Self { keys, subjects, by_salt: HashMap::new() })
    }

    /// As [`open_sealed`].
    pub(crate) fn open(&mut self, sealed: &str) -> Option<Vec<u8>> {
        if let Some(opened) = self.subjects.open(sealed) {
            return opened.plain();
        }
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
