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

/// A message that is sealed and not yet signed.
pub(crate) struct Unsigned {
    envelope: Arc<Envelope>,
    hold: Option<Arc<()>>,
}

/// Lays a draft out in memory of the pool and seals it there.
pub(crate) fn lay_out(
    from: &Credential,
    draft: &Draft<'_>,
    in_batch: bool,
    pool: &Pool,
) -> Result<Unsigned, SealError> {
    let mut shared = pool.envelope();
    let Some(envelope) = Arc::get_mut(&mut shared) else {
        unreachable!("PL1: an envelope of the pool has one holder");
    };
    let header = Header {
        id: draft.id,
        sender: draft.sender,
        target: draft.target.clone(),
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
    let (front, payload) = bytes.split_at_mut(envelope.body);
    let associated = front.get(DOMAIN.len()..).unwrap_or_default();
    let sealed = draft.ticket.key.seal_slice(draft.ticket.nonce, associated, payload);
    let tag = match sealed {
        Ok(tag) => tag,
        Err(error) => {
            bytes.clear(); // what may stand there in the clear goes no further
            return Err(error);
        }
    };
    bytes.extend_from_slice(&tag);
    envelope.sealed_end = bytes.len();
    envelope.header = header;
    envelope.inclusion = None;
    envelope.leaf = None;
    envelope.verified = OnceLock::new();
    envelope.is_ours = true;
    Ok(Unsigned { envelope: shared, hold: draft.ticket.hold.clone() })
}

/// Signs one message alone.
pub(crate) fn sign(from: &Credential, unsigned: Unsigned, pool: &Arc<Pool>) -> SecureMessage {
    let mut shared = unsigned.envelope;
    let Some(envelope) = Arc::get_mut(&mut shared) else {
        unreachable!("E3: nobody else has it before it is signed");
    };
    let signature = from.signing().sign(&envelope.bytes);
    envelope.bytes.extend_from_slice(&signature);
    SecureMessage::new(shared, Arc::clone(pool), unsigned.hold)
}

/// Fewer signatures than this are made faster on one thread than divided.
const PARALLEL_MIN: usize = 32;

/// Signs messages one by one, on several threads where there are many, and in order.
pub(crate) fn sign_each(
    from: &Credential,
    unsigned: &mut Vec<Unsigned>,
    workers: usize,
    pool: &Arc<Pool>,
    out: &mut Vec<SecureMessage>,
) {
    let sign_some = |some: &mut [Unsigned]| {
        for one in some {
            let envelope = Arc::get_mut(&mut one.envelope);
            if let Some(envelope) = envelope.filter(|envelope| envelope.bytes.len() == envelope.sealed_end) {
                let signature = from.signing().sign(&envelope.bytes);
                envelope.bytes.extend_from_slice(&signature);
            }
        }
    };
    if 1 < workers && PARALLEL_MIN <= unsigned.len() {
        let share = unsigned.len().div_ceil(workers);
        std::thread::scope(|scope| {
            let mut shares = unsigned.chunks_mut(share);
            let ours = shares.next();
            for theirs in shares {
                let _ = std::thread::Builder::new().spawn_scoped(scope, || sign_some(theirs));
            }
            ours.into_iter().for_each(sign_some);
        });
    }
    sign_some(unsigned); // all, or what a thread that the system did not give has left
    out.extend(unsigned.drain(..).map(|one| SecureMessage::new(one.envelope, Arc::clone(pool), one.hold)));
}

/// Signs messages that were laid out for a batch, 256 at a time, in order (S2). `tree` is memory to work in.
pub(crate) fn sign_batch(
    from: &Credential,
    unsigned: impl ExactSizeIterator<Item = Unsigned>,
    tree: &mut MerkleTree,
    pool: &Arc<Pool>,
    out: &mut Vec<SecureMessage>,
) {
    let mut first = out.len();
    out.extend(unsigned.map(|one| SecureMessage::new(one.envelope, Arc::clone(pool), one.hold)));
    while first < out.len() {
        let end = out.len().min(first + LEAVES_MAX);
        let Some(batch) = out.get_mut(first..end) else { return };
        let is_tree = tree.build(batch.iter().map(|message| leaf(message.envelope())));
        assert!(is_tree, "S2: a batch has 1 to 256 messages");
        let signature = from.signing().sign(&batch_statement(tree.size(), &tree.root()));
        for (index, message) in batch.iter_mut().enumerate() {
            let (Some(path), Some(envelope)) = (tree.path(index), message.unshared()) else {
                unreachable!("E3: nobody else has it before it is signed");
            };
            let last = u8::try_from(tree.size() - 1).unwrap_or(u8::MAX); // at most 255
            let index_byte = u8::try_from(index).unwrap_or(u8::MAX);
            envelope.bytes.extend_from_slice(&signature);
            envelope.bytes.extend_from_slice(&[index_byte, last]);
            for hash in path.hashes() {
                envelope.bytes.extend_from_slice(hash);
            }
            envelope.inclusion = Some(Inclusion { index, size: tree.size(), path });
            envelope.leaf = tree.leaf(index);
        }
        first = end;
    }
}
