//! One list of links, and the lock of the node that owns it: what is read while it is written.
//!
//! Why apart: these few lines are all that readers and writers of a graph agree on, so they are generic over the word
//! and tried under every order that the memory model allows (loom), with the very code that runs.
//! Not here: where lists lie (`graph`), what is linked (`link`).
//!
//! Invariants
//! - LS1 who finds a link sees what was written before it was linked (release, acquire).
//! - LS2 of two writers that hold the lock in turn neither loses what the other wrote.
//! - LS3 a reader of a list that is being rewritten finds only what stood there before or after, and ends.

use std::sync::atomic::{AtomicU32, Ordering};

/// No slot: ends a list.
pub(crate) const NONE: u32 = u32::MAX;

pub(crate) const LOCKED: u32 = 1 << 31;
const SPINS: u32 = 64; // then the thread steps aside: on a busy machine the holder may not be running

/// A word that several threads read and write.
pub(crate) trait Word {
    fn load(&self, order: Ordering) -> u32;
    fn store(&self, value: u32, order: Ordering);
    fn fetch_or(&self, bits: u32, order: Ordering) -> u32;
    fn fetch_and(&self, bits: u32, order: Ordering) -> u32;
    /// Lets somebody else go on; `spins` times in vain so far.
    fn wait(spins: u32);
}

impl Word for AtomicU32 {
    #[inline(always)]
    fn load(&self, order: Ordering) -> u32 {
        self.load(order)
    }

    #[inline(always)]
    fn store(&self, value: u32, order: Ordering) {
        self.store(value, order);
    }

    #[inline(always)]
    fn fetch_or(&self, bits: u32, order: Ordering) -> u32 {
        self.fetch_or(bits, order)
    }

    #[inline(always)]
    fn fetch_and(&self, bits: u32, order: Ordering) -> u32 {
        self.fetch_and(bits, order)
    }

    fn wait(spins: u32) {
        if spins.is_multiple_of(SPINS) {
            std::thread::yield_now();
        }
        std::hint::spin_loop();
    }
}

/// Holds a node's lock, a bit of the word that also holds its level.
pub(crate) struct Guard<'a, W: Word = AtomicU32>(&'a W);

impl<W: Word> Drop for Guard<'_, W> {
    fn drop(&mut self) {
        self.0.fetch_and(!LOCKED, Ordering::Release);
    }
}

/// Waits for the lock.
pub(crate) fn lock<W: Word>(head: &W) -> Guard<'_, W> {
    let mut spins = 0;
    while head.fetch_or(LOCKED, Ordering::Acquire) & LOCKED != 0 {
        spins += 1;
        W::wait(spins);
    }
    Guard(head)
}

/// The links of a list, until it ends.
#[inline(always)]
pub(crate) fn links<W: Word>(list: &[W]) -> impl Iterator<Item = u32> {
    list.iter().map(|word| word.load(Ordering::Acquire)).take_while(|&link| link != NONE)
}

/// Replaces a list; at most as many links as it has words.
pub(crate) fn write<W: Word>(list: &[W], links: &[u32], _guard: &Guard<'_, W>) {
    for (word, &link) in list.iter().zip(links.iter().chain(std::iter::repeat(&NONE))) {
        word.store(link, Ordering::Release); // LS1
    }
}

/// Appends a link where there is room and it is not there yet; false where there is no room.
pub(crate) fn append<W: Word>(list: &[W], link: u32, _guard: &Guard<'_, W>) -> bool {
    for word in list {
        match word.load(Ordering::Relaxed) {
            NONE => {
                word.store(link, Ordering::Release); // LS1
                return true;
            }
            here if here == link => return true,
            _ => {}
        }
    }
    false
}

#[cfg(test)]
mod tests {
    //! Under loom: every interleaving, and every value that an order allows a load to give.

    use super::*;
    use loom::sync::Arc;
    use loom::sync::atomic::AtomicU32 as Modelled;

    impl Word for Modelled {
        fn load(&self, order: Ordering) -> u32 {
            self.load(order)
        }

        fn store(&self, value: u32, order: Ordering) {
            self.store(value, order);
        }

        fn fetch_or(&self, bits: u32, order: Ordering) -> u32 {
            self.fetch_or(bits, order)
        }

        fn fetch_and(&self, bits: u32, order: Ordering) -> u32 {
            self.fetch_and(bits, order)
        }

        fn wait(_: u32) {
            loom::thread::yield_now();
        }
    }

    /// A node: its lock, one list, and what is written before it is linked.
    struct Node {
        head: Modelled,
        list: Vec<Modelled>,
        rows: Vec<Modelled>,
    }

    impl Node {
        fn new(list: &[u32], rows: usize) -> Arc<Self> {
            let row = |_| Modelled::new(0);
            Arc::new(Self {
                head: Modelled::new(3),
                list: list.iter().map(|&link| Modelled::new(link)).collect(),
                rows: (0..rows).map(row).collect(),
            })
        }

        fn links(&self) -> Vec<u32> {
            links(&self.list).collect()
        }

        fn give_row_and_append(&self, link: u32) {
            self.rows[link as usize].store(7, Ordering::Relaxed);
            assert!(append(&self.list, link, &lock(&self.head)));
        }
    }

    /// All orders in a long run; those with at most two forced switches of threads otherwise.
    fn model(work: impl Fn() + Sync + Send + 'static) {
        let mut builder = loom::model::Builder::new();
        if std::env::var_os("SYMBI_LONG").is_none() {
            builder.preemption_bound = Some(2);
        }
        builder.check(work);
    }

    // Who reads is the thread that is spawned: loom remembers only the last access to a word, so that a writer's own
    // look at it would hide that somebody else had read it before.

    #[test]
    fn ls1_who_finds_a_link_sees_its_row() {
        model(|| {
            let node = Node::new(&[NONE; 3], 2);
            let reader = Arc::clone(&node);
            let reading = loom::thread::spawn(move || {
                for link in reader.links() {
                    assert_eq!(reader.rows[link as usize].load(Ordering::Relaxed), 7, "LS1");
                }
            });
            node.give_row_and_append(0);
            node.give_row_and_append(1);
            reading.join().unwrap();
            assert_eq!(node.links(), [0, 1]);
        });
    }

    #[test]
    fn ls2_two_writers_lose_nothing() {
        model(|| {
            let node = Node::new(&[NONE; 3], 2);
            let other = Arc::clone(&node);
            let writing = loom::thread::spawn(move || other.give_row_and_append(1));
            node.give_row_and_append(0);
            writing.join().unwrap();
            let mut links = node.links();
            links.sort_unstable();
            assert_eq!(links, [0, 1], "LS2");
            assert_eq!(node.head.load(Ordering::Relaxed), 3, "the level stays, the lock is free");
        });
    }

    #[test]
    fn ls3_a_list_that_is_rewritten_holds_old_and_new_links_only() {
        model(|| {
            let node = Node::new(&[4, 5, NONE], 0);
            let reader = Arc::clone(&node);
            let reading = loom::thread::spawn(move || {
                let found = reader.links();
                assert!(
                    found.len() <= 3 && found.iter().all(|link| [4, 5, 6, 8].contains(link)),
                    "LS3: {found:?}"
                );
            });
            write(&node.list, &[6], &lock(&node.head));
            assert!(append(&node.list, 8, &lock(&node.head)));
            reading.join().unwrap();
            assert_eq!(node.links(), [6, 8]);
        });
    }
}
