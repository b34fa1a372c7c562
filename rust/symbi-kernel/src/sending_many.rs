//! Many messages of one sender in one call: decided first, all of them; then sealed and delivered together.
//!
//! Why: what is common to them is done once. Messages to one recipient, of one size and without labels, are one question.
//! Not here: one message (`messages`).
//!
//! Invariants
//! - K168 a refusal of one refuses all, before anything is delivered.
//! - K169 what had no room is named, and nothing to the same recipient was delivered after it: sent again in their order,
//!   the messages arrive in their order.
//! - K193 a parcel has at most [`SENT_AT_ONCE_MAX`] messages.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use symbi_bus::{BusError, Outgoing, SecureMessage, Share};
use symbi_types::{AgentId, LabelSet};

use crate::agents::AgentError;
use crate::exit::Payload;
use crate::kernel::{Kernel, lock};
use crate::messages::{Composed, MessageError, Recipient, Sealable, SendOptions, Sent};
use crate::refusal::Refusal;

/// Messages in one call.
pub const SENT_AT_ONCE_MAX: usize = 65_536;

/// How messages that are sent together are signed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Signing {
    /// One signature for up to 256, over the root of a Merkle tree; each message has its proof.
    #[default]
    Batch,
    /// One each.
    Each,
}

/// Messages to be sent together, in one piece of memory.
#[derive(Debug, Default)]
pub struct Parcel {
    recipients: Vec<Recipient>,
    places: HashMap<Recipient, usize>,
    bytes: Vec<u8>,
    rows: Vec<(usize, Says)>,
}

#[derive(Debug)]
enum Says {
    /// A range of the parcel's bytes.
    Bytes(Range<usize>),
    Other(Payload),
}

impl Parcel {
    /// One for so many messages.
    #[must_use]
    pub fn with_capacity(messages: usize) -> Self {
        Self { rows: Vec::with_capacity(messages), ..Self::default() }
    }

    /// The place of a recipient; one that was named before keeps its place.
    pub fn recipient(&mut self, recipient: Recipient) -> usize {
        let next = self.recipients.len();
        let place = *self.places.entry(recipient.clone()).or_insert(next);
        if place == next {
            self.recipients.push(recipient);
        }
        place
    }

    /// Adds a message of bytes, for the recipient at that place.
    pub fn add_bytes(&mut self, recipient: usize, bytes: &[u8]) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(bytes);
        self.rows.push((recipient, Says::Bytes(start..self.bytes.len())));
    }

    /// Adds a message of any kind, for the recipient at that place.
    pub fn add(&mut self, recipient: usize, payload: Payload) {
        match payload {
            Payload::Bytes(bytes) => self.add_bytes(recipient, &bytes),
            other @ Payload::Parts(_) => self.rows.push((recipient, Says::Other(other))),
        }
    }
}

/// Messages that were decided on.
#[derive(Default)]
struct Decided {
    /// Each answer, with what the first message that got it says.
    answers: Vec<Composed>,
    rows: Vec<Row>,
    bytes: Arc<Vec<u8>>,
}

/// One message: its answer, and where it stands in the parcel; none for the first of an answer.
struct Row {
    answer: usize,
    says: Option<Range<usize>>,
}

/// A share of messages that detectors look through.
struct Looking {
    bytes: Arc<Vec<u8>>,
    ranges: Vec<Option<Range<usize>>>,
    /// Of each, that it is bytes in which nothing was found.
    silent: Vec<bool>,
}

impl Share for Looking {
    fn work(&mut self) {
        let nothing = LabelSet::default();
        let is_silent = |range: &Option<Range<usize>>| {
            let bytes = range.clone().and_then(|range| self.bytes.get(range));
            bytes.is_some_and(|bytes| crate::exit::label_bytes(bytes, &nothing).is_empty())
        };
        self.silent = self.ranges.iter().map(is_silent).collect();
    }
}

/// Fewer messages than these are looked through faster here than divided.
const LOOKED_TOGETHER_MIN: usize = 96;

impl Decided {
    fn rows(&self) -> impl Iterator<Item = (&Composed, &[u8])> {
        self.rows.iter().filter_map(|row| {
            let one = self.answers.get(row.answer)?;
            let says = match &row.says {
                Some(range) => self.bytes.get(range.clone())?,
                None => &one.encoded,
            };
            Some((one, says))
        })
    }
}

impl Kernel {
    /// Sends messages of one agent, in order. Answers for each what became of it: it was taken, or there was no room.
    ///
    /// # Errors
    /// One of them is refused or cannot be: then none was delivered (K168).
    pub fn send_many(
        &self,
        sender: AgentId,
        messages: Vec<(Recipient, Payload)>,
        signing: Signing,
    ) -> Result<Vec<Result<Sent, BusError>>, MessageError> {
        let mut parcel = Parcel::with_capacity(messages.len());
        for (recipient, payload) in messages {
            let place = parcel.recipient(recipient);
            parcel.add(place, payload);
        }
        self.send_parcel(sender, parcel, signing)
    }

    /// As [`Kernel::send_many`].
    ///
    /// # Errors
    /// As [`Kernel::send_many`].
    pub fn send_parcel(
        &self,
        sender: AgentId,
        parcel: Parcel,
        signing: Signing,
    ) -> Result<Vec<Result<Sent, BusError>>, MessageError> {
        if SENT_AT_ONCE_MAX < parcel.rows.len() {
            // K193
            let text =
                format!("at most {SENT_AT_ONCE_MAX} messages at once, and these are {}", parcel.rows.len());
            return Err(AgentError::Invalid(text).into());
        }
        let mut decided = Decided::default();
        if let Err(error) = self.compose_all(sender, parcel, &mut decided) {
            self.undo_all(decided.answers.iter().map(|one| &one.granted)); // K21
            return Err(error);
        }
        let options = SendOptions::default();
        let outgoing: Vec<Outgoing<'_>> = decided
            .rows()
            .map(|(one, payload)| {
                let what = Sealable { payload, content_type: one.content_type, labels: &one.labels };
                what.outgoing((sender, one.to), None, &options)
            })
            .collect();
        let now_us = self.moment().wall_us;
        let mut settled = vec![false; decided.answers.len()];
        let record = |sealed: &[SecureMessage]| self.record_all(sender, &decided, sealed, &mut settled);
        let sent = match signing {
            Signing::Batch => self.bus().send_batch_recorded(&outgoing, now_us, record),
            Signing::Each => self.bus().send_each_recorded(&outgoing, now_us, record),
        };
        match sent {
            Ok(sent) => Ok(self.settle_all(&decided, sent)),
            Err(refusal) => {
                let grants = decided.answers.iter().map(|one| &one.granted).zip(settled);
                self.undo_all(grants.filter(|(_, settled)| !settled).map(|(granted, _)| granted)); // K21
                Err(refusal.into())
            }
        }
    }

    /// Decides on all. What asks the very same question as one before it gets its answer: to the same recipient, of the same
    /// size, with nothing found in it, where no counter was read and no obligation laid on (as K162). Its rate is counted.
    fn compose_all(
        &self,
        sender: AgentId,
        parcel: Parcel,
        decided: &mut Decided,
    ) -> Result<(), MessageError> {
        let Parcel { recipients, rows, bytes, .. } = parcel;
        let bytes = Arc::new(bytes);
        let mut silent = self.look_through(&bytes, &rows).into_iter();
        let mut alike: HashMap<(usize, usize), usize> = HashMap::new();
        let mut last = ((usize::MAX, 0), 0);
        decided.rows.reserve(rows.len());
        for (at, (place, says)) in rows.into_iter().enumerate() {
            let is_silent = silent.next().unwrap_or(false);
            let plain = match &says {
                Says::Bytes(range) if is_silent => Some((place, range.len())),
                Says::Bytes(_) | Says::Other(_) => None,
            };
            let known = plain.and_then(|question| {
                if last.0 != question {
                    last = (question, *alike.get(&question)?);
                }
                Some(last.1)
            });
            if let (Some(answer), Says::Bytes(range)) = (known, &says)
                && let Some(one) = decided.answers.get(answer)
            {
                self.within_rate(sender, &one.asked)?;
                decided.rows.push(Row { answer, says: Some(range.clone()) });
                continue;
            }
            let payload = match says {
                Says::Bytes(range) => Payload::Bytes(bytes.get(range).unwrap_or_default().to_vec()),
                Says::Other(payload) => payload,
            };
            let recipient = recipients.get(place).ok_or(AgentError::Absent("recipient"))?;
            let asked = self.address(sender, recipient, &payload)?;
            if at == 0 {
                self.admit(&asked.0)?; // one operation
            }
            let one = self.compose_admitted(sender, asked, payload)?;
            let answer = decided.answers.len();
            if let Some(question) =
                plain.filter(|_| !one.granted.is_counted() && one.granted.redact.is_none())
            {
                alike.insert(question, answer);
            }
            decided.rows.push(Row { answer, says: None });
            decided.answers.push(one);
        }
        decided.bytes = bytes;
        Ok(())
    }

    /// Of each message, whether it is bytes in which detectors find nothing.
    fn look_through(&self, bytes: &Arc<Vec<u8>>, rows: &[(usize, Says)]) -> Vec<bool> {
        let crew = self.bus().crew();
        let hands = if rows.len() < LOOKED_TOGETHER_MIN { 1 } else { crew.hands() };
        let share = |rows: &[(usize, Says)]| {
            let range = |(_, says): &(usize, Says)| match says {
                Says::Bytes(range) => Some(range.clone()),
                Says::Other(_) => None,
            };
            let ranges = rows.iter().map(range).collect();
            Some(Box::new(Looking { bytes: Arc::clone(bytes), ranges, silent: Vec::new() }))
        };
        let mut shares: Vec<_> = rows.chunks(rows.len().div_ceil(hands).max(1)).map(share).collect();
        crew.divide(&mut shares);
        shares.into_iter().flatten().flat_map(|share| share.silent).collect()
    }

    /// Before anybody can receive one of them (K150). Of an answer that is `settled` afterwards nothing is to be undone: it
    /// stands in the trail with its counts (K22), or what failed to record it gave them back.
    fn record_all(
        &self,
        sender: AgentId,
        decided: &Decided,
        sealed: &[SecureMessage],
        settled: &mut [bool],
    ) -> Result<(), Refusal> {
        let mut rows = decided.rows.iter();
        // Sealed in order; those without a place are left out.
        let mut answer_of = |message: &SecureMessage| {
            let recipient = message.header().recipient();
            let is_its = |row: &&Row| decided.answers.get(row.answer).map(|one| one.to) == recipient;
            rows.find(is_its).map(|row| row.answer)
        };
        let answers: Vec<Option<usize>> = sealed.iter().map(&mut answer_of).collect();
        let mut rest = sealed;
        for run in answers.chunk_by(|left, right| left == right) {
            let (alike, others) = rest.split_at_checked(run.len()).unwrap_or_default();
            rest = others;
            let Some(at) = run.first().copied().flatten() else { continue };
            if let (Some(one), Some(settled)) = (decided.answers.get(at), settled.get_mut(at)) {
                *settled = true;
                self.record_alike(sender, one, alike)?;
            }
        }
        Ok(())
    }

    fn record_alike(&self, sender: AgentId, one: &Composed, alike: &[SecureMessage]) -> Result<(), Refusal> {
        let Composed { asked, granted, to, .. } = one;
        if !granted.is_counted() {
            let entries = alike.iter().map(|message| (message.id(), message.leaf()));
            return self.gather((sender, Some(*to)), asked, granted, entries);
        }
        for message in alike {
            let extra = |details: crate::json::Object| {
                details.display("recipient", to).display("message", message.id())
            };
            self.record_internal(asked, granted.counted_once(), extra)?;
        }
        Ok(())
    }

    fn settle_all(
        &self,
        decided: &Decided,
        sent: Vec<Result<symbi_bus::Sent, BusError>>,
    ) -> Vec<Result<Sent, BusError>> {
        let mut last = None;
        let mut results = Vec::with_capacity(sent.len());
        for ((one, payload), sent) in decided.rows().zip(sent) {
            if last != Some(one.to) {
                self.touch(one.to);
                last = Some(one.to);
            }
            if let Err(error) = &sent {
                self.undo(&one.granted.held()); // K21: what was counted is an answer of its own
                if matches!(error, BusError::MailboxFull { .. }) {
                    lock(&self.messaging.full).insert(one.to);
                    if self.bus().has_room(one.to, payload.len()) {
                        self.has_room_again(one.to);
                    }
                }
            }
            results.push(sent.map(|sent| Sent { id: sent.id, seq: None, is_repeated: false }));
        }
        results
    }
}
