//! Builds the static guest program, so that the extension module carries it.
//!
//! Why here: `pip install .`, `maturin develop`, a wheel and the sdist all run this script and nothing else. A
//! static link needs `+crt-static`, which as a flag of the whole build would break the extension module; so the guest
//! is a build of its own, with its own target directory and flags. Decision: docs/adr/0030-guest-in-the-wheel.md.
//! Not here: what the guest does (`symbi-guest`), how it reaches Python (`src/guest.rs`).
//!
//! Invariants
//! - B3 no flag, wrapper or profile of the outer build reaches the inner one.
//! - B4 what is embedded was linked for the target of the extension module.

use std::env;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Folders whose change makes another guest.
const SOURCES: [&str; 3] = ["symbi-guest", "symbi-detect", "symbi-types"];
/// What of cargo's own variables the inner build keeps: where crates lie, how they are fetched, the job tokens.
const KEPT: [&str; 6] =
    ["CARGO_HOME", "CARGO_MAKEFLAGS", "CARGO_NET_", "CARGO_HTTP_", "CARGO_REGISTR", "CARGO_SOURCE_"];

fn main() -> Result<(), Box<dyn Error>> {
    let manifest = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?);
    let root =
        manifest.parent().and_then(Path::parent).ok_or("symbi-py is not two folders below the root")?;
    for source in SOURCES {
        println!("cargo::rerun-if-changed={}", root.join("rust").join(source).join("src").display());
        println!("cargo::rerun-if-changed={}", root.join("rust").join(source).join("Cargo.toml").display());
    }
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed={}", root.join("Cargo.lock").display());

    let target = env::var("TARGET")?;
    let directory = PathBuf::from(env::var("OUT_DIR")?).join("guest");
    let mut cargo = Command::new(env::var("CARGO")?);
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        let of_cargo = text.starts_with("CARGO") && !KEPT.iter().any(|kept| text.starts_with(kept));
        let of_rust =
            text.starts_with("RUSTC") || text.starts_with("RUSTFLAGS") || text.starts_with("RUSTDOC");
        if of_cargo || (of_rust && text != "RUSTC") {
            cargo.env_remove(&name); // B3
        }
    }
    cargo
        .env("RUSTFLAGS", "-C target-feature=+crt-static")
        .args([
            "build",
            "--quiet",
            "--locked",
            "--profile",
            "guest",
            "-p",
            "symbi-guest",
            "--bin",
            "symbi-guest",
        ])
        .arg("--manifest-path")
        .arg(root.join("Cargo.toml"))
        .args(["--target", &target]) // B4; and so the flags reach neither build scripts nor macros
        .arg("--target-dir")
        .arg(&directory);
    if env::var_os("CARGO_CFG_DEBUG_ASSERTIONS").is_some() {
        // The ci profile: linking whole-program takes 17 s of every change of a crate that the guest uses, this 3.
        cargo.env("CARGO_PROFILE_GUEST_LTO", "off").env("CARGO_PROFILE_GUEST_CODEGEN_UNITS", "16");
    }
    if !cargo.status()?.success() {
        return Err(format!("the static guest for `{target}` did not build: {cargo:?}").into());
    }
    let binary = directory.join(&target).join("guest").join("symbi-guest");
    println!("cargo::rustc-env=SYMBI_GUEST={}", binary.display());
    Ok(())
}
