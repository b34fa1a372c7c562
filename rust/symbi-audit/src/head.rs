//! `head`: how far the log is known to reach.
//!
//! Two slots of one page each, written in turn, so that a torn write leaves the other; the valid slot with more
//! records wins (docs/adr/0010-head-slots.md). Each slot is one signed line and zeros up to its end; its 512 bytes
//! at most are one sector, which disks write whole.

use symbi_crypto::{PublicKey, SigningKey};
use symbi_types::{LogId, StorageFile};

use crate::LogError;
use crate::chain::{self, Link, hex};
use crate::json;

/// The file's name.
pub(crate) const HEAD: &str = "head";
/// One slot: a page, so that no two share a sector on any disk.
pub(crate) const SLOT_BYTES: usize = 4096;

/// A point that the log has reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Point {
    /// How many records.
    pub(crate) records: u64,
    /// The link of the last, zeros for none.
    pub(crate) chain: Link,
    /// The first record of its segment.
    pub(crate) segment: u64,
    /// Bytes of that segment up to and with the last record.
    pub(crate) length: u64,
}

impl Point {
    pub(crate) const START: Self = Self { records: 0, chain: [0; 32], segment: 0, length: 0 };
}

/// A slot as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Slot {
    pub(crate) point: Point,
    pub(crate) log_id: LogId,
    pub(crate) key: String,
    message: Vec<u8>,
    signature: [u8; 64],
}

impl Slot {
    /// The bytes of a slot.
    pub(crate) fn encode(log_id: LogId, point: &Point, key: &SigningKey) -> Vec<u8> {
        let body = format!(
            r#"{{"v":1,"log_id":"{log_id}","records":{},"chain":"{}","segment":{},"length":{},"key":"{}""#,
            point.records,
            hex(&point.chain),
            point.segment,
            point.length,
            key.key_id(),
        );
        let signature = key.sign(&chain::head_message(body.as_bytes()));
        let mut slot = format!("{body},\"sig\":\"{}\"}}\n", chain::base64(&signature)).into_bytes();
        assert!(slot.len() <= 512, "a slot is one sector");
        slot.resize(SLOT_BYTES, 0);
        slot
    }

    /// Reads one slot; `None` where it is not exactly of its form.
    pub(crate) fn decode(slot: &[u8]) -> Option<Self> {
        let end = slot.iter().rposition(|byte| *byte != 0)? + 1;
        let line = slot.get(..end)?;
        let (rest, sig) = line.strip_suffix(b"\"}\n")?.split_last_chunk::<88>()?;
        let body = rest.strip_suffix(b",\"sig\":\"")?;
        let text = std::str::from_utf8(line).ok()?;
        let members = json::members(text, |_| false).ok()?;
        let names = ["v", "log_id", "records", "chain", "segment", "length", "key", "sig"];
        (members.len() == names.len() && members.iter().map(|(name, _)| *name).eq(names)).then_some(())?;
        let mut values = members.into_iter().map(|(_, raw)| raw);
        (values.next()? == "1").then_some(())?;
        let log_id = LogId(chain::unhex(json::text(values.next()?)?.as_bytes())?);
        let records = values.next()?.parse().ok()?;
        let chain = chain::unhex(json::text(values.next()?)?.as_bytes())?;
        let segment = values.next()?.parse().ok()?;
        let length = values.next()?.parse().ok()?;
        let key = json::text(values.next()?)?.into_owned();
        let point = Point { records, chain, segment, length };
        let message = chain::head_message(body);
        Some(Self { point, log_id, key, message, signature: chain::unbase64(sig)? })
    }

    /// Whether `key` signed it.
    pub(crate) fn signed_by(&self, key: &PublicKey) -> bool {
        self.key == key.key_id().to_string() && key.verify(&self.message, &self.signature).is_ok()
    }
}

/// Both slots as they are in the file; `None` for one that is damaged.
pub(crate) fn read(file: &dyn StorageFile) -> Result<[Option<Slot>; 2], LogError> {
    let mut bytes = vec![0; 2 * SLOT_BYTES + 1];
    let length = crate::layout::read_full(file, 0, &mut bytes).map_err(LogError::io("cannot read `head`"))?;
    if length != 2 * SLOT_BYTES {
        return Ok([None, None]);
    }
    let mut slots = bytes.chunks(SLOT_BYTES).map(Slot::decode);
    Ok([slots.next().flatten(), slots.next().flatten()])
}

#[cfg(test)]
mod tests {
    use super::*;
    use symbi_crypto::Provider;

    #[test]
    fn a3_any_flipped_bit_of_a_slot_is_seen() {
        let key = SigningKey::from_seed(Provider::AwsLc, &[5; 32]);
        let point = Point {
            records: u64::MAX >> 11,
            chain: [7; 32],
            segment: 999_999_999_999,
            length: u64::MAX >> 11,
        };
        let good = Slot::encode(LogId([9; 16]), &point, &key);
        assert_eq!(Slot::decode(&good).unwrap().point, point);
        assert!(Slot::decode(&good).unwrap().signed_by(&key.public()));
        for bit in 0..700 * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            let held = Slot::decode(&bad).is_some_and(|slot| slot.signed_by(&key.public()));
            assert!(!held, "bit {bit}");
        }
    }
}
