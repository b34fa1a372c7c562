//! What the `extra` of a proof holds: two public keys, and the record's line.
//!
//! Why packed: a line spells its link in hex and its signature in base64, and a proof spells its bytes in base64 once
//! more. Here both are raw, and one key stands for two where they are the same: 147 bytes of a proof of one in a million.
//! Proofs of the first form, which hold both keys and the line as it is, are read for good: they were given to strangers.
//!
//! Invariants
//! - EX1 what is packed comes back to the byte.
//! - EX2 no two forms of `extra` that this module calls packed hold the same: a flag that says nothing is refused.

use symbi_crypto::PublicKey;

use crate::chain;

/// Flags of the last byte. The first form ends with the newline of its line, 10, which is none of these.
const SIGNED: u8 = 1;
const OTHER_SIGNER: u8 = 2;
const FLAGS_MAX: u8 = SIGNED | OTHER_SIGNER;

/// The key of the checkpoint, the key of the record, and its line.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Extra {
    pub key: PublicKey,
    pub signer: PublicKey,
    pub line: Vec<u8>,
}

/// `key ‖ [signer] ‖ body ‖ link ‖ [signature] ‖ flags`; the first form where the line has not the end of a record.
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
    [&key.0, other, body, &link, signature, &[flags]].concat()
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
    let line = chain::joined(body, link, signature);
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
        fn ex1_what_is_packed_comes_back(body in prop::collection::vec(any::<u8>(), 0..300),
                                         signature in prop::option::of(prop::array::uniform32(any::<u8>())),
                                         key in prop::array::uniform32(any::<u8>()), other in prop::option::of(prop::array::uniform32(any::<u8>()))) {
            let signature = signature.map(|half| [half, half].concat().try_into().unwrap_or([0; 64]));
            let signer = other.unwrap_or(key);
            let (key, signer, line) = (PublicKey(key), PublicKey(signer), line(&body, signature));
            let packed = pack(&key, &signer, &line);
            prop_assert_eq!(unpack(&packed), Some(Extra { key, signer, line }));
        }

        /// EX2: what is read as packed is what would be written.
        #[test]
        fn ex2_a_packed_form_has_one_spelling(bytes in prop::collection::vec(any::<u8>(), 0..200), same in any::<bool>(), flags in 0_u8..6) {
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
