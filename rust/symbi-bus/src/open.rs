//! The questions that a message must answer before its payload is handed out, each with its own refusal: is it for me, do
//! I know its key, is it unchanged, is it signed by the sender it names, does the runtime vouch for that sender's key, is
//! its time now, is it new.
//!
//! Not here: where messages come from and go (`receive`).
//!
//! Signatures. What is signed alone is verified strictly, or, where many were sealed by this very process, in one
//! equation and strictly only where that fails. The equation cannot tell with certainty a signature whose R has a part of
//! small order from a good one; only the holder of a key can make one, and the holders are this process (whose R has none)
//! and strangers (whose messages are never put into the equation). So nothing passes here that the strict rule refuses.
//! A batch has one signature, which is verified strictly when its first message is opened.

use std::sync::Arc;

use symbi_crypto::merkle::ProvenTree;
use symbi_crypto::{NonceCounter, PublicKey, SealingKey, Signed, VerifyingKey, verify_each};
use symbi_types::{AgentId, MessageId};

use crate::authority::Signer;
use crate::bus::Endpoint;
use crate::envelope::{SIGNATURE_BYTES, batch_statement};
use crate::pool::Buffer;
use crate::{Bus, Header, Refusal, SecureMessage, Target};

/// How far a sender's clock may be ahead, in microseconds.
pub const SKEW_US_MAX: u64 = 30_000_000;

/// Fewer signatures than this are checked faster on one thread than divided.
const PARALLEL_MIN: usize = 64;

/// A message that holds, and what it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opened {
    /// The envelope.
    pub message: SecureMessage,
    /// What was sealed in it. Wiped when it is dropped.
    pub payload: Buffer,
}

/// A message that does not hold. It is gone from the mailbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The message, as it names itself.
    pub message: MessageId,
    /// The sender, as the message names it.
    pub sender: AgentId,
    /// Why.
    pub reason: Refusal,
}

/// The keys that a message claims, if the receiver has them.
struct Keys {
    seal: Arc<SealingKey>,
    signer: Arc<Signer>,
}

/// The batch of which messages were opened last.
#[derive(Default)]
struct Batch {
    of: Option<(PublicKey, [u8; SIGNATURE_BYTES], usize)>,
    tree: ProvenTree,
}

/// Memory that opening works in, used again.
#[derive(Default)]
pub(crate) struct OpenDesk {
    pub(crate) messages: Vec<SecureMessage>,
    keys: Vec<Result<Keys, Refusal>>,
    signed: Vec<bool>,
    verdicts: Vec<Result<Buffer, Refusal>>,
    batch: Batch,
}

impl Bus {
    /// Opens what lies in `desk.messages`, taken out of `agent`'s mailbox, and hands out each with its verdict.
    pub(crate) fn open_many(
        &self,
        endpoint: &Endpoint,
        agent: AgentId,
        desk: &mut OpenDesk,
        now_us: u64,
        mut hand_out: impl FnMut(Result<Opened, Refused>),
    ) {
        let OpenDesk { messages, keys, signed, verdicts, batch } = desk;
        self.find_keys(endpoint, agent, messages, keys);
        check_signatures(messages, keys, self.options.workers, batch, signed);
        verdicts.clear();
        for ((message, keys), signed) in messages.iter().zip(keys.drain(..)).zip(signed) {
            verdicts.push(keys.and_then(|keys| self.unseal(message, &keys, *signed, now_us)));
        }
        self.refuse_replays(endpoint, agent, messages, verdicts);
        for (mut message, verdict) in messages.drain(..).zip(verdicts.drain(..)) {
            message.release();
            hand_out(match verdict {
                Ok(payload) => Ok(Opened { message, payload }),
                Err(reason) => {
                    Err(Refused { message: message.id(), sender: message.header().sender, reason })
                }
            });
        }
    }

    fn find_keys(
        &self,
        endpoint: &Endpoint,
        agent: AgentId,
        messages: &[SecureMessage],
        keys: &mut Vec<Result<Keys, Refusal>>,
    ) {
        keys.clear();
        let mut mailbox = endpoint.mailbox();
        let mut find_direct = |header: &Header| {
            let session = mailbox.as_mut().and_then(|mailbox| mailbox.known_session(header.sender));
            let stream = session.and_then(|session| session.stream(&header.epoch, &header.stream));
            let stream = stream.ok_or(Refusal::UnknownEpoch)?;
            Ok((Arc::clone(&stream.key), Arc::clone(&stream.signer)))
        };
        keys.extend(messages.iter().map(|message| {
            let header = message.header();
            let (seal, signer) = match &header.target {
                Target::Agent(recipient) if *recipient != agent => Err(Refusal::WrongRecipient),
                Target::Agent(_) => find_direct(header),
                Target::Topic(topic) => {
                    self.known_topic(topic).ok_or(Refusal::NotMember)?.find(header, agent)
                }
            }?;
            if signer.key().key_id() != header.signer {
                return Err(Refusal::Forged);
            }
            Ok(Keys { seal, signer })
        }));
    }

    fn unseal(
        &self,
        message: &SecureMessage,
        keys: &Keys,
        signed: bool,
        now_us: u64,
    ) -> Result<Buffer, Refusal> {
        let header = message.header();
        let mut buffer = self.pool.buffer();
        let data = buffer.vec();
        data.extend_from_slice(message.encrypted_payload());
        let whole = keys.seal.open(NonceCounter::nonce(header.counter), message.associated(), data).is_ok();
        match (whole, signed) {
            (false, _) => return Err(Refusal::Tampered),
            (true, false) => return Err(Refusal::Forged),
            (true, true) => keys.signer.vouched(header.created_us)?,
        }
        if now_us.saturating_add(SKEW_US_MAX) < header.created_us {
            Err(Refusal::Future)
        } else if header.expires_us < now_us {
            Err(Refusal::Expired)
        } else {
            Ok(buffer)
        }
    }

    /// The last question, under a lock: of two copies that are opened at the same time, one is new (B2).
    fn refuse_replays(
        &self,
        endpoint: &Endpoint,
        agent: AgentId,
        messages: &[SecureMessage],
        verdicts: &mut [Result<Buffer, Refusal>],
    ) {
        let mut mailbox = endpoint.mailbox();
        for (message, verdict) in messages.iter().zip(verdicts) {
            let header = message.header();
            if verdict.is_ok() {
                let is_new = match &header.target {
                    Target::Agent(_) => {
                        let session =
                            mailbox.as_mut().and_then(|mailbox| mailbox.known_session(header.sender));
                        let stream =
                            session.and_then(|session| session.stream(&header.epoch, &header.stream));
                        stream.is_some_and(|stream| stream.accept(agent, header.counter))
                    }
                    Target::Topic(topic) => {
                        self.known_topic(topic).is_some_and(|keys| keys.accept(header, agent))
                    }
                };
                if !is_new {
                    *verdict = Err(Refusal::Replayed);
                }
            }
            if let Some(mailbox) = mailbox.as_mut() {
                mailbox.left(message);
            }
        }
    }
}

/// Whether each signature holds.
fn check_signatures(
    messages: &[SecureMessage],
    keys: &[Result<Keys, Refusal>],
    workers: usize,
    batch: &mut Batch,
    signed: &mut Vec<bool>,
) {
    signed.clear();
    let is_alone = |message: &SecureMessage| message.inclusion().is_none();
    let joins_equation = |(message, keys): &(&SecureMessage, &Result<Keys, Refusal>)| {
        keys.is_ok() && is_alone(message) && message.envelope().is_ours
    };
    let equation_is_due = 3 < messages.iter().zip(keys).filter(joins_equation).count();
    for (message, keys) in messages.iter().zip(keys) {
        signed.push(match keys {
            Err(_) => false,
            Ok(_) if equation_is_due && joins_equation(&(message, keys)) => true, // until it is found otherwise
            Ok(keys) if is_alone(message) => holds_alone(keys.signer.key(), message),
            Ok(keys) => batch.holds(keys.signer.key(), message),
        });
    }
    if equation_is_due {
        let of = |(message, keys)| to_check(message, keys).filter(|_| joins_equation(&(message, keys)));
        let together: Vec<Signed<'_, VerifyingKey>> = messages.iter().zip(keys).filter_map(of).collect();
        let mut verdicts = Vec::with_capacity(together.len());
        verify_on(workers, &together, &mut verdicts);
        let mut verdicts = verdicts.into_iter();
        for (pair, signed) in messages.iter().zip(keys).zip(signed) {
            if joins_equation(&pair) {
                *signed = verdicts.next().unwrap_or(false);
            }
        }
    }
}

/// Strictly; once for the members of a topic, who share the bytes.
fn holds_alone(key: &VerifyingKey, message: &SecureMessage) -> bool {
    let verified = &message.envelope().verified;
    if verified.get() == Some(&key.public()) {
        return true;
    }
    let holds = key.verify(message.signed(), message.signature()).is_ok();
    if holds {
        let _ = verified.set(key.public()); // another thread found the same
    }
    holds
}

fn to_check<'a>(
    message: &'a SecureMessage,
    keys: &'a Result<Keys, Refusal>,
) -> Option<Signed<'a, VerifyingKey>> {
    let key = keys.as_ref().ok()?.signer.key();
    Some(Signed { key, message: message.signed(), signature: message.signature() })
}

/// [`verify_each`], divided between threads where there are many.
fn verify_on(workers: usize, signed: &[Signed<'_, VerifyingKey>], verdicts: &mut Vec<bool>) {
    if workers < 2 || signed.len() < PARALLEL_MIN {
        verify_each(signed, verdicts);
        return;
    }
    let share = signed.len().div_ceil(workers);
    std::thread::scope(|scope| {
        let mut shares = signed.chunks(share);
        let ours = shares.next().unwrap_or_default();
        let check = |theirs| {
            let mut found = Vec::with_capacity(share);
            verify_each(theirs, &mut found);
            found
        };
        let spawn = |theirs| std::thread::Builder::new().spawn_scoped(scope, move || check(theirs));
        let threads: Vec<_> = shares.map(|theirs| (theirs, spawn(theirs))).collect();
        verify_each(ours, verdicts);
        for (theirs, thread) in threads {
            match thread.map(std::thread::ScopedJoinHandle::join) {
                Ok(Ok(found)) => verdicts.extend(found),
                // A thread that died, or that the system did not give, has proven nothing.
                Ok(Err(_)) | Err(_) => verdicts.extend(check(theirs)),
            }
        }
    });
}

impl Batch {
    /// Whether a message's path leads to a root that the sender has signed. The signature and the inner nodes of the
    /// batch that was looked at last are not checked again: a batch costs one signature and about two hashes a message.
    fn holds(&mut self, key: &VerifyingKey, message: &SecureMessage) -> bool {
        let Some(inclusion) = message.inclusion() else { return false };
        let of = Some((key.public(), *message.signature(), inclusion.size));
        if self.of != of {
            self.of = of;
            self.tree.begin(inclusion.size);
        }
        let is_signed =
            |root: &[u8; 32]| key.verify(&batch_statement(inclusion.size, root), message.signature()).is_ok();
        self.tree.proves(&leaf_of(message), inclusion.index, &inclusion.path, is_signed)
    }
}

/// From the bytes, whatever is remembered of them.
fn leaf_of(message: &SecureMessage) -> [u8; 32] {
    crate::envelope::leaf(message.envelope())
}
