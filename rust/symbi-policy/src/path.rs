//! Paths in one spelling, before a policy looks at them.
//!
//! Why: a policy that says `like "reports/*"` compares text. `reports/../keys`, `reports//x`, `reports/%2e%2e/keys` and two
//! ways to write an é must not be several texts for one file, or one text for several.
//! Not here: the file system. A canonical path may still lead through a symbolic link; who opens it does so beneath its
//! root with `openat2(RESOLVE_BENEATH)`, where links cannot lead out and a race cannot help.
//!
//! Invariants
//! - PA1 a canonical path is relative, has no `.`, `..` or empty component, and is its own canonical path.
//! - PA2 what another reader could take otherwise is refused: percent escapes, backslashes, NUL and control characters,
//!   look-alikes of `.` and `/`, text that is not in normal form C, directions and widths that are not seen.

use unicode_normalization::{UnicodeNormalization as _, is_nfc};

/// Longest path, in bytes (`PATH_MAX`).
pub const PATH_BYTES_MAX: usize = 4_096;
/// Longest component, in bytes (`NAME_MAX`).
const NAME_BYTES_MAX: usize = 255;

/// Why a path is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// Empty, or too long.
    #[error("a path has 1 to 4096 bytes, its parts at most 255")]
    Length,
    /// It begins at the root, or at somebody's home.
    #[error("a path is relative: it begins with neither `/` nor `~`")]
    Absolute,
    /// It goes up.
    #[error("a path does not go up: it has no `..`")]
    Upwards,
    /// A character that another reader could take otherwise.
    #[error("a path holds no backslash, control character, or character that is not seen")]
    Character,
    /// `%2e`.
    #[error("a path holds no percent escapes")]
    Escape,
    /// Not in normal form C, or a look-alike of `.` or `/`.
    #[error("a path is written in Unicode normal form C, without look-alikes of `.` and `/`")]
    Form,
}

/// The canonical spelling: components joined by single slashes.
///
/// # Errors
/// [`PathError`] (PA2).
pub fn canonical_path(text: &str) -> Result<String, PathError> {
    if text.is_empty() || text.len() > PATH_BYTES_MAX {
        return Err(PathError::Length);
    }
    if text.starts_with(['/', '~']) {
        return Err(PathError::Absolute);
    }
    if text.chars().any(is_hidden) {
        return Err(PathError::Character);
    }
    let escaped = text.as_bytes().windows(3).any(
        |three| matches!(three, [b'%', high, low] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit()),
    );
    if escaped {
        return Err(PathError::Escape);
    }
    if !is_nfc(text) {
        return Err(PathError::Form);
    }
    let mut parts = Vec::new();
    for part in text.split('/') {
        match part {
            "" | "." => continue,
            ".." => return Err(PathError::Upwards),
            _ if part.len() > NAME_BYTES_MAX => return Err(PathError::Length),
            _ => {}
        }
        if !part.is_ascii() && looks_like_another(part) {
            return Err(PathError::Form);
        }
        parts.push(part);
    }
    if parts.first().is_some_and(|first| first.starts_with('~')) {
        return Err(PathError::Absolute); // `./~`
    }
    if parts.is_empty() { Ok(".".to_owned()) } else { Ok(parts.join("/")) }
}

/// Backslashes, controls, and what has no width or turns the direction of reading.
fn is_hidden(one: char) -> bool {
    one == '\\'
        || one.is_control()
        || matches!(one, '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}')
        || matches!(one, '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}')
        || matches!(one, '\u{e0000}'..='\u{e0fff}')
}

/// Read by its compatible form it is a dot, or holds a slash.
fn looks_like_another(part: &str) -> bool {
    let compatible: String = part.nfkc().collect();
    let slash = |one: char| {
        matches!(one, '/' | '\\' | '\u{2044}' | '\u{2215}' | '\u{29f5}' | '\u{29f8}' | '\u{29f9}')
    };
    compatible.chars().any(slash) || compatible.chars().all(|one| one == '.')
}
