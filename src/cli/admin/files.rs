//! Files that are read or made for administrators: opened as who asks, and used as the
//! registry's user.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::super::Failure;
use super::super::args::AdminCommand;
use crate::registry::{Import, Registry};

/// The longest file that is imported: 10,000 containers have 3 MB.
const IMPORT_BYTES_MAX: u64 = 256 << 20;

/// What a command needs a file for.
pub(super) enum Opened {
    /// No file.
    None,
    Import(PathBuf, File),
    Backup {
        path: PathBuf,
        file: File,
        /// So that its name is on the disk, too.
        dir: File,
    },
    Restore(PathBuf, File),
}

impl Opened {
    /// Opens the file of a command.
    pub(super) fn of(command: &AdminCommand) -> Result<Opened, Failure> {
        let opened = match command {
            AdminCommand::Import { file } => {
                open(file).map(|open| Opened::Import(file.clone(), open))
            }
            AdminCommand::Restore { file } => {
                open(file).map(|open| Opened::Restore(file.clone(), open))
            }
            AdminCommand::Backup { file } => make(file),
            _ => Ok(Opened::None),
        };
        Ok(opened?)
    }

    pub(super) fn run(self, registry: &mut Registry) -> Result<(), Failure> {
        match self {
            Opened::None => Ok(()),
            Opened::Import(path, file) => import(registry, &path, file),
            Opened::Restore(path, mut file) => {
                let restored = registry.restore(&mut file);
                restored.map_err(|why| format!("{}: {why}", path.display()).into())
            }
            Opened::Backup {
                path,
                mut file,
                dir,
            } => {
                let written = registry.backup(&mut file);
                let Err(why) = written else {
                    return Ok(dir.sync_all()?);
                };
                // It cannot be removed by this user any more; and is no backup so.
                let emptied = file.set_len(0).is_ok();
                let left = if emptied { "empty" } else { "in part" };
                let path = path.display();
                Err(format!("{why}; {path} is there {left}: remove it").into())
            }
        }
    }
}

fn open(path: &Path) -> Result<File, String> {
    let failed = |cause: io::Error| format!("cannot read {}: {cause}", path.display());
    // A FIFO would keep it waiting.
    let flags = custom(rustix::fs::OFlags::NONBLOCK).map_err(failed)?;
    let opened = OpenOptions::new().read(true).custom_flags(flags).open(path);
    let file = opened.map_err(failed)?;
    match file.metadata().map_err(failed)?.is_file() {
        true => Ok(file),
        false => Err(format!("{} is no regular file: give one", path.display())),
    }
}

/// For its owner only: passwords' hashes will be in it.
fn make(path: &Path) -> Result<Opened, String> {
    let failed = |cause: io::Error| match cause.kind() {
        io::ErrorKind::AlreadyExists => {
            format!("{} is there already: choose another name", path.display())
        }
        _ => format!("cannot make {}: {cause}", path.display()),
    };
    let absolute = std::path::absolute(path).map_err(failed)?;
    let parent = absolute.parent().unwrap_or(Path::new("/"));
    let dir = File::open(parent).map_err(failed)?;
    let flags = custom(rustix::fs::OFlags::NOFOLLOW).map_err(failed)?;
    let file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .custom_flags(flags)
        .open(path)
        .map_err(failed)?;
    Ok(Opened::Backup {
        path: path.to_owned(),
        file,
        dir,
    })
}

fn custom(flags: rustix::fs::OFlags) -> io::Result<i32> {
    i32::try_from(flags.bits()).map_err(io::Error::other)
}

fn import(registry: &mut Registry, path: &Path, file: File) -> Result<(), Failure> {
    let shown = path.display();
    let mut bytes = Vec::new();
    let read = file.take(IMPORT_BYTES_MAX).read_to_end(&mut bytes);
    if u64::try_from(read?)? == IMPORT_BYTES_MAX {
        return Err(format!("{shown} is longer than 256M: import it in parts").into());
    }
    let parsed = Import::parse(&bytes);
    let parsed = parsed.map_err(|why| format!("{shown}: {why}: nothing was changed"))?;
    let done = registry.import(&parsed);
    let done = done.map_err(|why| format!("{shown}: {why}; nothing was changed"))?;
    println!(
        "imported: {} customers, {} servers, {} default distros, {} containers, {} distros",
        done.customers, done.servers, done.default_distros, done.containers, done.distros
    );
    Ok(())
}
