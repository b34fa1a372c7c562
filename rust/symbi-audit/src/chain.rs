//! The bytes that are hashed and signed, in one place (A1).
//!
//! `chain = SHA-256("symbi/audit/chain/v1\0" ‖ log id ‖ seq, big-endian ‖ previous chain ‖ body)`; the signature is
//! over `"symbi/audit/event/v1\0" ‖ chain`. The chain does not cover signatures, so both sides can do them in parallel.
//! Records of a group (`Signing::Group`) share one: it stands on the last of them and is over
//! `"symbi/audit/group/v1\0" ‖ number of the first ‖ chain of the last`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use symbi_crypto::{PublicKey, sha256};
use symbi_types::LogId;

/// What follows the body on a line with a signature, newline included.
pub(crate) const SUFFIX_BYTES: usize = 174;
/// And on one without: of a record that is not the last of its group.
pub(crate) const SHORT_SUFFIX_BYTES: usize = 88;
const CHAIN_AT: &[u8] = b",\"chain\":\"";
const SIG_AT: &[u8] = b"\",\"sig\":\"";
const END: &[u8] = b"\"}\n";
const _: () = assert!(CHAIN_AT.len() + 64 + SIG_AT.len() + 88 + END.len() == SUFFIX_BYTES);
const SHORT_END: &[u8] = b"\",\"sig\":null}\n";
const _: () = assert!(CHAIN_AT.len() + 64 + SHORT_END.len() == SHORT_SUFFIX_BYTES);

/// A link of the chain.
pub(crate) type Link = [u8; 32];

/// The signature of a record, where it has one.
pub(crate) type Signature = Option<[u8; 64]>;

/// The link of record `seq`.
pub(crate) fn link(log_id: LogId, seq: u64, previous: &Link, body: &[u8]) -> Link {
    sha256(&[b"symbi/audit/chain/v1\0", &log_id.0, &seq.to_be_bytes(), previous, body])
}

/// What a signature is over.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Message {
    bytes: [u8; 61],
    length: usize,
}

impl Message {
    fn of(parts: [&[u8]; 3]) -> Self {
        let mut message = Self { bytes: [0; 61], length: 0 };
        for byte in parts.into_iter().flatten() {
            if let Some(place) = message.bytes.get_mut(message.length) {
                *place = *byte;
                message.length += 1;
            }
        }
        message
    }
}

impl AsRef<[u8]> for Message {
    fn as_ref(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }
}

/// What a record's own signature is over.
pub(crate) fn event_message(chain: &Link) -> Message {
    Message::of([b"symbi/audit/event/v1\0", &[], chain])
}

/// What the signature of the records from `first` up to the one of this link is over.
pub(crate) fn group_message(first: u64, chain: &Link) -> Message {
    Message::of([b"symbi/audit/group/v1\0", &first.to_be_bytes(), chain])
}

/// The leaf of a record in the tree over all (RFC 6962): body ‖ chain.
pub(crate) fn leaf(body: &[u8], chain: &Link) -> crate::merkle::Hash {
    crate::merkle::leaf_hash_of(body, chain)
}

/// What the new key signs in `key.rotated`.
pub(crate) fn rotation_message(log_id: LogId, seq: u64, old: &PublicKey, new: &PublicKey) -> Vec<u8> {
    let parts: [&[u8]; 5] = [b"symbi/audit/rotation/v1\0", &log_id.0, &seq.to_be_bytes(), &old.0, &new.0];
    parts.concat()
}

/// What a slot of `head` is signed over.
pub(crate) fn head_message(body: &[u8]) -> Vec<u8> {
    [b"symbi/audit/head/v1\0", body].concat()
}

/// Writes the suffix into its place at the end of a line.
pub(crate) fn write_suffix(place: &mut [u8], chain: &Link, signature: &[u8; 64]) {
    assert!(place.len() == SUFFIX_BYTES, "a suffix has its size");
    let (head, rest) = place.split_at_mut(CHAIN_AT.len());
    let (hex, rest) = rest.split_at_mut(64);
    let (middle, rest) = rest.split_at_mut(SIG_AT.len());
    let (sig, end) = rest.split_at_mut(88);
    head.copy_from_slice(CHAIN_AT);
    write_hex(hex, chain);
    middle.copy_from_slice(SIG_AT);
    let written = STANDARD.encode_slice(signature, sig);
    assert!(written == Ok(88), "64 bytes are 88 characters of base64");
    end.copy_from_slice(END);
}

/// Writes the suffix of a record that has no signature of its own.
pub(crate) fn write_short_suffix(place: &mut [u8], chain: &Link) {
    assert!(place.len() == SHORT_SUFFIX_BYTES, "a suffix has its size");
    let (head, rest) = place.split_at_mut(CHAIN_AT.len());
    let (hex, end) = rest.split_at_mut(64);
    head.copy_from_slice(CHAIN_AT);
    write_hex(hex, chain);
    end.copy_from_slice(SHORT_END);
}

/// Body, chain and signature, where it has one, of a line with its newline; `None` where the suffix is not exactly of
/// its form.
pub(crate) fn split(line: &[u8]) -> Option<(&[u8], Link, Signature)> {
    if line.ends_with(SHORT_END) {
        let (body, suffix) = line.split_at_checked(line.len().checked_sub(SHORT_SUFFIX_BYTES)?)?;
        let hex = suffix.strip_prefix(CHAIN_AT)?.strip_suffix(SHORT_END)?;
        return Some((body, unhex(hex)?, None));
    }
    let (body, suffix) = line.split_at_checked(line.len().checked_sub(SUFFIX_BYTES)?)?;
    let rest = suffix.strip_prefix(CHAIN_AT)?;
    let (hex, rest) = rest.split_at_checked(64)?;
    let rest = rest.strip_prefix(SIG_AT)?;
    let (sig, rest) = rest.split_at_checked(88)?;
    (rest == END).then_some(())?;
    Some((body, unhex(hex)?, Some(unbase64(sig)?)))
}

/// The line that [`split`] takes apart.
pub(crate) fn joined(body: &[u8], link: &Link, signature: Option<&[u8; 64]>) -> Vec<u8> {
    let suffix = if signature.is_some() { SUFFIX_BYTES } else { SHORT_SUFFIX_BYTES };
    let mut line = vec![0; body.len() + suffix];
    let (head, end) = line.split_at_mut(body.len());
    head.copy_from_slice(body);
    match signature {
        Some(signature) => write_suffix(end, link, signature),
        None => write_short_suffix(end, link),
    }
    line
}

/// A line as it is shown by itself: of a record that shares a signature, without that of its group.
pub(crate) fn alone(line: Vec<u8>) -> Vec<u8> {
    match split(&line) {
        Some((body, link, Some(_))) if body.starts_with(b"{\"v\":2,") => joined(body, &link, None),
        _ => line,
    }
}

const HEX: &[u8; 16] = b"0123456789abcdef";

/// Lower-case hex of `bytes` into `out`, which is twice as long.
pub(crate) fn write_hex(out: &mut [u8], bytes: &[u8]) {
    for (pair, byte) in out.chunks_exact_mut(2).zip(bytes) {
        if let [high, low] = pair {
            *high = HEX.get(usize::from(byte >> 4)).copied().unwrap_or(b'0');
            *low = HEX.get(usize::from(byte & 15)).copied().unwrap_or(b'0');
        }
    }
}

/// Lower-case hex, as text.
pub(crate) fn hex(bytes: &[u8]) -> String {
    let mut out = vec![0; bytes.len() * 2];
    write_hex(&mut out, bytes);
    String::from_utf8(out).unwrap_or_default()
}

/// Lower-case hex of exactly `N` bytes.
pub(crate) fn unhex<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    let mut out = [0u8; N];
    (text.len() == 2 * N).then_some(())?;
    for (byte, pair) in out.iter_mut().zip(text.chunks_exact(2)) {
        let &[high, low] = pair else { return None };
        *byte = (nibble(high)? << 4) | nibble(low)?;
    }
    Some(out)
}

fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

/// Canonical base64 of exactly `N` bytes: the decoder refuses stray bits and odd padding, or a flipped bit would hide.
pub(crate) fn unbase64<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    let mut out = [0u8; N];
    let mut buffer = [0u8; 96];
    let room = buffer.get_mut(..text.len().checked_mul(3)?.div_ceil(4))?;
    let written = STANDARD.decode_slice(text, room).ok()?;
    (written == N).then(|| out.copy_from_slice(room.get(..N).unwrap_or(&[0; N])))?;
    Some(out)
}

/// Canonical base64 of any number of bytes.
pub(crate) fn unbase64_any(text: &[u8]) -> Option<Vec<u8>> {
    STANDARD.decode(text).ok()
}

/// Canonical base64.
pub(crate) fn base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_suffix_has_174_bytes_and_splits_into_what_it_was_made_of() {
        let (chain, signature) = ([0xab; 32], [0xcd; 64]);
        let mut line = b"{\"v\":1".to_vec();
        line.resize(6 + SUFFIX_BYTES, 0);
        write_suffix(&mut line[6..], &chain, &signature);
        assert_eq!(split(&line), Some((b"{\"v\":1".as_slice(), chain, Some(signature))));
        line.truncate(6);
        line.resize(6 + SHORT_SUFFIX_BYTES, 0);
        write_short_suffix(&mut line[6..], &chain);
        assert_eq!(split(&line), Some((b"{\"v\":1".as_slice(), chain, None)));
    }

    #[test]
    fn any_flipped_bit_of_a_suffix_changes_what_it_says() {
        let mut line = vec![0; SUFFIX_BYTES];
        write_suffix(&mut line, &[0xab; 32], &[0xcd; 64]);
        let good = split(&line).unwrap();
        for bit in 0..SUFFIX_BYTES * 8 {
            let mut bad = line.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(split(&bad).is_none_or(|parts| parts != good), "bit {bit}");
        }
        line.truncate(SHORT_SUFFIX_BYTES);
        write_short_suffix(&mut line, &[0xab; 32]);
        let good = split(&line).unwrap();
        for bit in 0..SHORT_SUFFIX_BYTES * 8 {
            let mut bad = line.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(split(&bad).is_none_or(|parts| parts != good), "bit {bit}");
        }
    }
}
