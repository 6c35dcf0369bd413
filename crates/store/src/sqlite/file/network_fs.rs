//! Refuses file systems of other machines: neither the locks nor the shared memory of the write-ahead log work across
//! machines.

use std::path::Path;

use crate::error::StoreError;

/// Fails for a file on a network file system.
pub fn refuse(path: &Path) -> Result<(), StoreError> {
    match system::network_kind(path.parent().unwrap_or(path)) {
        None => Ok(()),
        Some(kind) => Err(StoreError::Configuration(format!(
            "'{}' is on a network file system ({kind}), where neither locks nor the write-ahead log can be trusted; put \
             it on a local disk, or use the PostgreSQL store",
            path.display()
        ))),
    }
}

#[cfg(target_os = "linux")]
mod system {
    use std::path::{Path, PathBuf};

    /// The types that `statfs` returns. The numbers are from the kernel's `linux/magic.h`, or from the sources of the file
    /// systems, where libc has no name.
    const NETWORK: [(u32, &str); 14] = [
        (libc::NFS_SUPER_MAGIC as u32, "NFS"),
        (libc::SMB_SUPER_MAGIC as u32, "SMB"),
        (0xfe53_4d42, "SMB"),
        (0xff53_4d42, "CIFS"),
        (0x0102_1997, "9p"),
        (libc::AFS_SUPER_MAGIC as u32, "AFS"),
        (0x6b41_4653, "AFS"),
        (libc::CODA_SUPER_MAGIC as u32, "Coda"),
        (0x00c3_6400, "Ceph"),
        (0x0bd0_0bd0, "Lustre"),
        (0x4750_4653, "GPFS"),
        (0x1983_0326, "BeeGFS"),
        (libc::OCFS2_SUPER_MAGIC as u32, "OCFS2"),
        (0x0116_1970, "GFS2"),
    ];
    const FUSE: u32 = libc::FUSE_SUPER_MAGIC as u32;
    /// The file systems in user space that store their files on another machine. Others report missing features
    /// themselves.
    const NETWORK_FUSE: [&str; 18] = [
        "sshfs",
        "s3fs",
        "mount-s3",
        "mountpoint-s3",
        "goofys",
        "gcsfuse",
        "blobfuse",
        "blobfuse2",
        "rclone",
        "davfs",
        "davfs2",
        "curlftpfs",
        "smbnetfs",
        "glusterfs",
        "ceph-fuse",
        "ceph",
        "juicefs",
        "moosefs",
    ];

    pub fn network_kind(directory: &Path) -> Option<String> {
        // When this call fails, opening the file fails too, with a better message.
        let kind = rustix::fs::statfs(directory).ok()?.f_type;
        let mounts = || std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        // The kernel's field is signed, and wider than the 32-bit type that it holds.
        classify(kind as u32, directory, mounts)
    }

    pub fn classify(kind: u32, directory: &Path, mounts: impl FnOnce() -> String) -> Option<String> {
        if kind == FUSE {
            let name = mounted_as(directory, &mounts())?;
            let network = name.strip_prefix("fuse.").is_some_and(|name| NETWORK_FUSE.contains(&name));
            return network.then_some(name);
        }
        NETWORK.iter().find(|(number, _)| *number == kind).map(|(_, name)| (*name).to_owned())
    }

    /// The type of the innermost mount that holds `directory`. A later mount hides earlier mounts at the same point.
    fn mounted_as(directory: &Path, mounts: &str) -> Option<String> {
        let mut found: Option<(PathBuf, String)> = None;
        for line in mounts.lines() {
            let (location, kind) = line.split_once(" - ")?;
            let point = PathBuf::from(unescaped(location.split(' ').nth(4)?));
            let is_deeper = found.as_ref().is_none_or(|(other, _)| point.starts_with(other));
            if directory.starts_with(&point) && is_deeper {
                found = Some((point, kind.split(' ').next()?.to_owned()));
            }
        }
        found.map(|(_, kind)| kind)
    }

    /// The kernel writes blanks and backslashes of a path as three octal digits; this restores them.
    fn unescaped(text: &str) -> String {
        let escapes = [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")];
        escapes.iter().fold(text.to_owned(), |text, (escape, character)| text.replace(escape, character))
    }
}

#[cfg(not(target_os = "linux"))]
mod system {
    use std::path::Path;

    pub fn network_kind(_: &Path) -> Option<String> {
        None
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::path::Path;

    use super::refuse;
    use crate::sqlite::file::network_fs::system::classify;
    use crate::sqlite::testing::Folder;

    const MOUNTS: &str = "\
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
90 22 0:50 / /home/ann/far\\040away rw,nosuid shared:2 - fuse.sshfs host:/ rw,user_id=0
91 22 0:51 / /media/stick rw,nosuid shared:3 - fuseblk /dev/sdb1 rw
92 90 0:52 / /home/ann/far\\040away/near rw shared:4 - fuse.encfs encfs rw";

    #[test]
    fn network_file_systems_are_recognized() {
        let classify = |kind, directory| classify(kind, Path::new(directory), || MOUNTS.to_owned());
        assert_eq!(classify(0x6969, "/srv").as_deref(), Some("NFS"));
        assert_eq!(classify(0xff53_4d42, "/srv").as_deref(), Some("CIFS"));
        assert_eq!(classify(0xef53, "/srv"), None);
        let fuse = 0x6573_5546;
        assert_eq!(classify(fuse, "/home/ann/far away/data").as_deref(), Some("fuse.sshfs"));
        assert_eq!(classify(fuse, "/home/ann/far away/near"), None);
        assert_eq!(classify(fuse, "/media/stick"), None);
    }

    #[test]
    fn a_local_disk_is_not_refused() {
        refuse(&Folder::new().join("store.db")).unwrap();
    }
}
