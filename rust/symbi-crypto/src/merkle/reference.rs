//! The tree as RFC 6962 writes it down, slow and plain, and the leaves whose roots Certificate Transparency's own tests know: what
//! both forms of the tree are held against.

use super::{Hash, node_hash, split};
use crate::sha256;

/// The first so many of them have known roots.
pub(super) const CT_LEAVES: [&[u8]; 8] = [
    b"",
    b"\x00",
    b"\x10",
    b"\x20\x21",
    b"\x30\x31",
    b"\x40\x41\x42\x43",
    b"\x50\x51\x52\x53\x54\x55\x56\x57",
    b"\x60\x61\x62\x63\x64\x65\x66\x67\x68\x69\x6a\x6b\x6c\x6d\x6e\x6f",
];

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// MTH as RFC 6962 writes it.
pub(super) fn reference(leaves: &[Hash]) -> Hash {
    match leaves {
        [] => sha256(&[]),
        [one] => *one,
        more => {
            let (left, right) = more.split_at(split(more.len() as u64) as usize);
            node_hash(&reference(left), &reference(right))
        }
    }
}

/// PATH as RFC 6962 writes it.
pub(super) fn reference_path(index: usize, leaves: &[Hash]) -> Vec<Hash> {
    if leaves.len() <= 1 {
        return Vec::new();
    }
    let half = split(leaves.len() as u64) as usize;
    let (left, right) = leaves.split_at(half);
    let (mut path, sibling) = if index < half {
        (reference_path(index, left), reference(right))
    } else {
        (reference_path(index - half, right), reference(left))
    };
    path.push(sibling);
    path
}
