//! The command line: five words, no library. Every argument that is not known is an error.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Read;
use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::process::ExitCode;

use crate::output::{Stop, emit};
use crate::{confine, exec, probe, scout};

const USAGE: &str = "usage: symbi-guest probe|run|scout|confine (docs/formats/guest.md)";

/// What the host says when the probe is as it should be.
const GO: &[u8] = b"go\n";

/// Runs the program on the process's own arguments.
#[must_use]
pub fn main() -> ExitCode {
    let mut arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    // A container that runs the binary by the name of a subcommand need not say `symbi-guest` before it.
    match dispatch(&mut arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(stop) => {
            stop.report();
            ExitCode::from(stop.exit())
        }
    }
}

fn dispatch(arguments: &mut Vec<OsString>) -> Result<(), Stop> {
    if arguments.is_empty() {
        return Err(Stop::usage(USAGE));
    }
    let command = arguments.remove(0);
    match command.as_bytes() {
        b"probe" => {
            let (connects, rest) = connects(arguments)?;
            if !rest.is_empty() {
                return Err(Stop::usage("`probe` takes no program"));
            }
            emit(&mut std::io::stdout().lock(), &probe::report(&connects))
        }
        b"run" => run(arguments),
        b"scout" => scout::main(&scout::Options::parse(arguments)?),
        b"confine" => {
            let spec = match arguments.first() {
                Some(word) if word == "--spec" && 2 <= arguments.len() => arguments.remove(1),
                _ => return Err(Stop::usage("`confine` needs `--spec JSON -- PROGRAM …`")),
            };
            arguments.remove(0);
            confine::main(spec.as_bytes(), &program(arguments)?)
        }
        b"--version" => {
            println!("symbi-guest {}", env!("CARGO_PKG_VERSION"));
            Ok(())
        }
        _ => Err(Stop::usage(USAGE)),
    }
}

/// Says what this is, then becomes the program: or, for `scout`, goes on in this process.
fn run(arguments: &[OsString]) -> Result<(), Stop> {
    let (hold, arguments) = match arguments.split_first() {
        Some((word, rest)) if word == "--hold" => (true, rest),
        _ => (false, arguments),
    };
    let (connects, mut rest) = connects(arguments)?;
    let words = program(&mut rest)?;
    emit(&mut std::io::stdout().lock(), &probe::report(&connects))?;
    if hold {
        wait_for_go(&mut unbuffered_stdin()?)?;
    }
    let mut own: Vec<OsString> = words.clone();
    if own.first().is_some_and(|word| is_own_name(word)) && 1 < own.len() {
        own.remove(0);
    }
    if own.first().is_some_and(|word| word == "scout") {
        return dispatch(&mut own);
    }
    Err(exec::become_program(&words))
}

/// Stdin without a buffer, which would swallow lines that are the program's.
pub(crate) fn unbuffered_stdin() -> Result<File, Stop> {
    let stdin = std::io::stdin().as_fd().try_clone_to_owned();
    stdin.map(File::from).map_err(|error| Stop::internal("stdin", error))
}

/// Reads the host's answer to the probe: nothing untrusted runs before it. Byte by byte, for what follows the line is
/// the program's.
pub(crate) fn wait_for_go(stdin: &mut impl Read) -> Result<(), Stop> {
    for expected in GO {
        let mut byte = [0];
        stdin.read_exact(&mut byte).map_err(|_| Stop::usage("the host ended before it said `go`"))?;
        if byte != [*expected] {
            return Err(Stop::usage("the host did not say `go`"));
        }
    }
    Ok(())
}

/// Names under which the binary knows itself.
pub(crate) fn is_own_name(word: &OsStr) -> bool {
    word == "symbi-guest" || word == "/symbi-guest"
}

/// The `--try-connect PATH` pairs at the front, and what follows.
fn connects(arguments: &[OsString]) -> Result<(Vec<OsString>, Vec<OsString>), Stop> {
    let mut paths = Vec::new();
    let mut rest = arguments.iter();
    loop {
        match rest.as_slice().first() {
            Some(word) if word == "--try-connect" => {
                rest.next();
                let path = rest.next().ok_or_else(|| Stop::usage("`--try-connect` needs a path"))?;
                paths.push(path.clone());
            }
            _ => return Ok((paths, rest.as_slice().to_vec())),
        }
    }
}

/// What stands after `--`: at least a program.
fn program(arguments: &mut Vec<OsString>) -> Result<Vec<OsString>, Stop> {
    if arguments.first().is_none_or(|word| word != "--") {
        return Err(Stop::usage("a program is given as `-- PROGRAM [ARGUMENT…]`"));
    }
    arguments.remove(0);
    if arguments.is_empty() {
        return Err(Stop::usage("there is no program after `--`"));
    }
    Ok(std::mem::take(arguments))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_go_lets_the_program_begin_and_what_follows_is_left_to_it() {
        let mut said: &[u8] = b"go\n{\"type\":\"run\"}\n";
        assert!(wait_for_go(&mut said).is_ok());
        assert_eq!(said, b"{\"type\":\"run\"}\n");
        for refused in [&b""[..], b"go", b"no\n", b"\n", b"gone\n", b" go\n"] {
            assert!(wait_for_go(&mut &*refused).is_err(), "{refused:?}");
        }
    }
}
