//! [`Found`]: what was found in an image, as JSON. Its names are an interface,
//! documented in `docs/json.md`.
//!
//! Guarantees: lists of paths and packages are serialized while they are found; what
//! is written of them is within [`Limits`].

use std::cell::{Cell, RefCell};
use std::ops::ControlFlow;
use std::path::PathBuf;

use serde::ser::{Error, SerializeSeq};
use serde::{Serialize, Serializer};

use super::packages::{self, Database, Package};
use super::{Category, Finding, Findings, Owners, Row, State, Subject, Survey};
use crate::index::{EntryName, FileKind};
use crate::text;
use crate::types::{Ino, Timestamp};

const SECONDS_A_DAY: i64 = 86_400;

/// What a member of a list takes besides its texts, at most.
const MEMBER_BYTES: usize = 160;

/// How much is written.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Paths of each kind.
    pub paths: usize,
    /// Bytes of each of those lists.
    pub path_bytes: usize,
    /// Packages of each database, if they are listed.
    pub packages: Option<usize>,
    /// Bytes of all lists of packages.
    pub package_bytes: usize,
}

/// What there is to say of an image.
#[derive(Debug)]
pub struct Report<'a> {
    /// The image.
    pub subject: &'a Subject,
    /// What a launcher needs.
    pub rows: &'a [Row],
    /// What was counted.
    pub survey: &'a Survey,
    /// Where packages are recorded.
    pub databases: &'a [Database],
    /// Where a package database may be copied to.
    pub scratch: &'a [PathBuf],
    /// Seconds since 1970.
    pub now: i64,
    /// How much to say.
    pub limits: Limits,
    /// Why packages of each database are not all there.
    problems: Vec<RefCell<Option<String>>>,
    /// What is left of the bytes for packages.
    package_bytes: Cell<usize>,
    /// Lists that are longer than what was written.
    truncated: RefCell<Vec<String>>,
}

impl<'a> Report<'a> {
    /// What to say of `subject`, of which this was found `now`, in seconds since 1970.
    pub fn new(
        subject: &'a Subject,
        (rows, survey, databases): (&'a [Row], &'a Survey, &'a [Database]),
        scratch: &'a [PathBuf],
        now: i64,
        limits: Limits,
    ) -> Self {
        Self {
            subject,
            rows,
            survey,
            databases,
            scratch,
            now,
            limits,
            problems: databases.iter().map(|_| RefCell::default()).collect(),
            package_bytes: Cell::new(limits.package_bytes),
            truncated: RefCell::default(),
        }
    }

    /// To be serialized, once.
    pub fn found(&self) -> Found<'_> {
        let survey = self.survey;
        let problems = self.databases.iter().zip(&self.problems);
        Found {
            counts: Counts {
                entries: survey.entries,
                files: survey.files,
                directories: survey.directories,
                symlinks: survey.symlinks,
                devices: survey.devices,
                pipes_and_sockets: survey.pipes_and_sockets,
            },
            newest: survey.newest.as_ref().map(|newest| Newest {
                path: lossy(&newest.path),
                at: age(self, newest.time),
            }),
            requirements: self.rows.iter().map(requirement).collect(),
            missing: self.count(State::Missing),
            warnings: self.count(State::Warning),
            world_writable: Paths::new(self, Category::WorldWritable),
            setid: Paths::new(self, Category::SetId),
            devices: Paths::new(self, Category::Device),
            users: Ids::new(&survey.uids),
            groups: Ids::new(&survey.gids),
            package_databases: problems
                .map(|(database, problem)| Records::new(self, database, problem))
                .collect(),
        }
    }

    /// The names of lists that are longer than what was written, to be serialized
    /// behind what was found.
    pub fn truncated(&self) -> Truncated<'_> {
        Truncated(&self.truncated)
    }

    /// Rows in this state.
    pub fn count(&self, state: State) -> usize {
        self.rows.iter().filter(|row| row.state == state).count()
    }

    /// Whole days since `time`; negative in the future.
    pub fn days_since(&self, time: Timestamp) -> i64 {
        self.now.saturating_sub(time.secs).div_euclid(SECONDS_A_DAY)
    }

    fn is_truncated(&self, list: &str) {
        let mut truncated = self.truncated.borrow_mut();
        if truncated.iter().all(|other| other != list) {
            truncated.push(list.to_owned());
        }
    }
}

/// The path in the archive of what is the root of an image, unless it was chosen.
pub fn root_of(subject: &Subject) -> String {
    let root = || "/".to_owned();
    if subject.root() == Ino::ROOT {
        return root();
    }
    let all = subject.index().dirents(Ino::ROOT, 0).ok();
    let top = all.and_then(|mut all| all.next()?.ok());
    top.map_or_else(root, |top| format!("/{}", EntryName::new(top.name)))
}

/// What a kind of file is called.
pub fn kind_name(kind: FileKind) -> &'static str {
    match kind {
        FileKind::Regular => "file",
        FileKind::Directory => "directory",
        FileKind::Symlink => "symlink",
        FileKind::Fifo => "fifo",
        FileKind::Socket => "socket",
        FileKind::CharDevice => "character device",
        FileKind::BlockDevice => "block device",
    }
}

/// What was found, to be serialized. Its fields may follow others.
#[derive(Debug, Serialize)]
pub struct Found<'a> {
    counts: Counts,
    newest: Option<Newest>,
    requirements: Vec<Requirement<'a>>,
    missing: usize,
    warnings: usize,
    world_writable: Paths<'a>,
    setid: Paths<'a>,
    devices: Paths<'a>,
    users: Ids<'a>,
    groups: Ids<'a>,
    package_databases: Vec<Records<'a>>,
}

/// The names of lists that are longer than what was written.
#[derive(Debug)]
pub struct Truncated<'a>(&'a RefCell<Vec<String>>);

impl Serialize for Truncated<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.borrow().serialize(serializer)
    }
}

/// Bytes of a text in JSON.
fn json_bytes(text: &str) -> usize {
    let bytes = text.bytes().map(|byte| match byte {
        0..0x20 | 0x7f => 6,
        b'"' | b'\\' => 2,
        _ => 1,
    });
    bytes.sum()
}

#[derive(Debug, Serialize)]
struct Counts {
    entries: u64,
    files: u64,
    directories: u64,
    symlinks: u64,
    devices: u64,
    pipes_and_sockets: u64,
}

#[derive(Debug, Serialize)]
struct Newest {
    path: String,
    #[serde(flatten)]
    at: Age,
}

#[derive(Debug, Serialize)]
struct Age {
    mtime: i64,
    time: String,
    days: i64,
}

#[derive(Debug, Serialize)]
struct Requirement<'a> {
    what: &'a str,
    state: &'static str,
    found: &'a str,
    why: &'a str,
    advice: Option<&'a str>,
}

fn requirement(row: &Row) -> Requirement<'_> {
    Requirement {
        what: row.what,
        state: row.state.name(),
        found: &row.found,
        why: row.why,
        advice: row.advice.as_deref(),
    }
}

fn age(report: &Report<'_>, time: Timestamp) -> Age {
    Age {
        mtime: time.secs,
        time: text::time(time),
        days: report.days_since(time),
    }
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The findings of one category.
#[derive(Debug, Serialize)]
struct Paths<'a> {
    total: u64,
    paths: PathList<'a>,
}

impl<'a> Paths<'a> {
    fn new(report: &'a Report<'a>, category: Category) -> Self {
        Self {
            total: report.survey.findings[category as usize],
            paths: PathList { report, category },
        }
    }
}

#[derive(Debug)]
struct PathList<'a> {
    report: &'a Report<'a>,
    category: Category,
}

impl PathList<'_> {
    fn category_name(&self) -> &'static str {
        match self.category {
            Category::WorldWritable => "world_writable",
            Category::SetId => "setid",
            Category::Device => "devices",
        }
    }
}

#[derive(Debug, Serialize)]
struct FoundPath {
    path: String,
    kind: &'static str,
    mode: String,
    uid: u32,
    gid: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    device: Option<[u32; 2]>,
}

impl Serialize for PathList<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let subject = self.report.subject;
        let all = Findings::new(subject.index(), subject.root(), self.category);
        let limits = self.report.limits;
        let mut list = serializer.serialize_seq(None)?;
        let mut left = limits.path_bytes;
        for (written, found) in all.enumerate() {
            let found = found_of(&found.map_err(S::Error::custom)?);
            let bytes = json_bytes(&found.path).saturating_add(MEMBER_BYTES);
            if written == limits.paths || bytes > left {
                self.report.is_truncated(self.category_name());
                break;
            }
            left = left.saturating_sub(bytes);
            list.serialize_element(&found)?;
        }
        list.end()
    }
}

fn found_of(found: &Finding) -> FoundPath {
    let inode = &found.inode;
    let is_device = matches!(inode.kind, FileKind::CharDevice | FileKind::BlockDevice);
    let rdev = inode.rdev.into();
    FoundPath {
        path: lossy(&found.path),
        kind: kind_name(inode.kind),
        mode: format!("{:04o}", inode.perm),
        uid: inode.uid,
        gid: inode.gid,
        device: is_device.then(|| [rustix::fs::major(rdev), rustix::fs::minor(rdev)]),
    }
}

#[derive(Debug, Serialize)]
struct Ids<'a> {
    ids: IdList<'a>,
    /// Entries of ids that are not in the list: only of images with thousands.
    others_entries: u64,
    container_entries: u64,
}

impl<'a> Ids<'a> {
    fn new(owners: &'a Owners) -> Self {
        Self {
            ids: IdList(owners),
            others_entries: owners.beyond(),
            container_entries: owners.of_containers(),
        }
    }
}

#[derive(Debug)]
struct IdList<'a>(&'a Owners);

#[derive(Debug, Serialize)]
struct Id {
    id: u32,
    entries: u64,
}

impl Serialize for IdList<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.counts().map(|(id, entries)| Id { id, entries }))
    }
}

/// The records of a package manager. The problem is known when the list has
/// been written, and so comes behind it.
#[derive(Debug, Serialize)]
struct Records<'a> {
    manager: &'static str,
    format: &'static str,
    path: &'static str,
    changed: Age,
    #[serde(skip_serializing_if = "PackageList::is_unwanted")]
    packages: PackageList<'a>,
    problem: &'a RefCell<Option<String>>,
}

impl<'a> Records<'a> {
    fn new(
        report: &'a Report<'a>,
        database: &'a Database,
        problem: &'a RefCell<Option<String>>,
    ) -> Self {
        Self {
            manager: database.format.manager(),
            format: database.format.name(),
            path: database.path,
            changed: age(report, database.changed),
            packages: PackageList {
                report,
                database,
                problem,
            },
            problem,
        }
    }
}

#[derive(Debug)]
struct PackageList<'a> {
    report: &'a Report<'a>,
    database: &'a Database,
    problem: &'a RefCell<Option<String>>,
}

#[derive(Debug, Serialize)]
struct Listed<'a> {
    name: &'a str,
    version: &'a str,
    architecture: &'a str,
}

impl PackageList<'_> {
    fn is_unwanted(&self) -> bool {
        self.report.limits.packages.is_none()
    }
}

impl Serialize for PackageList<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_seq(None)?;
        let report = self.report;
        let max = report.limits.packages.unwrap_or(0);
        let (mut written, mut failed) = (0, None);
        let mut sink = |package: Package| {
            let texts = [&package.name, &package.version, &package.architecture];
            let bytes: usize = texts.iter().map(|text| json_bytes(text)).sum();
            let left = report.package_bytes.get();
            let left = left.checked_sub(bytes.saturating_add(MEMBER_BYTES / 2));
            let Some(left) = left.filter(|_| written < max) else {
                report.is_truncated("package_databases");
                return ControlFlow::Break(());
            };
            report.package_bytes.set(left);
            written += 1;
            let listed = Listed {
                name: &package.name,
                version: &package.version,
                architecture: &package.architecture,
            };
            match list.serialize_element(&listed) {
                Ok(()) => ControlFlow::Continue(()),
                Err(error) => {
                    failed = Some(error);
                    ControlFlow::Break(())
                }
            }
        };
        let listed = packages::list(report.subject, self.database, report.scratch, &mut sink);
        if let Some(error) = failed {
            return Err(error);
        }
        *self.problem.borrow_mut() = listed.err().map(|problem| problem.to_string());
        list.end()
    }
}
