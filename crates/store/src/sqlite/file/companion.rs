//! Creates, opens and checks the files beside a store: its lock, its log, its inbox and copies of it.
//!
//! Other users may be allowed to write to the directory. Such a user could put a link, or a file of their own, in the
//! place of a file that the store needs. So each of these files is created exclusively, with the rights of the store from
//! the first moment, and is never reached through a link. A file that exists must belong to a user who may write to the
//! store.

use std::fs::{File, Metadata, OpenOptions};
use std::io::ErrorKind;
use std::path::Path;

use crate::error::StoreError;
use crate::sqlite::file::paths::beside;

/// Who may open a file beside a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// The users who may open the store, in the same way.
    AsStore,
    /// The users who may write to the store. A reader of the lock file could take a lock that keeps owners away.
    Writers,
}

/// The files that take the rights of the store when an owner opens it.
const COMPANIONS: [(&str, Access); 6] = [
    ("-lock", Access::Writers),
    ("-wal", Access::AsStore),
    ("-shm", Access::AsStore),
    ("-journal", Access::AsStore),
    ("-inbox", Access::AsStore),
    ("-inbox-journal", Access::AsStore),
];

/// Opens a file beside a store for reading and writing. Creates it if it does not exist.
pub fn open(store: &Path, file: &Path, access: Access) -> Result<File, StoreError> {
    loop {
        let mut options = OpenOptions::new();
        system::follow_no_link(options.read(true).write(true));
        match options.open(file) {
            Ok(opened) => {
                let metadata = opened.metadata().map_err(|error| failure(store, file, &error))?;
                check_metadata(store, file, &metadata)?;
                return Ok(opened);
            }
            Err(error) if error.kind() == ErrorKind::NotFound => match create_new(store, file, access) {
                Ok(created) => return Ok(created),
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => return Err(failure(store, file, &error)),
            },
            Err(error) => {
                check(store, file)?;
                return Err(failure(store, file, &error));
            }
        }
    }
}

/// Creates a file beside a store that only SQLite opens, if it does not exist, and checks it. This process may hold locks
/// of SQLite on the file, and opening the file would release them.
pub fn prepare(store: &Path, file: &Path) -> Result<(), StoreError> {
    match create_new(store, file, Access::AsStore) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => check(store, file),
        Err(error) => Err(failure(store, file, &error)),
    }
}

/// Creates a file that does not exist, with the rights that `access` gives. Without a store it is private.
pub fn create_new(store: &Path, file: &Path, access: Access) -> std::io::Result<File> {
    let rights = std::fs::metadata(store).ok().as_ref().and_then(|metadata| system::rights(metadata, access));
    let mut options = OpenOptions::new();
    system::keep_private(options.read(true).write(true).create_new(true));
    let created = options.open(file)?;
    if let Some(rights) = rights {
        // The creation was subject to the mask of the process.
        created.set_permissions(rights)?;
    }
    Ok(created)
}

/// Gives the files beside a store the rights that the store has now. It leaves the files of other users alone.
pub fn match_rights(store: &Path) {
    let Ok(metadata) = std::fs::metadata(store) else { return };
    for (ending, access) in COMPANIONS {
        let file = beside(store, ending);
        let Ok(found) = std::fs::symlink_metadata(&file) else { continue };
        if let Some(rights) = system::rights(&metadata, access)
            && found.is_file()
            && found.permissions() != rights
            && let Err(error) = std::fs::set_permissions(&file, rights)
        {
            tracing::warn!(
                target: "duroxide::store",
                "'{}' keeps its rights, which differ from those of the store: {error}; give it those of the store",
                file.display()
            );
        }
    }
}

/// Fails if another user may have put one of the files that SQLite opens beside a store.
pub fn check_sqlite_files(store: &Path) -> Result<(), StoreError> {
    ["-wal", "-shm", "-journal"].iter().try_for_each(|ending| check(store, &beside(store, ending)))
}

/// Fails for a file that another user may have put in the place of ours.
fn check(store: &Path, file: &Path) -> Result<(), StoreError> {
    match std::fs::symlink_metadata(file) {
        Ok(metadata) => check_metadata(store, file, &metadata),
        Err(_) => Ok(()),
    }
}

fn check_metadata(store: &Path, file: &Path, metadata: &Metadata) -> Result<(), StoreError> {
    let refused = |fact: String| {
        Err(StoreError::Configuration(format!(
            "'{}' {fact}; find out who made it, remove it, and keep the store in a directory that no other user may write \
             to",
            file.display()
        )))
    };
    if metadata.is_symlink() {
        return refused("is a symbolic link, which the store does not follow".to_owned());
    }
    if !metadata.is_file() {
        return refused("is not a regular file".to_owned());
    }
    if system::names(metadata) > 1 {
        return refused("has another name (a hard link)".to_owned());
    }
    match system::stranger(store, metadata) {
        Some(user) => refused(format!("belongs to user {user}, who may not write to the store")),
        None => Ok(()),
    }
}

fn failure(store: &Path, file: &Path, error: &std::io::Error) -> StoreError {
    let shown = store.display();
    match error.kind() {
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => StoreError::Configuration(format!(
            "'{shown}' cannot be written; make the file and its directory writable for this process"
        )),
        ErrorKind::NotFound => StoreError::Configuration(format!(
            "the directory of '{shown}' does not exist or takes no files; create it first, or choose another"
        )),
        _ => StoreError::Unavailable(format!("'{}' could not be opened: {error}", file.display())),
    }
}

#[cfg(unix)]
mod system {
    use std::fs::{Metadata, OpenOptions, Permissions};
    use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
    use std::path::Path;

    use crate::sqlite::file::companion::Access;

    const READ_ALL: u32 = 0o444;
    const WRITE_ALL: u32 = 0o222;
    const GROUP_WRITES: u32 = 0o020;
    const OTHERS_WRITE: u32 = 0o002;

    pub fn follow_no_link(options: &mut OpenOptions) {
        options.custom_flags(rustix::fs::OFlags::NOFOLLOW.bits().cast_signed());
    }

    pub fn keep_private(options: &mut OpenOptions) {
        options.mode(0o600);
    }

    /// The rights of a file beside a store.
    #[expect(clippy::unnecessary_wraps, reason = "other systems have no such rights")]
    pub fn rights(store: &Metadata, access: Access) -> Option<Permissions> {
        let mode = store.mode() & (READ_ALL | WRITE_ALL);
        let writers = mode & WRITE_ALL;
        Some(Permissions::from_mode(match access {
            Access::AsStore => mode,
            // The bit that allows a class to read is the one above the bit that allows it to write.
            Access::Writers => writers | (writers << 1),
        }))
    }

    pub fn names(metadata: &Metadata) -> u64 {
        metadata.nlink()
    }

    /// The user to whom a file belongs, if that user may not write to the store.
    pub fn stranger(store: &Path, file: &Metadata) -> Option<u32> {
        let user = file.uid();
        let is_ours = user == rustix::process::geteuid().as_raw() || user == 0;
        let may_write = |store: &Metadata| {
            user == store.uid()
                || store.mode() & OTHERS_WRITE != 0
                || store.mode() & GROUP_WRITES != 0 && file.gid() == store.gid()
        };
        let is_known = is_ours || std::fs::metadata(store).is_ok_and(|store| may_write(&store));
        (!is_known).then_some(user)
    }
}

#[cfg(not(unix))]
mod system {
    use std::fs::{Metadata, OpenOptions, Permissions};
    use std::path::Path;

    use crate::sqlite::file::companion::Access;

    // These systems give a new file the rights of its directory.

    pub fn follow_no_link(_: &mut OpenOptions) {}

    pub fn keep_private(_: &mut OpenOptions) {}

    pub fn rights(_: &Metadata, _: Access) -> Option<Permissions> {
        None
    }

    pub fn names(_: &Metadata) -> u64 {
        1
    }

    pub fn stranger(_: &Path, _: &Metadata) -> Option<u32> {
        None
    }
}
