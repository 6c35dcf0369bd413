use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

use super::*;
use crate::sqlite::testing::{Folder, OTHER_OWNER, OtherProcess, TAKE, eventually};

fn new_path() -> (Folder, PathBuf) {
    let folder = Folder::new();
    let path = folder.join("store.db");
    (folder, path)
}

#[test]
fn one_process_takes_the_lock_only_once() {
    let (_folder, path) = new_path();
    let (one, two) = (LockHandle::new(&path).unwrap(), LockHandle::new(&path).unwrap());
    assert_eq!(one.holder().unwrap(), LockHolder::None);
    let owner_lock = one.try_acquire().unwrap().unwrap();
    assert!(one.try_acquire().unwrap().is_none());
    assert!(two.try_acquire().unwrap().is_none());
    assert_eq!(two.holder().unwrap(), LockHolder::ThisProcess);
    drop(owner_lock);
    assert_eq!(one.holder().unwrap(), LockHolder::None);
    assert!(two.try_acquire().unwrap().is_some());
}

#[test]
fn the_lock_of_a_killed_process_is_free_at_once() {
    let (_folder, path) = new_path();
    let mut other = OtherProcess::own(&path);
    let handle = LockHandle::new(&path).unwrap();
    assert!(handle.try_acquire().unwrap().is_none());
    assert_eq!(handle.holder().unwrap(), LockHolder::Another(Some(other.id())));
    assert_eq!(std::fs::read_to_string(beside(&path, "-lock")).unwrap().trim(), other.id().to_string());
    other.kill();
    assert_eq!(handle.holder().unwrap(), LockHolder::None);
    assert!(handle.try_acquire().unwrap().is_some());
}

#[test]
fn dropping_another_handle_does_not_release_the_lock() {
    let (_folder, path) = new_path();
    let owner_lock = LockHandle::new(&path).unwrap().try_acquire().unwrap().unwrap();
    // Closing a descriptor of the file would release the lock.
    drop(LockHandle::new(&path).unwrap());
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", OTHER_OWNER, "--ignored"])
        .env(TAKE, &path)
        .output()
        .unwrap();
    assert!(!output.status.success(), "another process took the lock");
    drop(owner_lock);
    OtherProcess::own(&path);
}

#[cfg(target_os = "linux")]
#[test]
fn a_forked_child_does_not_keep_the_lock() {
    // The owner is a process that forks a child and is killed. The child continues with all descriptors of its parent.
    let script = "import fcntl, os, sys, time
file = open(sys.argv[1], 'w')
fcntl.lockf(file, fcntl.LOCK_EX)
child = os.fork()
if child == 0:
    time.sleep(600)
print(child, flush=True)
time.sleep(600)";
    let (_folder, path) = new_path();
    let handle = LockHandle::new(&path).unwrap();
    let mut owner = Command::new("python3")
        .args(["-c", script])
        .arg(beside(&path, "-lock"))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(owner.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert!(handle.try_acquire().unwrap().is_none());
    owner.kill().unwrap();
    owner.wait().unwrap();
    let acquired = handle.try_acquire().unwrap().is_some();
    assert!(Command::new("kill").args(["-9", line.trim()]).status().unwrap().success());
    assert!(acquired);
}

#[test]
fn a_standby_takes_the_lock_of_a_killed_process() {
    let (_folder, path) = new_path();
    let mut other = OtherProcess::own(&path);
    let handle = LockHandle::new(&path).unwrap();
    let standby = std::thread::spawn(move || {
        eventually("the takeover", || handle.try_acquire().unwrap().is_some());
    });
    other.kill();
    standby.join().unwrap();
}

#[cfg(target_os = "linux")]
#[test]
fn an_error_says_that_the_directory_takes_no_files() {
    // Not even root can create files there.
    let error = LockHandle::new(Path::new("/sys/store.db")).err().unwrap();
    assert!(error.to_string().contains("cannot be written"), "{error}");
    let error = LockHandle::new(Path::new("/nowhere/at/all/store.db")).err().unwrap();
    assert!(error.to_string().contains("does not exist"), "{error}");
}

#[cfg(unix)]
#[test]
fn the_lock_file_has_the_permissions_of_the_store() {
    use std::os::unix::fs::PermissionsExt as _;
    let (_folder, path) = new_path();
    std::fs::write(&path, "").unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o660)).unwrap();
    LockHandle::new(&path).unwrap();
    let mode = std::fs::metadata(beside(&path, "-lock")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o660);
}
