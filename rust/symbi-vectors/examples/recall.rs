//! Recall and speed over files of raw floats, for a profiler: `recall DIMENSION CODE BASE QUERIES [THREADS]`.
//!
//! Not here: figures to be quoted; those are rows of `symbi bench vectors`, from Python, beside other libraries.

use symbi_vectors::{Index, Metric, Mode, Options, Quantization};

fn floats(path: &str) -> Result<Vec<f32>, Box<dyn std::error::Error>> {
    let bytes = std::fs::read(path)?;
    Ok(bytes.as_chunks::<4>().0.iter().map(|chunk| f32::from_le_bytes(*chunk)).collect())
}

/// Nanoseconds that this thread ran: on a busy machine it says more than the clock on the wall.
fn ran_ns() -> Result<u64, Box<dyn std::error::Error>> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat")?;
    Ok(text.split_whitespace().next().unwrap_or_default().parse()?)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, dimension, code, base, queries, rest @ ..] = arguments.as_slice() else {
        return Err("recall DIMENSION CODE BASE QUERIES [THREADS]".into());
    };
    let dimension = dimension.parse()?;
    let threads = rest.first().map_or(Ok(1), |threads| threads.parse())?;
    let (base, queries) = (floats(base)?, floats(queries)?);
    let ids: Vec<u64> = (0..(base.len() / dimension) as u64).collect();
    let count = queries.len() / dimension;
    let k = 10;
    let make = |quantization| {
        Index::new(Options {
            dimension,
            metric: Metric::Cosine,
            m: 16,
            ef_construct: 200,
            quantization,
            seed: 1,
        })
    };
    let (mut truth, mut far) = (vec![0; k * count], vec![0.0; k * count]);
    for (row, query) in queries.chunks_exact(dimension).enumerate() {
        let norm = |vector: &[f32]| vector.iter().map(|value| value * value).sum::<f32>().sqrt();
        let mut scored: Vec<(f32, u64)> = base
            .chunks_exact(dimension)
            .zip(&ids)
            .map(|(vector, &id)| {
                let dot: f32 = vector.iter().zip(query).map(|(a, b)| a * b).sum();
                (-dot / norm(vector), id)
            })
            .collect();
        scored.select_nth_unstable_by(k, |a, b| a.0.total_cmp(&b.0));
        for (place, (_, id)) in truth.iter_mut().skip(row * k).zip(scored.iter().take(k)) {
            *place = *id;
        }
    }
    let index = make(Quantization::choose(code, dimension)?)?;
    let begin = ran_ns()?;
    index.add(&ids, &base, Mode::Insert, threads, &mut |_, _| true)?;
    let built = (ran_ns()? - begin) as f64 / 1e9;
    println!("build {built:.2} s of this thread, {} bytes a vector", index.memory_bytes() / ids.len());
    let mut found = vec![0; k * count];
    for ef in [10, 16, 24, 32, 48, 64, 96, 128, 192, 256] {
        let mut best = f64::INFINITY;
        for _ in 0..5 {
            let begin = ran_ns()?;
            for (row, query) in queries.chunks_exact(dimension).enumerate() {
                let place = row * k..(row + 1) * k;
                let (Some(ids), Some(far)) = (found.get_mut(place.clone()), far.get_mut(place)) else {
                    break;
                };
                index.search(query, k, Some(ef), None, 1, ids, far)?;
            }
            best = best.min((ran_ns()? - begin) as f64 / 1e9 / count as f64);
        }
        let right: usize = truth
            .chunks(k)
            .zip(found.chunks(k))
            .map(|(a, b)| b.iter().filter(|id| a.contains(id)).count())
            .sum();
        let recall = right as f64 / (k * count) as f64;
        println!("ef {ef}: recall {recall:.4}, {:.0} queries/s ({:.1} µs)", 1.0 / best, best * 1e6);
    }
    Ok(())
}
