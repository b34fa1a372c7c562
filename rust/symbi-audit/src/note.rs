//! Signed notes, C2SP `signed-note`: a text, an empty line, and a line for each signature.
//!
//! Why this form: other people's tools read it, and witnesses add their lines without touching ours.
//! Not here: what the text says (`checkpoint`).
//!
//! Invariants
//! - N1 a line counts only for a key that the caller named; lines of unknown keys are kept and say nothing.
//! - N2 a note is taken only in the form in which it would be written: base64 canonical, no stray line.

use std::fmt;
use std::str::FromStr;

use symbi_crypto::{PublicKey, SigningKey, sha256};

use crate::chain;

/// The longest note: a checkpoint with hundreds of witnesses.
const NOTE_BYTES_MAX: usize = 64 * 1024;
const SIGNATURES_MAX: usize = 256;
/// Ed25519 over the text.
pub(crate) const PLAIN: u8 = 1;
/// Ed25519 with a time, C2SP `tlog-cosignature`.
pub(crate) const COSIGNATURE: u8 = 4;

/// A note, a key or a signature that does not hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NoteError(pub String);

pub(crate) fn fault<T>(reason: impl Into<String>) -> Result<T, NoteError> {
    Err(NoteError(reason.into()))
}

/// A public key with the name and the purpose under which it signs: `name+<hash>+<base64>`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct VerifierKey {
    name: String,
    kind: u8,
    key: PublicKey,
}

impl VerifierKey {
    pub(crate) fn new(name: &str, kind: u8, key: PublicKey) -> Self {
        Self { name: name.to_owned(), kind, key }
    }

    /// The key of a witness.
    ///
    /// # Errors
    /// [`NoteError`] for a name that cannot stand in a note.
    pub fn witness(name: &str, key: PublicKey) -> Result<Self, NoteError> {
        check_name(name)?;
        Ok(Self::new(name, COSIGNATURE, key))
    }

    /// The name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The key.
    #[must_use]
    pub const fn key(&self) -> PublicKey {
        self.key
    }

    /// Whether it signs with a time, as witnesses do.
    #[must_use]
    pub const fn is_witness(&self) -> bool {
        self.kind == COSIGNATURE
    }

    pub(crate) fn id(&self) -> [u8; 4] {
        let digest = sha256(&[self.name.as_bytes(), b"\n", &[self.kind], &self.key.0]);
        digest.first_chunk::<4>().copied().unwrap_or_default()
    }
}

impl fmt::Display for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let material = [&[self.kind], self.key.0.as_slice()].concat();
        write!(f, "{}+{}+{}", self.name, chain::hex(&self.id()), chain::base64(&material))
    }
}

impl FromStr for VerifierKey {
    type Err = NoteError;

    fn from_str(text: &str) -> Result<Self, NoteError> {
        let refuse = || {
            let shown: String = text.chars().take(120).collect();
            NoteError(format!("`{shown}` is not a key: `name+hash+base64` was expected"))
        };
        let mut parts = text.splitn(3, '+');
        let (name, id, material) = (parts.next(), parts.next(), parts.next());
        let (Some(name), Some(id), Some(material)) = (name, id, material) else { return Err(refuse()) };
        check_name(name)?;
        let bytes: [u8; 33] = chain::unbase64(material.as_bytes()).ok_or_else(refuse)?;
        let (kind, key) = bytes.split_first_chunk::<1>().ok_or_else(refuse)?;
        let key = PublicKey(key.try_into().map_err(|_| refuse())?);
        let [kind] = *kind;
        if !matches!(kind, PLAIN | COSIGNATURE) {
            return fault("the key is of an algorithm that is not known here");
        }
        let made = Self::new(name, kind, key);
        if chain::unhex::<4>(id.as_bytes()) == Some(made.id()) { Ok(made) } else { Err(refuse()) }
    }
}

/// A name: not empty, at most 255 bytes, nothing that would end it.
pub(crate) fn check_name(name: &str) -> Result<(), NoteError> {
    let bad = |letter: char| letter.is_whitespace() || letter.is_control() || letter == '+';
    if name.is_empty() || name.len() > 255 || name.chars().any(bad) {
        return fault("a key's name is 1 to 255 bytes without spaces and `+`");
    }
    Ok(())
}

/// One line under a note.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NoteSignature {
    pub(crate) name: String,
    pub(crate) id: [u8; 4],
    pub(crate) bytes: Vec<u8>,
}

/// A text and what was signed under it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Note {
    /// With its last newline.
    pub(crate) text: String,
    pub(crate) signatures: Vec<NoteSignature>,
}

impl Note {
    pub(crate) fn parse(note: &str) -> Result<Self, NoteError> {
        if note.len() > NOTE_BYTES_MAX {
            return fault(format!("a note of {} bytes is longer than {NOTE_BYTES_MAX}", note.len()));
        }
        if note.chars().any(|letter| letter.is_control() && letter != '\n') {
            return fault("a note has no control characters");
        }
        let Some(at) = note.rfind("\n\n") else {
            return fault("a note has an empty line before its signatures");
        };
        let (text, below) = note.split_at(at + 1);
        let mut signatures = Vec::new();
        let Some(lines) = below.strip_prefix('\n').and_then(|lines| lines.strip_suffix('\n')) else {
            return fault("a note ends in a newline");
        };
        for line in lines.split('\n') {
            if signatures.len() >= SIGNATURES_MAX {
                return fault("a note has too many signatures");
            }
            signatures.push(Self::signature(line)?);
        }
        Ok(Self { text: text.to_owned(), signatures })
    }

    fn signature(line: &str) -> Result<NoteSignature, NoteError> {
        let parts = line.strip_prefix("\u{2014} ").and_then(|rest| rest.split_once(' '));
        let Some((name, encoded)) = parts else { return fault("a signature's line is `— name base64`") };
        check_name(name)?;
        let Some(bytes) = chain::unbase64_any(encoded.as_bytes()) else {
            return fault("a signature is not canonical base64"); // N2
        };
        let Some((id, bytes)) = bytes.split_first_chunk::<4>() else {
            return fault("a signature is shorter than its key's hash");
        };
        Ok(NoteSignature { name: name.to_owned(), id: *id, bytes: bytes.to_vec() })
    }

    /// Adds a signature of the key over the text.
    pub(crate) fn sign(&mut self, name: &str, key: &SigningKey) {
        let id = VerifierKey::new(name, PLAIN, key.public()).id();
        let bytes = key.sign(self.text.as_bytes()).to_vec();
        self.add(NoteSignature { name: name.to_owned(), id, bytes });
    }

    /// Adds a witness' signature of the time `time_s`, seconds since the Unix epoch.
    pub(crate) fn cosign(&mut self, name: &str, key: &SigningKey, time_s: u64) {
        let id = VerifierKey::new(name, COSIGNATURE, key.public()).id();
        let signature = key.sign(&cosigned(&self.text, time_s));
        let bytes = [time_s.to_be_bytes().as_slice(), &signature].concat();
        self.add(NoteSignature { name: name.to_owned(), id, bytes });
    }

    /// Adds a line; one of the same key is replaced.
    pub(crate) fn add(&mut self, signature: NoteSignature) {
        self.signatures.retain(|known| (&known.name, known.id) != (&signature.name, signature.id));
        self.signatures.push(signature);
    }

    /// The lines that are this key's, by name and hash (N1).
    pub(crate) fn of(&self, key: &VerifierKey) -> impl Iterator<Item = &NoteSignature> {
        let id = key.id();
        self.signatures.iter().filter(move |line| line.name == key.name && line.id == id)
    }

    /// Checks the line of this key (N1); answers the time of a witness.
    pub(crate) fn check(&self, key: &VerifierKey) -> Result<Option<u64>, NoteError> {
        let mut lines = self.of(key);
        let Some(line) = lines.next() else { return fault(format!("`{}` did not sign it", key.name)) };
        if lines.next().is_some() {
            return fault(format!("`{}` signed it twice", key.name));
        }
        let refused = || NoteError(format!("the signature of `{}` does not verify", key.name));
        if key.kind == PLAIN {
            let signature = line.bytes.as_slice().try_into().map_err(|_| refused())?;
            key.key.verify(self.text.as_bytes(), signature).map_err(|_| refused())?;
            return Ok(None);
        }
        let (time, signature) = line.bytes.split_first_chunk::<8>().ok_or_else(refused)?;
        let time_s = u64::from_be_bytes(*time);
        let signature = signature.try_into().map_err(|_| refused())?;
        key.key.verify(&cosigned(&self.text, time_s), signature).map_err(|_| refused())?;
        Ok(Some(time_s))
    }
}

fn cosigned(text: &str, time_s: u64) -> Vec<u8> {
    format!("cosignature/v1\ntime {time_s}\n{text}").into_bytes()
}

impl fmt::Display for NoteSignature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole = [self.id.as_slice(), &self.bytes].concat();
        writeln!(f, "\u{2014} {} {}", self.name, chain::base64(&whole))
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.text)?;
        self.signatures.iter().try_for_each(|signature| write!(f, "{signature}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use symbi_crypto::Provider;

    /// The example of the specification: key and note of the Go implementation's own tests.
    const KNOWN_KEY: &str = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
    const KNOWN_NOTE: &str = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n\n\u{2014} PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n";

    #[test]
    fn a_note_that_others_signed_verifies_here() {
        let key: VerifierKey = KNOWN_KEY.parse().unwrap();
        assert_eq!(key.to_string(), KNOWN_KEY);
        let note = Note::parse(KNOWN_NOTE).unwrap();
        assert_eq!(note.to_string(), KNOWN_NOTE);
        assert_eq!(note.check(&key), Ok(None));
    }

    #[test]
    fn n2_any_flipped_bit_of_a_note_is_seen() {
        let key: VerifierKey = KNOWN_KEY.parse().unwrap();
        for bit in 0..KNOWN_NOTE.len() * 8 {
            let mut bad = KNOWN_NOTE.as_bytes().to_vec();
            bad[bit / 8] ^= 1 << (bit % 8);
            let held = String::from_utf8(bad)
                .ok()
                .and_then(|text| Note::parse(&text).ok())
                .is_some_and(|note| note.check(&key).is_ok());
            assert!(!held, "bit {bit}");
        }
    }

    #[test]
    fn a_witness_signs_the_time_too() {
        let key = SigningKey::from_seed(Provider::AwsLc, &[3; 32]);
        let mut note = Note { text: "a\n1\nb\n".into(), signatures: Vec::new() };
        note.cosign("witness.example/w1", &key, 1_679_315_147);
        let named = VerifierKey::witness("witness.example/w1", key.public()).unwrap();
        assert_eq!(named.to_string().parse::<VerifierKey>().unwrap(), named);
        let read = Note::parse(&note.to_string()).unwrap();
        assert_eq!(read.check(&named), Ok(Some(1_679_315_147)));
        let mut moved = read.clone();
        moved.signatures[0].bytes[7] ^= 1;
        assert!(moved.check(&named).is_err(), "another time");
        assert!(read.check(&VerifierKey::new("witness.example/w1", PLAIN, key.public())).is_err());
    }

    #[test]
    fn a_key_with_another_hash_or_name_is_refused() {
        for bad in [
            "PeterNeumann+c74f20a4+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
            "Peter+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
            "a b+c74f20a3+ARpc",
            "x",
            "",
        ] {
            assert!(bad.parse::<VerifierKey>().is_err(), "{bad}");
        }
    }
}
