//! P4: no accepted path leads out of its root, against the kernel's own resolution beneath it.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking; tables are its own"
)]

mod common;

use std::fs;
use std::os::unix::fs::symlink;

use common::{Dice, cases};
use rustix::fs::{Mode, OFlags, ResolveFlags, fstat, open, openat2};
use rustix::io::Errno;
use symbi_policy::{PathError, canonical_path};

/// PA2.
#[test]
fn p4_what_could_be_read_two_ways_is_refused() {
    for (text, why) in [
        ("", PathError::Length),
        ("/etc/passwd", PathError::Absolute),
        ("//etc/passwd", PathError::Absolute),
        ("~/x", PathError::Absolute),
        ("~root/x", PathError::Absolute),
        ("./~/x", PathError::Absolute),
        ("..", PathError::Upwards),
        ("a/../b", PathError::Upwards),
        ("a/..", PathError::Upwards),
        ("a/b/../../../c", PathError::Upwards),
        ("a\\..\\b", PathError::Character),
        ("a\0b", PathError::Character),
        ("a\nb", PathError::Character),
        ("a\u{7f}", PathError::Character),
        ("a\u{202e}txt.exe", PathError::Character),
        ("a\u{200b}b", PathError::Character),
        ("\u{feff}a", PathError::Character),
        ("a\u{e0041}", PathError::Character),
        ("%2e%2e/a", PathError::Escape),
        ("a%2fb", PathError::Escape),
        ("a%5Cb", PathError::Escape),
        ("a%00b", PathError::Escape),
        ("%252e", PathError::Escape),
        ("cafe\u{301}", PathError::Form),
        ("\u{ff0e}\u{ff0e}/a", PathError::Form),
        ("\u{2024}\u{2024}/a", PathError::Form),
        ("\u{2025}/a", PathError::Form),
        ("a\u{ff0f}b", PathError::Form),
        ("a\u{2215}b", PathError::Form),
        ("a\u{2044}b", PathError::Form),
        ("a\u{ff3c}b", PathError::Form),
    ] {
        assert_eq!(canonical_path(text), Err(why), "{text:?}");
    }
    assert_eq!(canonical_path(&"a/".repeat(2_048)).unwrap().len(), 4_095);
    assert_eq!(canonical_path(&"a/".repeat(2_049)), Err(PathError::Length));
    assert_eq!(canonical_path(&"a".repeat(255)).unwrap().len(), 255);
    assert_eq!(canonical_path(&"a".repeat(256)), Err(PathError::Length));
}

#[test]
fn p4_several_spellings_of_one_file_are_one_text() {
    for (text, wanted) in [
        ("a", "a"),
        ("./a", "a"),
        ("a//b", "a/b"),
        ("a/./b/", "a/b"),
        (".", "."),
        ("./", "."),
        ("...", "..."),
        (".a/..b", ".a/..b"),
        ("100%", "100%"),
        ("caf\u{e9}/x", "caf\u{e9}/x"),
        ("\u{65e5}\u{672c}", "\u{65e5}\u{672c}"),
    ] {
        assert_eq!(canonical_path(text).as_deref(), Ok(wanted), "{text:?}");
    }
}

/// A tree with ways out; a million generated paths with `SYMBI_LONG=1`.
#[test]
fn p4_no_accepted_path_opens_anything_outside_of_its_root() {
    const PIECES: [&str; 26] = [
        "a", "b", "c", "file", "out", "up", "root", "loop", "proc", ".", "..", "...", "/", "//", "/../",
        "/./", "%2e", "%2f", "\\", "\0", "~", "\u{ff0e}", "\u{2025}", "e\u{301}", "A", "\u{202e}",
    ];
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("file"), "secret").unwrap();
    let root = outside.path().join("root");
    fs::create_dir_all(root.join("a/b/c")).unwrap();
    for place in ["file", "a/file", "a/b/file", "a/b/c/file"] {
        fs::write(root.join(place), "mine").unwrap();
    }
    symlink(outside.path(), root.join("out")).unwrap();
    symlink("../..", root.join("a/up")).unwrap();
    symlink("/", root.join("a/root")).unwrap();
    symlink("loop", root.join("loop")).unwrap();
    symlink("/proc/self/root", root.join("proc")).unwrap();
    let directory = open(&root, OFlags::DIRECTORY | OFlags::PATH, Mode::empty()).unwrap();
    let beneath = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    let opened = |text: &str, resolve| openat2(&directory, text, OFlags::PATH, Mode::empty(), resolve);

    let (mut accepted, mut found, mut refused_ways_out) = (0_u64, 0_u64, 0_u64);
    for seed in 0..cases(40_000, 1_000_000) {
        let mut dice = Dice::new(seed);
        let text: String = (0..=dice.below(6)).map(|_| PIECES[dice.below(PIECES.len())]).collect();
        let raw = if text.contains('\0') { Err(Errno::INVAL) } else { opened(&text, beneath) };
        let Ok(path) = canonical_path(&text) else {
            refused_ways_out += u64::from(raw.is_err_and(|why| why == Errno::XDEV));
            continue;
        };
        accepted += 1;
        assert_eq!(canonical_path(&path).as_deref(), Ok(path.as_str()), "PA1 {text:?}");
        let strict = opened(&path, beneath | ResolveFlags::NO_SYMLINKS);
        // Without a link in the way, its own components lead nowhere else.
        assert_ne!(strict.as_ref().err(), Some(&Errno::XDEV), "{text:?}");
        if let (Ok(strict), Ok(raw)) = (&strict, &raw) {
            let (one, other) = (fstat(strict).unwrap(), fstat(raw).unwrap());
            assert_eq!((one.st_dev, one.st_ino), (other.st_dev, other.st_ino), "another file: {text:?}");
            found += 1;
        }
    }
    assert!(
        accepted > 1_000 && found > 500 && refused_ways_out > 500,
        "{accepted} {found} {refused_ways_out}"
    );
}
