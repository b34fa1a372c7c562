//! Makes a failing history small enough to be read.
//!
//! Why: a seed replays a failure; thirty of its three hundred events explain it.
//! Not here: what a failure is. The caller says whether a shorter history still fails in the same way.
//! Source: Zeller, Hildebrandt 2002 (delta debugging), without its complements of fine granularity.

/// Leaves out whatever the failure does not need, piece by piece, the pieces ever smaller.
///
/// `fails` is asked at most `tries_max` times; what has been reached then is the answer. It still fails, if `items` did.
pub fn shrink<T: Clone>(items: &[T], tries_max: usize, mut fails: impl FnMut(&[T]) -> bool) -> Vec<T> {
    let mut kept = items.to_vec();
    let mut tries = 0;
    let mut piece = kept.len().div_ceil(2).max(1);
    loop {
        let before = kept.len();
        // From the end: what comes last depends on what came first, and not the other way round.
        let mut end = kept.len();
        while 0 < end {
            if tries_max <= tries {
                return kept;
            }
            tries += 1;
            let start = end.saturating_sub(piece);
            let shorter: Vec<T> = kept[..start].iter().chain(&kept[end..]).cloned().collect();
            if fails(&shorter) {
                kept = shorter;
            }
            end = start;
        }
        if piece == 1 && kept.len() == before {
            return kept;
        }
        piece = piece.div_ceil(2).min(kept.len().max(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_failure_needs_is_kept_and_nothing_else() {
        let items: Vec<u32> = (0..300).collect();
        let needs = [7, 150, 299];
        let small = shrink(&items, 10_000, |kept| needs.iter().all(|need| kept.contains(need)));
        assert_eq!(small, needs);
    }

    #[test]
    fn it_stops_after_so_many_tries_with_what_still_fails() {
        let items: Vec<u32> = (0..300).collect();
        let mut asked = 0;
        let small = shrink(&items, 5, |kept| {
            asked += 1;
            kept.contains(&0)
        });
        assert_eq!(asked, 5);
        assert!(small.contains(&0) && small.len() < items.len());
    }
}
