//! Dead letters that the trail keeps: what was to survive a crash and was given up, until somebody settles it.
//!
//! Why: whoever sent such a message was told that it is taken. Given up, it is a person's business, and a crash must not
//! settle it in their place. The trail has the message and that it died; what is put back, thrown away or erased is said there
//! too, so that an opening works out what is left.
//! Not here: what persons may do with it (`dead_letters`), messages that are not given up (`durable`).
//!
//! Invariants
//! - K240 a kept message that was given up is a dead letter in each later opening, until it is put back, thrown away, erased, or
//!   let go for younger ones ([`BURIED_MAX`]).
//! - K241 one that was put back is handed out until it is acknowledged or dead again, over a crash as well.

use std::collections::VecDeque;

use serde_json::{Value as Json, json};
use symbi_audit::Record;
use symbi_bus::{Dead, DeadReason};
use symbi_types::{AgentId, Label, MessageId};

use crate::acknowledge::Kept;
use crate::durable::{Letter, Letters};
use crate::kernel::{Kernel, lock};
use crate::messages::LIFETIME_US;

/// Dead letters that are kept over an opening: as many as a running kernel keeps, unless it is told otherwise.
const BURIED_MAX: usize = 1_024;

/// A letter that was given up.
#[derive(Clone)]
pub(crate) struct Buried {
    pub(crate) name: MessageId,
    pub(crate) letter: Letter,
    /// Where it is looked for: the mailbox it was to be read in; of an earlier opening, whose mailboxes are no more, the
    /// letter's own name, which nothing else has.
    pub(crate) mailbox: AgentId,
    reason: DeadReason,
    attempts: u32,
}

impl Buried {
    /// The message, as its readers see it.
    fn message(&self) -> MessageId {
        self.letter.route.as_ref().map_or(self.name, |route| route.message)
    }
}

/// All of them, the oldest first.
#[derive(Clone, Default)]
pub(crate) struct Graveyard(VecDeque<Buried>);

impl Graveyard {
    fn lay(&mut self, buried: Buried) {
        if BURIED_MAX <= self.0.len() {
            self.0.pop_front();
        }
        self.0.push_back(buried);
    }

    pub(crate) fn find(&self, mailbox: AgentId, message: MessageId) -> Option<&Buried> {
        self.0.iter().find(|one| one.mailbox == mailbox && one.message() == message)
    }

    fn take(&mut self, name: MessageId) -> Option<Buried> {
        let place = self.0.iter().position(|one| one.name == name)?;
        self.0.remove(place)
    }

    pub(crate) fn drop_all(&mut self, names: &[MessageId]) {
        self.0.retain(|one| !names.contains(&one.name));
    }

    pub(crate) fn of_label(&self, label: &Label) -> impl Iterator<Item = (MessageId, MessageId)> {
        let carries = |one: &&Buried| one.letter.kept.0.labels.contains(label.as_str());
        self.0.iter().filter(carries).map(|one| (one.name, one.message()))
    }

    /// For a snapshot, in order: as letters are told, with these two fields more.
    pub(crate) fn rows(&self) -> impl Iterator<Item = Json> {
        self.0.iter().map(|one| {
            let mut row = one.letter.row(one.name);
            if let Some(members) = row.as_object_mut() {
                members.insert("dead".to_owned(), json!(one.reason.as_str()));
                members.insert("attempts".to_owned(), json!(one.attempts));
            }
            row
        })
    }

    pub(crate) fn load(&mut self, row: &Json, name: MessageId, letter: Letter) -> Option<()> {
        let reason = DeadReason::of_word(row.get("dead")?.as_str()?)?;
        let attempts = u32::try_from(row.get("attempts")?.as_u64()?).ok()?;
        self.lay(Buried { name, letter, mailbox: mailbox_of(name)?, reason, attempts });
        Some(())
    }

    /// What an opening shows.
    pub(crate) fn dead(&self) -> impl Iterator<Item = Dead<Kept>> {
        self.0.iter().map(|one| Dead {
            mailbox: one.mailbox,
            id: one.message(),
            reason: one.reason,
            attempts: one.attempts,
            content: Some(one.letter.kept.clone()),
        })
    }
}

/// K240: the letter's name, where a mailbox is asked for.
fn mailbox_of(name: MessageId) -> Option<AgentId> {
    AgentId::from_bytes(*name.as_bytes())
}

impl Letters {
    /// A record says that this letter was given up.
    pub(crate) fn died(&mut self, name: MessageId, letter: Letter, details: &Json) {
        let reason = details.get("reason").and_then(Json::as_str).and_then(DeadReason::of_word);
        let attempts = details.get("attempts").and_then(Json::as_u64);
        let attempts = attempts.and_then(|attempts| u32::try_from(attempts).ok()).unwrap_or_default();
        // Erased: there is no such reason to give up, and nothing to keep.
        if let (Some(reason), Some(mailbox)) = (reason, mailbox_of(name)) {
            self.dead.lay(Buried { name, letter, mailbox, reason, attempts });
        }
    }

    /// A record of somebody's operation, which may have settled a dead letter.
    pub(crate) fn settle(&mut self, record: &Record, details: &Json) {
        let id = |key: &str| details.get(key).and_then(Json::as_str)?.parse::<MessageId>().ok();
        if let Some(message) = id("discarded") {
            self.dead.drop_all(&[id("letter").unwrap_or(message)]);
        }
        let is_sent = details.get("action").and_then(Json::as_str) == Some("message.send");
        if let Some(message) = id("revived").filter(|_| is_sent) {
            self.unbury(id("letter").unwrap_or(message), record.timestamp_us.saturating_add(LIFETIME_US));
        }
    }

    /// Puts a dead letter back among those that wait for their reader (K241).
    pub(crate) fn unbury(&mut self, name: MessageId, expires_us: u64) -> Option<Letter> {
        let Buried { name, letter, .. } = self.dead.take(name)?;
        let letter = Letter { mailbox: None, expires_us, ..letter };
        self.open.insert(name, letter.clone());
        Some(letter)
    }
}

impl Kernel {
    /// It was given up, and that is recorded. One that the trail keeps is kept on (K240), and what it says can be read even if
    /// it was never handed out.
    pub(crate) fn bury_letter(&self, dead: &Dead<Kept>) {
        let kept = {
            let mut letters = lock(&self.messaging.letters);
            let name = letters.routed.remove(&(dead.mailbox, dead.id)).unwrap_or(dead.id);
            let Some(letter) = letters.open.remove(&name) else { return };
            let kept = letter.kept.clone();
            let Dead { mailbox, reason, attempts, .. } = *dead;
            letters.dead.lay(Buried { name, letter, mailbox, reason, attempts });
            kept
        };
        if dead.content.is_none() {
            lock(&self.messaging.deliveries).complete_dead(dead.mailbox, dead.id, kept);
        }
    }

    /// The dead letter that the trail keeps, where this is one: its name and whose it is.
    pub(crate) fn buried(&self, dead: &Dead<Kept>) -> Option<(MessageId, String)> {
        let letters = lock(&self.messaging.letters);
        letters.dead.find(dead.mailbox, dead.id).map(|one| (one.name, one.letter.recipient_name.clone()))
    }

    /// It was put back: to its mailbox, or to whoever has its name now, or it waits for the next one (K166).
    pub(crate) fn give_again(&self, name: MessageId, mailbox: AgentId) {
        let expires_us = self.moment().wall_us.saturating_add(LIFETIME_US);
        let Some(letter) = lock(&self.messaging.letters).unbury(name, expires_us) else { return };
        let reader = if self.reads(mailbox).is_some() {
            Some(mailbox)
        } else {
            self.reader_of(&letter.recipient_name, letter.route.as_ref().map(|route| route.pattern.as_str()))
        };
        if let Some(reader) = reader {
            self.hand_over(name, reader);
        }
    }
}
