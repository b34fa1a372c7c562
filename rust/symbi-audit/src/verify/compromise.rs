//! Keys that others had: which records of them prove nothing.
//!
//! `log.key_compromised` names a key and the first record after which it was known to somebody else. Whoever had it could sign
//! as the log from there on, up to the record after which another key signs. What such records say may be true; their signature
//! does not show it.

use std::ops::Range;

use symbi_crypto::KeyId;

use crate::record::View;

/// What one such record says.
pub(super) struct Compromise {
    key: String,
    from: u64,
}

impl Compromise {
    pub(super) fn of(view: &View<'_>) -> Option<Self> {
        (view.event_type == "log.key_compromised").then_some(())?;
        Some(Self { key: view.detail_text("key")?.into_owned(), from: view.detail("from")?.parse().ok()? })
    }
}

/// The ranges of records that such keys signed, in order, merged. `turns` is the record after which each key signs.
pub(super) fn distrusted(
    compromises: &[Compromise],
    turns: &[(u64, KeyId)],
    records: u64,
) -> Vec<Range<u64>> {
    let mut ranges: Vec<Range<u64>> = Vec::new();
    for (at, (turn, key)) in turns.iter().enumerate() {
        let begin = if at == 0 { 0 } else { turn + 1 };
        let end = turns.get(at + 1).map_or(records, |(next, _)| next + 1);
        let named = compromises.iter().filter(|one| one.key == key.to_string());
        if let Some(from) = named.map(|one| one.from).min() {
            ranges.push(from.max(begin)..end);
        }
    }
    ranges.retain(|range| range.start < range.end);
    ranges
}
