//! What the build itself holds (spec F16): arithmetic that overflows stops instead of going on with a wrong number, and a
//! stack that overflows meets a guard page and ends the process instead of writing into what lies below it.

use std::hint::black_box;
use std::os::unix::process::ExitStatusExt as _;
use std::process::Command;

const DEEP: &str = "SYMBI_TEST_STACK";

#[test]
fn f16_arithmetic_that_overflows_stops_in_the_build_that_is_shipped_too() {
    let wrapped = std::panic::catch_unwind(|| black_box(u64::MAX) + black_box(1));
    assert!(wrapped.is_err(), "`overflow-checks` is on in the profiles `release`, `ci` and `guest`");
    let manifest = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../Cargo.toml")).unwrap();
    let release = manifest.split("[profile.release]").nth(1).unwrap().split("\n[").next().unwrap();
    assert!(release.contains("overflow-checks = true"), "{release}");
}

#[expect(unconditional_recursion, reason = "that is what is tried")]
fn recurse(depth: &[u64; 512]) -> u64 {
    let mut deeper = black_box(*depth);
    deeper[0] += 1;
    recurse(&deeper) + deeper[0]
}

#[test]
fn f16_a_stack_that_overflows_meets_its_guard_page() {
    if std::env::var_os(DEEP).is_some() {
        let thread = std::thread::Builder::new().stack_size(256 << 10).spawn(|| recurse(&[0; 512]));
        println!("{}", thread.unwrap().join().unwrap());
        return;
    }
    let ended = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "memory::f16_a_stack_that_overflows_meets_its_guard_page", "--nocapture"])
        .env(DEEP, "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&ended.stderr);
    assert!(said.contains("has overflowed its stack"), "{said}");
    assert_eq!(ended.status.signal(), Some(6), "{:?}", ended.status);
}
