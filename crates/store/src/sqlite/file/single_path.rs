//! Refuses a file that has a second path: the lock, the log and the inbox lie beside a path, so each path would have a
//! lock, a log and an inbox of this path alone.

use std::path::Path;

use crate::error::StoreError;

/// Fails for a file with a hard link, and for a file that is mounted alone.
pub fn refuse_second(path: &Path) -> Result<(), StoreError> {
    // A file that does not exist yet will have one path. The caller reports a file that cannot be examined.
    let Ok(metadata) = std::fs::metadata(path) else { return Ok(()) };
    let names = system::names(&metadata);
    if names > 1 {
        return Err(StoreError::Configuration(format!(
            "'{}' has {names} names (hard links), and each would have a lock and a log of its own; remove the other \
             names, or make a copy with backup() in place of a link",
            path.display()
        )));
    }
    if system::is_mount_point(path) {
        return Err(StoreError::Configuration(format!(
            "'{}' is mounted alone, so its log would stay in another directory than the file, and be lost with it; \
             mount the directory of the file instead",
            path.display()
        )));
    }
    Ok(())
}

mod system {
    use std::fs::Metadata;
    use std::path::Path;

    #[cfg(unix)]
    pub fn names(metadata: &Metadata) -> u64 {
        use std::os::unix::fs::MetadataExt as _;
        metadata.nlink()
    }

    #[cfg(not(unix))]
    pub fn names(_: &Metadata) -> u64 {
        1
    }

    #[cfg(target_os = "linux")]
    pub fn is_mount_point(path: &Path) -> bool {
        use rustix::fs::{AtFlags, CWD, StatxAttributes, StatxFlags, statx};
        // An older kernel does not report this, and a sandbox may refuse the call.
        statx(CWD, path, AtFlags::empty(), StatxFlags::empty())
            .is_ok_and(|answer| answer.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
    }

    #[cfg(not(target_os = "linux"))]
    pub fn is_mount_point(_: &Path) -> bool {
        false
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::refuse_second;
    use crate::sqlite::testing::Folder;

    #[test]
    fn a_file_with_one_name_is_not_refused_and_a_file_with_two_is() {
        let folder = Folder::new();
        let (path, other) = (folder.join("store.db"), folder.join("other.db"));
        refuse_second(&path).unwrap();
        std::fs::write(&path, "").unwrap();
        refuse_second(&path).unwrap();

        std::fs::hard_link(&path, &other).unwrap();

        for path in [&path, &other] {
            let error = refuse_second(path).unwrap_err().to_string();
            assert!(error.contains("has 2 names (hard links)"), "{error}");
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_file_that_is_mounted_alone_is_refused() {
        let folder = Folder::new();
        let (path, point) = (folder.join("store.db"), folder.join("mounted.db"));
        for path in [&path, &point] {
            std::fs::write(path, "").unwrap();
        }
        let script = "mount --bind \"$1\" \"$2\" || exit 77; exec \"$3\" --exact --ignored --nocapture \"$4\"";
        let mut command = std::process::Command::new("unshare");
        command.args(["--map-root-user", "--mount", "sh", "-c", script, "sh"]).args([&path, &point]);
        command.arg(std::env::current_exe().unwrap()).arg(MOUNTED).env("DUROXIDE_TEST_MOUNTED", &point);
        let output = command.output().unwrap();
        let (printed, problem) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        // Some machines let no test mount anything.
        if output.status.code() == Some(77) || problem.starts_with("unshare") {
            return;
        }
        assert!(printed.contains("mount the directory of the file instead"), "{printed}{problem}");
    }

    #[cfg(target_os = "linux")]
    const MOUNTED: &str = "sqlite::file::single_path::tests::a_mounted_file";

    #[cfg(target_os = "linux")]
    #[test]
    #[ignore = "another test runs it as a separate process"]
    fn a_mounted_file() {
        let Some(path) = std::env::var_os("DUROXIDE_TEST_MOUNTED") else { return };
        println!("{}", refuse_second(std::path::Path::new(&path)).unwrap_err());
    }
}
