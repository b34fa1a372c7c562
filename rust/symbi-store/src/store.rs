//! Opening the file, its two connections, and how far it has followed the log.

use std::fs::OpenOptions;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};
use symbi_types::LogId;

use crate::StoreError;
use crate::schema;
use crate::search::Searcher;
use crate::vault::{Sealed, Vault};

/// How long a connection waits for another process's lock: only a copy or a backup takes one.
const BUSY_MS: u64 = 5_000;

/// The knowledge of one runtime. Shared between threads; writers wait for one another, searches do not wait for them.
#[derive(Debug)]
pub struct Store {
    pub(crate) searcher: Mutex<Searcher>, // before the writer: the last to close folds the WAL into the file
    pub(crate) writer: Mutex<Connection>,
    pub(crate) opened_with: i64, // the newest content at open: only what is older may be swept (K2)
    pub(crate) sealed: Sealed,
    durable: AtomicU64,
}

impl Store {
    /// As [`Store::open_with`], without the keys of persons: what belongs to one is refused.
    ///
    /// # Errors
    /// As there.
    pub fn open(path: &Path, log: LogId, durable: u64) -> Result<Self, StoreError> {
        Self::open_with(path, log, durable, None)
    }

    /// Opens the file, or makes it (0600). `durable`: how many records of `log` are on disk.
    ///
    /// Afterwards the caller applies the records from [`Store::applied_seq`] on, then calls [`Store::sweep`].
    ///
    /// # Errors
    /// [`StoreError::AheadOfLog`], [`StoreError::OtherLog`], [`StoreError::Newer`], [`StoreError::Corrupt`],
    /// [`StoreError::Unusable`]. Each has a code and, in `help`, what to do.
    pub fn open_with(
        path: &Path,
        log: LogId,
        durable: u64,
        vault: Option<Arc<dyn Vault>>,
    ) -> Result<Self, StoreError> {
        let path = place(path)?;
        let flags = OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_NOFOLLOW;
        let writer = Connection::open_with_flags(&path, flags | OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        writer.busy_timeout(Duration::from_millis(BUSY_MS))?;
        schema::set_writer(&writer)?;
        let version: i64 = writer.pragma_query_value(None, "user_version", |row| row.get(0))?;
        match version {
            0 => schema::create(&writer, &log.to_string())?,
            1 => schema::upgrade(&writer)?,
            schema::VERSION => {}
            found if schema::VERSION < found => {
                return Err(StoreError::Newer { found, known: schema::VERSION });
            }
            found => return Err(StoreError::corrupt(format!("format {found} never was"))),
        }
        let (found, applied): (String, i64) =
            writer.query_row("SELECT log, applied FROM meta", [], |row| Ok((row.get(0)?, row.get(1)?)))?;
        if found != log.to_string() {
            return Err(StoreError::OtherLog { found, wanted: log.to_string() });
        }
        let applied = natural(applied)?;
        if durable < applied {
            return Err(StoreError::AheadOfLog { applied, durable }); // K1
        }
        let opened_with =
            writer.query_row("SELECT coalesce(max(id), 0) FROM content", [], |row| row.get(0))?;
        let reader = Connection::open_with_flags(&path, flags | OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        reader.busy_timeout(Duration::from_millis(BUSY_MS))?;
        schema::set_searcher(&reader)?;
        Ok(Self {
            writer: Mutex::new(writer),
            searcher: Mutex::new(Searcher::new(reader)),
            opened_with,
            sealed: Sealed(vault),
            durable: AtomicU64::new(durable),
        })
    }

    /// Tells how many records of the log are on disk now. Only those may be applied (K1); it never goes back.
    pub fn advance_durable(&self, durable: u64) {
        self.durable.fetch_max(durable, Ordering::AcqRel);
    }

    pub(crate) fn durable(&self) -> u64 {
        self.durable.load(Ordering::Acquire)
    }

    /// The number of the first record that is not applied: what came before needs no replay.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`], [`StoreError::Unusable`].
    pub fn applied_seq(&self) -> Result<u64, StoreError> {
        natural(self.write().query_row("SELECT applied FROM meta", [], |row| row.get(0))?)
    }

    /// A thread that panicked while it held the lock left a transaction that SQLite rolls back: going on is safe.
    pub(crate) fn write(&self) -> MutexGuard<'_, Connection> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Numbers that are never negative stand in SQLite's signed columns.
pub(crate) fn natural(value: i64) -> Result<u64, StoreError> {
    u64::try_from(value).map_err(|_| StoreError::corrupt("a count is negative"))
}

/// The file, made with 0600 before SQLite sees it, so that its WAL inherits that. The directory's own links are
/// followed; a link in the file's place is refused by SQLite.
fn place(path: &Path) -> Result<PathBuf, StoreError> {
    let no_name = || StoreError::Unusable { detail: "the path names no file".into() };
    let name = path.file_name().ok_or_else(no_name)?;
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let path = parent.canonicalize()?.join(name);
    if path.is_symlink() {
        return Err(StoreError::Unusable { detail: "the path is a symbolic link".into() });
    }
    let file = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(&path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(StoreError::Unusable { detail: "the path is no regular file".into() });
    }
    if metadata.permissions().mode() & 0o077 != 0 {
        file.set_permissions(std::fs::Permissions::from_mode(0o600))?;
    }
    Ok(path)
}
