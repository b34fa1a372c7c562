//! The disk lies in the ways its model names, and in no others.

use std::path::Path;

use symbi_testkit::{Disk, Fault};
use symbi_types::{OpenMode, Storage as _};

const FILE: &str = "/trail/a";

/// What a power cut may leave of the file, each state once.
fn survivors(disk: &Disk) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    disk.crash_states(1, 8, 7, |state| {
        let content = state.disk.content(Path::new(FILE)).unwrap_or_default();
        if !found.contains(&content) {
            found.push(content);
        }
    });
    found
}

#[test]
fn d4_what_a_failed_sync_dropped_is_not_brought_back_by_a_later_one() {
    let disk = Disk::new();
    let file = disk.open(Path::new(FILE), OpenMode::Create).unwrap();
    disk.sync_directory(Path::new("/trail")).unwrap();
    file.write_at(0, b"lost").unwrap();
    disk.fail(1, Fault::Error);
    assert!(file.sync_data().is_err());
    file.sync_data().unwrap();
    let mut last = None;
    disk.crash_states(1, 0, 7, |state| last = state.disk.content(Path::new(FILE)));
    assert_ne!(last.as_deref(), Some(b"lost".as_slice()), "D4");
}

#[test]
fn d5_a_write_that_finds_no_space_leaves_a_part_of_its_bytes() {
    let disk = Disk::new();
    let file = disk.open(Path::new(FILE), OpenMode::Create).unwrap();
    disk.fail(1, Fault::NoSpace);
    assert!(file.write_at(0, b"12345678").is_err());
    let content = disk.content(Path::new(FILE)).unwrap();
    assert!(b"12345678".starts_with(content.as_slice()) && content.len() < 8, "D5");
}

#[test]
fn d1_d2_of_what_was_not_synced_any_prefix_may_survive_and_what_was_synced_must() {
    let disk = Disk::new();
    let file = disk.open(Path::new(FILE), OpenMode::Create).unwrap();
    disk.sync_directory(Path::new("/trail")).unwrap();
    file.write_at(0, b"abc").unwrap();
    let states = survivors(&disk);
    for prefix in [&b""[..], b"a", b"ab", b"abc"] {
        assert!(states.iter().any(|state| state == prefix), "D2 {prefix:?}");
    }
    file.sync_data().unwrap();
    file.write_at(3, b"d").unwrap();
    let mut last = None;
    disk.crash_states(1, 0, 7, |state| last = state.disk.content(Path::new(FILE)));
    assert!(last.unwrap().starts_with(b"abc"), "D1");
}
