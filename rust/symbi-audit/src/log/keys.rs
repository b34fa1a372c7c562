//! Whose turn it is to sign, who had it, and keys that others had.

use symbi_crypto::{KeyId, SigningKey};

use super::numbering::constant;
use super::{Log, OPEN_TIMEOUT};
use crate::LogError;
use crate::chain;
use crate::event::{self, Event};
use crate::options::{Receipt, Signing};
use crate::pipeline::lock;
use crate::reader::Keys;

impl Log {
    /// From the next record on, only `new` signs. The record of it is signed by the old key and carries the new one's
    /// signature too. The caller keeps the new seed, durably, before it calls this.
    ///
    /// # Errors
    /// [`LogError::Unavailable`]; the old key stays.
    pub fn rotate(&self, new: &SigningKey) -> Result<Receipt, LogError> {
        let shared = &self.shared;
        let mut numbering = lock(&shared.numbering);
        shared.wait_for_room()?;
        let time = shared.tell_time(&mut numbering);
        let (old, seq) = (numbering.key.public(), numbering.seq);
        let message = chain::rotation_message(shared.log_id, seq, &old, &new.public());
        let details = format!(
            r#"{{"new_key":"{}","new_sig":"{}"}}"#,
            chain::base64(&new.public().0),
            chain::base64(&new.sign(&message))
        );
        let rotated = Event::new("key.rotated", &details);
        let receipt = shared.number(&mut numbering, &rotated, time, Signing::Event)?;
        shared.hand_over(&mut numbering)?;
        numbering.key = new.clone();
        numbering.constant = constant(shared.boot, new);
        Ok(receipt)
    }

    /// Records that others had `key` from record `from` on: what it signed from there up to its end proves nothing, and every
    /// verification says so. It is the key that signs now that says it, so the one that was known is rotated away first.
    ///
    /// # Errors
    /// [`LogError::Event`]: it is the key that signs now, none of this log's, or there is no such record.
    pub fn mark_compromised(&self, key: KeyId, from: u64, reason: &str, by: &str) -> Result<u64, LogError> {
        let refuse = |reason: String| Err(LogError::Event { reason });
        if key == self.key_id() {
            return refuse(format!("`{key}` signs now: give the log a new key first, `symbi audit rotate`"));
        }
        let keys = Keys::read(&*self.storage, &self.directory, u64::MAX)?.keys;
        if !keys.iter().any(|known| known.key_id() == key) {
            return refuse(format!("`{key}` is none of this log's keys"));
        }
        if self.durable() <= from {
            return refuse(format!("there is no record {from}"));
        }
        let mut details = format!(r#"{{"key":"{key}","from":{from},"reason":"#).into_bytes();
        event::write_json_string(reason, &mut details);
        details.extend_from_slice(b",\"by\":");
        event::write_json_string(by, &mut details);
        details.push(b'}');
        let receipt = self.append_own("log.key_compromised", &String::from_utf8_lossy(&details))?;
        self.wait_durable(receipt.seq, OPEN_TIMEOUT)?;
        Ok(receipt.seq)
    }

    /// The signature that the line of `receipt` carries; `None` where it shares one with its group. Ed25519 is
    /// deterministic, so it is made again rather than kept; valid for receipts since the last rotation.
    #[must_use]
    pub fn signature(&self, receipt: &Receipt) -> Option<[u8; 64]> {
        let (key, signing) = {
            let numbering = lock(&self.shared.numbering);
            (numbering.key.clone(), numbering.signing)
        };
        (signing == Signing::Event).then(|| key.sign(chain::event_message(&receipt.chain).as_ref()))
    }

    /// The fingerprint of the key that signs now.
    #[must_use]
    pub fn key_id(&self) -> KeyId {
        lock(&self.shared.numbering).key.key_id()
    }
}
