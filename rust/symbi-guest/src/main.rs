//! The static program inside sandboxes. What it does is in the library beside it, where it can be tested.

use std::process::ExitCode;

fn main() -> ExitCode {
    symbi_guest::main()
}
