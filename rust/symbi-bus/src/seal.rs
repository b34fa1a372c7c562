//! From a draft to a message: laid out, sealed in place, signed alone or with others.
//!
//! Not here: where the key and the number come from (`session`, `topic_keys`), and where the message goes.
//!
//! Invariants
//! - S1 each ticket seals one message, and its number is never used for another, even when sealing fails.
//! - S2 a batch has one signature for up to 256 messages, and each carries what proves it alone.

use std::sync::{Arc, OnceLock};

use symbi_crypto::merkle::{LEAVES_MAX, MerkleTree};
use symbi_crypto::{SealError, SealingKey};
use symbi_types::{AgentId, LabelSet, MessageId};

use crate::authority::Credential;
use crate::crew::{Crew, Share};
use crate::envelope::{DOMAIN, Envelope, Inclusion, SIGNATURE_BYTES, TAG_BYTES, batch_statement, leaf};
use crate::pool::Pool;
use crate::{ContentType, Header, SecureMessage, Target};

/// What a sealing needs: a key and a number under it that nobody else gets. Taken under a lock, used outside it.
#[derive(Debug)]
pub(crate) struct Ticket {
    pub(crate) epoch: [u8; 16],
    pub(crate) stream: [u8; 32],
    pub(crate) key: Arc<SealingKey>,
    pub(crate) counter: u64,
    pub(crate) nonce: [u8; 12],
    pub(crate) hold: Option<Arc<()>>,
}

/// All that an envelope says, before it is one.
#[derive(Debug)]
pub(crate) struct Draft<'a> {
    pub(crate) id: MessageId,
    pub(crate) sender: AgentId,
    pub(crate) target: Target,
    pub(crate) payload: &'a [u8],
    pub(crate) content_type: ContentType,
    pub(crate) labels: &'a LabelSet,
    pub(crate) in_reply_to: Option<MessageId>,
    pub(crate) created_us: u64,
    pub(crate) expires_us: u64,
    pub(crate) ticket: Ticket,
}

impl Draft<'_> {
    /// Bytes of the envelope that a message becomes, signed alone.
    pub(crate) fn envelope_bytes(target: &Target, labels: &LabelSet, payload_bytes: usize) -> usize {
        Header::size(target, labels) + payload_bytes + TAG_BYTES + SIGNATURE_BYTES
    }
}

/// A message that has its key and number, and is being sealed and signed.
pub(crate) struct Unsigned {
    envelope: Arc<Envelope>,
    hold: Option<Arc<()>>,
    key: Arc<SealingKey>,
    nonce: [u8; 12],
    is_broken: bool,
}

/// Lays a draft out in memory of the pool, where it is to be sealed.
pub(crate) fn lay_out(from: &Credential, draft: Draft<'_>, in_batch: bool, pool: &Pool) -> Unsigned {
    let mut shared = pool.envelope();
    let envelope = of_one(&mut shared);
    let header = Header {
        id: draft.id,
        sender: draft.sender,
        target: draft.target,
        in_reply_to: draft.in_reply_to,
        signer: from.signing().key_id(),
        epoch: draft.ticket.epoch,
        stream: draft.ticket.stream,
        counter: draft.ticket.counter,
        created_us: draft.created_us,
        expires_us: draft.expires_us,
        content_type: draft.content_type,
        labels: draft.labels.clone(),
        in_batch,
    };
    let bytes = &mut envelope.bytes;
    bytes.clear();
    bytes.extend_from_slice(DOMAIN);
    header.write(bytes, draft.payload.len() + TAG_BYTES);
    envelope.body = bytes.len();
    bytes.extend_from_slice(draft.payload);
    envelope.sealed_end = 0;
    envelope.header = header;
    envelope.inclusion = None;
    envelope.leaf = None;
    envelope.checked = OnceLock::new();
    envelope.is_ours = true;
    let Ticket { key, nonce, hold, .. } = draft.ticket;
    Unsigned { envelope: shared, hold, key, nonce, is_broken: false }
}

fn of_one(shared: &mut Arc<Envelope>) -> &mut Envelope {
    match Arc::get_mut(shared) {
        Some(envelope) => envelope,
        None => unreachable!("PL1, E3: nobody else has it before it is signed"),
    }
}

impl Unsigned {
    /// Seals it where it lies.
    ///
    /// # Errors
    /// [`SealError`], and it can never be sent.
    pub(crate) fn seal(&mut self) -> Result<(), SealError> {
        let envelope = of_one(&mut self.envelope);
        let (front, payload) = envelope.bytes.split_at_mut(envelope.body);
        let associated = front.get(DOMAIN.len()..).unwrap_or_default();
        match self.key.seal_slice(self.nonce, associated, payload) {
            Ok(tag) => {
                envelope.bytes.extend_from_slice(&tag);
                envelope.sealed_end = envelope.bytes.len();
                Ok(())
            }
            Err(error) => {
                payload.fill(0); // what may stand there in the clear goes no further
                envelope.bytes.clear();
                self.is_broken = true;
                Err(error)
            }
        }
    }

    pub(crate) fn header(&self) -> &Header {
        &self.envelope.header
    }

    /// Whether it could not be sealed.
    pub(crate) const fn is_broken(&self) -> bool {
        self.is_broken
    }

    fn sign(&mut self, from: &Credential) {
        let envelope = of_one(&mut self.envelope);
        let signature = from.signing().sign(&envelope.bytes);
        envelope.bytes.extend_from_slice(&signature);
    }

    fn hash(&mut self) {
        let envelope = of_one(&mut self.envelope);
        envelope.leaf = Some(leaf(envelope));
    }

    fn message(self, pool: &Arc<Pool>) -> SecureMessage {
        SecureMessage::new(self.envelope, Arc::clone(pool), self.hold)
    }
}

/// Signs one message alone.
pub(crate) fn sign(from: &Credential, mut unsigned: Unsigned, pool: &Arc<Pool>) -> SecureMessage {
    unsigned.sign(from);
    unsigned.message(pool)
}

/// What is done with the messages of a share besides sealing them.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Part {
    /// Each is signed alone.
    Alone,
    /// They are whole batches, each of which is signed (S2).
    Batches,
    /// They are hashed, for a batch that is larger than the share.
    #[default]
    Leaves,
}

/// A share of messages that are sent together.
#[derive(Default)]
pub(crate) struct Sealing {
    items: Vec<Unsigned>,
    part: Part,
    from: Option<Arc<Credential>>,
    tree: MerkleTree,
}

impl Share for Sealing {
    fn work(&mut self) {
        for one in &mut self.items {
            if one.seal().is_err() {
                continue;
            }
            match (self.part, &self.from) {
                (Part::Alone, Some(from)) => one.sign(from),
                _ => one.hash(),
            }
        }
        if let (Part::Batches, Some(from)) = (self.part, &self.from) {
            sign_batches(from, &mut self.items, &mut self.tree);
        }
    }
}

/// Fewer messages than these are sealed and signed, or hashed, faster here than divided.
const SIGNED_TOGETHER_MIN: usize = 8;
const HASHED_TOGETHER_MIN: usize = 96;

/// Seals all and signs them, each alone or in batches; divided between the crew where it is worth it, by whole batches where
/// that is about even. `shares` is memory to work in.
pub(crate) fn seal_all(
    unsigned: &mut Vec<Unsigned>,
    from: &Arc<Credential>,
    in_batch: bool,
    crew: &Crew,
    shares: &mut Vec<Option<Box<Sealing>>>,
) {
    let least = if in_batch { HASHED_TOGETHER_MIN } else { SIGNED_TOGETHER_MIN };
    let hands = if unsigned.len() < least { 1 } else { crew.hands().min(unsigned.len()) };
    let each = unsigned.len().div_ceil(hands);
    let whole = each.next_multiple_of(LEAVES_MAX);
    let (part, each) = match (in_batch, hands) {
        (false, _) => (Part::Alone, each),
        (true, 1) => (Part::Batches, each),
        (true, _) if whole <= each + each / 4 => (Part::Batches, whole), // about as much for each
        (true, _) => (Part::Leaves, each),
    };
    let count = unsigned.len().div_ceil(each.max(1)).max(1);
    shares.resize_with(shares.len().max(count), Default::default);
    let mut rest = unsigned.drain(..);
    let used = shares.get_mut(..count).unwrap_or_default();
    for place in used.iter_mut() {
        let share = place.get_or_insert_default();
        share.items.extend(rest.by_ref().take(each));
        (share.part, share.from) = (part, Some(Arc::clone(from)));
    }
    drop(rest);
    crew.divide(used);
    for share in used.iter_mut().flatten() {
        share.from = None;
        unsigned.append(&mut share.items);
    }
    if let (Part::Leaves, Some(share)) = (part, used.iter_mut().flatten().next()) {
        sign_batches(from, unsigned, &mut share.tree);
    }
}

/// Signs messages that were hashed, 256 at a time, in order (S2); those that could not be sealed are left out. `tree` is
/// memory to work in.
fn sign_batches(from: &Credential, items: &mut [Unsigned], tree: &mut MerkleTree) {
    for batch in items.chunks_mut(LEAVES_MAX) {
        let leaves = batch.iter().filter(|one| !one.is_broken).filter_map(|one| one.envelope.leaf);
        if !tree.build(leaves) {
            continue; // all are broken: a chunk has at most 256
        }
        let signature = from.signing().sign(&batch_statement(tree.size(), &tree.root()));
        let last = u8::try_from(tree.size() - 1).unwrap_or(u8::MAX); // at most 255
        for (index, one) in batch.iter_mut().filter(|one| !one.is_broken).enumerate() {
            let Some(path) = tree.path(index) else { unreachable!("S2: each has its leaf in the tree") };
            let envelope = of_one(&mut one.envelope);
            let place = [u8::try_from(index).unwrap_or(u8::MAX), last];
            for part in [signature.as_slice(), &place, path.hashes().as_flattened()] {
                envelope.bytes.extend_from_slice(part);
            }
            envelope.inclusion = Some(Inclusion { index, size: tree.size(), path });
        }
    }
}

/// Messages that were sealed and signed.
pub(crate) fn signed(unsigned: &mut Vec<Unsigned>, pool: &Arc<Pool>, out: &mut Vec<SecureMessage>) {
    out.extend(unsigned.drain(..).map(|one| one.message(pool)));
}
