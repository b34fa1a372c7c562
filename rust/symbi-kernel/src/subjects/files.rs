//! Files of keys: whole and on disk, or gone from where they stood.
//!
//! Not here: what is in them (`subjects`).

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use super::SubjectError;

/// What lies in a directory; nothing where there is none.
pub(super) fn files_in(directory: &Path) -> Result<Vec<PathBuf>, SubjectError> {
    let io = |source| SubjectError::Io { path: directory.to_owned(), source };
    match fs::read_dir(directory) {
        Ok(entries) => entries.map(|entry| entry.map(|entry| entry.path()).map_err(io)).collect(),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        Err(source) => Err(io(source)),
    }
}

pub(super) fn make_directory(path: &Path) -> Result<(), SubjectError> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|source| SubjectError::Io { path: path.to_owned(), source })
}

/// Whole and on disk, or not at all.
pub(super) fn write(directory: &Path, name: &str, text: &str) -> Result<(), SubjectError> {
    let path = directory.join(name);
    let fresh = directory.join(format!(".{name}.new"));
    let io = |source| SubjectError::Io { path: path.clone(), source };
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&fresh).map_err(io)?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(io)?;
    fs::rename(&fresh, &path).map_err(io)?;
    sync_directory(directory)
}

fn sync_directory(directory: &Path) -> Result<(), SubjectError> {
    File::open(directory)
        .and_then(|handle| handle.sync_all())
        .map_err(|source| SubjectError::Io { path: directory.to_owned(), source })
}

/// Overwrites a file, and removes it, durably. One that is not there is gone already.
pub(super) fn shred(path: &Path) -> Result<(), SubjectError> {
    let io = |source| SubjectError::Io { path: path.to_owned(), source };
    let mut file = match OpenOptions::new().write(true).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(source) => return Err(io(source)),
    };
    let length = file.metadata().map_err(io)?.len();
    let zeros = vec![0u8; usize::try_from(length.min(65_536)).unwrap_or_default()];
    file.write_all(&zeros).and_then(|()| file.sync_all()).map_err(io)?;
    fs::remove_file(path).map_err(io)?;
    path.parent().map_or(Ok(()), sync_directory)
}
