//! Becoming another program, in a container: the name may be looked for in `PATH`.

use std::ffi::{CString, OsString};
use std::io;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};

use crate::command::is_own_name;
use crate::output::Stop;
use crate::system;

const PATH_DEFAULT: &str = "/usr/local/bin:/usr/bin:/bin";

/// Becomes the program. Returns only with the reason why not.
pub(crate) fn become_program(words: &[OsString]) -> Stop {
    let Some(program) = words.first() else { return Stop::usage("there is no program") };
    let texts = match strings(words) {
        Ok(texts) => texts,
        Err(stop) => return stop,
    };
    system::default_broken_pipe();
    let mut last = io::Error::from_raw_os_error(libc::ENOENT);
    for candidate in candidates(program) {
        let Ok(path) = CString::new(candidate) else { continue };
        let error = system::execute_path(&path, &texts);
        if error.raw_os_error() != Some(libc::ENOENT) {
            last = error;
        }
    }
    failed(program.to_string_lossy(), &last)
}

/// Arguments as the kernel takes them.
pub(crate) fn strings(words: &[OsString]) -> Result<Vec<CString>, Stop> {
    let one = |word: &OsString| {
        CString::new(word.as_bytes()).map_err(|_| Stop::usage("an argument holds a NUL byte"))
    };
    words.iter().map(one).collect()
}

/// The failure line of a program that did not start: 127 when it is not there, 126 when it cannot run.
pub(crate) fn failed(program: impl Into<String>, error: &io::Error) -> Stop {
    let name = program.into();
    let absent = error.raw_os_error() == Some(libc::ENOENT);
    let (code, exit) = if absent { ("exec.not_found", 127) } else { ("exec.failed", 126) };
    let hint = match error.raw_os_error() {
        Some(libc::ENOENT) => " (the program, or the loader it names, is not visible here)",
        Some(libc::EACCES) => " (not executable, or outside what may be executed here)",
        _ => "",
    };
    Stop::Failed { code, message: format!("`{name}` cannot be started: {error}{hint}"), name, exit }
}

fn candidates(program: &OsString) -> Vec<Vec<u8>> {
    if is_own_name(program) {
        return vec![b"/proc/self/exe".to_vec(), b"/symbi-guest".to_vec()];
    }
    if program.as_bytes().contains(&b'/') {
        return vec![program.as_bytes().to_vec()];
    }
    let path = std::env::var_os("PATH").unwrap_or_else(|| PATH_DEFAULT.into()).into_vec();
    let absolute = path.split(|byte| *byte == b':').filter(|directory| directory.starts_with(b"/"));
    absolute.map(|directory| [directory, b"/", program.as_bytes()].concat()).collect()
}
