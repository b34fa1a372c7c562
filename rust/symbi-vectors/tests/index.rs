//! The index against a plain model: exact search over a list.
#![allow(clippy::unwrap_used, reason = "a test stops where what it needs is missing")]

mod common;

use std::collections::BTreeMap;

use common::{CODES, METRICS, add, distance, mix, nearest, options, search, vector};
use proptest::prelude::*;
use symbi_vectors::{Filter, Index, Metric, Mode, Quantization, VectorError};

/// Mean share of the true ten that are found.
fn recall(
    index: &Index,
    metric: Metric,
    model: &BTreeMap<u64, Vec<f32>>,
    dimension: usize,
    ef: usize,
) -> f64 {
    let queries = 60;
    let found: usize = (0..queries)
        .map(|salt| {
            let query = vector(dimension, 1_000_000 + salt);
            let truth = nearest(metric, model, &query, 10);
            search(index, &query, 10, ef, None).iter().filter(|(id, _)| truth.contains(id)).count()
        })
        .sum();
    found as f64 / (10 * queries) as f64
}

fn filled(
    dimension: usize,
    metric: Metric,
    code: Quantization,
    count: u64,
    threads: usize,
) -> (Index, BTreeMap<u64, Vec<f32>>) {
    let index = Index::new(options(dimension, metric, code)).unwrap();
    let model: BTreeMap<u64, Vec<f32>> = (0..count).map(|id| (id * 3, vector(dimension, id))).collect();
    let (ids, vectors): (Vec<u64>, Vec<Vec<f32>>) = model.clone().into_iter().unzip();
    add(&index, &ids, &vectors, Mode::Insert, threads).unwrap();
    (index, model)
}

#[test]
fn every_code_finds_the_nearest_under_every_metric() {
    for metric in METRICS {
        for code in CODES {
            let dimension = if code == Quantization::Binary { 256 } else { 64 };
            let (index, model) = filled(dimension, metric, code, 2500, 1);
            let found = recall(&index, metric, &model, dimension, 128);
            // The inner product is no distance: a graph of near ones serves it less well.
            let least = if metric == Metric::Dot { 0.85 } else { 0.95 };
            assert!(found >= least, "{code:?} {metric:?}: {found}");
        }
    }
}

/// RE1, SE2: what is returned is measured in full precision, once each, in order.
#[test]
fn distances_are_exact_and_ascend() {
    for metric in METRICS {
        let (index, model) = filled(96, metric, Quantization::Int4, 1500, 1);
        let query = vector(96, 777_777);
        let hits = search(&index, &query, 20, 64, None);
        assert_eq!(hits.len(), 20);
        for pair in hits.windows(2) {
            assert!(pair[0].1 <= pair[1].1);
        }
        for (id, far) in hits {
            let exact = distance(metric, &model[&id], &query);
            assert!((far - exact).abs() <= 1e-4 * exact.abs().max(1.0), "{metric:?} {far} {exact}");
        }
    }
}

/// IX2, SR1: the same calls, seed and one thread give the same answers, to the bit.
#[test]
fn ix2_one_thread_is_deterministic() {
    let answers = || {
        let (index, _) = filled(48, Metric::L2, Quantization::Int8, 2000, 1);
        index.remove(&(0..900).map(|id| id * 6).collect::<Vec<u64>>()).unwrap();
        (0..40).map(|salt| search(&index, &vector(48, 5000 + salt), 10, 20, None)).collect::<Vec<_>>()
    };
    assert_eq!(answers(), answers());
}

#[test]
fn a_build_on_several_threads_is_as_good() {
    let (index, model) = filled(64, Metric::L2, Quantization::Int4, 4000, 4);
    let found = recall(&index, Metric::L2, &model, 64, 64);
    assert!(found >= 0.95, "{found}");
    assert_eq!(index.ids(), model.keys().copied().collect::<Vec<_>>());
}

/// LI1, ST3: ten times all vectors are replaced by others, in small steps; what is found does not get worse.
#[test]
fn recall_does_not_decay_over_ten_turnovers() {
    for code in [Quantization::Int4, Quantization::None] {
        let (index, mut model) = filled(64, Metric::L2, code, 2000, 1);
        let before = recall(&index, Metric::L2, &model, 64, 48);
        for turn in 1..=10_u64 {
            let old: Vec<u64> = model.keys().copied().collect();
            for (step, ids) in old.chunks(100).enumerate() {
                if step % 2 == 0 {
                    assert_eq!(index.remove(ids).unwrap(), ids.len());
                    model.retain(|id, _| !ids.contains(id));
                    let fresh: Vec<u64> = ids.iter().map(|id| id % 1_000_000 + turn * 1_000_000).collect();
                    let vectors: Vec<Vec<f32>> = fresh.iter().map(|&id| vector(64, id)).collect();
                    add(&index, &fresh, &vectors, Mode::Insert, 1).unwrap();
                    model.extend(fresh.into_iter().zip(vectors));
                } else {
                    let vectors: Vec<Vec<f32>> = ids.iter().map(|&id| vector(64, id ^ turn << 40)).collect();
                    assert_eq!(add(&index, ids, &vectors, Mode::Upsert, 1).unwrap(), ids.len());
                    model.extend(ids.iter().copied().zip(vectors));
                }
            }
        }
        let after = recall(&index, Metric::L2, &model, 64, 48);
        assert!(after >= before - 0.02 && after >= 0.95, "{code:?}: {before} {after}");
        let stats = index.stats();
        assert!(stats.vectors == 2000 && stats.slots < 2600, "{stats:?}");
    }
}

/// FI1, SE1, QU1: with any filter, only what it holds, and as many as there are.
#[test]
fn fi1_a_filter_lets_nothing_else_through() {
    let (index, model) = filled(64, Metric::Cosine, Quantization::Int4, 4000, 2);
    for share in [1_u64, 2, 3, 10, 100, 1000, 5000] {
        let ids: Vec<u64> = model.keys().copied().filter(|id| mix(*id).is_multiple_of(share)).collect();
        let filter = Filter::from_ids(&ids);
        let allowed: BTreeMap<u64, Vec<f32>> = ids.iter().map(|id| (*id, model[id].clone())).collect();
        let (mut right, mut asked) = (0, 0);
        for salt in 0..30 {
            let query = vector(64, 900_000 + salt);
            let truth = nearest(Metric::Cosine, &allowed, &query, 10);
            let hits = search(&index, &query, 10, 64, Some(&filter));
            assert!(hits.iter().all(|(id, _)| filter.contains(*id)), "FI1");
            assert_eq!(hits.len(), ids.len().min(10));
            right += hits.iter().filter(|(id, _)| truth.contains(id)).count();
            asked += truth.len();
        }
        assert!(right * 100 >= asked * 95, "1 in {share}: {right} of {asked}");
    }
}

/// FI1: a filter that was used before a change knows of the change.
#[test]
fn fi1_a_filter_follows_the_index() {
    let (index, _) = filled(16, Metric::L2, Quantization::None, 300, 1);
    let filter = Filter::from_ids(&[3, 6, 9, 1_000_000]);
    let query = vector(16, 2);
    assert_eq!(search(&index, &query, 10, 64, Some(&filter)).len(), 3);
    index.remove(&[6]).unwrap();
    add(&index, &[1_000_000], std::slice::from_ref(&query), Mode::Insert, 1).unwrap();
    let hits: Vec<u64> =
        search(&index, &query, 10, 64, Some(&filter)).into_iter().map(|(id, _)| id).collect();
    assert_eq!((hits[0], hits.len()), (1_000_000, 3));
    assert!(!hits.contains(&6));
}

/// ST1, ST2, IX3: removing everything, a whole cluster at a time, never hides what stays.
#[test]
fn st1_st2_ix3_what_stays_is_found_whatever_goes() {
    let (index, mut model) = filled(32, Metric::L2, Quantization::None, 1500, 1);
    let query = vector(32, 5);
    let (mut right, mut right_anew) = (0, 0);
    while !model.is_empty() {
        let near = nearest(Metric::L2, &model, &query, 100);
        assert_eq!(index.remove(&near).unwrap(), near.len());
        assert_eq!(index.remove(&near).unwrap(), 0);
        model.retain(|id, _| !near.contains(id));
        let hits: Vec<u64> = search(&index, &query, 10, 64, None).into_iter().map(|(id, _)| id).collect();
        let truth = nearest(Metric::L2, &model, &query, 10);
        assert_eq!((hits.len(), index.len()), (truth.len(), model.len()));
        right += hits.iter().filter(|id| truth.contains(id)).count();
        // The middle of a growing hole is the hardest place there is: an index of what is left, made anew, has it too.
        let fresh = Index::new(options(32, Metric::L2, Quantization::None)).unwrap();
        let (ids, vectors): (Vec<u64>, Vec<Vec<f32>>) = model.clone().into_iter().unzip();
        add(&fresh, &ids, &vectors, Mode::Insert, 1).unwrap();
        right_anew +=
            search(&fresh, &query, 10, 64, None).iter().filter(|(id, _)| truth.contains(id)).count();
    }
    assert!(right * 10 >= right_anew * 9, "{right}, anew {right_anew}");
    add(&index, &[1], std::slice::from_ref(&query), Mode::Insert, 1).unwrap();
    assert_eq!(search(&index, &query, 3, 64, None).len(), 1);
}

/// IX1: while a writer replaces all vectors piece by piece, a search sees each id once, old or new, never neither.
#[test]
fn ix1_searches_see_a_change_whole() {
    let (index, model) = filled(32, Metric::L2, Quantization::Int4, 900, 1);
    let ids: Vec<u64> = model.keys().copied().collect();
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..2)
            .map(|salt| {
                let (index, done) = (&index, &done);
                scope.spawn(move || {
                    let mut searches = 0;
                    while !done.load(std::sync::atomic::Ordering::Relaxed) || searches < 10 {
                        let hits = search(index, &vector(32, 40 + salt), 900, 900, None);
                        let mut seen: Vec<u64> = hits.iter().map(|(id, _)| *id).collect();
                        seen.sort_unstable();
                        seen.dedup();
                        assert_eq!((hits.len(), seen.len()), (900, 900), "IX1");
                        searches += 1;
                    }
                })
            })
            .collect();
        for turn in 0..6_u64 {
            let vectors: Vec<Vec<f32>> = ids.iter().map(|&id| vector(32, id ^ turn << 30)).collect();
            add(&index, &ids, &vectors, Mode::Upsert, 2).unwrap();
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        for reader in readers {
            reader.join().unwrap();
        }
    });
}

/// BA1: a batch gives each query what it would have got alone, whatever the threads, the filter and what is removed.
#[test]
fn ba1_a_batch_answers_as_its_queries_alone() {
    const ASKED: usize = 53;
    let queries: Vec<f32> = (0..ASKED as u64).flat_map(|salt| vector(64, 4_000 + salt)).collect();
    for (code, count) in [(Quantization::Int4, 3000), (Quantization::Binary, 3000), (Quantization::None, 200)]
    {
        let (index, model) = filled(64, Metric::Cosine, code, count, 1);
        let even: Vec<u64> = model.keys().copied().filter(|id| id % 2 == 0).collect();
        let filter = Filter::from_ids(&even);
        for removed in [0, 5] {
            index.remove(&even[..removed]).unwrap();
            for filter in [None, Some(&filter)] {
                let alone: Vec<(u64, f32)> =
                    queries.chunks(64).flat_map(|query| search(&index, query, 10, 24, filter)).collect();
                for threads in [1, 2, 5] {
                    let (mut ids, mut far) = (vec![0; 10 * ASKED], vec![0.0; 10 * ASKED]);
                    let width =
                        index.search(&queries, 10, Some(24), filter, threads, &mut ids, &mut far).unwrap();
                    assert_eq!(width, 10);
                    assert_eq!(ids.into_iter().zip(far).collect::<Vec<_>>(), alone, "{code:?} {threads}");
                }
            }
        }
    }
}

/// BA2: of several mistakes in a batch the first is told.
#[test]
fn ba2_the_first_mistake_of_a_batch_is_told() {
    let (index, _) = filled(8, Metric::L2, Quantization::None, 500, 1);
    let mut queries: Vec<f32> = (0..400).flat_map(|salt| vector(8, salt)).collect();
    for row in [77, 78, 201, 399] {
        queries[8 * row] = f32::NAN;
    }
    for threads in [1, 2, 3] {
        let asked = index.search(&queries, 1, None, None, threads, &mut [0; 400], &mut [0.0; 400]);
        assert!(matches!(asked, Err(VectorError::NotFinite { row: 77 })), "{threads}: {asked:?}");
    }
}

/// CE1, CE2: what vectors have in common does not make one-bit codes coarser, also where it shows only later.
#[test]
fn ce1_ce2_what_vectors_share_costs_no_recall() {
    let shared = vector(256, 1 << 40);
    let near = |salt: u64| -> Vec<f32> {
        vector(256, salt).iter().zip(&shared).map(|(own, all)| own + 6.0 * all).collect()
    };
    for metric in [Metric::Cosine, Metric::L2] {
        let recall = |first: u64| {
            let index = Index::new(options(256, metric, Quantization::Binary)).unwrap();
            let mut model = BTreeMap::new();
            for ids in [0..first, first..first + 2500] {
                // The first ones are far from the others, and go.
                let point = |id: u64| if id < first { vector(256, id) } else { near(id) };
                let vectors: Vec<Vec<f32>> = ids.clone().map(point).collect();
                let ids: Vec<u64> = ids.collect();
                add(&index, &ids, &vectors, Mode::Insert, 1).unwrap();
                model.extend(ids.into_iter().zip(vectors));
            }
            let gone: Vec<u64> = (0..first).collect();
            index.remove(&gone).unwrap();
            model.retain(|id, _| *id >= first);
            let found: usize = (0..40)
                .map(|salt| {
                    let query = near(1_000_000 + salt);
                    let truth = nearest(metric, &model, &query, 10);
                    search(&index, &query, 10, 24, None).iter().filter(|(id, _)| truth.contains(id)).count()
                })
                .sum();
            found as f64 / 400.0
        };
        for first in [0, 600] {
            let found = recall(first);
            assert!(found >= 0.85, "{metric:?} {first}: {found}");
        }
    }
}

/// WR1: what is wrong is named, and nothing is changed by it.
#[test]
fn wr1_bad_input_changes_nothing() {
    let index = Index::new(options(3, Metric::Cosine, Quantization::None)).unwrap();
    let refused = |ids: &[u64], values: &[f32]| {
        let error = index.add(ids, values, Mode::Insert, 1, &mut |_, _| true).unwrap_err();
        assert_eq!(index.len(), 0);
        error.to_string()
    };
    assert!(refused(&[1, 2], &[1.0, 0.0, 0.0, f32::NAN, 0.0, 0.0]).contains("vector 1 holds"));
    assert!(refused(&[1], &[f32::INFINITY, 0.0, 0.0]).contains("not finite"));
    assert!(refused(&[1, 2], &[1.0, 0.0, 0.0, 0.0, 0.0, 0.0]).contains("vector 1 is zero"));
    assert!(refused(&[1, 1], &[1.0; 6]).contains("stands twice"));
    assert!(refused(&[u64::MAX], &[1.0; 3]).contains("reserved"));
    assert!(refused(&[1], &[1.0; 4]).contains("dimensions"));
    assert!(refused(&[1, 2], &[1.0; 3]).contains("2 ids"));
    index.add(&[1], &[3e38, 3e38, 1.0], Mode::Insert, 1, &mut |_, _| true).unwrap();
    index.add(&[2], &[1e-30, 0.0, 0.0], Mode::Insert, 1, &mut |_, _| true).unwrap();
    let again = index.add(&[3, 2], &[1.0; 6], Mode::Insert, 1, &mut |_, _| true).unwrap_err();
    assert!(again.to_string().contains("`upsert`") && index.len() == 2);
    let hits = search(&index, &[1.0, 0.0, 0.0], 10, 10, None);
    assert_eq!((hits.len(), hits[0].0), (2, 2));
    let (mut ids, mut far) = ([0; 4], [0.0; 4]);
    for (query, k, ef, threads) in [
        (&[1.0, f32::NAN, 0.0][..], 1, 1, 1),
        (&[0.0; 3], 1, 1, 1),
        (&[1.0; 4], 1, 1, 1),
        (&[1.0; 3], 0, 1, 1),
        (&[1.0; 3], 2, 1, 1),
        (&[1.0; 3], 1, 1, 0),
        (&[1.0; 3], 5, 5, 1),
    ] {
        assert!(index.search(query, k, Some(ef), None, threads, &mut ids, &mut far).is_err());
    }
}

#[test]
fn a_build_stops_where_it_is_asked_to_and_keeps_what_it_told() {
    let index = Index::new(options(4, Metric::L2, Quantization::None)).unwrap();
    let ids: Vec<u64> = (0..5000).collect();
    let vectors: Vec<Vec<f32>> = ids.iter().map(|&id| vector(4, id)).collect();
    let mut told = Vec::new();
    let stopped = index.add(&ids, &vectors.concat(), Mode::Insert, 1, &mut |done, total| {
        told.push((done, total));
        done < 2000
    });
    assert!(matches!(stopped, Err(VectorError::Stopped { done: 2048, total: 5000 })));
    assert_eq!((told, index.len()), (vec![(1024, 5000), (2048, 5000)], 2048));
}

#[test]
fn the_extremes_of_dimension_work() {
    for dimension in [1, 65_536] {
        for code in CODES {
            let index = Index::new(options(dimension, Metric::L2, code)).unwrap();
            let vectors: Vec<Vec<f32>> = (0..20).map(|id| vec![id as f32; dimension]).collect();
            add(&index, &(0..20).collect::<Vec<u64>>(), &vectors, Mode::Insert, 2).unwrap();
            assert_eq!(search(&index, &vectors[7], 1, 10, None), [(7, 0.0)], "{dimension} {code:?}");
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Add(Vec<u64>),
    Upsert(Vec<u64>),
    Remove(Vec<u64>),
    Search(u64, usize),
}

fn step() -> impl Strategy<Value = Step> {
    let ids = || prop::collection::vec(0_u64..200, 1..40);
    prop_oneof![
        ids().prop_map(Step::Add),
        ids().prop_map(Step::Upsert),
        ids().prop_map(Step::Remove),
        (0_u64..1000, 1_usize..30).prop_map(|(salt, k)| Step::Search(salt, k)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if std::env::var_os("SYMBI_LONG").is_some() { 2000 } else { 48 }))]

    /// Any history: small sets are answered exactly, `len`, `in` and ids agree with a map.
    #[test]
    fn agrees_with_a_map_after_any_history(steps in prop::collection::vec(step(), 1..40), metric in 0_usize..3, code in 0_usize..4) {
        let (metric, code) = (METRICS[metric], CODES[code]);
        let index = Index::new(options(8, metric, code)).unwrap();
        let mut model: BTreeMap<u64, Vec<f32>> = BTreeMap::new();
        for (place, step) in steps.into_iter().enumerate() {
            let salted = |id: &u64| vector(8, id ^ (place as u64) << 32);
            match step {
                Step::Add(ids) => {
                    let vectors: Vec<Vec<f32>> = ids.iter().map(salted).collect();
                    let twice = ids.iter().enumerate().any(|(at, id)| ids[..at].contains(id));
                    let there = ids.iter().any(|id| model.contains_key(id));
                    let added = add(&index, &ids, &vectors, Mode::Insert, 1);
                    prop_assert_eq!(added.is_err(), twice || there);
                    if added.is_ok() {
                        model.extend(ids.into_iter().zip(vectors));
                    }
                }
                Step::Upsert(mut ids) => {
                    ids.sort_unstable();
                    ids.dedup();
                    let vectors: Vec<Vec<f32>> = ids.iter().map(salted).collect();
                    let replaced = ids.iter().filter(|id| model.contains_key(id)).count();
                    prop_assert_eq!(add(&index, &ids, &vectors, Mode::Upsert, 1).unwrap(), replaced);
                    model.extend(ids.into_iter().zip(vectors));
                }
                Step::Remove(ids) => {
                    let there = ids.iter().collect::<std::collections::BTreeSet<_>>().into_iter().filter(|id| model.contains_key(id)).count();
                    prop_assert_eq!(index.remove(&ids).unwrap(), there);
                    model.retain(|id, _| !ids.contains(id));
                }
                Step::Search(salt, k) => {
                    let query = vector(8, salt + 500_000);
                    let hits: Vec<u64> = search(&index, &query, k, 64, None).into_iter().map(|(id, _)| id).collect();
                    let truth = nearest(metric, &model, &query, k);
                    // Equal but for the order of nearly equal distances.
                    let far = |id: &u64| distance(metric, &model[id], &query);
                    prop_assert_eq!(hits.len(), truth.len());
                    for (hit, true_one) in hits.iter().zip(&truth) {
                        prop_assert!((far(hit) - far(true_one)).abs() < 1e-4);
                    }
                }
            }
            prop_assert_eq!(index.ids(), model.keys().copied().collect::<Vec<_>>());
        }
    }
}
