//! Shared code of the tests of the SQLite store.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rusqlite::Connection;

use crate::sqlite::file::lock::LockHandle;

/// A directory that is deleted at the end of the test.
pub struct Folder(PathBuf);

impl Folder {
    pub fn new() -> Self {
        let path = std::env::temp_dir().join(format!("duroxide-sqlite-{}", uuid::Uuid::new_v4()));
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }

    pub fn join(&self, name: impl AsRef<Path>) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Creates an empty store, and opens it as an owner does.
pub fn create_store(path: &Path) -> Connection {
    let connection = Connection::open(path).unwrap();
    connection.pragma_update(None, "journal_mode", "wal").unwrap();
    crate::sqlite::file::schema::create(&connection).unwrap();
    connection
}

/// Waits until `condition` holds. The limit is long enough for a loaded machine.
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let began = Instant::now();
    while !condition() {
        assert!(began.elapsed() < Duration::from_secs(30), "{what} did not happen");
        std::thread::yield_now();
    }
}

/// The test that runs as another process, and the variable with the path of the store that it owns.
pub const OTHER_OWNER: &str = "sqlite::testing::another_owner";
pub const TAKE: &str = "DUROXIDE_TEST_TAKE_OWNERSHIP";

/// Starts a test of this binary as a separate process, and returns when the process has printed `line`.
pub fn spawn_test_process(test: &str, variables: &[(&str, &std::ffi::OsStr)], line: &str) -> Child {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture", "--ignored"])
        .envs(variables.iter().copied())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.as_mut().unwrap()).lines();
    assert!(
        lines.map_while(Result::ok).any(|printed| printed.contains(line)),
        "the other process did not print '{line}'"
    );
    child
}

/// Another process that owns a store until it is killed, and does nothing with it.
pub struct OtherProcess(Child);

impl OtherProcess {
    pub fn own(path: &Path) -> Self {
        Self(spawn_test_process(OTHER_OWNER, &[(TAKE, path.as_os_str())], "taken"))
    }

    pub fn id(&self) -> u32 {
        self.0.id()
    }

    pub fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for OtherProcess {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
#[ignore = "other tests run it as a separate process"]
fn another_owner() {
    let Some(path) = std::env::var_os(TAKE) else { return };
    let _owner_lock = LockHandle::new(Path::new(&path)).unwrap().try_acquire().unwrap().unwrap();
    println!("taken");
    loop {
        std::thread::park();
    }
}
