//! Sets that are too large to be scanned, so that the graph answers: whatever is asked, each answer is one that could be.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test stops where what it needs is missing"
)]

mod common;

use std::collections::BTreeMap;
use std::sync::OnceLock;

use common::{CODES, METRICS, add, distance, mix, options, search, vector};
use proptest::prelude::*;
use symbi_vectors::{Filter, Index, Mode};

const DIMENSION: usize = 24;
const COUNT: u64 = 1400;

type Made = (Index, BTreeMap<u64, Vec<f32>>);

/// An index of each kind, of which some vectors were replaced and some removed; and what is in it.
fn made(metric: usize, code: usize) -> &'static Made {
    static MADE: [OnceLock<Made>; 12] = [const { OnceLock::new() }; 12];
    MADE[metric * 4 + code].get_or_init(|| {
        let index = Index::new(options(DIMENSION, METRICS[metric], CODES[code])).unwrap();
        let mut model = BTreeMap::new();
        for turn in 0..2 {
            let ids: Vec<u64> = (0..COUNT).filter(|id| turn == 0 || id % 3 == 0).collect();
            let vectors: Vec<Vec<f32>> = ids.iter().map(|id| vector(DIMENSION, id + turn * 10_000)).collect();
            add(&index, &ids, &vectors, Mode::Upsert, 1).unwrap();
            model.extend(ids.into_iter().zip(vectors));
        }
        let gone: Vec<u64> = (0..COUNT).filter(|id| id % 50 == 7).collect();
        index.remove(&gone).unwrap();
        model.retain(|id, _| id % 50 != 7);
        (index, model)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if std::env::var_os("SYMBI_LONG").is_some() { 20_000 } else { 2_000 }))]

    /// SE1, FI1, QU1, RE1: nothing outside the filter and nothing that was removed, no id twice, exact distances that ascend, equal
    /// ones by id, as many as there are; what is exactly where the query is comes first.
    #[test]
    fn se1_fi1_qu1_re1_every_answer_of_a_walk_is_one_that_could_be(
        kind in (0_usize..3, 0_usize..4), salt in 0_u64..3000, k in 1_usize..40, wider in 0_usize..80,
        filtered in prop::option::of((1_u64..40, any::<u64>())),
    ) {
        let (index, model) = made(kind.0, kind.1);
        let metric = METRICS[kind.0];
        let query = vector(DIMENSION, salt);
        let lets = |id: u64| filtered.is_none_or(|(share, draw)| mix(id ^ draw).is_multiple_of(share));
        let chosen: Vec<u64> = (0..COUNT).filter(|&id| lets(id)).collect();
        let filter = filtered.map(|_| Filter::from_ids(&chosen));
        let hits = search(index, &query, k, k + wider, filter.as_ref());
        prop_assert_eq!(hits.len(), k.min(model.keys().filter(|&&id| lets(id)).count()), "QU1");
        for (id, found) in &hits {
            prop_assert!(lets(*id), "FI1: {}", id);
            prop_assert!(model.contains_key(id), "SE1: {}", id);
            let exact = distance(metric, &model[id], &query);
            prop_assert!((exact - found).abs() <= 1e-4 * exact.abs().max(1.0), "RE1: {} for {}", found, exact);
        }
        prop_assert!(hits.windows(2).all(|pair| (pair[0].1, pair[0].0) < (pair[1].1, pair[1].0)), "RE1: {:?}", hits);
        let ids: std::collections::BTreeSet<u64> = hits.iter().map(|hit| hit.0).collect();
        prop_assert_eq!(ids.len(), hits.len());
    }
}
