//! What `inspect` prints for people.

use std::io::{self, Write};
use std::ops::ControlFlow;

use super::Report;
use crate::cli::{Failure, text};
use crate::index::FileKind;
use crate::inspect::packages::{self, Package};
use crate::inspect::{CONTAINER_IDS, Category, Finding, Findings, Owners, State};
use crate::text::table::{Align, Table};

pub(super) fn write(report: &Report<'_>, out: &mut dyn Write) -> Result<(), Failure> {
    summary(report, out)?;
    requirements(report, out)?;
    for category in Category::ALL {
        findings(report, category, out)?;
    }
    owners("User", &report.survey.uids, report.named_max(), out)?;
    owners("Group", &report.survey.gids, report.named_max(), out)?;
    if report.job.packages {
        packages(report, out)?;
    }
    let (missing, warnings) = (report.count(State::Missing), report.count(State::Warning));
    writeln!(out)?;
    writeln!(
        out,
        "{}",
        match missing {
            0 => format!("Nothing that is required is missing; warnings: {warnings}"),
            _ => format!("Required and missing: {missing}; warnings: {warnings}"),
        }
    )?;
    Ok(())
}

fn summary(report: &Report<'_>, out: &mut dyn Write) -> io::Result<()> {
    let (archive, survey) = (&report.opened.archive, &report.survey);
    let mut table = Table::new([("", Align::Left), ("", Align::Left)]);
    let mut line = |name: &str, value: String| table.row([name.to_owned(), value]);
    line(
        "archive",
        format!(
            "{} ({}, {})",
            text::printable(archive.path().as_os_str().as_encoded_bytes()),
            report.kind.name(),
            text::bytes(archive.metadata().len())
        ),
    );
    line("sha256", report.sha256());
    line("root", report.root());
    line(
        "entries",
        format!(
            "{}: {} files, {} directories, {} symlinks, {} devices, {} pipes and sockets",
            text::count(survey.entries),
            text::count(survey.files),
            text::count(survey.directories),
            text::count(survey.symlinks),
            text::count(survey.devices),
            text::count(survey.pipes_and_sockets),
        ),
    );
    if let Some(newest) = &survey.newest {
        let (when, path) = (newest.time, text::printable(&newest.path));
        let age = age(report.days_since(when));
        line("newest", format!("{}, {age}: {path}", text::time(when)));
    }
    for database in &report.databases {
        let age = age(report.days_since(database.changed));
        let (when, path) = (text::time(database.changed), database.path);
        line(
            database.format.manager(),
            format!("last change {when}, {age}: {path}"),
        );
    }
    table.write(out, "")
}

fn age(days: i64) -> String {
    match days {
        ..0 => "in the future".to_owned(),
        0 => "today".to_owned(),
        1 => "1 day ago".to_owned(),
        _ => format!("{days} days ago"),
    }
}

fn requirements(report: &Report<'_>, out: &mut dyn Write) -> io::Result<()> {
    let columns = [
        ("required", Align::Left),
        ("state", Align::Left),
        ("found", Align::Left),
    ];
    let mut table = Table::new(columns);
    for row in &report.rows {
        table.row([
            row.what.to_owned(),
            row.state.name().to_owned(),
            row.found.clone(),
        ]);
        if let Some(advice) = &row.advice {
            table.below(&format!("why: {}", row.why));
            table.below(&format!("do:  {advice}"));
        }
    }
    writeln!(out)?;
    table.write(out, "")
}

fn findings(report: &Report<'_>, category: Category, out: &mut dyn Write) -> Result<(), Failure> {
    let total = report.survey.findings[category as usize];
    let title = match category {
        Category::WorldWritable => "World-writable (each container gets its own)",
        Category::SetId => "Set-user-id and set-group-id programs",
        Category::Device => "Device nodes (never served as devices)",
    };
    writeln!(out, "\n{title}: {}", text::count(total))?;
    let (index, root) = (report.subject.index(), report.subject.root());
    let mut named = 0;
    for found in Findings::new(index, root, category).take(report.named_max()) {
        let found = found?;
        writeln!(out, "  {}", finding(&found))?;
        named += 1;
    }
    more(total.saturating_sub(named), out)?;
    Ok(())
}

fn finding(found: &Finding) -> String {
    let inode = &found.inode;
    let device = match inode.kind {
        FileKind::CharDevice | FileKind::BlockDevice => {
            let rdev = inode.rdev.into();
            let (major, minor) = (rustix::fs::major(rdev), rustix::fs::minor(rdev));
            format!("{major:>4},{minor:<4} ")
        }
        _ => String::new(),
    };
    format!(
        "{}{} {:>5} {:>5} {device}{}",
        text::kind_letter(inode.kind),
        text::permissions(inode.perm),
        inode.uid,
        inode.gid,
        text::printable(&found.path)
    )
}

fn owners(
    title: &'static str,
    owners: &Owners,
    most: usize,
    out: &mut dyn Write,
) -> io::Result<()> {
    let mut table = Table::new([
        (title, Align::Right),
        ("entries", Align::Right),
        ("", Align::Left),
    ]);
    let (mut seen, mut left_out) = (0, owners.beyond());
    for (id, count) in owners.counts() {
        // Those that could be containers are named in any case.
        if seen >= most && id < CONTAINER_IDS {
            left_out += count;
            continue;
        }
        seen += 1;
        let flag = if id >= CONTAINER_IDS {
            "a container's id"
        } else {
            ""
        };
        table.row([id.to_string(), text::count(count), flag.to_owned()]);
    }
    writeln!(out)?;
    table.write(out, "  ")?;
    if left_out > 0 {
        writeln!(out, "  … and {} entries of others", text::count(left_out))?;
    }
    if owners.of_containers() > 0 {
        writeln!(
            out,
            "  {} entries are of ids from {CONTAINER_IDS} on: served with owners kept, they would belong to those containers",
            text::count(owners.of_containers())
        )?;
    }
    Ok(())
}

fn packages(report: &Report<'_>, out: &mut dyn Write) -> Result<(), Failure> {
    if report.databases.is_empty() {
        writeln!(out, "\nPackages: no records of dpkg, apk or rpm")?;
    }
    for database in &report.databases {
        let (manager, path) = (database.format.manager(), database.path);
        writeln!(out, "\nPackages of {manager} ({path})")?;
        let (mut count, mut failed) = (0_u64, None);
        let mut sink = |package: Package| {
            count += 1;
            let Package {
                name,
                version,
                architecture,
            } = &package;
            let [name, version, architecture] =
                [name, version, architecture].map(|text| text::printable(text.as_bytes()));
            let line = format!("  {name:<32} {version:<32} {architecture}");
            match writeln!(out, "{}", line.trim_end()) {
                Ok(()) => ControlFlow::Continue(()),
                Err(error) => {
                    failed = Some(error);
                    ControlFlow::Break(())
                }
            }
        };
        let listed = packages::list(report.subject, database, &report.scratch, &mut sink);
        if let Some(error) = failed {
            return Err(error.into());
        }
        writeln!(out, "  {} packages", text::count(count))?;
        if let Err(problem) = listed {
            writeln!(out, "  incomplete: {problem}")?;
        }
    }
    Ok(())
}

fn more(left_out: u64, out: &mut dyn Write) -> io::Result<()> {
    if left_out > 0 {
        writeln!(out, "  … and {} more (--all)", text::count(left_out))?;
    }
    Ok(())
}
