//! What `inspect --json` prints: one object. Its names are an interface,
//! documented in `docs/json.md`.
//!
//! Lists of paths and packages are serialized while they are found.

use std::cell::RefCell;
use std::io::{self, Write};
use std::ops::ControlFlow;

use serde::ser::{Error, SerializeSeq};
use serde::{Serialize, Serializer};

use super::Report;
use crate::cli::{Failure, text};
use crate::index::FileKind;
use crate::inspect::packages::{self, Database, Package};
use crate::inspect::{Category, Finding, Findings, Owners, Row, State};
use crate::types::Timestamp;

#[derive(Serialize)]
struct Printed<'a> {
    archive: String,
    kind: &'static str,
    archive_bytes: u64,
    sha256: String,
    index: String,
    root: String,
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

#[derive(Serialize)]
struct Counts {
    entries: u64,
    files: u64,
    directories: u64,
    symlinks: u64,
    devices: u64,
    pipes_and_sockets: u64,
}

#[derive(Serialize)]
struct Newest {
    path: String,
    #[serde(flatten)]
    at: Age,
}

#[derive(Serialize)]
struct Age {
    mtime: i64,
    time: String,
    days: i64,
}

#[derive(Serialize)]
struct Requirement<'a> {
    what: &'a str,
    state: &'static str,
    found: &'a str,
    why: &'a str,
    advice: Option<&'a str>,
}

pub(super) fn write(report: &Report<'_>, out: &mut dyn Write) -> Result<(), Failure> {
    let (archive, survey) = (&report.opened.archive, &report.survey);
    let problems: Vec<_> = report
        .databases
        .iter()
        .map(|_| RefCell::new(None))
        .collect();
    let printed = Printed {
        archive: archive.path().display().to_string(),
        kind: report.kind.name(),
        archive_bytes: archive.metadata().len(),
        sha256: report.sha256(),
        index: report.opened.index.place.display().to_string(),
        root: report.root(),
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
            at: age(report, newest.time),
        }),
        requirements: report.rows.iter().map(requirement).collect(),
        missing: report.count(State::Missing),
        warnings: report.count(State::Warning),
        world_writable: Paths::new(report, Category::WorldWritable),
        setid: Paths::new(report, Category::SetId),
        devices: Paths::new(report, Category::Device),
        users: Ids::new(&survey.uids),
        groups: Ids::new(&survey.gids),
        package_databases: report
            .databases
            .iter()
            .zip(&problems)
            .map(|(database, problem)| Records::new(report, database, problem))
            .collect(),
    };
    serde_json::to_writer(&mut *out, &printed).map_err(io::Error::from)?;
    writeln!(out)?;
    Ok(())
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
#[derive(Serialize)]
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

struct PathList<'a> {
    report: &'a Report<'a>,
    category: Category,
}

#[derive(Serialize)]
struct Found {
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
        let mut list = serializer.serialize_seq(None)?;
        for found in all.take(self.report.named_max()) {
            list.serialize_element(&found_of(&found.map_err(S::Error::custom)?))?;
        }
        list.end()
    }
}

fn found_of(found: &Finding) -> Found {
    let inode = &found.inode;
    let is_device = matches!(inode.kind, FileKind::CharDevice | FileKind::BlockDevice);
    let rdev = inode.rdev.into();
    Found {
        path: lossy(&found.path),
        kind: text::kind(inode.kind),
        mode: format!("{:04o}", inode.perm),
        uid: inode.uid,
        gid: inode.gid,
        device: is_device.then(|| [rustix::fs::major(rdev), rustix::fs::minor(rdev)]),
    }
}

#[derive(Serialize)]
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

struct IdList<'a>(&'a Owners);

#[derive(Serialize)]
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
#[derive(Serialize)]
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

struct PackageList<'a> {
    report: &'a Report<'a>,
    database: &'a Database,
    problem: &'a RefCell<Option<String>>,
}

#[derive(Serialize)]
struct Listed<'a> {
    name: &'a str,
    version: &'a str,
    architecture: &'a str,
}

impl PackageList<'_> {
    fn is_unwanted(&self) -> bool {
        !self.report.job.packages
    }
}

impl Serialize for PackageList<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_seq(None)?;
        let mut failed = None;
        let mut sink = |package: Package| {
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
        let report = self.report;
        let listed = packages::list(report.subject, self.database, &report.scratch, &mut sink);
        if let Some(error) = failed {
            return Err(error);
        }
        *self.problem.borrow_mut() = listed.err().map(|problem| problem.to_string());
        list.end()
    }
}
