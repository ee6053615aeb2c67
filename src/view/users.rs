//! The lines that name a container's user, as the platform's name service would
//! answer: in a layer above the image, which stays as it is.
//!
//! Guarantees: of the image's files nothing is interpreted but whether a line is
//! there already; they are copied with a line added.

use std::io::{self, Write};
use std::os::fd::AsFd;

use rustix::fs::{FileType, Mode};

use super::dir::Dir;

/// The longest file that is copied: each start of a container copies it, and it
/// may be kept in memory.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// What a layer may take: the files, and room for their directories.
pub(super) const LAYER_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// A file that gets a line.
struct Table {
    name: &'static str,
    /// Why it gets none where it is a link, no file, or too long.
    is_link: &'static str,
    is_odd: &'static str,
    is_long: &'static str,
    mode: u32,
    /// Whether its lines have the user's number as their third field.
    has_number: bool,
    line: fn(u32) -> String,
}

const TABLES: [Table; 3] = [
    Table {
        name: "passwd",
        is_link: "/etc/passwd is a symbolic link",
        is_odd: "/etc/passwd is no regular file",
        is_long: "/etc/passwd is longer than 1 MiB",
        mode: 0o644,
        has_number: true,
        line: |uid| format!("{uid}:x:{uid}:{uid}:{uid}:/containers/{uid}:/bin/bash\n"),
    },
    Table {
        name: "group",
        is_link: "/etc/group is a symbolic link",
        is_odd: "/etc/group is no regular file",
        is_long: "/etc/group is longer than 1 MiB",
        mode: 0o644,
        has_number: true,
        line: |uid| format!("{uid}:x:{uid}:\n"),
    },
    Table {
        name: "shadow",
        is_link: "/etc/shadow is a symbolic link",
        is_odd: "/etc/shadow is no regular file",
        is_long: "/etc/shadow is longer than 1 MiB",
        mode: 0o640,
        has_number: false,
        line: |uid| format!("{uid}:!:19000:0:99999:7:::\n"),
    },
];

/// Writes the files of user `uid` for the image at `image` into `layer`. Why not,
/// if nothing is written.
pub(super) fn write(image: &Dir, layer: &Dir, uid: u32) -> io::Result<Option<&'static str>> {
    let etc = match image.kind(b"etc")? {
        Some(FileType::Directory) => Some(image.sub(b"etc")?),
        Some(FileType::Symlink) => return Ok(Some("/etc is a symbolic link")),
        Some(_) => return Ok(Some("/etc is no directory")),
        None => None,
    };
    if let Some(etc) = &etc {
        for table in &TABLES {
            let name = table.name.as_bytes();
            match etc.kind(name)? {
                None => {}
                Some(FileType::RegularFile)
                    if etc.file(name)?.metadata()?.len() > FILE_BYTES_MAX =>
                {
                    return Ok(Some(table.is_long));
                }
                Some(FileType::RegularFile) => {}
                Some(FileType::Symlink) => return Ok(Some(table.is_link)),
                Some(_) => return Ok(Some(table.is_odd)),
            }
        }
    }
    let layer = match &etc {
        Some(etc) => layer.make_like("etc", etc)?,
        None => {
            let made = layer.make("etc")?;
            rustix::fs::fchmod(&made, Mode::from_raw_mode(0o755))?;
            made
        }
    };
    for table in &TABLES {
        table.copy(etc.as_ref(), &layer, uid)?;
    }
    Ok(None)
}

impl Table {
    /// Copies the file, with the line if it is not there.
    fn copy(&self, etc: Option<&Dir>, layer: &Dir, uid: u32) -> io::Result<()> {
        let mut content = Vec::new();
        let mut like = None;
        if let Some(etc) = etc
            && let Some(bytes) = etc.read(self.name, FILE_BYTES_MAX)?
        {
            content = bytes;
            like = Some(etc.file(self.name.as_bytes())?);
        }
        if !self.names(&content, uid) {
            if !matches!(content.last(), None | Some(b'\n')) {
                content.push(b'\n');
            }
            content.extend_from_slice((self.line)(uid).as_bytes());
        }
        let like = like.as_ref().map(AsFd::as_fd);
        let mode = Mode::from_raw_mode(self.mode);
        layer.write_like(self.name, like, mode, |file| file.write_all(&content))
    }

    /// Whether a line is of this user: by name, or by number.
    fn names(&self, content: &[u8], uid: u32) -> bool {
        let uid = uid.to_string();
        content.split(|byte| *byte == b'\n').any(|line| {
            let mut fields = line.split(|byte| *byte == b':');
            let is_user = |field: Option<&[u8]>| field == Some(uid.as_bytes());
            is_user(fields.next()) || self.has_number && is_user(fields.nth(1))
        })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::path::Path;

    use super::*;

    fn written(prepare: impl FnOnce(&Path)) -> (tempfile::TempDir, Option<&'static str>) {
        let dir = tempfile::tempdir().unwrap();
        let (image, layer) = (dir.path().join("image"), dir.path().join("layer"));
        fs::create_dir_all(image.join("etc")).unwrap();
        fs::create_dir(&layer).unwrap();
        prepare(&image);
        let open = |path: &Path| Dir::open(path).unwrap();
        let why = write(&open(&image), &open(&layer), 30_002).unwrap();
        (dir, why)
    }

    #[test]
    fn the_lines_are_added_once_and_nothing_else_changes() {
        let (dir, why) = written(|image| {
            fs::write(image.join("etc/passwd"), "root:x:0:0::/root:/bin/sh").unwrap();
            fs::write(image.join("etc/group"), "thirty:x:30002:\n").unwrap();
            fs::write(image.join("etc/shadow"), "root:*:1::::::\n").unwrap();
            fs::set_permissions(image.join("etc/shadow"), PermissionsExt::from_mode(0o600))
                .unwrap();
        });
        assert_eq!(why, None);
        let read = |name: &str| fs::read_to_string(dir.path().join("layer/etc").join(name));
        assert_eq!(
            read("passwd").unwrap(),
            "root:x:0:0::/root:/bin/sh\n30002:x:30002:30002:30002:/containers/30002:/bin/bash\n"
        );
        assert_eq!(read("group").unwrap(), "thirty:x:30002:\n");
        assert!(
            read("shadow")
                .unwrap()
                .starts_with("root:*:1::::::\n30002:!:")
        );
        let shadow = fs::metadata(dir.path().join("layer/etc/shadow")).unwrap();
        assert_eq!(shadow.permissions().mode() & 0o7777, 0o600);
    }

    #[test]
    fn files_that_are_missing_are_made() {
        let (dir, why) = written(|image| fs::remove_dir(image.join("etc")).unwrap());
        assert_eq!(why, None);
        let etc = dir.path().join("layer/etc");
        assert_eq!(
            fs::read_to_string(etc.join("group")).unwrap(),
            "30002:x:30002:\n"
        );
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
        assert_eq!((mode(&etc), mode(&etc.join("shadow"))), (0o755, 0o640));
    }

    /// An image must not choose where on the host a file is read.
    #[test]
    fn links_are_left_alone() {
        let (dir, why) = written(|image| {
            symlink("/etc/shadow", image.join("etc/passwd")).unwrap();
        });
        assert_eq!(why, Some("/etc/passwd is a symbolic link"));
        assert_eq!(fs::read_dir(dir.path().join("layer")).unwrap().count(), 0);
        // Nor how long a start takes.
        let (_dir, why) = written(|image| {
            let long = fs::File::create(image.join("etc/group")).unwrap();
            long.set_len(FILE_BYTES_MAX + 1).unwrap();
        });
        assert_eq!(why, Some("/etc/group is longer than 1 MiB"));
        let (_dir, why) = written(|image| {
            fs::remove_dir(image.join("etc")).unwrap();
            symlink("/etc", image.join("etc")).unwrap();
        });
        assert_eq!(why, Some("/etc is a symbolic link"));
    }
}
