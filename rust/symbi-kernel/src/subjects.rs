//! Persons, by pseudonym, and the key of each.
//!
//! Why: a log cannot forget, but a key can be lost. What belongs to a person is sealed under a key of that person, in the
//! trail and everywhere else; destroying the key erases all of it at once, and leaves chain and proofs as they are.
//! A person has a file of its own, `keys/subjects/<pseudonym>`: key and name, sealed under the runtime's master key. The
//! pseudonym is drawn, not derived: once the file is gone, nothing leads from a name to it.
//! Not here: sealing with them (`sealing`), whose data something is (labels), what is done when a person is forgotten
//! (`erasure`).
//!
//! Invariants
//! - ER1 what carries a person's label is sealed under that person's key, or not at all: where the key is gone, nothing is
//!   kept, and never in the clear.
//! - ER2 what belongs to several persons needs the keys of all of them: forgetting one makes it unreadable.
//! - ER3 a key is on disk, and in every backup directory, before anything is sealed with it.
//! - ER4 a destroyed key is overwritten, then removed, here and in every backup directory; a pseudonym that was erased
//!   never gets a key again.

mod files;
mod sealing;

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use symbi_crypto::{NonceCounter, Provider, SealingKey, hmac_sha256};
use symbi_types::{Entropy, Label, LabelSet};
use zeroize::Zeroizing;

use files::{files_in, make_directory, shred, write};
use sealing::Sealer;

use crate::kernel::{lock, unseal};
use crate::keys::Keys;

/// Longest name of a person, in bytes.
pub const SUBJECT_BYTES_MAX: usize = 256;
/// Keys, and combinations of keys, that are kept in memory.
const KEPT_MAX: usize = 4_096;
const DOMAIN: &[u8] = b"symbi/subject/v1\0";
const KEY_BYTES: usize = 32;

/// Why a person's key is not to be had.
#[derive(Debug, thiserror::Error)]
pub enum SubjectError {
    /// It cannot be a name.
    #[error("a subject is 1 to {SUBJECT_BYTES_MAX} bytes of printable text, without blanks around it")]
    Name,
    /// There is no such pseudonym, or it was erased.
    #[error("`{0}` is no person that is known here, or one who was erased")]
    Gone(String),
    /// The file system said no.
    #[error("subject key `{path}`: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What it said.
        source: std::io::Error,
    },
    /// A key file that this runtime did not write.
    #[error("subject key `{path}` is not one of this data directory; restore it from a backup")]
    Foreign {
        /// The file.
        path: PathBuf,
    },
}

/// What became of something that was sealed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Opened {
    /// Here it is.
    Plain(Vec<u8>),
    /// The person it belongs to was erased.
    Erased,
    /// It was not sealed here, or is damaged.
    Foreign,
}

impl Opened {
    /// The text, where there is one.
    #[must_use]
    pub fn plain(self) -> Option<Vec<u8>> {
        match self {
            Self::Plain(plain) => Some(plain),
            Self::Erased | Self::Foreign => None,
        }
    }
}

struct SubjectKey {
    name: String,
    key: Zeroizing<[u8; KEY_BYTES]>,
}

#[derive(Default)]
struct State {
    keys: HashMap<String, Arc<SubjectKey>>,
    sealers: HashMap<String, Sealer>,
    /// By keyed digest of the name.
    names: HashMap<[u8; 32], String>,
    erased: HashSet<String>,
}

/// See the module.
pub(crate) struct Subjects {
    directory: PathBuf,
    backups: Vec<PathBuf>,
    provider: Provider,
    keys: Arc<Keys>,
    name_key: Zeroizing<[u8; KEY_BYTES]>,
    blind_key: Zeroizing<[u8; KEY_BYTES]>,
    entropy: Arc<dyn Entropy>,
    /// Held while a key is made or destroyed, which waits for disks. `state` is locked within it, and never over a wait.
    making: Mutex<()>,
    state: Mutex<State>,
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        let _ = write!(text, "{byte:02x}"); // writing into a string cannot fail
    }
    text
}

impl Subjects {
    /// `directory`: where the keys of persons lie. `backups`: directories that hold a copy of each key file.
    pub(crate) fn new(
        directory: PathBuf,
        backups: Vec<PathBuf>,
        provider: Provider,
        keys: Arc<Keys>,
        entropy: Arc<dyn Entropy>,
    ) -> Self {
        let name_key = keys.derive(b"", "subject-name");
        let blind_key = keys.derive(b"", "subject-words");
        let (making, state) = (Mutex::default(), Mutex::default());
        Self { directory, backups, provider, keys, name_key, blind_key, entropy, making, state }
    }

    /// Where a data directory has them.
    pub(crate) fn of_data(data: &Path) -> PathBuf {
        data.join("keys").join("subjects")
    }

    /// For reading what lies in a data directory, beside its runtime.
    pub(crate) fn reader(data: &Path, keys: Arc<Keys>) -> Self {
        let entropy = Arc::new(symbi_types::SystemEntropy);
        Self::new(Self::of_data(data), Vec::new(), Provider::default(), keys, entropy)
    }

    /// Opens what was sealed under keys of this data directory, for persons or not.
    pub(crate) fn open_any(&self, sealed: &str) -> Opened {
        match self.open(sealed) {
            Some(opened) => opened,
            None => unseal(self.provider, &self.keys, sealed).map_or(Opened::Foreign, Opened::Plain),
        }
    }

    /// These were erased, says the log (ER4).
    pub(crate) fn mark_erased(&self, pseudonyms: impl IntoIterator<Item = String>) {
        lock(&self.state).erased.extend(pseudonyms);
    }

    /// The pseudonym of a person, made where there is none yet.
    ///
    /// # Errors
    /// [`SubjectError`]: it cannot be a name, or its key could not be kept.
    pub(crate) fn pseudonym(&self, name: &str) -> Result<String, SubjectError> {
        check_name(name)?;
        let digest = self.digest_name(name);
        if let Some(known) = lock(&self.state).names.get(&digest) {
            return Ok(known.clone());
        }
        let _making = lock(&self.making); // of two that make the same, the second finds what the first has made
        let pseudonym = match self.found(&digest)? {
            Some(known) => known,
            None => self.make(name, &digest)?,
        };
        let mut state = lock(&self.state);
        if state.names.len() >= KEPT_MAX {
            state.names.clear();
        }
        state.names.insert(digest, pseudonym.clone());
        Ok(pseudonym)
    }

    /// What leads from a name, in memory or on disk, to a person who has a key.
    fn found(&self, digest: &[u8; 32]) -> Result<Option<String>, SubjectError> {
        if let Some(known) = lock(&self.state).names.get(digest) {
            return Ok(Some(known.clone()));
        }
        let Some(known) = self.look_up(digest)? else { return Ok(None) };
        let is_there = !lock(&self.state).erased.contains(&known) && self.load(&known)?.is_some();
        Ok(is_there.then_some(known))
    }

    /// The pseudonym of a person that is known. Cost: one file, or none; of a person that is not known, all of them.
    ///
    /// # Errors
    /// [`SubjectError`].
    pub(crate) fn known(&self, name: &str) -> Result<Option<String>, SubjectError> {
        check_name(name)?;
        match self.found(&self.digest_name(name))? {
            Some(known) => Ok(Some(known)),
            None => Ok(self.all_of(name)?.into_iter().next()),
        }
    }

    /// All pseudonyms that a person has: more than one only where the file that leads from the name was lost. Cost: a look at
    /// the key of every person.
    pub(crate) fn all_of(&self, name: &str) -> Result<Vec<String>, SubjectError> {
        let mut found = Vec::new();
        for pseudonym in self.list()? {
            if self.load(&pseudonym)?.is_some_and(|key| key.name == name) {
                found.push(pseudonym);
            }
        }
        Ok(found)
    }

    /// Every pseudonym that has a key.
    pub(crate) fn list(&self) -> Result<Vec<String>, SubjectError> {
        let files = files_in(&self.directory)?;
        let names = files.iter().filter_map(|path| path.file_name()?.to_str());
        let mut all: Vec<String> =
            names.filter(|name| Label::of_subject(name).is_some()).map(str::to_owned).collect();
        all.sort();
        Ok(all)
    }

    /// The labels of data of a person: `personal`, and the person's own.
    pub(crate) fn labels_of(&self, name: &str) -> Result<LabelSet, SubjectError> {
        let pseudonym = self.pseudonym(name)?;
        let own = Label::of_subject(&pseudonym).ok_or(SubjectError::Name)?;
        Ok(Label::PERSONAL.parse().into_iter().chain([own]).collect())
    }

    /// The name of a person, for who may see it.
    pub(crate) fn name(&self, pseudonym: &str) -> Option<String> {
        Some(self.key(pseudonym)?.name.clone())
    }

    /// Whether this pseudonym has a key.
    pub(crate) fn has(&self, pseudonym: &str) -> bool {
        self.key(pseudonym).is_some()
    }

    /// Whether all persons that these labels name have keys.
    pub(crate) fn can_seal(&self, labels: &LabelSet) -> bool {
        labels.is_empty() || labels.iter().filter_map(Label::subject).all(|pseudonym| self.has(pseudonym))
    }

    fn key(&self, pseudonym: &str) -> Option<Arc<SubjectKey>> {
        let mut state = lock(&self.state);
        self.key_in(&mut state, pseudonym)
    }

    fn key_in(&self, state: &mut State, pseudonym: &str) -> Option<Arc<SubjectKey>> {
        if state.erased.contains(pseudonym) {
            return None; // ER4
        }
        if let Some(known) = state.keys.get(pseudonym) {
            return Some(Arc::clone(known));
        }
        let loaded = Arc::new(self.load(pseudonym).ok()??);
        if state.keys.len() >= KEPT_MAX {
            state.keys.clear();
        }
        state.keys.insert(pseudonym.to_owned(), Arc::clone(&loaded));
        Some(loaded)
    }

    fn digest_name(&self, name: &str) -> [u8; 32] {
        hmac_sha256(&self.name_key, &[name.as_bytes()])
    }

    fn names_directory(&self) -> PathBuf {
        self.directory.join("names")
    }

    fn look_up(&self, digest: &[u8; 32]) -> Result<Option<String>, SubjectError> {
        let path = self.names_directory().join(hex(digest));
        match fs::read_to_string(&path) {
            Ok(text) => Ok(Label::of_subject(text.trim()).map(|_| text.trim().to_owned())),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(source) => Err(SubjectError::Io { path, source }),
        }
    }

    /// ER3: the key first, then what leads to it.
    fn make(&self, name: &str, digest: &[u8; 32]) -> Result<String, SubjectError> {
        let (mut pseudonym, mut salt) = ([0u8; 16], [0u8; 16]);
        let mut key = Zeroizing::new([0u8; KEY_BYTES]);
        self.entropy.fill(&mut pseudonym);
        self.entropy.fill(&mut salt);
        self.entropy.fill(key.as_mut_slice());
        let pseudonym = hex(&pseudonym);
        let mut sealed = key.to_vec();
        sealed.extend_from_slice(name.as_bytes());
        let wrap = SealingKey::new(self.provider, *self.keys.derive(&salt, "subject-wrap"));
        let path = self.directory.join(&pseudonym);
        let associated = [DOMAIN, pseudonym.as_bytes()].concat();
        // A key of its own for each file, by its salt: the first nonce is the only one.
        wrap.seal(NonceCounter::nonce(1), &associated, &mut sealed)
            .map_err(|_| SubjectError::Foreign { path: path.clone() })?;
        let text = BASE64.encode([salt.as_slice(), &sealed].concat());
        make_directory(&self.names_directory())?;
        for backup in &self.backups {
            // Not made here: where it is not mounted, a directory of its name would be on another disk.
            write(backup, &pseudonym, &text)?;
        }
        write(&self.directory, &pseudonym, &text)?;
        write(&self.names_directory(), &hex(digest), &pseudonym)?;
        Ok(pseudonym)
    }

    /// The key in the file of a pseudonym; none where there is no file.
    fn load(&self, pseudonym: &str) -> Result<Option<SubjectKey>, SubjectError> {
        let path = self.directory.join(pseudonym);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(SubjectError::Io { path, source }),
        };
        let foreign = || SubjectError::Foreign { path: path.clone() };
        let whole = Zeroizing::new(BASE64.decode(text.trim()).map_err(|_| foreign())?);
        let (salt, sealed) = whole.split_first_chunk::<16>().ok_or_else(foreign)?;
        let mut plain = Zeroizing::new(sealed.to_vec());
        let wrap = SealingKey::new(self.provider, *self.keys.derive(salt, "subject-wrap"));
        let associated = [DOMAIN, pseudonym.as_bytes()].concat();
        wrap.open(NonceCounter::nonce(1), &associated, &mut plain).map_err(|_| foreign())?;
        let (key, name) = plain.split_first_chunk::<KEY_BYTES>().ok_or_else(foreign)?;
        let name = String::from_utf8(name.to_vec()).map_err(|_| foreign())?;
        Ok(Some(SubjectKey { name, key: Zeroizing::new(*key) }))
    }

    /// Destroys the key of a pseudonym, everywhere (ER4). Answers the backup directories that it could not reach. Doing it
    /// again does nothing.
    pub(crate) fn destroy(&self, pseudonym: &str) -> Result<Vec<PathBuf>, SubjectError> {
        // A name whose person comes back as another is not led astray by what is removed here.
        let _making = lock(&self.making);
        {
            let mut state = lock(&self.state);
            state.erased.insert(pseudonym.to_owned());
            state.keys.remove(pseudonym);
            state.names.retain(|_, known| known != pseudonym);
            state.sealers.retain(|of, _| !of.split(',').any(|one| one == pseudonym));
        }
        for path in files_in(&self.names_directory())? {
            let leads_there = fs::read_to_string(&path).is_ok_and(|text| text.trim() == pseudonym);
            if leads_there {
                shred(&path)?;
            }
        }
        let mut unreached = Vec::new();
        for backup in &self.backups {
            let gone = if backup.is_dir() { shred(&backup.join(pseudonym)).is_ok() } else { false };
            if !gone {
                unreached.push(backup.clone());
            }
        }
        shred(&self.directory.join(pseudonym))?;
        Ok(unreached)
    }

    /// Whether a key file of this pseudonym lies here or in a backup directory.
    pub(crate) fn lies_about(&self, pseudonym: &str) -> bool {
        let directories = std::iter::once(&self.directory).chain(&self.backups);
        directories.map(|directory| directory.join(pseudonym)).any(|path| path.exists())
    }
}

fn check_name(name: &str) -> Result<(), SubjectError> {
    let good = !name.is_empty()
        && name.len() <= SUBJECT_BYTES_MAX
        && name.trim() == name
        && !name.chars().any(char::is_control);
    if good { Ok(()) } else { Err(SubjectError::Name) }
}

#[cfg(test)]
mod tests;
