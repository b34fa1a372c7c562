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

use symbi_crypto::merkle::{Hash, ProvenTree};
use symbi_crypto::{NonceCounter, PublicKey, SealingKey, Signed, VerifyingKey, verify_each};
use symbi_types::{AgentId, MessageId};

use crate::authority::Signer;
use crate::bus::Endpoint;
use crate::crew::Share;
use crate::envelope::{Checked, SIGNATURE_BYTES, batch_statement};
use crate::mailbox::Mailbox;
use crate::pool::{Buffer, Pool};
use crate::{Bus, Header, Refusal, SecureMessage, Target};

/// How far a sender's clock may be ahead, in microseconds.
pub const SKEW_US_MAX: u64 = 30_000_000;

/// Fewer signatures than these are checked faster here than divided: the equation gains with every one.
const VERIFIED_TOGETHER_MIN: usize = 64;
/// Fewer messages of batches than these are opened faster here than divided.
const OPENED_TOGETHER_MIN: usize = 96;

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
#[derive(Clone)]
struct Keys {
    seal: Arc<SealingKey>,
    signer: Arc<Signer>,
}

/// What is known of a message's signature.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Signature {
    Holds,
    Fails,
    /// Of a batch: the leaf whose way to a signed root is still to be gone.
    Leaf(Hash),
}

/// A message on its way to be handed out.
struct Opening {
    message: SecureMessage,
    keys: Result<Keys, Refusal>,
    signature: Signature,
    outcome: Result<Buffer, Refusal>,
}

/// A share of messages that are opened together.
#[derive(Default)]
pub(crate) struct Openings {
    items: Vec<Opening>,
    pool: Arc<Pool>,
    verdicts: Vec<bool>,
    batch: Batch,
    now_us: u64,
}

impl Share for Openings {
    fn work(&mut self) {
        check_signatures(&mut self.items, &mut self.verdicts);
        for one in &mut self.items {
            let plain = one.unseal(&self.pool);
            one.outcome = one.verdict(plain, &mut self.batch, self.now_us);
        }
    }
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
    shares: Vec<Option<Box<Openings>>>,
}

impl Opening {
    /// Opens the seal; nothing is said of the signature yet.
    fn unseal(&self, pool: &Arc<Pool>) -> Option<Buffer> {
        let keys = self.keys.as_ref().ok()?;
        let mut buffer = pool.buffer();
        let data = buffer.vec();
        data.extend_from_slice(self.message.encrypted_payload());
        let nonce = NonceCounter::nonce(self.message.header().counter);
        let whole = keys.seal.open(nonce, self.message.associated(), data).is_ok();
        whole.then_some(buffer)
    }

    /// What comes of it, but for whether it is new.
    fn verdict(&self, plain: Option<Buffer>, batch: &mut Batch, now_us: u64) -> Result<Buffer, Refusal> {
        let keys = self.keys.as_ref().map_err(|refusal| *refusal)?;
        let signed = match &self.signature {
            Signature::Holds => true,
            Signature::Fails => false,
            Signature::Leaf(leaf) => batch.holds(keys.signer.key(), &self.message, leaf),
        };
        let header = self.message.header();
        match (plain, signed) {
            (None, _) => Err(Refusal::Tampered),
            (Some(_), false) => Err(Refusal::Forged),
            (Some(plain), true) => {
                keys.signer.vouched(header.created_us)?;
                if now_us.saturating_add(SKEW_US_MAX) < header.created_us {
                    Err(Refusal::Future)
                } else if header.expires_us < now_us {
                    Err(Refusal::Expired)
                } else {
                    Ok(plain)
                }
            }
        }
    }
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
        let OpenDesk { messages, shares } = desk;
        let alone = messages.iter().filter(|message| message.inclusion().is_none()).count();
        let is_worth_it = VERIFIED_TOGETHER_MIN <= alone || OPENED_TOGETHER_MIN <= messages.len();
        let count = if is_worth_it { self.crew.hands().min(messages.len()) } else { 1 };
        shares.resize_with(shares.len().max(count), Default::default);
        let used = shares.get_mut(..count).unwrap_or_default();
        self.lay_open(endpoint, agent, messages, used, now_us);
        self.crew.divide(used);
        self.judge_new(endpoint, agent, used.iter_mut().flatten().flat_map(|share| share.items.iter_mut()));
        for mut one in used.iter_mut().flatten().flat_map(|share| share.items.drain(..)) {
            one.message.release();
            let Opening { message, outcome, .. } = one;
            hand_out(match outcome {
                Ok(payload) => Ok(Opened { message, payload }),
                Err(reason) => {
                    Err(Refused { message: message.id(), sender: message.header().sender, reason })
                }
            });
        }
    }

    /// Divides the messages, each with the keys that it claims.
    fn lay_open(
        &self,
        endpoint: &Endpoint,
        agent: AgentId,
        messages: &mut Vec<SecureMessage>,
        shares: &mut [Option<Box<Openings>>],
        now_us: u64,
    ) {
        let each = messages.len().div_ceil(shares.len().max(1));
        let mut rest = messages.drain(..);
        let mut mailbox = endpoint.mailbox();
        let mut last: Option<(AgentId, [u8; 16], [u8; 32], Keys)> = None;
        for place in shares {
            let share = place.get_or_insert_default();
            share.pool = Arc::clone(&self.pool);
            share.now_us = now_us;
            for message in rest.by_ref().take(each) {
                let header = message.header();
                let known = last.as_ref().filter(|(sender, epoch, stream, _)| {
                    header.recipient() == Some(agent)
                        && (*sender, epoch, stream) == (header.sender, &header.epoch, &header.stream)
                });
                let keys = match known {
                    Some((.., keys)) => Ok(keys.clone()),
                    None => self.find_keys(&mut mailbox, agent, header),
                };
                let keys = keys.and_then(|keys| {
                    let claimed = keys.signer.key().key_id() == header.signer;
                    if claimed { Ok(keys) } else { Err(Refusal::Forged) }
                });
                if let (None, Ok(keys), Some(_)) = (known, &keys, header.recipient()) {
                    last = Some((header.sender, header.epoch, header.stream, keys.clone()));
                }
                let (signature, outcome) = (Signature::Fails, Err(Refusal::Forged)); // until it is looked at
                share.items.push(Opening { message, keys, signature, outcome });
            }
        }
    }

    fn find_keys(
        &self,
        mailbox: &mut Option<Box<Mailbox>>,
        agent: AgentId,
        header: &Header,
    ) -> Result<Keys, Refusal> {
        let (seal, signer) = match &header.target {
            Target::Agent(recipient) if *recipient != agent => Err(Refusal::WrongRecipient),
            Target::Agent(_) => {
                let session = mailbox.as_mut().and_then(|mailbox| mailbox.known_session(header.sender));
                let stream = session.and_then(|session| session.stream(&header.epoch, &header.stream));
                let stream = stream.ok_or(Refusal::UnknownEpoch)?;
                Ok((Arc::clone(&stream.key), Arc::clone(&stream.signer)))
            }
            Target::Topic(topic) => self.known_topic(topic).ok_or(Refusal::NotMember)?.find(header, agent),
        }?;
        Ok(Keys { seal, signer })
    }

    /// The last question, under the mailbox's lock: of two copies that are opened at the same time, one is new (B2). Each
    /// has left the mailbox then.
    fn judge_new<'a>(
        &self,
        endpoint: &Endpoint,
        agent: AgentId,
        items: impl Iterator<Item = &'a mut Opening>,
    ) {
        let mut mailbox = endpoint.mailbox();
        let mut items = items.peekable();
        while let Some(first) = items.next() {
            let header = first.message.header();
            if let Target::Topic(topic) = &header.target {
                let is_new = || self.known_topic(topic).is_some_and(|keys| keys.accept(header, agent));
                if first.outcome.is_ok() && !is_new() {
                    first.outcome = Err(Refusal::Replayed);
                }
                continue;
            }
            let (sender, epoch, stream) = (header.sender, header.epoch, header.stream);
            let session = mailbox.as_mut().and_then(|mailbox| mailbox.known_session(sender));
            let mut seen = session.and_then(|session| session.seen(&epoch, &stream, agent));
            let is_beside = |other: &&mut Opening| {
                let header = other.message.header();
                header.recipient().is_some()
                    && (header.sender, &header.epoch, &header.stream) == (sender, &epoch, &stream)
            };
            let mut next = Some(first);
            while let Some(one) = next {
                let number = one.message.header().counter;
                if one.outcome.is_ok() && !seen.as_mut().is_some_and(|seen| seen.accept(number)) {
                    one.outcome = Err(Refusal::Replayed);
                }
                if let Some(seen) = &mut seen {
                    seen.left();
                }
                next = items.next_if(is_beside);
            }
        }
    }
}

/// Finds whether each signature holds; of a message of a batch, its leaf.
fn check_signatures(items: &mut [Opening], verdicts: &mut Vec<bool>) {
    let equation_is_due = 3 < items.iter().filter(|one| one.joins_equation()).count();
    for one in items.iter_mut() {
        one.signature = match &one.keys {
            Err(_) => Signature::Fails,
            Ok(_) if one.message.inclusion().is_some() => Signature::Leaf(leaf_of(&one.message)),
            Ok(_) if equation_is_due && one.joins_equation() => continue, // it fails until it is found otherwise
            Ok(keys) if holds_alone(keys.signer.key(), &one.message) => Signature::Holds,
            Ok(_) => Signature::Fails,
        };
    }
    if equation_is_due {
        let joining = items.iter().filter(|one| one.joins_equation());
        let together: Vec<Signed<'_, VerifyingKey>> = joining.filter_map(Opening::to_check).collect();
        verify_each(&together, verdicts);
        let mut verdicts = verdicts.iter();
        for one in items.iter_mut().filter(|one| one.joins_equation()) {
            one.signature = if verdicts.next() == Some(&true) { Signature::Holds } else { Signature::Fails };
        }
    }
}

impl Opening {
    /// Whether it is one of those that are checked in one equation.
    fn joins_equation(&self) -> bool {
        self.keys.is_ok() && self.message.inclusion().is_none() && self.message.envelope().is_ours
    }

    fn to_check(&self) -> Option<Signed<'_, VerifyingKey>> {
        let key = self.keys.as_ref().ok()?.signer.key();
        Some(Signed { key, message: self.message.signed(), signature: self.message.signature() })
    }
}

/// Strictly, and once for all who ask under one key: the members of a topic, who share the bytes, and whoever checks ahead.
pub(crate) fn holds_alone(key: &VerifyingKey, message: &SecureMessage) -> bool {
    let check = || {
        let holds = key.verify(message.signed(), message.signature()).is_ok();
        Checked { key: key.public(), holds }
    };
    // Whoever comes while another is at it waits for that one, which takes less than to begin again.
    let checked = message.envelope().checked.get_or_init(check);
    if checked.key == key.public() { checked.holds } else { check().holds }
}

impl Batch {
    /// Whether a message's path leads to a root that the sender has signed. The signature and the inner nodes of the
    /// batch that was looked at last are not checked again: a batch costs one signature and about two hashes a message.
    fn holds(&mut self, key: &VerifyingKey, message: &SecureMessage, leaf: &Hash) -> bool {
        let Some(inclusion) = message.inclusion() else { return false };
        let of = Some((key.public(), *message.signature(), inclusion.size));
        if self.of != of {
            self.of = of;
            self.tree.begin(inclusion.size);
        }
        let is_signed =
            |root: &[u8; 32]| key.verify(&batch_statement(inclusion.size, root), message.signature()).is_ok();
        self.tree.proves(leaf, inclusion.index, &inclusion.path, is_signed)
    }
}

/// From the bytes, whatever is remembered of them.
fn leaf_of(message: &SecureMessage) -> Hash {
    crate::envelope::leaf(message.envelope())
}

#[cfg(test)]
mod tests {
    use symbi_crypto::{Provider, SigningKey};
    use symbi_testkit::{FakeClock, SeededEntropy};
    use symbi_types::LabelSet;

    use super::*;
    use crate::envelope::Envelope;
    use crate::{BusOptions, ContentType, Outgoing};

    const NOW: u64 = FakeClock::START_US;

    #[test]
    fn b7_what_a_reader_has_in_its_hand_is_opened_though_the_mailbox_closes() {
        let entropy = Arc::new(SeededEntropy::new(3));
        let [sender, recipient] = [(); 2].map(|()| AgentId::random(&*entropy));
        let bus = Bus::new(BusOptions::default(), entropy, Provider::AwsLc);
        for agent in [sender, recipient] {
            bus.register(agent).unwrap();
        }
        for payload in [b"taken".as_slice(), b"unread"] {
            let outgoing = Outgoing {
                sender,
                recipient,
                id: None,
                payload,
                content_type: ContentType::Bytes,
                labels: &LabelSet::default(),
                in_reply_to: None,
                expects_reply: false,
                lifetime_us: None,
            };
            bus.seal_and_deliver(&outgoing, NOW).unwrap();
        }
        let endpoint = bus.endpoint(recipient).unwrap();
        let mut desk = OpenDesk::default();
        endpoint.mailbox().as_mut().unwrap().take(1, &mut desk.messages);
        assert_eq!(bus.unregister(recipient).unwrap().len(), 1);
        let mut seen = Vec::new();
        bus.open_many(&endpoint, recipient, &mut desk, NOW, |outcome| {
            seen.push(outcome.map(|one| one.payload.to_vec()).map_err(|refused| refused.reason));
        });
        assert_eq!(seen, [Ok(b"taken".to_vec())], "B7");
        assert!(
            endpoint.mailbox().as_ref().unwrap().idle_senders().contains(&sender),
            "nothing is held any more"
        );
    }
    #[test]
    fn ah1_what_was_found_under_one_key_is_not_believed_under_another() {
        let [ours, theirs] = [1, 2].map(|seed| SigningKey::from_seed(Provider::AwsLc, &[seed; 32]));
        let key = |of: &SigningKey| VerifyingKey::new(of.public()).unwrap();
        let signed = |by: &SigningKey| {
            let mut envelope = Envelope::blank();
            envelope.bytes = b"symbi/msg/v1\0 header and seal".to_vec();
            envelope.sealed_end = envelope.bytes.len();
            let signature = by.sign(&envelope.bytes);
            envelope.bytes.extend_from_slice(&signature);
            SecureMessage::new(Arc::new(envelope), Arc::default(), None)
        };
        let message = signed(&ours);
        assert!(!holds_alone(&key(&theirs), &message) && !holds_alone(&key(&theirs), &message));
        assert!(holds_alone(&key(&ours), &message), "AH1: it was found to fail under another key");
        let message = signed(&ours);
        assert!(holds_alone(&key(&ours), &message) && holds_alone(&key(&ours), &message));
        assert!(!holds_alone(&key(&theirs), &message), "AH1: it was found to hold under another key");
    }
}
