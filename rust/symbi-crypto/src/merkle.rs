//! The tree of RFC 6962: hashes, proofs and their checking. Pure: what a leaf is and where nodes lie is the caller's.
//!
//! Why: a chain shows that nothing in a log was changed; a tree shows it of one record in a log of millions with twenty
//! hashes, and of two states of a log that the later one only added; and one signature serves a batch of messages (`batch`).
//! Every subtree that a proof names is complete or ends at the right edge, so all that is needed of a store is its
//! complete nodes.
//!
//! Invariants
//! - M1 leaf = SHA-256(0x00 ‖ data), node = SHA-256(0x01 ‖ left ‖ right), the empty tree SHA-256("").
//! - M2 a proof holds for one leaf at one place in a tree of one size, or between two sizes; no hash may be left over.
//!
//! Source: RFC 6962, section 2.1; the checks are those of RFC 9162, sections 2.1.3.2 and 2.1.4.2.

mod batch;

pub use batch::{LEAVES_MAX, MerkleTree, PATH_MAX, Path, ProvenTree, path_length, root_of};

use crate::sha256;

/// A hash of the tree.
pub type Hash = [u8; 32];

/// A proof that does not hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ProofError(pub &'static str);

/// The hash of what one leaf holds (M1). The caller makes its parts unambiguous.
#[must_use]
pub fn leaf_hash(data: &[u8]) -> Hash {
    sha256(&[&[0], data])
}

/// As [`leaf_hash`], of two parts one after the other.
#[must_use]
pub fn leaf_hash_of(first: &[u8], second: &[u8]) -> Hash {
    sha256(&[&[0], first, second])
}

/// The hash above two nodes (M1).
#[must_use]
pub fn node_hash(left: &Hash, right: &Hash) -> Hash {
    let mut joined = [1u8; 65];
    let (_, both) = joined.split_at_mut(1);
    let (first, second) = both.split_at_mut(32);
    first.copy_from_slice(left);
    second.copy_from_slice(right);
    sha256(&[&joined])
}

/// The root over nodes of equal height whose number is a power of two.
#[must_use]
pub fn fold(mut nodes: Vec<Hash>) -> Option<Hash> {
    if !nodes.len().is_power_of_two() {
        return None;
    }
    while nodes.len() > 1 {
        nodes =
            nodes.chunks_exact(2).filter_map(|pair| Some(node_hash(pair.first()?, pair.last()?))).collect();
    }
    nodes.pop()
}

/// The right edge of a tree that grows: enough to know its root, 64 hashes at most.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frontier {
    size: u64,
    /// Complete subtrees, the largest first: one for each bit of `size`.
    nodes: Vec<Hash>,
}

impl Frontier {
    /// The right edge of the first `size` leaves of a tree whose nodes lie somewhere.
    ///
    /// # Errors
    /// A node is not to be had.
    pub fn resume<N: Nodes + ?Sized>(from: &N, size: u64) -> Result<Self, N::Error> {
        let mut nodes = Vec::new();
        let mut low = 0;
        for height in (0..64u32).rev().filter(|height| size >> height & 1 == 1) {
            nodes.push(from.node(height, low >> height)?);
            low += 1 << height;
        }
        Ok(Self { size, nodes })
    }

    /// Adds a leaf.
    pub fn push(&mut self, leaf: Hash) {
        let mut node = leaf;
        for _ in 0..self.size.trailing_ones() {
            if let Some(left) = self.nodes.pop() {
                node = node_hash(&left, &node);
            }
        }
        self.nodes.push(node);
        self.size += 1;
    }

    /// How many leaves.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// The root.
    #[must_use]
    pub fn root(&self) -> Hash {
        let mut nodes = self.nodes.iter().rev();
        let Some(last) = nodes.next() else { return sha256(&[]) };
        nodes.fold(*last, |right, left| node_hash(left, &right))
    }
}

/// The largest power of two below `count`, which is at least 2.
const fn split(count: u64) -> u64 {
    1 << (63 - (count - 1).leading_zeros())
}

/// Something that knows the complete nodes: `(height, index)` is the subtree of leaves `index << height` and on.
pub trait Nodes {
    /// Why one is not to be had.
    type Error;
    /// One complete node.
    ///
    /// # Errors
    /// It is not to be had.
    fn node(&self, height: u32, index: u64) -> Result<Hash, Self::Error>;
}

/// The hash of leaves `low..high`, which begin where a subtree of their size would.
fn range<N: Nodes + ?Sized>(nodes: &N, mut low: u64, high: u64) -> Result<Hash, N::Error> {
    let mut lefts = Vec::new();
    loop {
        let count = high - low;
        if count.is_power_of_two() {
            let height = count.trailing_zeros();
            let last = nodes.node(height, low >> height)?;
            return Ok(lefts.iter().rev().fold(last, |right, left| node_hash(left, &right)));
        }
        let half = split(count);
        lefts.push(nodes.node(half.trailing_zeros(), low >> half.trailing_zeros())?);
        low += half;
    }
}

/// The root of the first `size` leaves.
///
/// # Errors
/// A node is not to be had.
pub fn root<N: Nodes + ?Sized>(nodes: &N, size: u64) -> Result<Hash, N::Error> {
    if size == 0 { Ok(sha256(&[])) } else { range(nodes, 0, size) }
}

/// The hashes that lead from leaf `index` to the root of the first `size` leaves; `index < size`.
///
/// # Errors
/// A node is not to be had.
pub fn prove_inclusion<N: Nodes + ?Sized>(nodes: &N, index: u64, size: u64) -> Result<Vec<Hash>, N::Error> {
    let (mut low, mut high) = (0, size);
    let mut path = Vec::new();
    while high - low > 1 {
        let middle = low + split(high - low);
        if index < middle {
            path.push(range(nodes, middle, high)?);
            high = middle;
        } else {
            path.push(range(nodes, low, middle)?);
            low = middle;
        }
    }
    path.reverse();
    Ok(path)
}

/// The hashes that show that the first `old` leaves are still the first of `new`; `old <= new`.
///
/// # Errors
/// A node is not to be had.
pub fn prove_consistency<N: Nodes + ?Sized>(nodes: &N, old: u64, new: u64) -> Result<Vec<Hash>, N::Error> {
    let (mut low, mut high, mut whole) = (0, new, true);
    let mut path = Vec::new();
    if old == 0 || old == new {
        return Ok(path);
    }
    while old != high {
        let middle = low + split(high - low);
        if old <= middle {
            path.push(range(nodes, middle, high)?);
            high = middle;
        } else {
            path.push(range(nodes, low, middle)?);
            low = middle;
            whole = false;
        }
    }
    if !whole {
        path.push(range(nodes, low, high)?);
    }
    path.reverse();
    Ok(path)
}

/// The root that `path` leads to from leaf `index` of `size` (M2).
fn climb(leaf: &Hash, index: u64, size: u64, path: &[Hash]) -> Result<Hash, ProofError> {
    if index >= size {
        return Err(ProofError("the tree has no such leaf"));
    }
    let (mut at, mut last, mut hash) = (index, size - 1, *leaf);
    for sibling in path {
        if last == 0 {
            return Err(ProofError("the proof has too many hashes"));
        }
        if at & 1 == 1 || at == last {
            hash = node_hash(sibling, &hash);
            while at & 1 == 0 && at != 0 {
                (at, last) = (at >> 1, last >> 1);
            }
        } else {
            hash = node_hash(&hash, sibling);
        }
        (at, last) = (at >> 1, last >> 1);
    }
    if last != 0 {
        return Err(ProofError("the proof has too few hashes"));
    }
    Ok(hash)
}

/// Checks that `leaf` is number `index` of the `size` leaves under `root` (M2).
///
/// # Errors
/// [`ProofError`].
pub fn check_inclusion(
    leaf: &Hash,
    index: u64,
    size: u64,
    path: &[Hash],
    root: &Hash,
) -> Result<(), ProofError> {
    if climb(leaf, index, size, path)? == *root {
        Ok(())
    } else {
        Err(ProofError("the proof does not lead to the root"))
    }
}

/// Checks that the tree of `new` leaves begins with that of `old` (M2).
///
/// # Errors
/// [`ProofError`].
pub fn check_consistency(
    old: u64,
    new: u64,
    old_root: &Hash,
    new_root: &Hash,
    path: &[Hash],
) -> Result<(), ProofError> {
    let differ = ProofError("the trees differ");
    if old > new {
        return Err(ProofError("the tree has become smaller"));
    }
    if old == 0 || old == new {
        let same = if old == 0 { *old_root == sha256(&[]) } else { old_root == new_root };
        return match (path.is_empty(), same) {
            (true, true) => Ok(()),
            (false, _) => Err(ProofError("the proof has too many hashes")),
            (_, false) => Err(differ),
        };
    }
    let (mut at, mut last) = (old - 1, new - 1);
    while at & 1 == 1 {
        (at, last) = (at >> 1, last >> 1);
    }
    let mut rest = path.iter();
    let first = if old.is_power_of_two() { Some(old_root) } else { rest.next() };
    let Some(first) = first else { return Err(ProofError("the proof has too few hashes")) };
    let (mut before, mut after) = (*first, *first);
    for hash in rest {
        if last == 0 {
            return Err(ProofError("the proof has too many hashes"));
        }
        if at & 1 == 1 || at == last {
            before = node_hash(hash, &before);
            after = node_hash(hash, &after);
            while at & 1 == 0 && at != 0 {
                (at, last) = (at >> 1, last >> 1);
            }
        } else {
            after = node_hash(&after, hash);
        }
        (at, last) = (at >> 1, last >> 1);
    }
    if last != 0 {
        return Err(ProofError("the proof has too few hashes"));
    }
    if before == *old_root && after == *new_root { Ok(()) } else { Err(differ) }
}

/// Complete nodes in memory: what a trail without a store of them is proven from.
#[derive(Clone, Debug, Default)]
pub struct MemoryNodes {
    levels: Vec<Vec<Hash>>,
}

impl MemoryNodes {
    /// Adds a leaf.
    pub fn push(&mut self, leaf: Hash) {
        let mut node = leaf;
        for height in 0.. {
            if self.levels.len() == height {
                self.levels.push(Vec::new());
            }
            let Some(level) = self.levels.get_mut(height) else { return };
            level.push(node);
            let [.., left, right] = level.as_slice() else { return };
            if level.len() % 2 == 1 {
                return;
            }
            node = node_hash(left, right);
        }
    }

    /// How many leaves.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.levels.first().map_or(0, |leaves| leaves.len() as u64)
    }
}

impl Nodes for MemoryNodes {
    type Error = ProofError;

    fn node(&self, height: u32, index: u64) -> Result<Hash, ProofError> {
        let level = self.levels.get(usize::try_from(height).unwrap_or(usize::MAX));
        let node = level.and_then(|level| level.get(usize::try_from(index).unwrap_or(usize::MAX)));
        node.copied().ok_or(ProofError("the tree has no such node"))
    }
}

#[cfg(test)]
mod reference;

#[cfg(test)]
mod tests {
    use super::reference::{CT_LEAVES, hex, reference, reference_path};
    use super::*;

    const SIZE_MAX: u64 = 130;

    fn leaves(count: u64) -> Vec<Hash> {
        (0..count).map(|at| leaf_hash_of(&at.to_be_bytes(), b"leaf")).collect()
    }

    fn memory(leaves: &[Hash]) -> MemoryNodes {
        let mut nodes = MemoryNodes::default();
        leaves.iter().for_each(|leaf| nodes.push(*leaf));
        nodes
    }

    #[test]
    fn a5_roots_are_those_that_certificate_transparency_knows() {
        let known = [
            ("e3b0c442", "b855"),
            ("6e340b9c", "a01d"),
            ("fac54203", "c125"),
            ("aeb6bcfe", "6e77"),
            ("d37ee418", "14b7"),
            ("4e3bbb1f", "64d4"),
            ("76e67dad", "87ef"),
            ("ddb89be4", "4c8c"),
            ("5dc9da79", "4328"),
        ];
        let mut frontier = Frontier::default();
        let mut nodes = MemoryNodes::default();
        for (size, (begin, end)) in (0u64..).zip(known) {
            assert!(
                hex(&frontier.root()).starts_with(begin) && hex(&frontier.root()).ends_with(end),
                "{size}"
            );
            assert_eq!(root(&nodes, size).unwrap(), frontier.root());
            if let Some(data) = CT_LEAVES.get(size as usize) {
                frontier.push(leaf_hash(data));
                nodes.push(leaf_hash(data));
            }
        }
        let whole = "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328";
        assert_eq!(hex(&frontier.root()), whole);
    }

    #[test]
    fn a5_every_inclusion_to_130_is_proven_and_nothing_else() {
        let leaves = leaves(SIZE_MAX);
        let nodes = memory(&leaves);
        let (mut good, mut refused) = (0, 0);
        for size in 1..=SIZE_MAX {
            let top = reference(&leaves[..size as usize]);
            assert_eq!(root(&nodes, size).unwrap(), top);
            for index in 0..size {
                let leaf = &leaves[index as usize];
                let path = prove_inclusion(&nodes, index, size).unwrap();
                assert_eq!(path, reference_path(index as usize, &leaves[..size as usize]));
                assert_eq!(check_inclusion(leaf, index, size, &path, &top), Ok(()));
                good += 1;
                let mut bad = |leaf: &Hash, index, size, path: &[Hash], root: &Hash| {
                    assert!(check_inclusion(leaf, index, size, path, root).is_err(), "{index} of {size}");
                    refused += 1;
                };
                if size > 1 {
                    bad(&top, index, size, &path, leaf);
                }
                bad(leaf, index ^ 1, size, &path, &top);
                bad(leaf, size, size, &path, &top);
                bad(leaf, index, size, &[path.as_slice(), &[top]].concat(), &top);
                if let Some((_, cut)) = path.split_last() {
                    bad(leaf, index, size, cut, &top);
                    let mut flipped = path.clone();
                    let at = (index + size) as usize % path.len();
                    flipped[at][index as usize % 32] ^= 1 << (size % 8);
                    bad(leaf, index, size, &flipped, &top);
                }
            }
        }
        assert!(good == 8_515 && refused > 50_000, "{good} {refused}");
    }

    #[test]
    fn a5_every_pair_of_sizes_to_130_is_consistent_and_no_other_pair_of_roots() {
        let leaves = leaves(SIZE_MAX);
        let nodes = memory(&leaves);
        let roots: Vec<Hash> = (0..=SIZE_MAX).map(|size| root(&nodes, size).unwrap()).collect();
        let (mut good, mut refused) = (0, 0);
        for new in 0..=SIZE_MAX {
            for old in 0..=new {
                let path = prove_consistency(&nodes, old, new).unwrap();
                let (before, after) = (&roots[old as usize], &roots[new as usize]);
                assert_eq!(check_consistency(old, new, before, after, &path), Ok(()), "{old} to {new}");
                good += 1;
                let mut bad = |old, new, before: &Hash, after: &Hash, path: &[Hash]| {
                    assert!(check_consistency(old, new, before, after, path).is_err(), "{old} to {new}");
                    refused += 1;
                };
                bad(new + 1, new, before, after, &path);
                bad(old, new, before, after, &[path.as_slice(), &[*after]].concat());
                if old > 0 {
                    let mut other = *before;
                    other[new as usize % 32] ^= 0x10;
                    bad(old, new, &other, after, &path);
                    bad(old, new, before, &other, &path);
                }
                for at in 0..path.len() {
                    let mut flipped = path.clone();
                    flipped[at][old as usize % 32] ^= 1 << (new % 8);
                    bad(old, new, before, after, &flipped);
                    let mut shorter = path.clone();
                    shorter.remove(at);
                    bad(old, new, before, after, &shorter);
                }
            }
        }
        assert!(good == 8_646 && refused > 100_000, "{good} {refused}");
    }
}
