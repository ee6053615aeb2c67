//! A user who is not root: indexes, mounts through `fusermount3`, walks, reads
//! and unmounts in every way there is.
//!
//! Everything happens as uid 1000 in mount and process namespaces of its own,
//! in which `/dev/fuse` is a node that everybody may open, as udev makes it.
//! What is left there ends with the namespaces.

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use common::archive::{Packing, tar, untar};
use common::program::Ran;
use sha2::{Digest, Sha256};

/// Functions for the scripts of the user.
const HELPERS: &str = r#"
mkdir at
mount_it() { "$DFS" mount "$@" image.tgz at; }
daemon() { pgrep -x distrofs || true; }
is_mounted() { grep -q ' /mnt/home/at ' /proc/self/mountinfo; }
# It is gone, and so is who served it.
gone() {
  for try in $(seq 200); do
    if ! is_mounted && [ -z "$(daemon)" ]; then return 0; fi
    sleep 0.05
  done
  echo "still there: $(daemon)"; grep /mnt/home/at /proc/self/mountinfo; exit 1
}
"#;

/// A small archive with modes and links, and what tar makes of it.
struct Image {
    dir: tempfile::TempDir,
}

impl Image {
    fn new() -> Self {
        common::need_real_mounts();
        let dir = common::temp_dir();
        let tree = dir.path().join("tree");
        fs::create_dir_all(tree.join("bin/below")).expect("make directories");
        let noise = common::synthetic::Random(3).bytes(700_000);
        fs::write(tree.join("noise"), noise).expect("write a file");
        fs::write(tree.join("bin/sh"), "#!/bin/false\n").expect("write a file");
        fs::write(tree.join("bin/below/secret"), "mine\n").expect("write a file");
        fs::hard_link(tree.join("bin/sh"), tree.join("hard")).expect("link");
        std::os::unix::fs::symlink("bin/sh", tree.join("soft")).expect("link");
        for (name, mode) in [("bin/below/secret", 0o600), ("bin/sh", 0o4755)] {
            let mode = fs::Permissions::from_mode(mode);
            fs::set_permissions(tree.join(name), mode).expect("set the mode");
        }
        let plain = dir.path().join("tar");
        tar(&tree, &plain, &["--owner=0", "--group=0"]);
        let image = Self { dir };
        Packing::Gzip.pack(&plain, &image.archive());
        fs::create_dir(image.unpacked()).expect("make a directory");
        untar(&image.archive(), &image.unpacked());
        image
    }

    fn archive(&self) -> PathBuf {
        self.dir.path().join("image.tgz")
    }

    fn unpacked(&self) -> PathBuf {
        self.dir.path().join("unpacked")
    }

    /// Runs a script as the user.
    #[track_caller]
    fn user(&self, script: &str) -> Ran {
        self.user_where("", "666", script)
    }

    /// The same where `/etc/fuse.conf` says `conf` and the device has a mode.
    #[track_caller]
    fn user_where(&self, conf: &str, device: &str, script: &str) -> Ran {
        let script = format!("{HELPERS}\n{script}");
        common::user::run_where(&self.archive(), conf, device, &script)
    }
}

/// Lines of `find -printf '%P %y %m %s %n %l\n'` and of `sha256sum`, for a tree
/// that tar unpacked.
fn expected(root: &Path) -> (BTreeMap<String, String>, BTreeMap<String, String>) {
    let (mut attributes, mut sums) = (BTreeMap::new(), BTreeMap::new());
    for (path, node) in common::tree::tree(root) {
        let path = path.to_string_lossy().into_owned();
        let kind = match node.mode & libc::S_IFMT {
            libc::S_IFDIR => "d",
            libc::S_IFLNK => "l",
            _ => "f",
        };
        let size = if kind == "d" { 0 } else { node.size };
        let target = node.target.unwrap_or_default();
        let line = format!(
            "{kind} {:o} {size} {} {}",
            node.mode & 0o7777,
            node.links,
            target.display()
        );
        if kind == "f" {
            let content = fs::read(root.join(&path)).expect("read a file");
            let sum: String = Sha256::digest(content)
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect();
            sums.insert(path.clone(), sum);
        }
        attributes.insert(path, line);
    }
    (attributes, sums)
}

/// The lines between `name:` and the next line with a colon at its end, each
/// split at its tab.
fn part(said: &Ran, name: &str) -> BTreeMap<String, String> {
    let begin = format!("{name}:");
    let lines = said
        .stdout
        .lines()
        .skip_while(|line| *line != begin)
        .skip(1);
    let lines = lines.take_while(|line| !line.ends_with(':'));
    lines
        .filter_map(|line| line.split_once('\t'))
        .map(|(path, rest)| (path.to_owned(), rest.to_owned()))
        .collect()
}

#[test]
fn a_user_indexes_mounts_walks_and_reads() {
    let image = Image::new();
    let said = image.user(
        r#"
        "$DFS" index image.tgz
        mount_it
        echo attributes:
        find at \( -type d -printf '%P\t%y %m 0 %n %l\n' \) -o -printf '%P\t%y %m %s %n %l\n'
        echo sums:
        cd at; find . -type f -printf '%P\n' | while read -r f; do
          printf '%s\t' "$f"; sha256sum <"$f" | cut -d' ' -f1
        done; cd ..
        echo owners:
        find at -printf '%P\t%U:%G\n'
        echo options:
        grep ' /mnt/home/at ' /proc/self/mountinfo | sed 's/^/line\t/'
        echo beside:
        ls | sed 's/$/\t./'
        echo end:
        "$DFS" umount at
        gone
        "#,
    );
    let said = said.ok();
    let (attributes, sums) = expected(&image.unpacked());
    assert!(sums.len() > 3);
    assert_eq!(part(&said, "attributes"), attributes);
    assert_eq!(part(&said, "sums"), sums);
    // Everything is the user's, whoever the archive names: it is his file.
    let owners = part(&said, "owners");
    assert_eq!(owners.len(), attributes.len());
    assert!(
        owners.values().all(|owner| owner == "1000:1000"),
        "{owners:?}"
    );
    let options = &part(&said, "options")["line"];
    for option in ["ro,", "nosuid", "nodev", "fuse.distrofs", "user_id=1000"] {
        assert!(options.contains(option), "no {option}: {options}");
    }
    assert!(!options.contains("allow_other"), "{options}");
    assert!(part(&said, "beside").contains_key("image.tgz.dfsx"));
}

/// Each way to end it, with nothing left.
#[test]
fn a_user_ends_a_mount_in_every_way() {
    let image = Image::new();
    let ways = [
        ("fusermount3 -u", "fusermount3 -u at"),
        ("distrofs umount", r#""$DFS" umount at"#),
        ("SIGTERM", "kill -TERM $(daemon)"),
        ("SIGINT", "kill -INT $(daemon)"),
    ];
    for (what, way) in ways {
        let script = format!("mount_it\ncat at/bin/sh >/dev/null\n{way}\ngone\nls -A at");
        let said = image.user(&script).ok();
        assert_eq!(said.stdout, "", "{what}");
    }
}

#[test]
fn a_user_cannot_end_what_is_in_use_but_can_detach_it() {
    let image = Image::new();
    let said = image.user(
        r#"
        mount_it
        exec 3<at/bin/sh
        if "$DFS" umount at; then echo 'ended although in use'; exit 1; fi
        cat at/bin/sh
        "$DFS" umount --lazy at
        is_mounted && exit 1
        cat <&3
        exec 3<&-
        gone
        "#,
    );
    let said = said.ok();
    assert_eq!(said.stdout, "#!/bin/false\n".repeat(2), "{said:#?}");
    assert!(said.stderr.contains("in use"), "{said:#?}");
}

/// Others do not see it, unless the administrator and the user agree.
#[test]
fn a_user_lets_others_in_only_where_that_is_permitted() {
    let image = Image::new();
    let refused = image.user("mount_it -o allow_other");
    refused.refused(1, &["distrofs:", "user_allow_other", "/etc/fuse.conf"]);
    let script = r#"
        mount_it -o allow_other
        grep ' /mnt/home/at ' /proc/self/mountinfo
        "$DFS" umount at
        gone
    "#;
    let said = image.user_where("user_allow_other\n", "666", script).ok();
    assert!(said.stdout.contains("allow_other"), "{said:#?}");
}

#[test]
fn a_user_names_owners_as_root_does() {
    let image = Image::new();
    let said = image.user(
        r#"
        for owner in keep 5:6; do
          mount_it --owner "$owner"
          stat -c '%u:%g' at/noise
          "$DFS" umount at
          gone
        done
        "#,
    );
    assert_eq!(said.ok().stdout, "0:0\n5:6\n");
}

/// The index goes to the user's own directory then.
#[test]
fn a_user_mounts_what_he_may_only_read() {
    let image = Image::new();
    let said = image.user(
        r#"
        "$DFS" mount ../of-root.tgz at
        cat at/bin/sh
        "$DFS" umount at
        gone
        find .cache -type f -printf '%m %f
'
        "#,
    );
    let said = said.ok();
    let lines: Vec<&str> = said.stdout.lines().collect();
    assert_eq!(lines[0], "#!/bin/false");
    assert!(lines.len() == 2 && lines[1].ends_with(".dfsx"), "{said:#?}");
}

#[test]
fn a_device_for_root_only_is_said_to_be_that() {
    let image = Image::new();
    let said = image.user_where("", "600", "mount_it");
    said.refused(1, &["distrofs:", "/dev/fuse", "chmod 666"]);
}

/// Not his directory, no device, no helper: each is said as what it is.
#[test]
fn a_user_is_told_what_is_missing() {
    let image = Image::new();
    let table: [(&str, &str, &[&str]); 4] = [
        (
            "a directory of root's",
            r#""$DFS" mount image.tgz /mnt"#,
            &["fusermount3", "/mnt"],
        ),
        (
            "no helper",
            r#"PATH=/nowhere "$DFS" mount image.tgz at"#,
            &["fusermount3", "fuse3"],
        ),
        (
            "an archive of somebody else's",
            r#""$DFS" mount /etc/shadow at"#,
            &["/etc/shadow", "Permission denied"],
        ),
        (
            "an index that cannot be written",
            r#""$DFS" index --index /etc/index image.tgz"#,
            &["/etc/index", "Permission denied"],
        ),
    ];
    for (what, script, words) in table {
        println!("{what}");
        let said = image.user(script);
        let words: Vec<&str> = words.iter().copied().chain(["distrofs:"]).collect();
        said.refused(1, &words);
    }
}
