//! Nothing is built here: Cargo looks at build dependencies only of a package that has a build script.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
}
