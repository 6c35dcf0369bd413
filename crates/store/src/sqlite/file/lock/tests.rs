use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use super::*;
use crate::sqlite::testing::{Folder, OTHER_OWNER, OtherProcess, TAKE, eventually, spawn_test_process};

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
fn neither_dropping_a_handle_nor_reading_the_lock_file_releases_the_lock() {
    let (_folder, path) = new_path();
    let owner_lock = LockHandle::new(&path).unwrap().try_acquire().unwrap().unwrap();

    drop(LockHandle::new(&path).unwrap());
    std::fs::read(beside(&path, "-lock")).unwrap();

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
fn a_process_of_an_earlier_version_and_this_one_exclude_each_other() {
    // Earlier versions took a record lock.
    let script = "import fcntl, sys
file = open(sys.argv[1], 'w')
fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
print('locked', flush=True)
sys.stdin.read()";
    let (_folder, path) = new_path();
    let handle = LockHandle::new(&path).unwrap();
    let take = || {
        let mut command = Command::new("python3");
        let command = command.args(["-c", script]).arg(beside(&path, "-lock"));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap()
    };
    let locked = |process: &mut Child| BufReader::new(process.stdout.take().unwrap()).lines().next().is_some();
    let mut earlier = take();
    assert!(locked(&mut earlier));

    assert!(handle.try_acquire().unwrap().is_none());
    assert_eq!(handle.holder().unwrap(), LockHolder::Another(Some(earlier.id())));
    earlier.kill().unwrap();
    earlier.wait().unwrap();

    let _owner_lock = handle.try_acquire().unwrap().unwrap();
    let mut earlier = take();
    assert!(!locked(&mut earlier));
    earlier.wait().unwrap();
}

#[cfg(target_os = "linux")]
#[test]
fn a_forked_child_does_not_keep_the_lock() {
    let (_folder, path) = new_path();
    let mut owner = spawn_test_process(FORKING_OWNER, &[(TAKE, path.as_os_str())], "forked");
    let handle = LockHandle::new(&path).unwrap();
    assert!(handle.try_acquire().unwrap().is_none());

    owner.kill().unwrap();
    owner.wait().unwrap();

    // The child gives the lock up as soon as it runs, and lives for a minute after the fork.
    eventually("the end of the lock", || handle.try_acquire().unwrap().is_some());
}

#[cfg(target_os = "linux")]
const FORKING_OWNER: &str = "sqlite::file::lock::tests::an_owner_that_forks";

#[cfg(target_os = "linux")]
#[test]
#[ignore = "another test runs it as a separate process"]
#[expect(unsafe_code, reason = "only the C library can fork")]
fn an_owner_that_forks() {
    let Some(path) = std::env::var_os(TAKE) else { return };
    let _owner_lock = LockHandle::new(Path::new(&path)).unwrap().try_acquire().unwrap().unwrap();
    // SAFETY: the child calls only functions that are allowed after a fork.
    unsafe {
        if libc::fork() == 0 {
            libc::alarm(60);
            loop {
                libc::pause();
            }
        }
    }
    println!("forked");
    loop {
        std::thread::park();
    }
}

#[test]
fn a_handle_uses_the_lock_file_that_replaced_a_deleted_one() {
    let (_folder, path) = new_path();
    let handle = LockHandle::new(&path).unwrap();
    let earlier = handle.try_acquire().unwrap().unwrap();
    std::fs::remove_file(beside(&path, "-lock")).unwrap();

    assert_eq!(handle.holder().unwrap(), LockHolder::None);
    let later = handle.try_acquire().unwrap().unwrap();

    assert_ne!(earlier.place().identity, later.place().identity);
    drop(earlier);
    assert_eq!(handle.holder().unwrap(), LockHolder::ThisProcess);
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
