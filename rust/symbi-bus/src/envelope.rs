//! The envelope: a fixed header, the sealed payload, a signature over both.
//!
//! ```text
//!   0  version 1 · suite 1 · flags (bit 0: a reply) · 0
//!   4  message id 16 · sender 16 · recipient 16 · in reply to 16 (zero if none)
//!  68  signer's key id 16 · epoch 16
//! 100  counter 8 · created µs 8 · expires µs 8 · labels' length 4 · sealed length 4     all big-endian
//! 132  labels, sorted, each after its length in one byte
//!   …  sealed payload: AES-256-GCM under the epoch's key, nonce = counter, associated data = all before
//!   …  signature 64: Ed25519 over "symbi/msg/v1\0" ‖ all before
//! ```
//! Version 1, suite 1 is the only one: nothing is negotiated. The epoch in the associated data binds the key, which
//! AES-GCM by itself does not; the recipient under the signature stops a receiver from passing a message on as if
//! the sender had sent it there.
//!
//! Invariants
//! - E1 every envelope has one spelling: what decodes encodes to the same bytes.
//! - E2 `header` says what `bytes` say.

use symbi_crypto::KeyId;
use symbi_types::{AgentId, Label, LabelSet, MessageId};

use crate::Refusal;

/// Bytes of one payload; as much as one frame of a sandbox.
pub const PAYLOAD_BYTES_MAX: usize = 1 << 20;
/// Labels of one payload.
pub const LABELS_MAX: usize = 64;
/// Microseconds from a message's making to its end: one day.
pub const LIFETIME_US_MAX: u64 = 86_400_000_000;
/// Bytes that an envelope adds to its payload, at most.
pub const OVERHEAD_BYTES_MAX: usize =
    FIXED_BYTES + LABELS_MAX * (1 + Label::CHARS_MAX) + TAG_BYTES + SIGNATURE_BYTES;

const VERSION: u8 = 1;
const SUITE: u8 = 1; // AES-256-GCM, Ed25519, X25519 with HKDF-SHA-256
const FLAG_REPLY: u8 = 1;
const FIXED_BYTES: usize = 132;
const TAG_BYTES: usize = symbi_crypto::TAG_BYTES;
const SIGNATURE_BYTES: usize = 64;
/// What a signature of a message begins with. It stands before the bytes in memory, so that signing copies nothing.
const DOMAIN: &[u8; 13] = b"symbi/msg/v1\0";

/// What an envelope says on its outside: read by whoever carries it, believed once it is verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// The message.
    pub id: MessageId,
    /// Who sealed it.
    pub sender: AgentId,
    /// Who it is sealed for.
    pub recipient: AgentId,
    /// The message that it answers.
    pub in_reply_to: Option<MessageId>,
    /// The key that signs it.
    pub signer: KeyId,
    /// The key that seals it.
    pub epoch: [u8; 16],
    /// The nonce under that key.
    pub counter: u64,
    /// When it was made, in microseconds since the Unix epoch.
    pub created_us: u64,
    /// When it ends, likewise.
    pub expires_us: u64,
    /// What the payload carries.
    pub labels: LabelSet,
}

/// A sealed and signed message (spec B8).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecureMessage {
    header: Header,
    bytes: Vec<u8>, // DOMAIN, then the envelope
    body: usize,    // where the sealed payload begins in `bytes`
}

impl SecureMessage {
    /// The outside.
    #[must_use]
    pub const fn header(&self) -> &Header {
        &self.header
    }

    /// The message's id.
    #[must_use]
    pub const fn id(&self) -> MessageId {
        self.header.id
    }

    /// The sealed payload with its tag.
    #[must_use]
    pub fn encrypted_payload(&self) -> &[u8] {
        self.bytes.get(self.body..self.signed_end()).unwrap_or_default()
    }

    /// The signature.
    #[must_use]
    pub fn signature(&self) -> &[u8; 64] {
        self.bytes.last_chunk().unwrap_or(&[0; 64])
    }

    /// The envelope as it travels.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(DOMAIN.len()..).unwrap_or_default()
    }

    pub(crate) fn size(&self) -> usize {
        self.bytes.len() - DOMAIN.len()
    }

    fn signed_end(&self) -> usize {
        self.bytes.len() - SIGNATURE_BYTES
    }

    /// What the signature covers.
    pub(crate) fn signed(&self) -> &[u8] {
        self.bytes.get(..self.signed_end()).unwrap_or_default()
    }

    /// What the seal covers besides the payload.
    pub(crate) fn associated(&self) -> &[u8] {
        self.bytes.get(DOMAIN.len()..self.body).unwrap_or_default()
    }

    /// Builds the envelope: `seal` encrypts in place and appends the tag, given the associated data; `sign` signs.
    pub(crate) fn build<E>(
        header: Header,
        payload: &[u8],
        seal: impl FnOnce(&[u8], &mut Vec<u8>) -> Result<(), E>,
        sign: impl FnOnce(&[u8]) -> [u8; 64],
    ) -> Result<Self, E> {
        let labels_bytes: usize = header.labels.iter().map(|label| 1 + label.as_str().len()).sum();
        let sealed_bytes = payload.len() + TAG_BYTES;
        let mut bytes =
            Vec::with_capacity(DOMAIN.len() + FIXED_BYTES + labels_bytes + sealed_bytes + SIGNATURE_BYTES);
        bytes.extend_from_slice(DOMAIN);
        write_header(&mut bytes, &header, labels_bytes, sealed_bytes);
        let body = bytes.len();
        let mut sealed = Vec::with_capacity(sealed_bytes);
        sealed.extend_from_slice(payload);
        seal(bytes.get(DOMAIN.len()..).unwrap_or_default(), &mut sealed)?;
        assert!(sealed.len() == sealed_bytes, "E2");
        bytes.extend_from_slice(&sealed);
        let signature = sign(&bytes);
        bytes.extend_from_slice(&signature);
        Ok(Self { header, bytes, body })
    }

    /// Reads an envelope that came from somewhere. Nothing in it is believed yet.
    ///
    /// # Errors
    /// [`Refusal::UnknownVersion`], [`Refusal::Malformed`].
    pub fn decode(envelope: &[u8]) -> Result<Self, Refusal> {
        let mut reader = Reader(envelope);
        let [version, suite, flags, reserved] = reader.array()?;
        if (version, suite) != (VERSION, SUITE) {
            return Err(Refusal::UnknownVersion);
        }
        if flags & !FLAG_REPLY != 0 || reserved != 0 {
            return Err(Refusal::Malformed);
        }
        let id = MessageId::from_bytes(reader.array()?).ok_or(Refusal::Malformed)?;
        let sender = AgentId::from_bytes(reader.array()?).ok_or(Refusal::Malformed)?;
        let recipient = AgentId::from_bytes(reader.array()?).ok_or(Refusal::Malformed)?;
        let in_reply_to = reader.array()?;
        let in_reply_to = match (flags & FLAG_REPLY, in_reply_to == [0; 16]) {
            (0, true) => None,
            (FLAG_REPLY, false) => Some(MessageId::from_bytes(in_reply_to).ok_or(Refusal::Malformed)?),
            _ => return Err(Refusal::Malformed),
        };
        let signer = KeyId(reader.array()?);
        let epoch = reader.array()?;
        let [counter, created_us, expires_us] = [reader.number()?, reader.number()?, reader.number()?];
        let labels_bytes = u32::from_be_bytes(reader.array()?) as usize;
        let sealed_bytes = u32::from_be_bytes(reader.array()?) as usize;
        let labels = read_labels(reader.take(labels_bytes)?)?;
        if !(TAG_BYTES..=PAYLOAD_BYTES_MAX + TAG_BYTES).contains(&sealed_bytes) {
            return Err(Refusal::Malformed);
        }
        reader.take(sealed_bytes)?;
        let _signature: [u8; SIGNATURE_BYTES] = reader.array()?;
        if !reader.0.is_empty() {
            return Err(Refusal::Malformed);
        }
        let header = Header {
            id,
            sender,
            recipient,
            in_reply_to,
            signer,
            epoch,
            counter,
            created_us,
            expires_us,
            labels,
        };
        let bytes = [DOMAIN, envelope].concat();
        Ok(Self { header, bytes, body: DOMAIN.len() + FIXED_BYTES + labels_bytes })
    }
}

/// Bytes of an envelope.
pub(crate) const fn size(labels_bytes: usize, payload_bytes: usize) -> usize {
    FIXED_BYTES + labels_bytes + payload_bytes + TAG_BYTES + SIGNATURE_BYTES
}

fn write_header(bytes: &mut Vec<u8>, header: &Header, labels_bytes: usize, sealed_bytes: usize) {
    let flags = if header.in_reply_to.is_some() { FLAG_REPLY } else { 0 };
    bytes.extend_from_slice(&[VERSION, SUITE, flags, 0]);
    bytes.extend_from_slice(header.id.as_bytes());
    bytes.extend_from_slice(header.sender.as_bytes());
    bytes.extend_from_slice(header.recipient.as_bytes());
    bytes.extend_from_slice(header.in_reply_to.as_ref().map_or(&[0; 16], |id| id.as_bytes()));
    bytes.extend_from_slice(&header.signer.0);
    bytes.extend_from_slice(&header.epoch);
    for number in [header.counter, header.created_us, header.expires_us] {
        bytes.extend_from_slice(&number.to_be_bytes());
    }
    for length in [labels_bytes, sealed_bytes] {
        let short = u32::try_from(length).unwrap_or(u32::MAX);
        assert!(short < u32::MAX, "E2: bounded by `PAYLOAD_BYTES_MAX` and `LABELS_MAX`");
        bytes.extend_from_slice(&short.to_be_bytes());
    }
    for label in header.labels.iter() {
        bytes.push(u8::try_from(label.as_str().len()).unwrap_or(u8::MAX)); // at most 64
        bytes.extend_from_slice(label.as_str().as_bytes());
    }
}

/// Sorted, each once (E1).
fn read_labels(bytes: &[u8]) -> Result<LabelSet, Refusal> {
    let mut labels: Vec<Label> = Vec::new();
    let mut reader = Reader(bytes);
    while !reader.0.is_empty() {
        let [length] = reader.array()?;
        let text = std::str::from_utf8(reader.take(usize::from(length))?).map_err(|_| Refusal::Malformed)?;
        let label: Label = text.parse().map_err(|_| Refusal::Malformed)?;
        if labels.last().is_some_and(|last| label <= *last) || labels.len() == LABELS_MAX {
            return Err(Refusal::Malformed);
        }
        labels.push(label);
    }
    Ok(labels.into_iter().collect())
}

/// What is left of bytes that are read from the front.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], Refusal> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(Refusal::Malformed)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Refusal> {
        let (taken, rest) = self.0.split_first_chunk::<N>().ok_or(Refusal::Malformed)?;
        self.0 = rest;
        Ok(*taken)
    }

    fn number(&mut self) -> Result<u64, Refusal> {
        self.array().map(u64::from_be_bytes)
    }
}
