//! Which of the near nodes to link to: near ones that are not nearer to each other.
//!
//! Why: links to a cluster's centre alone lead nowhere else. A candidate is taken only where it is nearer to the node
//! than to every one taken before. Where that leaves few, as within dense clusters, those that missed it by little follow:
//! a search then sees the rest of a neighbourhood a step earlier. Where it leaves enough they would only take their place.
//!
//! Copies of one vector are as near to each other as to the node, so the rule would take them all, and their lists would lead
//! nowhere else. A node is linked to the two copies before it and the two after it, by slot: copies are a chain, which the layers
//! make short, and the rest of each list is as if there were none.
//!
//! Invariants
//! - PR1 what algorithm 4 takes is taken, and before anything else, but for copies of the node.
//! - PR2 of the copies among the candidates the next two on either side are taken, and no other.
//!
//! Source: Malkov & Yashunin, algorithm 4; Subramanya et al. 2019 (DiskANN), algorithm 2, for the second round.

use crate::candidates::{distance_of, key, slot_of};
use crate::codes::Codec;
use crate::kernels::{View, fetch_vector};
use crate::options::Metric;
use crate::store::Store;

/// Distances between stored vectors: from codes that are fine enough, or from the vectors.
#[derive(Clone, Copy)]
pub(crate) enum Pairs<'a> {
    /// Rows of this codec.
    Codes(&'a Codec, View<'a>),
    /// The vectors as they are stored. One in a damaged block of a file is as far as can be: what reads it raises.
    Vectors(&'a Store),
}

impl Pairs<'_> {
    #[inline]
    pub(crate) fn distance(&self, left: u32, right: u32) -> f32 {
        match self {
            Self::Codes(codec, rows) => codec.between(rows, left, right),
            Self::Vectors(store) => {
                if store.sound(left).and_then(|()| store.sound(right)).is_err() {
                    return f32::MAX;
                }
                let rows = store.vectors.view();
                store.codec.exact(rows.floats(left), rows.floats(right))
            }
        }
    }
}

impl Pairs<'_> {
    /// Keys of `others`, nearest to `slot` first. A vector's lines are asked for while the one before is compared.
    pub(crate) fn near_first(&self, slot: u32, others: &[u32], keys: &mut Vec<u64>) {
        keys.clear();
        for (place, &other) in others.iter().enumerate() {
            if let (Self::Vectors(store), Some(&next)) = (self, others.get(place + 1)) {
                fetch_vector(store.vectors.view().floats(next));
            }
            keys.push(key(self.distance(slot, other), other));
        }
        keys.sort_unstable();
    }
}

/// A second round leaves out only what one taken before is nearer to than the node by this factor. Measured: ADR 0263.
const SLACK: f32 = 1.2;

/// How many links there are, and up to how many a second round may go on.
#[derive(Clone, Copy)]
pub(crate) struct Room {
    limit: usize,
    filled: usize,
}

impl Room {
    /// Room for `limit` links in `layer`. Above the lowest a walk only passes; and an inner product has no zero from which
    /// lengths are measured, so a factor of it means nothing.
    pub(crate) fn new(store: &Store, layer: u32, limit: usize) -> Self {
        let again = layer == 0 && store.options.metric != Metric::Dot;
        Self { limit, filled: if again { store.options.m } else { 0 } }
    }
}

/// Copies of the node that are linked on either side.
const COPIES: usize = 2;

/// The copies of `node` among `keys`, those that are farther by slot than the next ones on either side (PR2).
fn surplus(pairs: &Pairs<'_>, node: u32, keys: &[u64]) -> impl Fn(u64) -> bool + use<> {
    let own = pairs.distance(node, node);
    let first = keys.partition_point(|&key| distance_of(key) < own);
    let copies = keys.get(first..).unwrap_or_default().iter().take_while(|&&key| distance_of(key) <= own);
    let (mut below, mut above) = ([0; COPIES], [u32::MAX; COPIES]); // the next one last
    for slot in copies.map(|&key| slot_of(key)) {
        if slot < node && slot >= below[0] {
            below[0] = slot;
            below.sort_unstable();
        } else if slot > node && slot <= above[0] {
            above[0] = slot;
            above.sort_unstable_by(|a, b| b.cmp(a));
        }
    }
    let kept = below[0]..=above[0];
    move |key| distance_of(key) == own && !kept.contains(&slot_of(key))
}

/// Takes of `keys` (ascending distances from `node`) as many into `taken` as there is room for.
pub(crate) fn choose(
    pairs: &Pairs<'_>,
    node: u32,
    keys: &[u64],
    room: Room,
    near: &mut Vec<u64>,
    taken: &mut Vec<u32>,
) {
    taken.clear();
    near.clear();
    let surplus = surplus(pairs, node, keys);
    for &key in keys {
        if taken.len() == room.limit {
            return;
        }
        if surplus(key) {
            continue;
        }
        let (slot, distance) = (slot_of(key), distance_of(key));
        match taken.iter().map(|&other| pairs.distance(slot, other)).find(|between| *between < distance) {
            None => taken.push(slot),
            Some(between) if SLACK * between >= distance => near.push(key),
            Some(_) => {}
        }
    }
    for &key in near.iter() {
        if taken.len() >= room.filled.min(room.limit) {
            return;
        }
        let (slot, distance) = (slot_of(key), distance_of(key));
        if taken.iter().all(|&other| SLACK * pairs.distance(slot, other) >= distance) {
            taken.push(slot);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::{Options, Quantization};
    use crate::seeds::mix;

    /// A store of points that nothing links yet; the first one is the node that links are chosen for.
    fn store(metric: Metric, m: usize, points: &[[f32; 3]]) -> Store {
        let quantization = Quantization::None;
        let mut store =
            Store::new(Options { dimension: 3, metric, m, ef_construct: 200, quantization, seed: 1 });
        store.reserve(points.len()).unwrap();
        for (id, point) in points.iter().enumerate() {
            store.place(id as u64, point, &[]).unwrap();
        }
        store
    }

    fn chosen(store: &Store, layer: u32, limit: usize) -> Vec<u32> {
        let (pairs, mut keys, mut near, mut taken) = (Pairs::Vectors(store), vec![], vec![], vec![]);
        let others: Vec<u32> = (1..store.slots() as u32).collect();
        pairs.near_first(0, &others, &mut keys);
        choose(&pairs, 0, &keys, Room::new(store, layer, limit), &mut near, &mut taken);
        taken
    }

    /// Algorithm 4 as it stands in the paper.
    fn plainly(store: &Store, limit: usize) -> Vec<u32> {
        let pairs = Pairs::Vectors(store);
        let mut others: Vec<u32> = (1..store.slots() as u32).collect();
        others.sort_by(|&a, &b| pairs.distance(0, a).total_cmp(&pairs.distance(0, b)).then(b.cmp(&a)));
        let mut taken: Vec<u32> = Vec::new();
        for slot in others {
            let good = taken.iter().all(|&other| pairs.distance(slot, other) >= pairs.distance(0, slot));
            if good && taken.len() < limit {
                taken.push(slot);
            }
        }
        taken
    }

    /// Slot 2 is nearer to slot 1 than to the node by a tenth, slot 3 by three quarters.
    const MISSED: [[f32; 3]; 4] = [[0.0; 3], [1.0, 0.0, 0.0], [0.55, 1.0, 0.0], [2.0, 0.0, 0.0]];

    #[test]
    fn a_link_that_missed_by_little_is_taken_where_there_are_few() {
        let l2 = store(Metric::L2, 8, &MISSED);
        assert_eq!((plainly(&l2, 16), chosen(&l2, 0, 16)), (vec![1], vec![1, 2]));
        assert_eq!(chosen(&l2, 1, 16), [1], "above the lowest layer there is one round");
        assert_eq!(chosen(&l2, 0, 1), [1], "the limit holds");
    }

    #[test]
    fn an_inner_product_has_one_round() {
        let points: Vec<[f32; 3]> = MISSED.iter().map(|[a, b, c]| [a + 3.0, b + 2.0, *c]).collect();
        let dot = store(Metric::Dot, 8, &points);
        assert_eq!(chosen(&dot, 0, 16), plainly(&dot, 16));
    }

    /// PR1, and that the second round ends at `m` and obeys its factor.
    #[test]
    fn pr1_the_second_round_only_adds() {
        let (mut added, mut full) = (0, 0);
        for salt in 0..200_u64 {
            let at = |place: u64| (mix(salt << 32 | place) % 2001) as f32 / 1000.0 - 1.0;
            let points: Vec<[f32; 3]> =
                (0..120_u64).map(|slot| [at(3 * slot), at(3 * slot + 1), at(3 * slot + 2)]).collect();
            let store = store(Metric::L2, 2 + (salt % 15) as usize, &points);
            let limit = 2 * store.options.m;
            let (plain, both) = (plainly(&store, limit), chosen(&store, 0, limit));
            assert_eq!(both[..plain.len()], plain, "PR1");
            assert!(both.len() <= plain.len().max(store.options.m));
            let pairs = Pairs::Vectors(&store);
            for (place, &slot) in both.iter().enumerate() {
                let clear = |&other: &u32| SLACK * pairs.distance(slot, other) >= pairs.distance(0, slot);
                assert!(both[..place].iter().all(clear));
            }
            added += both.len() - plain.len();
            full += usize::from(plain.len() >= store.options.m);
        }
        assert!(added > 100 && full > 10, "{added} {full}");
    }
}
