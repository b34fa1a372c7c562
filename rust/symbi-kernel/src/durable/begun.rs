//! Letters between the decision and their delivery: recorded, and waiting for the disk.
//!
//! Why: their sender may go away meanwhile, or be told that nothing may happen any more. What it was told, what this opening
//! keeps and what the next one reads must be one and the same.
//! Not here: deciding, delivering (`durable`, `durable_topics`).
//!
//! Invariants
//! - K243 a message is taken when it is delivered. A sender that goes away before has been told nothing: its operation is
//!   `released`, here and for the next opening nothing is kept under its id, and whoever sends under it meanwhile is told to ask
//!   again. A crash before that is on disk leaves the intent alone: then it is kept, as if it had been taken.

use std::sync::Arc;

use symbi_types::MessageId;

use super::{Letter, Letters};
use crate::agents::AgentError;
use crate::kernel::{Kernel, lock};
use crate::messages::MessageError;
use crate::permit::{Outcome, Permit};

impl Letters {
    /// Whether a message of this name is kept.
    pub(crate) fn keeps(&self, name: &MessageId) -> Result<bool, MessageError> {
        if self.begun.contains(name) {
            let text = "a message is on its way to the disk under this id; send it again when that has ended";
            return Err(AgentError::Invalid(text.to_owned()).into()); // K243
        }
        Ok(self.open.contains_key(name))
    }
}

/// Letters that are not taken yet: dropped, they are forgotten (K243).
pub(crate) struct BegunLetters {
    kernel: Arc<Kernel>,
    names: Vec<MessageId>,
}

impl BegunLetters {
    /// They are taken from here on. None where they are not kept any more: of a person who was erased meanwhile (ER6).
    pub(crate) fn taken(mut self) -> Option<()> {
        let mut letters = lock(&self.kernel.messaging.letters);
        if !self.names.iter().all(|name| letters.open.contains_key(name)) {
            return None;
        }
        for name in &self.names {
            letters.begun.remove(name);
        }
        drop(letters);
        self.names.clear();
        Some(())
    }
}

impl Drop for BegunLetters {
    fn drop(&mut self) {
        let mut letters = lock(&self.kernel.messaging.letters);
        for name in &self.names {
            letters.begun.remove(name);
            letters.open.remove(name);
        }
    }
}

/// What a sender is told whose message is of a person who was erased while it waited for the disk.
const ERASED_MEANWHILE: &str = "this is of a person who was erased meanwhile; it was not sent";

/// The bytes of what is taken now. Where there are none any more, its letters are dropped with the error.
pub(crate) fn take_letters(permit: &Permit, letters: BegunLetters) -> Result<Vec<u8>, MessageError> {
    let encoded = permit.take().map_err(|error| AgentError::Invalid(error.to_string()))?;
    if letters.taken().is_none() {
        let (kind, text) = ("erased".to_owned(), ERASED_MEANWHILE.to_owned());
        let _ = permit.settle(&Outcome::Failed { kind, text }); // a log that cannot write is red, and says so
        return Err(AgentError::Invalid(ERASED_MEANWHILE.to_owned()).into());
    }
    Ok(encoded)
}

impl Kernel {
    /// Letters that are to be recorded, all of them, or none where one is kept already.
    pub(crate) fn begin_letters(
        self: &Arc<Self>,
        begun: impl IntoIterator<Item = (MessageId, Letter)>,
    ) -> Result<Option<BegunLetters>, MessageError> {
        let begun: Vec<_> = begun.into_iter().collect();
        let mut letters = lock(&self.messaging.letters);
        for (name, _) in &begun {
            if letters.keeps(name)? {
                return Ok(None);
            }
        }
        let names: Vec<MessageId> = begun.iter().map(|(name, _)| *name).collect();
        letters.begun.extend(&names);
        letters.open.extend(begun);
        drop(letters);
        Ok(Some(BegunLetters { kernel: Arc::clone(self), names }))
    }
}
