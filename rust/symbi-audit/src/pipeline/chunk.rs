//! Records that are signed together.

use symbi_crypto::SigningKey;

use crate::chain::{self, Link, SHORT_SUFFIX_BYTES, SUFFIX_BYTES};

/// Where a line ends, and what is to be signed of it.
#[derive(Clone, Copy)]
pub(crate) struct End {
    pub(crate) at: usize,
    pub(crate) link: Link,
    /// Whether it has a signature of its own, whatever its group.
    pub(crate) is_signed: bool,
}

/// Records that a signer handles together: whole lines, of which the suffix is still empty. The last has a signature.
pub(crate) struct Chunk {
    pub(super) number: u64,
    /// The number of its first record.
    pub(super) first: u64,
    pub(super) key: SigningKey,
    pub(super) bytes: Vec<u8>,
    pub(super) ends: Vec<End>,
}

impl Chunk {
    /// Fills the suffixes in. Records of a group share the signature of the next that has one: at the latest the last's.
    pub(super) fn sign(&mut self) {
        let (mut group, mut next) = (self.first, self.first);
        let last = self.ends.len().saturating_sub(1);
        for (at, end) in self.ends.iter_mut().enumerate() {
            let shares = !end.is_signed && at < last;
            next += 1;
            if !end.is_signed && at == last {
                self.bytes.resize(self.bytes.len() + SUFFIX_BYTES - SHORT_SUFFIX_BYTES, 0);
                end.at = self.bytes.len();
            }
            let suffix_bytes = if shares { SHORT_SUFFIX_BYTES } else { SUFFIX_BYTES };
            let from = end.at.saturating_sub(suffix_bytes);
            let Some(place) = self.bytes.get_mut(from..end.at) else { continue };
            if shares {
                chain::write_short_suffix(place, &end.link);
                continue;
            }
            let message = if end.is_signed {
                chain::event_message(&end.link)
            } else {
                chain::group_message(group, &end.link)
            };
            chain::write_suffix(place, &end.link, &self.key.sign(message.as_ref()));
            group = next;
        }
    }
}
