//! What the `extra` of a proof holds: two public keys, and the record's line.
//!
//! Why packed: a line spells its link and its ids in hex and its signature in base64, and a proof spells its bytes in base64
//! once more. Here they are raw, one key stands for two where they are the same, and its fingerprint is not said again: 248 bytes of a
//! proof of one in a million, of 2,145.
//! Proofs of the first form, which hold both keys and the line as it is, are read for good: they were given to strangers.
//!
//! Invariants
//! - EX1 what is packed comes back to the byte.
//! - EX2 with the same flags no two spellings hold the same, and a flag that says nothing is refused.

use symbi_crypto::PublicKey;

use crate::chain;

/// Flags of the last byte. The first form ends with the newline of its line, 10, which is none of these.
const SIGNED: u8 = 1;
const OTHER_SIGNER: u8 = 2;
const RAW_IDS: u8 = 4;
const FLAGS_MAX: u8 = SIGNED | OTHER_SIGNER | RAW_IDS;

/// What stands before the ids that are taken out of a body, in their order: nothing that a caller chooses stands before them.
const IDS: [&[u8]; 3] = [b"\"event_id\":\"", b"\"boot\":\"", b"\"key\":\""];

/// What a body begins with.
const HEAD: &[u8] = b"{\"v\":";

/// A body without its head and ids, and the two that are no fingerprint; `None` where they are not spelled as a record spells them.
fn without_ids(body: &[u8], signer: &PublicKey) -> Option<(Vec<u8>, [u8; 32])> {
    let (mut rest, mut short, mut ids) = (body.strip_prefix(HEAD)?, Vec::with_capacity(body.len()), [0; 32]);
    let fingerprint = signer.key_id().to_string();
    for (at, marker) in IDS.into_iter().enumerate() {
        let begin = rest.windows(marker.len()).position(|found| found == marker)? + marker.len();
        let (before, after) = rest.split_at_checked(begin)?;
        let (id, after) = after.split_at_checked(if at == 2 { 32 } else { 36 })?;
        if at == 2 {
            (id == fingerprint.as_bytes()).then_some(())?;
        } else {
            let raw = uuid(id)?;
            (spelled(&raw).as_bytes() == id).then_some(())?;
            ids.get_mut(16 * at..16 * at + 16)?.copy_from_slice(&raw);
        }
        short.extend_from_slice(before);
        rest = after;
    }
    short.extend_from_slice(rest);
    Some((short, ids))
}

/// The body that [`without_ids`] has shortened.
fn with_ids(short: &[u8], ids: &[u8; 32], signer: &PublicKey) -> Option<Vec<u8>> {
    let (first, second) = ids.split_first_chunk::<16>()?;
    let spelled = [spelled(first), spelled(second.first_chunk()?), signer.key_id().to_string()];
    let (mut rest, mut body) = (short, HEAD.to_vec());
    for (marker, id) in IDS.into_iter().zip(spelled) {
        let begin = rest.windows(marker.len()).position(|found| found == marker)? + marker.len();
        let (before, after) = rest.split_at_checked(begin)?;
        body.extend_from_slice(before);
        body.extend_from_slice(id.as_bytes());
        rest = after;
    }
    body.extend_from_slice(rest);
    Some(body)
}

/// The bytes of a UUID of 36 characters, hyphens wherever.
fn uuid(text: &[u8]) -> Option<[u8; 16]> {
    let digits: Vec<u8> = text.iter().copied().filter(|&byte| byte != b'-').collect();
    chain::unhex(&digits)
}

fn spelled(id: &[u8; 16]) -> String {
    let hex = chain::hex(id);
    let part = |from: usize, to: usize| hex.get(from..to).unwrap_or_default();
    [part(0, 8), part(8, 12), part(12, 16), part(16, 20), part(20, 32)].join("-")
}

/// The key of the checkpoint, the key of the record, and its line.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Extra {
    pub key: PublicKey,
    pub signer: PublicKey,
    pub line: Vec<u8>,
}

/// `key ‖ [signer] ‖ body ‖ [ids] ‖ link ‖ [signature] ‖ flags`; the first form where the line has not the end of a record.
pub(crate) fn pack(key: &PublicKey, signer: &PublicKey, line: &[u8]) -> Vec<u8> {
    let Some((body, link, signature)) = chain::split(line) else {
        return [key.0.as_slice(), &signer.0, line].concat();
    };
    let mut flags = 0;
    let other = if signer == key {
        &[][..]
    } else {
        flags |= OTHER_SIGNER;
        &signer.0
    };
    let signature = signature.as_ref().map_or(&[][..], |signature| {
        flags |= SIGNED;
        signature
    });
    match without_ids(body, signer) {
        Some((short, ids)) => [&key.0, other, &short, &ids, &link, signature, &[flags | RAW_IDS]].concat(),
        None => [&key.0, other, body, &link, signature, &[flags]].concat(),
    }
}

/// Either form; `None` where it is neither.
pub(crate) fn unpack(extra: &[u8]) -> Option<Extra> {
    let (key, rest) = extra.split_first_chunk::<32>()?;
    let (&flags, packed) = rest.split_last()?;
    if flags == b'\n' {
        let (signer, line) = rest.split_first_chunk::<32>()?;
        return Some(Extra { key: PublicKey(*key), signer: PublicKey(*signer), line: line.to_vec() });
    }
    (flags <= FLAGS_MAX).then_some(())?;
    let (signer, packed) =
        if flags & OTHER_SIGNER == 0 { (key, packed) } else { packed.split_first_chunk::<32>()? };
    (flags & OTHER_SIGNER == 0 || signer != key).then_some(())?; // EX2
    let (packed, signature) = if flags & SIGNED == 0 {
        (packed, None)
    } else {
        packed.split_last_chunk::<64>().map(|(packed, signature)| (packed, Some(signature)))?
    };
    let (body, link) = packed.split_last_chunk::<32>()?;
    let line = if flags & RAW_IDS == 0 {
        chain::joined(body, link, signature)
    } else {
        let (short, ids) = body.split_last_chunk::<32>()?;
        let body = with_ids(short, ids, &PublicKey(*signer))?;
        let taken = without_ids(&body, &PublicKey(*signer));
        taken.is_some_and(|(again, raw)| again == short && raw == *ids).then_some(())?; // EX2
        chain::joined(&body, link, signature)
    };
    Some(Extra { key: PublicKey(*key), signer: PublicKey(*signer), line })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn line(body: &[u8], signature: Option<[u8; 64]>) -> Vec<u8> {
        chain::joined(body, &[7; 32], signature.as_ref())
    }

    proptest! {
        /// EX1, for every body, with and without a signature, with one key and with two.
        #[test]
        fn ex1_what_is_packed_comes_back(body in prop::collection::vec(any::<u8>(), 0..300), ids in prop::option::of(any::<u64>()),
                                         signature in prop::option::of(prop::array::uniform32(any::<u8>())),
                                         key in prop::array::uniform32(any::<u8>()), other in prop::option::of(prop::array::uniform32(any::<u8>()))) {
            let signature = signature.map(|half| [half, half].concat().try_into().unwrap_or([0; 64]));
            let signer = other.unwrap_or(key);
            let id = format!("{:08x}-0000-4000-8000-00000000{:04x}", ids.unwrap_or(0) as u32, ids.unwrap_or(0) >> 48);
            let named = format!("{{\"v\":1,\"event_id\":\"{id}\",\"boot\":\"{id}\",\"key\":\"{}\",", PublicKey(signer).key_id());
            let body = if ids.is_some() { [named.as_bytes(), &body].concat() } else { body };
            let (key, signer, line) = (PublicKey(key), PublicKey(signer), line(&body, signature));
            let packed = pack(&key, &signer, &line);
            prop_assert_eq!(unpack(&packed), Some(Extra { key, signer, line }));
        }

        /// EX2: what is read as packed is what would be written.
        #[test]
        fn ex2_a_packed_form_has_one_spelling(bytes in prop::collection::vec(any::<u8>(), 0..200), same in any::<bool>(), flags in 0_u8..9) {
            let first = bytes.get(..32).filter(|_| same).unwrap_or_default();
            let bytes = [first, &bytes, &[flags]].concat();
            if let Some(Extra { key, signer, line }) = unpack(&bytes) {
                prop_assert_eq!(pack(&key, &signer, &line), bytes);
            }
        }
    }

    #[test]
    fn ex2_a_flag_that_says_nothing_is_refused() {
        let (key, line) = (PublicKey([1; 32]), line(b"{}", Some([3; 64])));
        let packed = pack(&key, &PublicKey([2; 32]), &line);
        let twice = [&[1; 32], &[1; 32], packed.get(64..).unwrap_or_default()].concat();
        assert_eq!((unpack(&packed).is_some(), unpack(&twice)), (true, None));
    }

    #[test]
    fn the_first_form_is_read_and_kept_for_what_is_no_record() {
        let (key, signer) = (PublicKey([1; 32]), PublicKey([2; 32]));
        let line = line(b"{}", Some([3; 64]));
        let first = [&[1; 32], &[2; 32], line.as_slice()].concat();
        assert_eq!(unpack(&first), Some(Extra { key, signer, line }));
        let odd = b"no record\n".to_vec();
        assert_eq!(unpack(&pack(&key, &signer, &odd)), Some(Extra { key, signer, line: odd }));
    }
}
