//! The keys of one direction between two agents.
//!
//! The pair's key is HKDF-SHA-256 of the X25519 secret of both identities; `info` names the direction, both agreement
//! keys and the sender's signing key, so that the two directions have different keys. Messages are sealed under streams
//! of it (`stream`).

use symbi_crypto::{AgreementError, Provider};
use symbi_types::{AgentId, Entropy};

use crate::Target;
use crate::authority::Credential;
use crate::seal::Ticket;
use crate::stream::{Opening, Secret, Stream, epoch_id};
use crate::window::Window;

/// What a session is opened with.
#[derive(Clone, Copy)]
pub(crate) struct Parties<'a> {
    pub(crate) sender: AgentId,
    pub(crate) recipient: AgentId,
    pub(crate) from: &'a Credential,
    pub(crate) to: &'a Credential,
    pub(crate) provider: Provider,
    pub(crate) entropy: &'a dyn Entropy,
    pub(crate) messages_per_key: u64,
}

#[derive(Debug)]
struct Under {
    stream: Stream,
    outstanding: usize, // sealed, or delivered, and not yet taken out of the mailbox
}

/// What a receiver has had under one key: looked up once for neighbours.
pub(crate) struct Seen<'a> {
    window: &'a mut Window,
    outstanding: &'a mut usize,
}

impl Seen<'_> {
    /// Whether that number is new; then it is not any more.
    pub(crate) fn accept(&mut self, number: u64) -> bool {
        self.window.accept(number)
    }

    /// As [`Session::left`].
    pub(crate) fn left(&mut self) {
        leave(self.outstanding);
    }
}

fn leave(outstanding: &mut usize) {
    assert!(0 < *outstanding, "what leaves a mailbox came into it");
    *outstanding -= 1;
}

/// The streams of one direction, the current one last; older ones while messages of theirs are unread.
#[derive(Debug, Default)]
pub(crate) struct Session {
    streams: Vec<Under>,
    pair: Option<Pair>,
}

#[derive(Debug)]
struct Pair {
    secret: Secret,
    epoch: [u8; 16],
    keys: [[u8; 32]; 3], // of whom it is: both agreement keys, the sender's signing key
}

impl Session {
    /// The next number under the current key, or under a fresh one where that is used up or not of this identity.
    pub(crate) fn ticket(&mut self, parties: Parties<'_>) -> Result<Ticket, AgreementError> {
        let keys = parties.keys();
        let is_current = self.pair.as_ref().is_some_and(|pair| pair.keys == keys);
        let usable = |under: &Under| under.stream.is_usable(parties.from.signer(), parties.messages_per_key);
        if !(is_current && self.streams.last().is_some_and(usable)) {
            if !is_current {
                self.pair = Some(parties.agree()?);
            }
            let pair = self.pair.as_ref().ok_or(AgreementError)?;
            let stream = Stream::open(Opening {
                secret: &pair.secret,
                epoch: pair.epoch,
                sender: parties.sender,
                signer: parties.from.signer(),
                target: &Target::Agent(parties.recipient),
                provider: parties.provider,
                entropy: parties.entropy,
            });
            self.streams.retain(|under| 0 < under.outstanding);
            self.streams.push(Under { stream, outstanding: 0 });
        }
        let under = self.streams.last_mut().ok_or(AgreementError)?;
        let ticket = under.stream.ticket().ok_or(AgreementError)?;
        under.outstanding += 1;
        Ok(ticket)
    }

    fn under(&mut self, epoch: &[u8; 16], salt: &[u8; 32]) -> Option<&mut Under> {
        self.streams.iter_mut().rev().find(|under| under.stream.salt == *salt && under.stream.epoch == *epoch)
    }

    pub(crate) fn stream(&mut self, epoch: &[u8; 16], salt: &[u8; 32]) -> Option<&mut Stream> {
        self.under(epoch, salt).map(|under| &mut under.stream)
    }

    /// A message came in by `deliver`, already sealed.
    pub(crate) fn came(&mut self, epoch: &[u8; 16], salt: &[u8; 32]) {
        if let Some(under) = self.under(epoch, salt) {
            under.outstanding += 1;
        }
    }

    /// A message left the mailbox, or never reached it.
    pub(crate) fn left(&mut self, epoch: &[u8; 16], salt: &[u8; 32]) {
        if let Some(under) = self.under(epoch, salt) {
            leave(&mut under.outstanding);
        }
    }

    /// What `receiver` has had under that key.
    pub(crate) fn seen(&mut self, epoch: &[u8; 16], salt: &[u8; 32], receiver: AgentId) -> Option<Seen<'_>> {
        let Under { stream, outstanding } = self.under(epoch, salt)?;
        Some(Seen { window: stream.window(receiver), outstanding })
    }

    /// Whether nothing unread is sealed under any of its keys.
    pub(crate) fn is_idle(&self) -> bool {
        self.streams.iter().all(|under| under.outstanding == 0)
    }
}

impl Parties<'_> {
    fn keys(&self) -> [[u8; 32]; 3] {
        [self.from.agreement().public(), self.to.agreement().public(), self.from.signing().public().0]
    }

    fn agree(&self) -> Result<Pair, AgreementError> {
        let keys = self.keys();
        let [ours, theirs, signing] = &keys;
        let domain = b"symbi/bus/pair/v1\0".as_slice();
        let info =
            [domain, self.sender.as_bytes(), self.recipient.as_bytes(), ours, theirs, signing].concat();
        let secret = Secret::new(self.from.agreement().agree(theirs, b"", &info)?);
        Ok(Pair { epoch: epoch_id(&secret), secret, keys })
    }
}
