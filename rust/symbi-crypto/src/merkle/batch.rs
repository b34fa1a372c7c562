//! A Merkle tree over up to 256 messages that are signed together: one signature, and each can be proven alone.
//!
//! The tree is that of `merkle`; here it is built level by level in memory that is used again, where a node without a
//! sibling goes up as it is, which is the same as splitting at the largest power of two.
//! Not here: what is signed, and trees that grow.
//!
//! Invariants
//! - T1 a path holds for one leaf, at one place, in a tree of one size: of another size it has another length or root.
//! - T2 a tree that is built again uses the memory that it has.
//! - T3 checking the paths of one tree together accepts what checking each alone accepts, and nothing else.

use super::{Hash, climb, node_hash};

/// Leaves of one tree.
pub const LEAVES_MAX: usize = 256;
/// Hashes of one path: the height of the largest tree.
pub const PATH_MAX: usize = 8;
const _: () = assert!(1 << PATH_MAX == LEAVES_MAX);

/// The siblings on the way from a leaf to the root, the lowest first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Path {
    nodes: [Hash; PATH_MAX],
    length: usize,
}

impl Path {
    /// A path of hashes that came from elsewhere; `None` for more than [`PATH_MAX`].
    #[must_use]
    pub fn from_hashes<'a>(hashes: impl IntoIterator<Item = &'a Hash>) -> Option<Self> {
        let mut path = Self::default();
        for hash in hashes {
            path.push(*hash)?;
        }
        Some(path)
    }

    fn push(&mut self, hash: Hash) -> Option<()> {
        *self.nodes.get_mut(self.length)? = hash;
        self.length += 1;
        Some(())
    }

    /// The hashes.
    #[must_use]
    pub fn hashes(&self) -> &[Hash] {
        self.nodes.get(..self.length).unwrap_or_default()
    }
}

/// Hashes that the path of leaf `index` has in a tree of `size` leaves; `None` where there is no such leaf or tree.
#[must_use]
pub fn path_length(index: usize, size: usize) -> Option<usize> {
    if size <= index || LEAVES_MAX < size {
        return None;
    }
    let (mut at, mut width, mut length) = (index, size, 0);
    while 1 < width {
        length += usize::from(at ^ 1 < width);
        (at, width) = (at / 2, width.div_ceil(2));
    }
    Some(length)
}

/// The root that `path` leads to from `leaf`; `None` where the path has not the length that it must have (T1).
#[must_use]
pub fn root_of(leaf: &Hash, index: usize, size: usize, path: &Path) -> Option<Hash> {
    if path_length(index, size)? != path.length {
        return None;
    }
    climb(leaf, index as u64, size as u64, path.hashes()).ok()
}

/// The tree over one batch.
#[derive(Clone, Debug, Default)]
pub struct MerkleTree {
    nodes: Vec<Hash>, // the leaves, then each level above
    size: usize,
}

impl MerkleTree {
    /// Builds the tree over `leaves` in the memory that there is (T2). False, and an empty tree, for none and for
    /// more than [`LEAVES_MAX`].
    pub fn build(&mut self, leaves: impl IntoIterator<Item = Hash>) -> bool {
        self.nodes.clear();
        self.nodes.extend(leaves.into_iter().take(LEAVES_MAX + 1));
        self.size = self.nodes.len();
        if self.size == 0 || LEAVES_MAX < self.size {
            *self = Self { nodes: std::mem::take(&mut self.nodes), size: 0 };
            return false;
        }
        let (mut start, mut width) = (0, self.size);
        while 1 < width {
            for at in (0..width).step_by(2) {
                let left = self.nodes.get(start + at).copied().unwrap_or_default();
                let right = self.nodes.get(start + at + 1).filter(|_| at + 1 < width);
                let above = right.map_or(left, |right| node_hash(&left, right));
                self.nodes.push(above);
            }
            start += width;
            width = width.div_ceil(2);
        }
        true
    }

    /// How many leaves.
    #[must_use]
    pub const fn size(&self) -> usize {
        self.size
    }

    /// One leaf's hash.
    #[must_use]
    pub fn leaf(&self, index: usize) -> Option<Hash> {
        self.nodes.get(index).filter(|_| index < self.size).copied()
    }

    /// The root; of zeros for an empty tree, which nobody signs.
    #[must_use]
    pub fn root(&self) -> Hash {
        self.nodes.last().copied().unwrap_or_default()
    }

    /// The path of one leaf; `None` where there is none.
    #[must_use]
    pub fn path(&self, index: usize) -> Option<Path> {
        path_length(index, self.size)?;
        let mut path = Path::default();
        let (mut start, mut at, mut width) = (0, index, self.size);
        while 1 < width {
            if at ^ 1 < width {
                path.push(*self.nodes.get(start + (at ^ 1))?)?;
            }
            start += width;
            (at, width) = (at / 2, width.div_ceil(2));
        }
        Some(path)
    }
}

/// What is proven of one tree whose root somebody signed, so that the paths of many leaves share their work.
#[derive(Clone, Debug, Default)]
pub struct ProvenTree {
    known: Vec<Option<Hash>>, // by level, as in `MerkleTree`
    size: usize,
}

impl ProvenTree {
    /// Forgets everything and expects paths in a tree of `size` leaves.
    pub fn begin(&mut self, size: usize) {
        self.known.clear();
        let (mut nodes, mut width) = (1, size);
        while 1 < width && size <= LEAVES_MAX {
            nodes += width;
            width = width.div_ceil(2);
        }
        self.known.resize(nodes, None);
        self.size = size;
    }

    /// Whether `path` leads from `leaf` to a root of which `is_root` says yes, or to a node that was proven before. Then
    /// everything on the way is proven. Every hash of the path counts: one that differs from what is proven is refused.
    ///
    /// Cost: about two hashes a leaf where neighbours come one after the other, eight for a leaf by itself.
    pub fn proves(
        &mut self,
        leaf: &Hash,
        index: usize,
        path: &Path,
        is_root: impl FnOnce(&Hash) -> bool,
    ) -> bool {
        if path_length(index, self.size) != Some(path.length) {
            return false;
        }
        let mut found = [(0usize, [0u8; 32]); 2 * PATH_MAX + 1];
        let mut places = found.iter_mut();
        let (mut at, mut width, mut start, mut hash) = (index, self.size, 0, *leaf);
        let mut siblings = path.hashes().iter();
        let mut is_linked = false;
        loop {
            let known = self.known.get(start + at).copied().flatten();
            if let Some(known) = known {
                if known != hash {
                    return false;
                }
                is_linked = true;
            } else if let Some(place) = places.next() {
                *place = (start + at, hash);
            }
            if width <= 1 {
                break;
            }
            if at ^ 1 < width {
                let Some(sibling) = siblings.next() else { return false };
                let beside = start + (at ^ 1);
                match self.known.get(beside).copied().flatten() {
                    Some(known) if known != *sibling => return false,
                    Some(_) => {}
                    None => {
                        if let Some(place) = places.next() {
                            *place = (beside, *sibling);
                        }
                    }
                }
                let above = self.known.get(start + width + at / 2).copied().flatten();
                hash = match above.filter(|_| is_linked) {
                    Some(above) => above, // proven together with both nodes below it
                    None if at & 1 == 0 => node_hash(&hash, sibling),
                    None => node_hash(sibling, &hash),
                };
            }
            start += width;
            (at, width) = (at / 2, width.div_ceil(2));
        }
        if !is_linked && !is_root(&hash) {
            return false;
        }
        let unused = places.len();
        for (place, hash) in found.iter().take(found.len() - unused) {
            if let Some(known) = self.known.get_mut(*place) {
                *known = Some(*hash);
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::super::leaf_hash;
    use super::super::reference::{CT_LEAVES, hex, reference};
    use super::*;

    #[test]
    fn t1_the_roots_are_those_that_certificate_transparency_knows() {
        let roots =
            ["6e340b9c", "fac54203", "aeb6bcfe", "d37ee418", "4e3bbb1f", "76e67dad", "ddb89be4", "5dc9da79"];
        let mut tree = MerkleTree::default();
        for (size, root) in (1..).zip(roots) {
            assert!(tree.build(CT_LEAVES.iter().take(size).map(|one| leaf_hash(one))));
            assert_eq!(hex(&tree.root()[..4]), root, "{size}");
        }
    }

    #[test]
    fn t1_every_path_of_every_size_leads_to_the_root_and_to_no_other() {
        let leaves: Vec<Hash> = (0..LEAVES_MAX).map(|at| leaf_hash(&at.to_be_bytes())).collect();
        let mut tree = MerkleTree::default();
        for size in 1..=LEAVES_MAX {
            assert!(tree.build(leaves.iter().take(size).copied()));
            assert_eq!(tree.root(), reference(&leaves[..size]), "{size}");
            for (index, leaf) in leaves.iter().enumerate().take(size) {
                let path = tree.path(index).unwrap();
                assert_eq!(root_of(leaf, index, size, &path), Some(tree.root()), "{index} of {size}");
            }
        }
    }

    #[test]
    fn t1_a_path_of_another_place_size_leaf_or_hash_is_refused() {
        let leaves: Vec<Hash> = (0..40usize).map(|at| leaf_hash(&at.to_be_bytes())).collect();
        let mut tree = MerkleTree::default();
        for size in 1..=leaves.len() {
            assert!(tree.build(leaves.iter().take(size).copied()));
            let root = Some(tree.root());
            for index in 0..size {
                let path = tree.path(index).unwrap();
                for other in (0..size).filter(|other| *other != index) {
                    assert_ne!(root_of(&leaves[index], other, size, &path), root);
                    assert_ne!(root_of(&leaves[other], index, size, &path), root);
                }
                for bad in 0..path.hashes().len() {
                    let mut hashes = path.hashes().to_vec();
                    hashes[bad][index % 32] ^= 1;
                    let changed = Path::from_hashes(&hashes).unwrap();
                    assert_ne!(root_of(&leaves[index], index, size, &changed), root);
                    hashes.remove(bad);
                    let cut = Path::from_hashes(&hashes).unwrap();
                    assert_eq!(root_of(&leaves[index], index, size, &cut), None);
                }
            }
        }
    }

    #[test]
    fn t3_paths_that_share_their_work_are_judged_as_each_alone() {
        let mut random = 7u64;
        let mut draw = move |below: usize| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            usize::try_from(random >> 33).unwrap() % below
        };
        let mut tree = MerkleTree::default();
        let mut proven = ProvenTree::default();
        for _ in 0..300 {
            let size = 1 + draw(LEAVES_MAX);
            assert!(tree.build((0..size).map(|at| leaf_hash(&at.to_be_bytes()))));
            proven.begin(size);
            for _ in 0..40 {
                let index = draw(size);
                let (mut leaf, mut path) = (tree.leaf(index).unwrap(), tree.path(index).unwrap());
                match draw(4) {
                    0 => leaf[draw(32)] ^= 1 << draw(8),
                    1 if 0 < path.length => path.nodes[draw(path.length)][draw(32)] ^= 1 << draw(8),
                    _ => {}
                }
                let alone = root_of(&leaf, index, size, &path) == Some(tree.root());
                assert_eq!(proven.proves(&leaf, index, &path, |root| *root == tree.root()), alone);
            }
            assert!(!proven.proves(&tree.leaf(0).unwrap(), size, &tree.path(0).unwrap(), |_| true));
        }
    }

    #[test]
    fn there_is_no_tree_of_none_and_none_of_more_than_the_bound() {
        let mut tree = MerkleTree::default();
        assert!(!tree.build([]));
        assert!(!tree.build((0..=LEAVES_MAX).map(|_| [0; 32])));
        assert_eq!(
            (tree.size(), tree.path(0), path_length(0, 0), path_length(0, 257)),
            (0, None, None, None)
        );
        assert_eq!(Path::from_hashes(&[[0; 32]; 9]), None);
    }

    #[test]
    fn t2_a_tree_that_is_built_again_keeps_its_memory() {
        let mut tree = MerkleTree::default();
        assert!(tree.build((0..LEAVES_MAX).map(|_| [1; 32])));
        let before = tree.nodes.capacity();
        assert!(tree.build((0..LEAVES_MAX).map(|_| [2; 32])) && !tree.build([]) && tree.build([[3; 32]]));
        assert_eq!(tree.nodes.capacity(), before);
    }
}
