//! `distrofs image`.

use std::io::{self, Write};
use std::path::Path;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::super::args::{self, ImageList, Mode, OneImage};
use super::super::{Failure, Verdict, text};
use super::ask_text;
use crate::text::table::{Align, Table};
use crate::types::Timestamp;
use crate::wire::control::{ImageOf, Request};
use crate::wire::report::Status;
use crate::worker::questions::{
    Collected, Failed, ImageDetails, ImageInfo, Images, ProfileInfo, Question, Reclaimed, Verified,
    VersionInfo,
};

/// What a worker says.
#[derive(Deserialize)]
#[serde(untagged)]
enum Answer<T> {
    Failed(Failed),
    Done(T),
}

/// What there is in one home, in `docs/json.md`.
#[derive(Serialize)]
struct OfHome<T> {
    home: u32,
    #[serde(flatten)]
    answer: T,
}

pub(super) fn run(job: args::Image) -> Result<Verdict, Failure> {
    match job {
        args::Image::List(job) => list(&job)?,
        args::Image::Gc(job) => collect(&job)?,
        args::Image::Show(job) => show(&job)?,
        args::Image::Versions(job) => versions(&job)?,
        args::Image::Verify(job) => return verify(&job),
        args::Image::Reclaim(job) => return reclaim(&job),
        args::Image::Rollback(job) => {
            let path = job.one.image.path.clone();
            let to = job.version;
            change(&job.one, &Question::Rollback { path, to })?;
        }
        args::Image::Rm(job) => {
            let path = job.one.image.path.clone();
            let question = match job.version {
                Some(version) => Question::RemoveVersion { path, version },
                None => Question::Remove { path },
            };
            let info: ImageInfo = ask_of(&job.one.image, &job.one.service.run, &question)?;
            match (job.one.json, question) {
                (true, _) => print_json(&info)?,
                (false, Question::Remove { .. }) => println!("forgotten: {}", described(&info)),
                (false, _) => println!("{}", described(&info)),
            }
        }
        args::Image::Keep(job) => {
            let path = job.one.image.path.clone();
            let versions = job.versions;
            change(&job.one, &Question::Keep { path, versions })?;
        }
        args::Image::Chmod(job) => {
            let question = Question::Chmod {
                path: job.one.image.path.clone(),
                mode: match job.mode {
                    Mode::Archive => None,
                    Mode::Bits(bits) => Some(bits),
                },
                at: job.places,
            };
            change(&job.one, &question)?;
        }
    }
    Ok(Verdict::Good)
}

/// Has something done, and shows what the image is then.
fn change(one: &OneImage, question: &Question) -> Result<(), Failure> {
    let info: ImageInfo = ask_of(&one.image, &one.service.run, question)?;
    if one.json {
        return print_json(&info);
    }
    println!("{}", described(&info));
    for note in &info.notes {
        println!("  note: {note}");
    }
    Ok(())
}

fn list(job: &ImageList) -> Result<(), Failure> {
    let all = of_homes::<Images>(job, &Question::Images)?;
    if job.json {
        return print_json(&all);
    }
    let mut out = io::stdout();
    let mut table = Table::new([
        ("image", Align::Left),
        ("serves", Align::Left),
        ("versions", Align::Right),
        ("entries", Align::Right),
        ("archive", Align::Right),
        ("on top", Align::Left),
        ("taken in", Align::Left),
    ]);
    for OfHome { home, answer } in &all {
        for image in &answer.images {
            let current = image.versions.iter().find(|version| version.is_current);
            let or_none = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
            table.row([
                format!("{home}/{}", image.path),
                or_none(image.serves.map(|version| version.short())),
                image.versions.len().to_string(),
                or_none(current.map(|version| text::count(version.entries))),
                or_none(current.map(|version| text::bytes(version.bytes))),
                on_top(image),
                or_none(current.map(taken)),
            ]);
            for note in &image.notes {
                table.below(note);
            }
        }
    }
    match all.iter().all(|home| home.answer.images.is_empty()) {
        true => writeln!(out, "No images.")?,
        false => table.write(&mut out, "")?,
    }
    for OfHome { home, answer } in &all {
        for upload in &answer.uploads {
            let (name, state) = (&upload.name, &upload.state);
            writeln!(
                out,
                "{home}/{name}: {state} ({})",
                text::bytes(upload.bytes)
            )?;
        }
        for tree in &answer.exploded {
            writeln!(out, "{home}/{tree}: an exploded tree, as it is")?;
        }
        for error in &answer.damaged {
            writeln!(out, "{home}: {error}")?;
        }
    }
    Ok(())
}

fn collect(job: &ImageList) -> Result<(), Failure> {
    let all = of_homes::<Collected>(job, &Question::Collect)?;
    if job.json {
        return print_json(&all);
    }
    for OfHome { home, answer } in &all {
        let freed = text::bytes(answer.bytes);
        println!("{home}: {} archives removed, {freed}", answer.archives);
        if answer.in_use > 0 {
            println!("{home}: {} more when nobody uses them", answer.in_use);
        }
    }
    Ok(())
}

fn show(job: &OneImage) -> Result<(), Failure> {
    let path = job.image.path.clone();
    let details: ImageDetails = ask_of(&job.image, &job.service.run, &Question::Image { path })?;
    if job.json {
        return print_json(&details);
    }
    print!("{}", details.status);
    let Some(image) = details.image else {
        return Ok(());
    };
    if let Some(serves) = image.serves {
        println!("\nserves: {serves}");
    }
    for patch in &image.patches {
        println!("patch: {}, {}", patch.name, text::bytes(patch.bytes));
    }
    for change in &image.changes {
        println!("mode: {:04o} {}", change.mode, change.at);
    }
    if image.serves.is_some() {
        tell_of_start(job);
    }
    if image.hides_tree {
        println!("hides an exploded tree: `distrofs image reclaim` removes it");
    }
    Ok(())
}

/// Says what is known of starts of the version that is served.
fn tell_of_start(job: &OneImage) {
    let path = job.image.path.clone();
    let found: Result<ProfileInfo, _> =
        ask_of(&job.image, &job.service.run, &Question::Profile { path });
    match found {
        Ok(profile) => {
            let bytes = text::bytes(profile.bytes);
            println!("start profile: {} spans, {bytes}", profile.spans);
        }
        Err(_) => println!("start profile: none of this version"),
    }
}

fn versions(job: &OneImage) -> Result<(), Failure> {
    let path = job.image.path.clone();
    let details: ImageDetails = ask_of(&job.image, &job.service.run, &Question::Image { path })?;
    let versions = details.image.map(|image| image.versions);
    let versions = versions.unwrap_or_default();
    if job.json {
        return print_json(&versions);
    }
    let mut table = Table::new([
        ("version", Align::Left),
        ("", Align::Left),
        ("entries", Align::Right),
        ("archive", Align::Right),
        ("taken in", Align::Left),
        ("name", Align::Left),
    ]);
    for version in versions.iter().rev() {
        let current = if version.is_current { "current" } else { "" };
        table.row([
            version.sha256.short(),
            current.to_owned(),
            text::count(version.entries),
            text::bytes(version.bytes),
            taken(version),
            version.name.clone(),
        ]);
    }
    table.write(&mut io::stdout(), "")?;
    Ok(())
}

fn verify(job: &OneImage) -> Result<Verdict, Failure> {
    let path = job.image.path.clone();
    let verified: Verified = ask_of(&job.image, &job.service.run, &Question::Verify { path })?;
    match job.json {
        true => print_json(&verified)?,
        false => {
            for archive in &verified.archives {
                let right = text::bytes(archive.right_bytes);
                let version = archive.sha256.short();
                println!("{version} {}: {right} are right", archive.name);
                for problem in &archive.problems {
                    println!("  {problem}");
                }
            }
        }
    }
    if !verified.is_right && !job.json {
        println!("go back to another version (distrofs image rollback), or upload it again");
    }
    Ok(match verified.is_right {
        true => Verdict::Good,
        false => Verdict::Bad,
    })
}

fn reclaim(job: &OneImage) -> Result<Verdict, Failure> {
    let path = job.image.path.clone();
    let done: Reclaimed = ask_of(&job.image, &job.service.run, &Question::Reclaim { path })?;
    match job.json {
        true => print_json(&done)?,
        false => done.left.iter().for_each(|left| println!("left: {left}")),
    }
    Ok(match done.left.is_empty() {
        true => Verdict::Good,
        false => Verdict::Bad,
    })
}

fn described(image: &ImageInfo) -> String {
    let serves = match image.serves {
        Some(version) => format!("serves {}", version.short()),
        None => "serves nothing".to_owned(),
    };
    let count = image.versions.len();
    let top = on_top(image);
    format!("{}: {serves}, {count} versions, on top: {top}", image.path)
}

fn on_top(image: &ImageInfo) -> String {
    match (image.patches.len(), image.changes.len()) {
        (0, 0) => "-".to_owned(),
        (patches, changes) => format!("{patches} patches, {changes} modes"),
    }
}

fn taken(version: &VersionInfo) -> String {
    text::time(Timestamp {
        secs: i64::try_from(version.taken).unwrap_or(i64::MAX),
        nanos: 0,
    })
}

/// Asks all homes that are meant.
fn of_homes<T: DeserializeOwned>(
    job: &ImageList,
    question: &Question,
) -> Result<Vec<OfHome<T>>, Failure> {
    let run = &job.service.run;
    let homes = match job.home {
        Some(home) => vec![home],
        None => {
            let status: Status = serde_json::from_str(&ask_text(run, &Request::Status)?)?;
            status.homes.iter().map(|home| home.home).collect()
        }
    };
    let ask_one = |home| {
        Ok(OfHome {
            home,
            answer: ask(home, run, question)?,
        })
    };
    homes.into_iter().map(ask_one).collect()
}

/// Asks the worker that serves an image.
pub(in crate::cli) fn ask_of<T: DeserializeOwned>(
    image: &ImageOf,
    run: &Path,
    question: &Question,
) -> Result<T, Failure> {
    ask(image.home, run, question)
}

fn ask<T: DeserializeOwned>(home: u32, run: &Path, question: &Question) -> Result<T, Failure> {
    let question = serde_json::to_string(question)?;
    let answer = ask_text(run, &Request::Ask { home, question })?;
    match serde_json::from_str(&answer)? {
        Answer::Done(done) => Ok(done),
        Answer::Failed(failed) => Err(failed.error.into()),
    }
}

/// Prints an answer as a line of JSON.
pub(in crate::cli) fn print_json(value: &impl Serialize) -> Result<(), Failure> {
    let mut out = io::stdout();
    serde_json::to_writer(&mut out, value)?;
    Ok(writeln!(out)?)
}
