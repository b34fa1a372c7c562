//! How well a passage answers: BM25, over what the reader may read and nothing else (K4).
//!
//! Why not SQLite's own `bm25()`: its word frequencies are those of the whole file, so the order of one reader's hits
//! would tell it which words occur in documents that it may not see.
//! Source: Robertson & Zaragoza, "The Probabilistic Relevance Framework: BM25 and Beyond", 2009, section 3; the inverse
//! frequency with 1 added under the logarithm, so that it is never negative.

use std::collections::HashMap;

/// How fast repetition of a word stops to count.
const K1: f64 = 1.2;
/// How much a long passage is held back.
const B: f64 = 0.75;

/// The passages that one reader may read: their lengths in words, by number.
#[derive(Debug, Default)]
pub(crate) struct Readable {
    words: Vec<u32>, // by chunk number; 0 is "not readable"
    count: u64,
    total: u64,
}

impl Readable {
    /// Lets a passage take part.
    pub(crate) fn insert(&mut self, chunk: i64, words: i64) {
        let Ok(at) = usize::try_from(chunk) else {
            return;
        };
        let words = u32::try_from(words).unwrap_or(u32::MAX).max(1);
        if self.words.len() <= at {
            self.words.resize(at + 1, 0);
        }
        if let Some(place) = self.words.get_mut(at) {
            *place = words;
        }
        self.count += 1;
        self.total += u64::from(words);
    }

    fn words(&self, chunk: i64) -> Option<u32> {
        let at = usize::try_from(chunk).ok()?;
        self.words.get(at).copied().filter(|words| 0 < *words)
    }

    pub(crate) fn holds(&self, chunk: i64) -> bool {
        self.words(chunk).is_some()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.count == 0
    }
}

/// What a passage has gathered.
#[derive(Clone, Copy, Debug, Default)]
struct Gathered {
    score: f64,
    terms: u32,
}

/// Adds up what each word of the question finds.
#[derive(Debug)]
pub(crate) struct Ranking<'a> {
    readable: &'a Readable,
    gathered: HashMap<i64, Gathered>,
}

impl<'a> Ranking<'a> {
    pub(crate) fn new(readable: &'a Readable) -> Self {
        Self { readable, gathered: HashMap::new() }
    }

    /// One word: the readable passages it occurs in, and how often.
    #[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
    pub(crate) fn add_term(&mut self, occurrences: &[(i64, u32)]) {
        let (count, found) = (self.readable.count as f64, occurrences.len() as f64);
        let mean = self.readable.total as f64 / count.max(1.0);
        let rarity = (1.0 + (count - found + 0.5) / (found + 0.5)).ln();
        for (chunk, times) in occurrences {
            let Some(words) = self.readable.words(*chunk) else {
                continue;
            };
            let times = f64::from(*times);
            let length = 1.0 - B + B * f64::from(words) / mean;
            let gathered = self.gathered.entry(*chunk).or_default();
            gathered.score += rarity * times * (K1 + 1.0) / (times + K1 * length);
            gathered.terms += 1;
        }
    }

    /// The best passages, best first, each with the number of words of the question that it holds. Equal ones in the
    /// order of their numbers, so that the same file and question give the same list.
    pub(crate) fn best(self, limit: usize) -> Vec<(i64, u32)> {
        let mut all: Vec<(i64, Gathered)> = self.gathered.into_iter().collect();
        let order =
            |a: &(i64, Gathered), b: &(i64, Gathered)| b.1.score.total_cmp(&a.1.score).then(a.0.cmp(&b.0));
        if limit < all.len() && 0 < limit {
            all.select_nth_unstable_by(limit - 1, order);
        }
        all.truncate(limit);
        all.sort_by(order);
        all.into_iter().map(|(chunk, gathered)| (chunk, gathered.terms)).collect()
    }
}
