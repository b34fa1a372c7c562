//! The envelope: header, sealed payload, signature, and for a message of a batch its way to the signed root.
//!
//! ```text
//!   header (see `header`)
//!   …  sealed payload: AES-256-GCM under the stream's key, nonce = counter, associated data = header
//!   …  signature 64
//!      alone:      Ed25519 over "symbi/msg/v1\0" ‖ header ‖ sealed payload
//!      in a batch: Ed25519 over "symbi/msg-batch/v1\0" ‖ messages 2 ‖ root 32, then: index 1 · messages - 1 1 · path
//! ```
//! Version 1, suite 1 is the only one: nothing is negotiated. The epoch in the associated data binds the key, which
//! AES-GCM by itself does not; the target under the signature stops a receiver from passing a message on as if the
//! sender had sent it there. The batch's leaves are SHA-256(0x00 ‖ header ‖ sealed payload).
//!
//! Invariants
//! - E2 `header` says what `bytes` say.
//! - E3 an envelope is not changed once somebody else can see it.

use std::fmt;
use std::sync::{Arc, OnceLock};

use symbi_crypto::PublicKey;
use symbi_crypto::merkle::{self, Hash, Path};
use symbi_types::{AgentId, Label, MessageId};

use crate::header::{FIXED_BYTES, Reader};
use crate::patterns::TOPIC_BYTES_MAX;
use crate::pool::Pool;
use crate::{ContentType, Header, LABELS_MAX, PAYLOAD_BYTES_MAX, Refusal, Target};

/// Microseconds from a message's making to its end: one day.
pub const LIFETIME_US_MAX: u64 = 86_400_000_000;
/// Bytes that an envelope adds to its payload, at most.
pub const OVERHEAD_BYTES_MAX: usize = FIXED_BYTES
    + TOPIC_BYTES_MAX
    + LABELS_MAX * (1 + Label::CHARS_MAX)
    + TAG_BYTES
    + SIGNATURE_BYTES
    + 2
    + 32 * merkle::PATH_MAX;

pub(crate) const TAG_BYTES: usize = symbi_crypto::TAG_BYTES;
pub(crate) const SIGNATURE_BYTES: usize = 64;
/// What a signature of a message begins with. It stands before the bytes in memory, so that signing copies nothing;
/// and its last byte is the zero that a leaf of the tree begins with.
pub(crate) const DOMAIN: &[u8; 13] = b"symbi/msg/v1\0";
const BATCH_DOMAIN: &[u8; 19] = b"symbi/msg-batch/v1\0";

/// What the signature of a batch covers.
pub(crate) fn batch_statement(size: usize, root: &Hash) -> [u8; 53] {
    let mut statement = [0u8; 53];
    let (domain, rest) = statement.split_at_mut(BATCH_DOMAIN.len());
    let (count, hash) = rest.split_at_mut(2);
    domain.copy_from_slice(BATCH_DOMAIN);
    count.copy_from_slice(&u16::try_from(size).unwrap_or(u16::MAX).to_be_bytes()); // at most 256
    hash.copy_from_slice(root);
    statement
}

/// Where a message stands in the batch that it was signed in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inclusion {
    /// Its place, from 0.
    pub index: usize,
    /// Messages of the batch, 1 to 256.
    pub size: usize,
    /// The hashes on the way to the root.
    pub path: Path,
}

/// Whether a signature holds under a key.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Checked {
    pub(crate) key: PublicKey,
    pub(crate) holds: bool,
}

/// The memory of one envelope.
pub(crate) struct Envelope {
    pub(crate) header: Header,
    pub(crate) bytes: Vec<u8>, // DOMAIN, then the envelope
    pub(crate) body: usize,    // where the sealed payload begins in `bytes`
    pub(crate) sealed_end: usize,
    pub(crate) inclusion: Option<Inclusion>,
    pub(crate) leaf: Option<Hash>, // where it was needed for the signature
    /// What was found of the signature that it has alone, and under which key: of bytes that nobody changes any more (E3) it
    /// goes for each member of a topic.
    pub(crate) checked: OnceLock<Checked>,
    pub(crate) is_ours: bool, // sealed here, not decoded from bytes that came from elsewhere
}

impl Envelope {
    /// Memory that holds no message yet.
    pub(crate) fn blank() -> Self {
        let header = Header {
            id: MessageId::MIN,
            sender: AgentId::MIN,
            target: Target::Agent(AgentId::MIN),
            in_reply_to: None,
            signer: symbi_crypto::KeyId([0; 16]),
            epoch: [0; 16],
            stream: [0; 32],
            counter: 0,
            created_us: 0,
            expires_us: 0,
            content_type: ContentType::Bytes,
            labels: symbi_types::LabelSet::default(),
            in_batch: false,
        };
        Self {
            header,
            bytes: Vec::new(),
            body: 0,
            sealed_end: 0,
            inclusion: None,
            leaf: None,
            checked: OnceLock::new(),
            is_ours: false,
        }
    }
}

/// A sealed and signed message (spec B8). Clones share the bytes.
pub struct SecureMessage {
    envelope: Option<Arc<Envelope>>, // taken out when the handle is dropped, and never before
    pool: Option<Arc<Pool>>,
    hold: Option<Arc<()>>,
}

impl SecureMessage {
    /// `hold` keeps the key of a topic's epoch while the message is under way.
    pub(crate) const fn new(envelope: Arc<Envelope>, pool: Arc<Pool>, hold: Option<Arc<()>>) -> Self {
        Self { envelope: Some(envelope), pool: Some(pool), hold }
    }

    pub(crate) fn envelope(&self) -> &Envelope {
        match &self.envelope {
            Some(envelope) => envelope,
            None => unreachable!("a handle has its envelope until it is dropped"),
        }
    }

    /// Lets go of the key of its epoch: the message was opened.
    pub(crate) fn release(&mut self) {
        self.hold = None;
    }

    /// The outside.
    #[must_use]
    pub fn header(&self) -> &Header {
        &self.envelope().header
    }

    /// The message's id.
    #[must_use]
    pub fn id(&self) -> MessageId {
        self.header().id
    }

    /// The sealed payload with its tag.
    #[must_use]
    pub fn encrypted_payload(&self) -> &[u8] {
        let envelope = self.envelope();
        envelope.bytes.get(envelope.body..envelope.sealed_end).unwrap_or_default()
    }

    /// The signature: of the message, or of the root of its batch.
    #[must_use]
    pub fn signature(&self) -> &[u8; SIGNATURE_BYTES] {
        let envelope = self.envelope();
        let rest = envelope.bytes.get(envelope.sealed_end..).unwrap_or_default();
        rest.first_chunk().unwrap_or(&[0; SIGNATURE_BYTES])
    }

    /// Where it stands in its batch, if it was signed in one.
    #[must_use]
    pub fn inclusion(&self) -> Option<&Inclusion> {
        self.envelope().inclusion.as_ref()
    }

    /// Its leaf in a batch's tree: SHA-256(0x00 ‖ header ‖ sealed payload). It names the message to the byte, whether
    /// or not it was signed in a batch.
    #[must_use]
    pub fn leaf(&self) -> Hash {
        self.envelope().leaf.unwrap_or_else(|| leaf(self.envelope()))
    }

    /// The envelope as it travels.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.envelope().bytes.get(DOMAIN.len()..).unwrap_or_default()
    }

    pub(crate) fn size(&self) -> usize {
        self.envelope().bytes.len() - DOMAIN.len()
    }

    /// What the signature of a message that is signed alone covers.
    pub(crate) fn signed(&self) -> &[u8] {
        let envelope = self.envelope();
        envelope.bytes.get(..envelope.sealed_end).unwrap_or_default()
    }

    /// What the seal covers besides the payload.
    pub(crate) fn associated(&self) -> &[u8] {
        let envelope = self.envelope();
        envelope.bytes.get(DOMAIN.len()..envelope.body).unwrap_or_default()
    }

    /// Reads an envelope that came from somewhere. Nothing in it is believed yet.
    ///
    /// # Errors
    /// [`Refusal::UnknownVersion`], [`Refusal::UnknownSuite`], [`Refusal::Malformed`].
    pub fn decode(envelope: &[u8]) -> Result<Self, Refusal> {
        let mut reader = Reader(envelope);
        let (header, sealed_bytes) = Header::read(&mut reader)?;
        let body = DOMAIN.len() + envelope.len() - reader.0.len();
        if !(TAG_BYTES..=PAYLOAD_BYTES_MAX + TAG_BYTES).contains(&sealed_bytes) {
            return Err(Refusal::Malformed);
        }
        reader.take(sealed_bytes)?;
        let _signature: [u8; SIGNATURE_BYTES] = reader.array()?;
        let inclusion = if header.in_batch { Some(read_inclusion(&mut reader)?) } else { None };
        if !reader.0.is_empty() {
            return Err(Refusal::Malformed);
        }
        let bytes = [DOMAIN, envelope].concat();
        let sealed_end = body + sealed_bytes;
        let envelope = Envelope { header, bytes, body, sealed_end, inclusion, ..Envelope::blank() };
        Ok(Self { envelope: Some(Arc::new(envelope)), pool: None, hold: None })
    }
}

/// Of the zero that ends the domain to the end of the sealed payload.
pub(crate) fn leaf(envelope: &Envelope) -> Hash {
    symbi_crypto::sha256(&[envelope.bytes.get(DOMAIN.len() - 1..envelope.sealed_end).unwrap_or_default()])
}

fn read_inclusion(reader: &mut Reader<'_>) -> Result<Inclusion, Refusal> {
    let [index, last] = reader.array()?;
    let (index, size) = (usize::from(index), usize::from(last) + 1);
    let length = merkle::path_length(index, size).ok_or(Refusal::Malformed)?;
    let (hashes, _) = reader.take(32 * length)?.as_chunks::<32>();
    let path = Path::from_hashes(hashes).ok_or(Refusal::Malformed)?;
    Ok(Inclusion { index, size, path })
}

impl Drop for SecureMessage {
    /// The last holder gives the memory back. Two that drop at the same moment may both see the other: then it is
    /// freed, and only lost to the pool.
    fn drop(&mut self) {
        if let (Some(envelope), Some(pool)) = (self.envelope.take(), self.pool.take())
            && Arc::strong_count(&envelope) == 1
        {
            pool.put(envelope);
        }
    }
}

impl Clone for SecureMessage {
    fn clone(&self) -> Self {
        Self { envelope: self.envelope.clone(), pool: self.pool.clone(), hold: self.hold.clone() }
    }
}

impl PartialEq for SecureMessage {
    fn eq(&self, other: &Self) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl Eq for SecureMessage {}

impl fmt::Debug for SecureMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SecureMessage").field("header", self.header()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_byte_of_the_domain_is_the_first_of_a_leaf() {
        assert_eq!(DOMAIN.last(), Some(&0));
        let mut envelope = Envelope::blank();
        envelope.bytes = [DOMAIN.as_slice(), b"header and seal", b"signature"].concat();
        envelope.sealed_end = envelope.bytes.len() - 9;
        assert_eq!(leaf(&envelope), merkle::leaf_hash(b"header and seal"));
    }
}
