//! What the tests of the embedded store have in common.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rusqlite::Connection;

use crate::sqlite::file::lock::LockHandle;

/// A directory that goes with the test.
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

/// An empty store, as its owner has it open.
pub fn store(path: &Path) -> Connection {
    let connection = Connection::open(path).unwrap();
    connection.pragma_update(None, "journal_mode", "wal").unwrap();
    crate::sqlite::file::schema::create(&connection).unwrap();
    connection
}

/// Waits until `condition` holds, for as long as a loaded machine may need.
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let began = Instant::now();
    while !condition() {
        assert!(began.elapsed() < Duration::from_secs(30), "{what} did not happen");
        std::thread::yield_now();
    }
}

/// The test that is another process, and the variable that names the store it takes.
pub const OTHER_OWNER: &str = "sqlite::testing::another_owner";
pub const TAKE: &str = "DUROXIDE_TEST_TAKE_OWNERSHIP";

/// Runs a test of this binary as a process of its own, until `line` is in what it prints.
pub fn process(test: &str, variables: &[(&str, &std::ffi::OsStr)], line: &str) -> Child {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture", "--ignored"])
        .envs(variables.iter().copied())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.as_mut().unwrap()).lines();
    assert!(
        lines.map_while(Result::ok).any(|printed| printed.contains(line)),
        "the other process did not say '{line}'"
    );
    child
}

/// Another process that owns a store and does nothing with it until it is killed.
pub struct Other(Child);

impl Other {
    pub fn take(path: &Path) -> Self {
        Self(process(OTHER_OWNER, &[(TAKE, path.as_os_str())], "taken"))
    }

    pub fn id(&self) -> u32 {
        self.0.id()
    }

    pub fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
#[ignore = "it is the other process of other tests"]
fn another_owner() {
    let Some(path) = std::env::var_os(TAKE) else { return };
    let _ownership = LockHandle::new(Path::new(&path)).unwrap().try_acquire().unwrap().unwrap();
    println!("taken");
    loop {
        std::thread::park();
    }
}
