use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

use super::*;
use crate::sqlite::testing::{Folder, OTHER_OWNER, Other, TAKE, eventually};

fn place() -> (Folder, PathBuf) {
    let folder = Folder::new();
    let path = folder.join("store.db");
    (folder, path)
}

#[test]
fn a_file_has_one_owner_in_a_process() {
    let (_folder, path) = place();
    let (one, two) = (LockHandle::new(&path).unwrap(), LockHandle::new(&path).unwrap());
    assert_eq!(one.holder().unwrap(), LockHolder::Nobody);
    let ownership = one.try_acquire().unwrap().unwrap();
    assert!(one.try_acquire().unwrap().is_none());
    assert!(two.try_acquire().unwrap().is_none());
    assert_eq!(two.holder().unwrap(), LockHolder::ThisProcess);
    drop(ownership);
    assert_eq!(one.holder().unwrap(), LockHolder::Nobody);
    assert!(two.try_acquire().unwrap().is_some());
}

#[test]
fn what_another_process_owns_is_free_at_once_when_it_is_killed() {
    let (_folder, path) = place();
    let mut other = Other::take(&path);
    let candidate = LockHandle::new(&path).unwrap();
    assert!(candidate.try_acquire().unwrap().is_none());
    assert_eq!(candidate.holder().unwrap(), LockHolder::Another(Some(other.id())));
    assert_eq!(std::fs::read_to_string(beside(&path, "-lock")).unwrap().trim(), other.id().to_string());
    other.kill();
    assert_eq!(candidate.holder().unwrap(), LockHolder::Nobody);
    assert!(candidate.try_acquire().unwrap().is_some());
}

#[test]
fn asking_and_leaving_takes_nothing_from_the_owner_in_this_process() {
    let (_folder, path) = place();
    let ownership = LockHandle::new(&path).unwrap().try_acquire().unwrap().unwrap();
    // Closing a descriptor of the file would free the lock.
    drop(LockHandle::new(&path).unwrap());
    let theirs = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", OTHER_OWNER, "--ignored"])
        .env(TAKE, &path)
        .output()
        .unwrap();
    assert!(!theirs.status.success(), "another process took the lock");
    drop(ownership);
    Other::take(&path);
}

#[cfg(target_os = "linux")]
#[test]
fn a_child_that_was_forked_keeps_nobody_from_taking_over() {
    // The owner is a process that forks a child and is killed; the child goes on with all its descriptors.
    let script = "import fcntl, os, sys, time
file = open(sys.argv[1], 'w')
fcntl.lockf(file, fcntl.LOCK_EX)
child = os.fork()
if child == 0:
    time.sleep(600)
print(child, flush=True)
time.sleep(600)";
    let (_folder, path) = place();
    let candidate = LockHandle::new(&path).unwrap();
    let mut owner = Command::new("python3")
        .args(["-c", script])
        .arg(beside(&path, "-lock"))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(owner.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert!(candidate.try_acquire().unwrap().is_none());
    owner.kill().unwrap();
    owner.wait().unwrap();
    let acquired = candidate.try_acquire().unwrap().is_some();
    assert!(Command::new("kill").args(["-9", line.trim()]).status().unwrap().success());
    assert!(acquired);
}

#[test]
fn a_candidate_of_many_gets_it() {
    let (_folder, path) = place();
    let mut other = Other::take(&path);
    let candidate = LockHandle::new(&path).unwrap();
    let standby = std::thread::spawn(move || {
        eventually("the takeover", || candidate.try_acquire().unwrap().is_some());
    });
    other.kill();
    standby.join().unwrap();
}

#[cfg(target_os = "linux")]
#[test]
fn a_place_that_takes_no_files_is_said_to_be_one() {
    // Not even root makes files there.
    let error = LockHandle::new(Path::new("/sys/store.db")).err().unwrap();
    assert!(error.to_string().contains("cannot be written"), "{error}");
    let error = LockHandle::new(Path::new("/nowhere/at/all/store.db")).err().unwrap();
    assert!(error.to_string().contains("does not exist"), "{error}");
}

#[cfg(unix)]
#[test]
fn what_is_made_beside_a_store_has_its_permissions() {
    use std::os::unix::fs::PermissionsExt as _;
    let (_folder, path) = place();
    std::fs::write(&path, "").unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o660)).unwrap();
    LockHandle::new(&path).unwrap();
    let mode = std::fs::metadata(beside(&path, "-lock")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o660);
}
