//! A user who is not root, in mount and process namespaces of its own, in which
//! `/dev/fuse` is a node that everybody may open, as udev makes it. What is left
//! there ends with the namespaces.

use std::path::Path;
use std::process::Command;

use super::program::{Ran, binary, run as run_command};

/// Who it is.
const USER: u32 = 1000;

/// As root: a small disk of the user's own with the program and the archive, a
/// device that everybody may open, and what `fuse.conf` says.
const PREPARE: &str = r#"
mount -t tmpfs -o mode=755 none /mnt
mknod -m "$DEVICE_MODE" /mnt/fuse c 10 229
mount --bind /mnt/fuse /dev/fuse
touch /etc/fuse.conf 2>/dev/null || true
printf '%s' "$FUSE_CONF" >/mnt/fuse.conf
mount --bind /mnt/fuse.conf /etc/fuse.conf
mkdir /mnt/home
cp "$BINARY" /mnt/distrofs
cp "$ARCHIVE" /mnt/home/image.tgz
cp "$ARCHIVE" /mnt/of-root.tgz
chmod 755 /mnt/distrofs
chown -R "$USER_ID:$USER_ID" /mnt/home
exec setpriv --reuid="$USER_ID" --regid="$USER_ID" --clear-groups \
  env -i -C /mnt/home HOME=/mnt/home PATH="$PATH" DFS=/mnt/distrofs sh -euc "$1"
"#;

/// Runs a script as the user, with a copy of `archive` as `image.tgz` in its home,
/// and the program as `$DFS`.
#[track_caller]
pub(crate) fn run(archive: &Path, script: &str) -> Ran {
    run_where(archive, "", "666", script)
}

/// The same where `/etc/fuse.conf` says `conf` and the device has a mode.
#[track_caller]
pub(crate) fn run_where(archive: &Path, conf: &str, device: &str, script: &str) -> Ran {
    let mut command = Command::new("unshare");
    command
        .args(["--mount", "--pid", "--fork", "--kill-child", "--mount-proc"])
        .args(["--propagation", "private", "sh", "-euc", PREPARE, "sh"])
        .arg(script)
        .env("BINARY", binary())
        .env("ARCHIVE", archive)
        .env("FUSE_CONF", conf)
        .env("DEVICE_MODE", device)
        .env("USER_ID", USER.to_string());
    run_command(&mut command)
}
