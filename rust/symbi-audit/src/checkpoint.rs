//! Checkpoints: how many records there are and the root over them, signed, to be kept elsewhere.
//!
//! Why: a trail can be cut back to an older, genuine state by whoever may write its directory, and rewritten by whoever
//! holds its key. A checkpoint that lies somewhere else shows either. The form is C2SP `tlog-checkpoint`.
//!
//! Invariants
//! - CP1 the origin is `symbi-audit/` and the log's id: a checkpoint of one log is none of another.
//! - CP2 it is signed by the key whose turn it is after its last record, or that signed this record.
//! - CP3 of a witness' answer that line is kept which was checked, and no other.

use std::fmt;
use std::str::FromStr;

use symbi_crypto::{PublicKey, SigningKey};
use symbi_types::LogId;

use crate::chain;
use crate::merkle::Hash;
use crate::note::{Note, NoteError, PLAIN, VerifierKey, fault};

/// Before the log's id in an origin.
const ORIGIN: &str = "symbi-audit/";

/// A checkpoint with its signatures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    log_id: LogId,
    size: u64,
    root: Hash,
    note: Note,
}

/// The name under which a log signs, and the first line of its checkpoints.
#[must_use]
pub fn origin(log_id: LogId) -> String {
    format!("{ORIGIN}{log_id}")
}

impl Checkpoint {
    /// Signs the state of a log.
    #[must_use]
    pub fn sign(log_id: LogId, size: u64, root: Hash, key: &SigningKey) -> Self {
        let name = origin(log_id);
        let text = format!("{name}\n{size}\n{}\n", chain::base64(&root));
        let mut note = Note { text, signatures: Vec::new() };
        note.sign(&name, key);
        Self { log_id, size, root, note }
    }

    /// Whose.
    #[must_use]
    pub const fn log_id(&self) -> LogId {
        self.log_id
    }

    /// How many records.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// The root over them.
    #[must_use]
    pub const fn root(&self) -> &Hash {
        &self.root
    }

    /// The key under which a log's own signature stands in a note.
    #[must_use]
    pub fn verifier_key(log_id: LogId, key: PublicKey) -> VerifierKey {
        VerifierKey::new(&origin(log_id), PLAIN, key)
    }

    /// Whether the log's own key, this one, signed it (CP2).
    ///
    /// # Errors
    /// [`NoteError`].
    pub fn check(&self, key: &PublicKey) -> Result<(), NoteError> {
        self.note.check(&Self::verifier_key(self.log_id, *key)).map(|_| ())
    }

    /// When this witness signed it, seconds since the Unix epoch.
    ///
    /// # Errors
    /// [`NoteError`] where it did not.
    pub fn check_witness(&self, witness: &VerifierKey) -> Result<u64, NoteError> {
        self.note.check(witness)?.ok_or_else(|| NoteError(format!("`{}` is not a witness", witness.name())))
    }

    /// Adds the signature of a witness.
    pub fn cosign(&mut self, name: &str, key: &SigningKey, time_s: u64) {
        self.note.cosign(name, key, time_s);
    }

    /// Takes over the lines of witnesses that stand under the same text elsewhere. Answers whether there were any.
    pub fn merge(&mut self, other: &Self) -> bool {
        let name = origin(self.log_id);
        let mut any = false;
        if self.note.text == other.note.text {
            for line in other.note.signatures.iter().filter(|line| line.name != name) {
                self.note.add(line.clone());
                any = true;
            }
        }
        any
    }

    /// Adds lines as a witness answered them, after checking its signature.
    ///
    /// # Errors
    /// [`NoteError`]: none of them is this witness' signature over this checkpoint.
    pub fn add_cosignatures(&mut self, lines: &str, witness: &VerifierKey) -> Result<u64, NoteError> {
        let answered: Self = format!("{}\n{lines}", self.note.text).parse()?;
        let time_s = answered.check_witness(witness)?;
        answered.note.of(witness).for_each(|line| self.note.add(line.clone())); // CP3: `check` saw that there is one
        Ok(time_s)
    }

    /// The line of one key, as a witness answers it.
    #[must_use]
    pub fn signature_lines(&self, signer: &VerifierKey) -> String {
        self.note.of(signer).map(ToString::to_string).collect()
    }

    /// Names of those who signed, the log's own first as it stands.
    pub fn signers(&self) -> impl Iterator<Item = &str> {
        self.note.signatures.iter().map(|line| line.name.as_str())
    }
}

impl FromStr for Checkpoint {
    type Err = NoteError;

    fn from_str(text: &str) -> Result<Self, NoteError> {
        let note = Note::parse(text)?;
        let mut lines = note.text.split('\n');
        let (name, size, root) = (lines.next(), lines.next(), lines.next());
        let (Some(name), Some(size), Some(root)) = (name, size, root) else {
            return fault("a checkpoint has three lines");
        };
        let id = name.strip_prefix(ORIGIN).and_then(|id| chain::unhex::<16>(id.as_bytes()));
        let Some(id) = id else { return fault("its first line is not the origin of a trail") };
        let plain = size == "0" || (size.starts_with(|first: char| first != '0'));
        let number = plain && size.bytes().all(|byte| byte.is_ascii_digit());
        let Some(size) = size.parse().ok().filter(|size| number && *size <= 1 << 53) else {
            return fault("its second line is not a number of records");
        };
        let Some(root) = chain::unbase64::<32>(root.as_bytes()) else {
            return fault("its third line is not a root");
        };
        if lines.any(|line| !line.is_empty()) {
            return fault("a checkpoint of a trail has three lines");
        }
        Ok(Self { log_id: LogId(id), size, root, note })
    }
}

impl fmt::Display for Checkpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.note.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use symbi_crypto::Provider;

    fn key(seed: u8) -> SigningKey {
        SigningKey::from_seed(Provider::AwsLc, &[seed; 32])
    }

    #[test]
    fn cp1_a_checkpoint_reads_back_and_names_its_log_and_its_signer() {
        let made = Checkpoint::sign(LogId([7; 16]), 42, [9; 32], &key(1));
        let read: Checkpoint = made.to_string().parse().unwrap();
        assert_eq!(read, made);
        assert_eq!((read.log_id(), read.size(), read.root()), (LogId([7; 16]), 42, &[9; 32]));
        assert!(read.check(&key(1).public()).is_ok());
        assert!(read.check(&key(2).public()).is_err());
        let renamed = made.to_string().replace("0707", "0708");
        assert!(renamed.parse::<Checkpoint>().is_ok_and(|other| other.check(&key(1).public()).is_err()));
    }

    #[test]
    fn any_flipped_bit_of_a_checkpoint_is_seen() {
        let good = Checkpoint::sign(LogId([7; 16]), 42, [9; 32], &key(1)).to_string();
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone().into_bytes();
            bad[bit / 8] ^= 1 << (bit % 8);
            let read = String::from_utf8(bad).ok().and_then(|text| text.parse::<Checkpoint>().ok());
            assert!(read.is_none_or(|read| read.check(&key(1).public()).is_err()), "bit {bit}");
        }
    }

    #[test]
    fn witnesses_sign_beside_the_log_and_are_told_apart() {
        let mut made = Checkpoint::sign(LogId([7; 16]), 42, [9; 32], &key(1));
        let mut copy = made.clone();
        copy.cosign("w.example/1", &key(2), 100);
        let witness = VerifierKey::witness("w.example/1", key(2).public()).unwrap();
        let lines = copy.signature_lines(&witness);
        assert_eq!(made.add_cosignatures(&lines, &witness), Ok(100));
        assert_eq!(made.check_witness(&witness), Ok(100));
        assert!(made.check(&key(1).public()).is_ok());
        let stranger = VerifierKey::witness("w.example/1", key(3).public()).unwrap();
        assert!(made.check_witness(&stranger).is_err());
        let mut other = Checkpoint::sign(LogId([7; 16]), 43, [9; 32], &key(1));
        assert!(other.add_cosignatures(&lines, &witness).is_err(), "lines of another checkpoint");
        assert!(!other.merge(&made));
    }

    #[test]
    fn cp3_what_is_kept_of_an_answer_is_the_line_that_was_checked() {
        let mut made = Checkpoint::sign(LogId([7; 16]), 42, [9; 32], &key(1));
        let witness = VerifierKey::witness("w.example/1", key(2).public()).unwrap();
        // Lines under the witness' name that are not its own: another's, and the witness' without a time.
        let mut copy = made.clone();
        copy.cosign("w.example/1", &key(3), 7);
        copy.note.sign("w.example/1", &key(2));
        let strange: String = copy.note.signatures.iter().skip(1).map(ToString::to_string).collect();
        assert_eq!(strange.lines().count(), 2);
        copy.cosign("w.example/1", &key(2), 100);
        let lines = copy.signature_lines(&witness);
        assert_eq!(lines.lines().count(), 1, "a witness answers its own line, none that it was sent");
        assert_eq!(made.add_cosignatures(&format!("{strange}{lines}"), &witness), Ok(100));
        assert_eq!(made.check_witness(&witness), Ok(100));
        assert_eq!(made.signers().count(), 2, "the log's and the witness', and nothing that nobody checked");
        assert!(made.add_cosignatures(&strange, &witness).is_err());
        assert_eq!(made.check_witness(&witness), Ok(100));
    }

    #[test]
    fn odd_forms_are_refused() {
        let good = Checkpoint::sign(LogId([7; 16]), 42, [9; 32], &key(1)).to_string();
        for (from, to) in
            [("\n42\n", "\n042\n"), ("\n42\n", "\n+42\n"), ("\n42\n", "\n\n"), ("symbi-audit", "x")]
        {
            assert!(good.replacen(from, to, 1).parse::<Checkpoint>().is_err(), "{to}");
        }
        assert!(good.replacen("\n\n", "\nextension\n\n", 1).parse::<Checkpoint>().is_err());
        assert!("".parse::<Checkpoint>().is_err());
    }
}
