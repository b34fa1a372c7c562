//! The index under many orders of its locks and threads: who searches, who changes, who saves.
//!
//! `cargo test -p symbi-vectors --features interleavings --test interleavings`; `SYMBI_LONG=1` for a hundred times as many.
//! Orders are drawn at random and by priorities (PCT, which finds every fault that needs few switches with a known chance).
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::sync::Arc;

use shuttle::sync::atomic::{AtomicUsize, Ordering};
use shuttle::thread;
use symbi_vectors::{Filter, Index, Metric, Mode, Options, Quantization};

const ORDERS: usize = 300;
/// Switches that a fault may need to be found.
const DEPTH: usize = 3;
/// More than are compared without a walk.
const MANY: u64 = 270;
/// What is changed: ids that stand beside each other.
const MOVED: [u64; 3] = [1, 2, 3];
const REMOVED: [u64; 2] = [7, 8];

fn check(model: impl Fn() + Send + Sync + Clone + 'static) {
    let orders = if std::env::var_os("SYMBI_LONG").is_some() { 100 * ORDERS } else { ORDERS };
    shuttle::check_random(model.clone(), orders);
    shuttle::check_pct(model, orders, DEPTH);
}

/// Points on a line, each at its id.
fn index(count: u64) -> Arc<Index> {
    let options = Options {
        dimension: 2,
        metric: Metric::L2,
        m: 4,
        ef_construct: 8,
        quantization: Quantization::None,
        seed: 1,
    };
    let index = Index::new(options).unwrap();
    let ids: Vec<u64> = (0..count).collect();
    put(&index, &ids, 0.0);
    Arc::new(index)
}

/// Puts each id `off` beside the line.
fn put(index: &Index, ids: &[u64], off: f32) {
    let vectors: Vec<f32> = ids.iter().flat_map(|&id| [id as f32, off]).collect();
    index.add(ids, &vectors, Mode::Upsert, 1, &mut |_, _| true).unwrap();
}

/// For each query, how many of the moved ids stand at their new place and at the old one, and how many of the removed are there.
fn seen(index: &Index, queries: usize, threads: usize, filter: Option<&Filter>) -> Vec<[usize; 3]> {
    const K: usize = 12;
    let (mut ids, mut far) = (vec![0; K * queries], vec![0.0; K * queries]);
    let asked = [4.0, 0.0].repeat(queries);
    let width = index.search(&asked, K, Some(64), filter, threads, &mut ids, &mut far).unwrap();
    let row = |(ids, far): (&[u64], &[f32])| {
        let mut distinct: Vec<u64> = ids.iter().copied().filter(|&id| id != u64::MAX).collect();
        distinct.sort_unstable();
        distinct.dedup();
        assert_eq!(distinct.len(), ids.iter().filter(|&&id| id != u64::MAX).count(), "IX1: an id twice");
        let moved: Vec<bool> = ids
            .iter()
            .zip(far)
            .filter(|(id, _)| MOVED.contains(id))
            .map(|(&id, &far)| far > (id as f32 - 4.0).powi(2) + 0.1)
            .collect();
        let new = moved.iter().filter(|&&new| new).count();
        [new, moved.len() - new, ids.iter().filter(|id| REMOVED.contains(id)).count()]
    };
    ids.chunks(width).zip(far.chunks(width)).take(queries).map(row).collect()
}

fn whole(rows: &[[usize; 3]]) {
    for row in rows {
        assert!(matches!(row, [3, 0, 0 | 2] | [0, 3, 0 | 2]), "IX1: part of a change, {row:?}");
    }
}

/// IX1, IX3: whatever the order, a search sees both changes whole or not, and sees them once their calls have returned.
#[test]
fn ix1_ix3_changes_are_seen_whole_and_at_once() {
    for count in [20, MANY] {
        check(move || {
            let index = index(count);
            let done = Arc::new(AtomicUsize::new(0));
            let (writes, told) = (Arc::clone(&index), Arc::clone(&done));
            let writer = thread::spawn(move || {
                put(&writes, &MOVED, 0.5);
                told.store(1, Ordering::SeqCst);
                assert_eq!(writes.remove(&REMOVED).unwrap(), 2);
                told.store(2, Ordering::SeqCst);
            });
            for _ in 0..2 {
                let before = done.load(Ordering::SeqCst);
                let rows = seen(&index, 1, 1, None);
                whole(&rows);
                assert!(before < 1 || rows[0][0] == 3, "IX3");
                assert!(before < 2 || rows[0][2] == 0, "IX3");
            }
            writer.join().unwrap();
            assert_eq!(seen(&index, 1, 1, None), [[3, 0, 0]]);
        });
    }
}

/// IX1, FI1, BA1: so does each row of a batch on two threads, and a search through a filter that both know.
#[test]
fn ix1_ba1_batches_and_filters_see_changes_whole() {
    check(|| {
        let index = index(20);
        let filter = Arc::new(Filter::from_ids(&(0..12).collect::<Vec<u64>>()));
        let (reads, shared) = (Arc::clone(&index), Arc::clone(&filter));
        let reader = thread::spawn(move || whole(&seen(&reads, 1, 1, Some(&shared))));
        let writes = Arc::clone(&index);
        let writer = thread::spawn(move || put(&writes, &MOVED, 0.5));
        whole(&seen(&index, 20, 2, None));
        whole(&seen(&index, 1, 1, Some(&filter)));
        reader.join().unwrap();
        writer.join().unwrap();
        assert_eq!(seen(&index, 9, 2, Some(&filter)), [[3, 0, 2]; 9]);
    });
}

/// IX1: of two writers one comes after the other, and nothing that either did is lost.
#[test]
fn ix1_two_writers_follow_each_other() {
    check(|| {
        let index = index(20);
        let other = Arc::clone(&index);
        let writer = thread::spawn(move || {
            put(&other, &MOVED, 0.5);
            other.remove(&REMOVED).unwrap()
        });
        put(&index, &[30, 31], 0.0);
        let removed = index.remove(&REMOVED).unwrap();
        assert_eq!(removed + writer.join().unwrap(), 2);
        assert_eq!(index.len(), 20);
        assert_eq!(seen(&index, 1, 1, None), [[3, 0, 0]]);
    });
}
