//! No code: this crate's `Cargo.toml` gives the dependencies below Cedar one set of features, whichever members of the
//! workspace are being compiled, so that Cedar is compiled once.
