//! The few system calls that no safe crate has. All of the crate's `unsafe` is here.

#![expect(unsafe_code, reason = "raw system calls; each block says why it is sound")]

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd};

/// Closes every descriptor but 0, 1 and 2. To be called while this program holds no other it still needs.
pub(crate) fn close_all_but_standard() -> io::Result<()> {
    // SAFETY: no memory is touched. No Rust object of this process owns a descriptor above 2 at this point; the
    // caller calls it first thing, before opening any.
    let done = unsafe { libc::syscall(libc::SYS_close_range, 3u32, u32::MAX, 0u32) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Becomes the program behind `file`. Returns only if that failed.
pub(crate) fn execute_descriptor(
    file: BorrowedFd<'_>,
    arguments: &[CString],
    environment: &[CString],
) -> io::Error {
    let arguments = pointers(arguments);
    let environment = pointers(environment);
    // SAFETY: both arrays end in null and outlive the call; the path is a valid empty string.
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            file.as_raw_fd(),
            c"".as_ptr(),
            arguments.as_ptr(),
            environment.as_ptr(),
            libc::AT_EMPTY_PATH,
        );
    }
    io::Error::last_os_error()
}

/// Becomes the program at `path`, with this process's environment. Returns only if that failed.
pub(crate) fn execute_path(path: &CStr, arguments: &[CString]) -> io::Error {
    let arguments = pointers(arguments);
    // SAFETY: the array ends in null and outlives the call; the path is a valid C string.
    unsafe { libc::execv(path.as_ptr(), arguments.as_ptr()) };
    io::Error::last_os_error()
}

fn pointers(texts: &[CString]) -> Vec<*const libc::c_char> {
    texts.iter().map(|text| text.as_ptr()).chain([std::ptr::null()]).collect()
}

/// Gives SIGPIPE its default action again: Rust ignores it, and what is ignored stays so in the next program.
pub(crate) fn default_broken_pipe() {
    // SAFETY: SIG_DFL is a valid action and no handler of ours is replaced.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
}

/// The last bytes of the kernel's ring of messages, if this process may read them.
pub(crate) fn kernel_messages() -> Option<String> {
    /// `SYSLOG_ACTION_READ_ALL`.
    const READ_ALL: libc::c_int = 3;
    let mut buffer = vec![0u8; 64 << 10];
    let length = libc::c_int::try_from(buffer.len()).ok()?;
    // SAFETY: the buffer is writable for `length` bytes and outlives the call.
    let got = unsafe { libc::klogctl(READ_ALL, buffer.as_mut_ptr().cast(), length) };
    buffer.truncate(usize::try_from(got).ok()?);
    Some(String::from_utf8_lossy(&buffer).into_owned())
}

/// The version of Landlock in this kernel; `None` where there is none.
pub(crate) fn landlock_version() -> Option<u32> {
    /// `LANDLOCK_CREATE_RULESET_VERSION`.
    const VERSION: u32 = 1;
    let null = std::ptr::null::<libc::c_void>();
    // SAFETY: with this flag the kernel reads no memory and returns a number.
    let got = unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, null, 0usize, VERSION) };
    u32::try_from(got).ok().filter(|version| 0 < *version)
}
