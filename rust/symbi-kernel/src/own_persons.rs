//! The persons of a log that an application keeps for itself, without a runtime.
//!
//! Why: such a log holds personal values like a runtime's, and cannot forget either. It gets what a runtime has: a key for
//! each person, in a directory of its own beside the log, so that a copied log does not carry the keys that open it.
//! Not here: the log, and the records of an erasure (`symbi.audit.own_persons`); agents, stores and whatever else an erasure
//! empties in a runtime (`erasure`).
//!
//! Invariants
//! - OP1 what is sealed here is sealed under the key of one person, whose pseudonym it names, and is on disk first (ER3).
//! - OP2 opening for reading makes no key and no directory.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use symbi_crypto::Provider;
use symbi_types::{Label, LabelSet, SystemEntropy};

use crate::keys::{KeyError, Keys};
use crate::subjects::{Opened, SubjectError, Subjects};

const MASTER: &str = "master.key";

/// Why there are no persons.
#[derive(Debug, thiserror::Error)]
pub enum OwnPersonsError {
    /// The secret under which their keys lie.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// A person, or its key.
    #[error(transparent)]
    Subject(#[from] SubjectError),
}

/// Persons and their keys, in one directory.
pub struct OwnPersons {
    subjects: Subjects,
}

impl OwnPersons {
    /// Opens `directory`, making it where it is not and `may_make`. `backups` hold a copy of each person's key.
    ///
    /// # Errors
    /// The secret is not there, or not as it must be.
    pub fn open(directory: &Path, backups: Vec<PathBuf>, may_make: bool) -> Result<Self, OwnPersonsError> {
        if may_make {
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(directory)
                .map_err(|source| KeyError::Io { path: directory.to_owned(), source })?;
        }
        let subjects = directory.join("subjects");
        let entropy = Arc::new(SystemEntropy);
        // A lost secret is not made again: what it seals could never be opened, and nobody would be told.
        let must_exist = !may_make || subjects.exists();
        let keys = Arc::new(Keys::for_sealing(&directory.join(MASTER), must_exist, &*entropy)?);
        Ok(Self { subjects: Subjects::new(subjects, backups, Provider::default(), keys, entropy) })
    }

    /// These were erased, says the log: they never get a key again (ER4).
    pub fn mark_erased(&self, pseudonyms: impl IntoIterator<Item = String>) {
        self.subjects.mark_erased(pseudonyms);
    }

    /// Seals for a person, who gets a key where there is none yet (OP1). Answers the pseudonym, too.
    ///
    /// # Errors
    /// It cannot be a name; its key could not be kept.
    pub fn seal(&self, subject: &str, plain: &[u8]) -> Result<(String, String), OwnPersonsError> {
        let pseudonym = self.subjects.pseudonym(subject)?;
        let own = Label::of_subject(&pseudonym).ok_or(SubjectError::Name)?;
        let labels: LabelSet = std::iter::once(own).collect();
        let gone = || SubjectError::Gone(pseudonym.clone());
        if !self.subjects.can_seal(&labels) {
            return Err(gone().into()); // ER1: erased by another thread meanwhile
        }
        let sealed = self.subjects.seal(&labels, plain).ok_or_else(gone)?;
        Ok((pseudonym, sealed))
    }

    /// What was sealed here.
    #[must_use]
    pub fn unseal(&self, sealed: &str) -> Opened {
        self.subjects.open(sealed).unwrap_or(Opened::Foreign)
    }

    /// The pseudonyms of a person, by name or by pseudonym; none where nothing is known.
    ///
    /// # Errors
    /// It cannot be a name.
    pub fn known(&self, subject: &str) -> Result<Vec<String>, OwnPersonsError> {
        if Label::of_subject(subject).is_some() && self.subjects.has(subject) {
            return Ok(vec![subject.to_owned()]);
        }
        Ok(self.subjects.all_of(subject)?)
    }

    /// Destroys a person's key, here and in the backup directories; answers those that it could not reach (ER4). Doing it
    /// again does nothing.
    ///
    /// # Errors
    /// A file that cannot be removed.
    pub fn destroy(&self, pseudonym: &str) -> Result<Vec<PathBuf>, OwnPersonsError> {
        Ok(self.subjects.destroy(pseudonym)?)
    }

    /// Whether a key file of this pseudonym lies here or in a backup directory.
    #[must_use]
    pub fn lies_about(&self, pseudonym: &str) -> bool {
        self.subjects.lies_about(pseudonym)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn op1_what_is_sealed_names_its_person_opens_later_and_is_gone_with_the_key() {
        let place = tempfile::tempdir().unwrap();
        let directory = place.path().join("log.persons");
        let persons = OwnPersons::open(&directory, Vec::new(), true).unwrap();
        let (ann, sealed) = persons.seal("ann", b"hers").unwrap();
        let (bob, his) = persons.seal("bob", b"his").unwrap();
        assert!(sealed.starts_with(&format!("subject:{ann}:")) && ann != bob);
        let again = OwnPersons::open(&directory, Vec::new(), false).unwrap();
        assert_eq!(again.unseal(&sealed), Opened::Plain(b"hers".to_vec()));
        assert_eq!(again.known("ann").unwrap(), std::slice::from_ref(&ann));
        assert!(persons.destroy(&ann).unwrap().is_empty() && !persons.lies_about(&ann));
        assert_eq!(persons.unseal(&sealed), Opened::Erased);
        assert_eq!(OwnPersons::open(&directory, Vec::new(), false).unwrap().unseal(&sealed), Opened::Erased);
        assert_eq!(persons.unseal(&his), Opened::Plain(b"his".to_vec()), "others are unharmed");
        assert_ne!(persons.seal("ann", b"anew").unwrap().0, ann, "who comes back is another");
    }

    #[test]
    fn op2_reading_makes_nothing_and_a_lost_secret_is_not_replaced() {
        let place = tempfile::tempdir().unwrap();
        let directory = place.path().join("log.persons");
        assert!(OwnPersons::open(&directory, Vec::new(), false).is_err() && !directory.exists());
        OwnPersons::open(&directory, Vec::new(), true).unwrap().seal("ann", b"hers").unwrap();
        fs::remove_file(directory.join(MASTER)).unwrap();
        assert!(OwnPersons::open(&directory, Vec::new(), true).is_err());
    }
}
