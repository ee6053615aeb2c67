//! The laboratory: what is recorded of real mounts.

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use common::archive::{Packing, debian_tgz, tar};
use common::mount::{Mount, unmount_unused};
use common::program::{binary, distrofs, eventually, run, wait};
use distrofs::trace::{Read, Trace, TraceError};
use rustix::process::{Pid, Signal, kill_process};

const LIMIT: Duration = Duration::from_secs(60);

/// An image of `files` files of so many bytes that do not compress to nothing.
fn archive(dir: &Path, files: u64, bytes: usize) -> PathBuf {
    let tree = dir.join("tree");
    fs::create_dir(&tree).expect("make a directory");
    for file in 0..files {
        let mut state = file + 1;
        let content: Vec<u8> = std::iter::repeat_with(|| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            b'a' + u8::try_from(state >> 60).expect("four bits")
        })
        .take(bytes)
        .collect();
        fs::write(tree.join(format!("file{file}")), content).expect("write");
    }
    let (plain, packed) = (dir.join("tar"), dir.join("image.tgz"));
    tar(&tree, &plain, &[]);
    Packing::Gzip.pack(&plain, &packed);
    packed
}

fn trace(path: &Path) -> Trace {
    Trace::open(path, false).unwrap_or_else(|error| panic!("{error}"))
}

/// A recording that is under way; ended when it is dropped.
struct Recording(Child);

impl Recording {
    fn of(mounts: &[&Path], out: &Path) -> Recording {
        let child = Command::new(binary())
            .args(["lab", "record", "--json", "-o"])
            .arg(out)
            .args(mounts)
            .stdout(Stdio::piped())
            .spawn()
            .expect("start recording");
        let is_begun = eventually(LIMIT, || fs::metadata(out).is_ok());
        assert!(is_begun, "nothing is recorded");
        Recording(child)
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.0.id()).expect("a process"));
        kill_process(pid.expect("a process"), signal).expect("send a signal");
    }

    fn end(mut self) {
        self.signal(Signal::INT);
        let status = wait(&mut self.0, LIMIT).expect("recording ends");
        assert!(status.success());
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        common::attempt(self.0.kill());
        common::attempt(self.0.wait());
    }
}

/// Each byte of each file is in some record, once, and where its archive says.
#[test]
fn what_is_read_is_recorded_once() {
    let dir = common::temp_dir();
    let archive = archive(dir.path(), 20, 300_000);
    let mount = Mount::new(&archive, [""; 0]);
    let out = dir.path().join("trace");
    let recording = Recording::of(&[mount.path()], &out);
    for file in 0..20 {
        fs::read(mount.path().join(format!("file{file}"))).expect("read");
    }
    recording.end();
    let trace = trace(&out);
    let totals = trace.totals();
    assert!(totals.records > 20 && totals.left_out == 0, "{totals:?}");
    let [image] = trace.images() else {
        panic!("one image")
    };
    assert!(image.name.ends_with("image.tgz"), "{}", image.name);
    let plain = fs::read(dir.path().join("tar")).expect("read");
    assert_eq!(image.stream_bytes, plain.len() as u64);
    assert!(image.spans.len() > 10 && image.spans[0].stream == 0);
    let (mut bytes, mut blocks) = (0, 0);
    for read in trace.records() {
        bytes += u64::from(read.len);
        let stream = usize::try_from(read.stream.expect("no holes")).expect("small");
        let content = fs::read(mount.path().join(name_of(mount.path(), read.ino)));
        let content = content.expect("read");
        let (at, len) = (
            usize::try_from(read.offset).expect("small"),
            read.len as usize,
        );
        assert_eq!(plain[stream..stream + len], content[at..at + len]);
        let outcome = read.outcome;
        blocks += outcome.hits + outcome.joined + outcome.misses;
        assert!(outcome.hits + outcome.joined + outcome.misses > 0);
    }
    assert_eq!(bytes, 20 * 300_000);
    // At least a block for each 16 KiB.
    assert!(blocks >= 20 * 300_000 / 16_384, "{blocks}");
}

fn name_of(mount: &Path, ino: u64) -> String {
    use std::os::unix::fs::DirEntryExt;
    let found = fs::read_dir(mount)
        .expect("list")
        .map(|entry| entry.expect("an entry"))
        .find(|entry| entry.ino() == ino);
    let name = found.expect("a file of that inode").file_name();
    name.into_string().expect("a plain name")
}

#[test]
fn several_mounts_share_a_trace_and_one_that_goes_ends_nothing() {
    let dir = common::temp_dir();
    let archive = archive(dir.path(), 2, 100_000);
    let (first, second) = (Mount::new(&archive, [""; 0]), Mount::new(&archive, [""; 0]));
    let out = dir.path().join("trace");
    let inside = second.path().join("file0");
    let recording = Recording::of(&[first.path(), &inside], &out);
    fs::read(first.path().join("file0")).expect("read");
    // Recording does not keep it busy.
    unmount_unused(first.path());
    fs::read(second.path().join("file1")).expect("read");
    recording.end();
    let trace = trace(&out);
    assert_eq!(trace.images().len(), 2);
    let of = |image| trace.records().filter(|read| read.image == image).count();
    assert!(of(1) > 0, "the second goes on");
    assert!(trace.records().map(|read| read.at_us).is_sorted());
}

/// The reader of a mount is told why it cannot record, and what to do.
#[test]
fn who_cannot_record_is_told() {
    let dir = common::temp_dir();
    let archive = archive(dir.path(), 1, 1000);
    let mount = Mount::new(&archive, [""; 0]);
    let (out, other) = (dir.path().join("trace"), dir.path().join("other"));
    let recording = Recording::of(&[mount.path()], &out);
    let again = |path: &Path| run(distrofs(["lab", "record", "-o"]).arg(&other).arg(path));
    again(mount.path()).refused(1, &["somebody else records"]);
    again(dir.path()).refused(1, &["is not a distrofs mount"]);
    again(&dir.path().join("nothing")).refused(1, &["nothing", "No such file"]);
    assert!(!other.exists(), "nothing is left behind");
    recording.end();
}

/// A recording that is killed leaves a trace that is cut off, which is said.
#[test]
fn a_killed_recording_is_cut_off_and_what_is_there_may_be_taken() {
    let dir = common::temp_dir();
    let archive = archive(dir.path(), 4, 2_000_000);
    let mount = Mount::new(&archive, [""; 0]);
    let out = dir.path().join("trace");
    let recording = Recording::of(&[mount.path()], &out);
    fs::read(mount.path().join("file0")).expect("read");
    recording.signal(Signal::KILL);
    drop(recording);
    let cut = Trace::open(&out, false);
    // What was buffered is lost; before the header was written it is no trace at all.
    assert!(
        matches!(cut, Err(TraceError::Truncated { .. } | TraceError::Foreign)),
        "{cut:?}"
    );
    // The mount serves on.
    fs::read(mount.path().join("file1")).expect("read");
}

#[test]
fn a_command_is_traced_from_its_start() {
    common::need_real_mounts();
    let dir = common::temp_dir();
    let out = dir.path().join("trace");
    let traced = |script: &str| {
        run(distrofs(["run", "--trace"])
            .arg(&out)
            .arg(debian_tgz())
            .args(["--", "/bin/sh", "-c", script]))
    };
    let ran = traced("cat /usr/bin/perl > /dev/null; exit 3");
    assert_eq!(ran.status.code(), Some(3), "{ran:#?}");
    assert!(ran.stderr.contains("records of"), "{ran:#?}");
    let trace = trace(&out);
    assert!(trace.totals().records > 10 && trace.is_whole());
    let first = trace.records().next().expect("a record");
    assert!(first.outcome.misses > 0, "{first:?}");
    let is_slow = |read: Read| read.us > 0;
    assert!(trace.records().any(is_slow));
    let origin = trace.origin();
    assert!(
        origin
            .command
            .as_ref()
            .is_some_and(|it| it.contains("--trace"))
    );
    assert!(origin.cache_bytes.is_some_and(|bytes| bytes > 1 << 20));
}

/// What of a lab command is JSON.
#[track_caller]
fn lab<S: AsRef<std::ffi::OsStr>>(args: impl IntoIterator<Item = S>) -> serde_json::Value {
    run(distrofs(["lab"]).args(args)).ok().json()
}

/// A trace of reads here and there and of one in order, with its archive.
fn recorded(dir: &Path) -> (PathBuf, PathBuf) {
    let archive = archive(dir, 40, 400_000);
    let out = dir.join("trace");
    let mount = Mount::new(&archive, ["--memory", "16M"]);
    let recording = Recording::of(&[mount.path()], &out);
    for n in 0..120_u64 {
        let name = format!("file{}", n * 17 % 40);
        fs::read(mount.path().join(name)).expect("read");
        // The kernel keeps pages; what it is to ask again has to be forgotten.
        if n % 20 == 19 {
            fs::write("/proc/sys/vm/drop_caches", "1").expect("drop caches");
        }
    }
    recording.end();
    (archive, out)
}

/// The cache that serves and its simulation find the same blocks.
#[test]
fn a_real_replay_agrees_with_the_simulated_one() {
    let dir = common::temp_dir();
    let (archive, out) = recorded(dir.path());
    let args = |more: &[&str]| {
        let mut args = vec![
            "replay".into(),
            out.clone().into_os_string(),
            "--json".into(),
        ];
        args.extend(["--cache", "1M,4M,16M"].map(Into::into));
        args.extend(more.iter().map(Into::into));
        args
    };
    let archive = archive.to_str().expect("a plain name");
    let ratios = |found: serde_json::Value| -> Vec<f64> {
        let results = found["results"].as_array().expect("results").clone();
        let ratio = |one: &serde_json::Value| one["hit_ratio"].as_f64().expect("a ratio");
        results.iter().map(ratio).collect()
    };
    let simulated = ratios(lab(args(&["--policy", "lru,sieve"])));
    let real = ratios(lab(args(&[
        "--policy",
        "lru,sieve",
        "--archive",
        archive,
        "--real",
    ])));
    assert_eq!(simulated.len(), 6);
    for (one, other) in simulated.iter().zip(&real) {
        assert!((one - other).abs() < 1e-9, "{simulated:?} {real:?}");
    }
    assert!(simulated[0] < simulated[2], "a larger cache has more");
    // Spans of an index that is made for it, and is gone afterwards.
    let fine = lab(args(&[
        "--span",
        "64K,512K",
        "--archive",
        archive,
        "--real",
    ]));
    let fine = fine["results"].as_array().expect("results");
    assert_eq!(fine.len(), 6);
    let decoded = |at: usize| fine[at]["decoding"]["decoded_per_served"].as_f64();
    assert!(decoded(0) < decoded(3), "shorter spans decode less");
    let all = lab(args(&["--policy", "lru,fifo,sieve,s3fifo,arc,opt"]));
    let ratios = ratios(all);
    let (opt, others) = (&ratios[15..], &ratios[..15]);
    for (at, ratio) in others.iter().enumerate() {
        assert!(*ratio <= opt[at % 3] + 1e-12, "OPT is beaten: {ratios:?}");
    }
}

#[test]
fn other_archives_and_bad_traces_are_refused() {
    let dir = common::temp_dir();
    let (archive, out) = recorded(dir.path());
    let replay = |trace: &Path, more: &[&std::ffi::OsStr]| {
        run(distrofs(["lab", "replay"]).arg(trace).args(more))
    };
    replay(&archive, &[]).refused(1, &["not a trace", "lab record"]);
    let long = dir.path().join("long");
    run(distrofs([
        "lab",
        "synth",
        "zipf",
        "--requests",
        "20000",
        "--image",
        "64M",
        "-o",
    ])
    .arg(&long))
    .ok();
    let whole = fs::read(&long).expect("read");
    let cut = dir.path().join("cut");
    fs::write(&cut, &whole[..whole.len() / 2]).expect("write");
    replay(&cut, &[]).refused(1, &["cut off", "--partial"]);
    replay(&cut, &["--partial".as_ref()]).ok();
    let mut damaged = whole.clone();
    let middle = damaged.len() / 2;
    damaged[middle] ^= 1;
    fs::write(&cut, damaged).expect("write");
    replay(&cut, &["--partial".as_ref()]).refused(1, &["damaged"]);
    replay(&out, &["--real".as_ref()]).refused(2, &["--archive"]);
    let other = debian_tgz();
    replay(&out, &["--archive".as_ref(), other.as_os_str()]).refused(1, &["not the archive"]);
    replay(&out, &["--policy".as_ref(), "best".as_ref()]).refused(2, &["sieve"]);
    replay(&out, &["--block".as_ref(), "20K".as_ref()]).refused(1, &["16K"]);
}

/// From a trace alone: the archive is gone.
#[test]
fn all_is_shown_on_terminals_in_files_and_for_scripts() {
    let dir = common::temp_dir();
    let out = dir.path().join("trace");
    for kind in ["zipf", "scan", "scan+zipf", "boot"] {
        let again = dir.path().join("again");
        for file in [&out, &again] {
            let made = ["--requests", "20000", "--image", "64M", "-o"];
            run(distrofs(["lab", "synth", kind]).args(made).arg(file)).ok();
        }
        let reads = |path: &Path| trace(path).records().collect::<Vec<_>>();
        assert_eq!(reads(&out), reads(&again), "{kind}");
        assert_eq!(
            reads(&out).iter().filter(|read| !read.continues).count(),
            20_000
        );
        let curves = run(distrofs(["lab", "mrc", "--json"]).arg(&out))
            .ok()
            .json();
        let exact = curves["exact"]["points"].as_array().expect("points");
        let ratios: Vec<_> = exact
            .iter()
            .map(|point| point["miss_ratio"].as_f64())
            .collect();
        assert!(ratios.is_sorted_by(|a, b| a >= b), "{kind}: {ratios:?}");
        assert!(curves["size"]["mean_absolute_error"].as_f64() < Some(0.2));
        let advice = run(distrofs(["lab", "advise"]).arg(&out)).ok();
        assert!(
            advice.stdout.contains("distrofs mount --memory"),
            "{advice:#?}"
        );
    }
    let (report, plots) = (dir.path().join("report.html"), dir.path().join("plots"));
    let commands: [(&[&str], &[&str]); 3] = [
        (&["show"], &["latency", "places"]),
        (
            &["replay", "--cache", "4M,16M", "--policy", "lru,opt"],
            &["hits", "decoded"],
        ),
        (&["mrc"], &["mrc"]),
    ];
    for (command, charts) in commands {
        let shown = run(distrofs(["lab"])
            .args(command)
            .arg(&out)
            .arg("--report")
            .arg(&report)
            .arg("--plots")
            .arg(&plots))
        .ok();
        assert!(shown.stdout.lines().count() > 3, "{shown:#?}");
        let page = fs::read_to_string(&report).expect("read");
        for chart in charts {
            assert!(page.contains("<svg"), "{chart}");
            let svg = fs::read_to_string(plots.join(chart).with_extension("svg")).expect("read");
            assert!(
                svg.starts_with("<svg") || svg.starts_with("<?xml"),
                "{chart}"
            );
            let png = fs::read(plots.join(chart).with_extension("png")).expect("read");
            assert!(png.starts_with(b"\x89PNG"), "{chart}");
        }
        let csv = run(distrofs(["lab"]).args(command).arg(&out).arg("--csv")).ok();
        assert!(
            csv.stdout
                .lines()
                .next()
                .is_some_and(|line| line.contains(','))
        );
    }
}

#[test]
fn documents_of_scripts_are_drawn() {
    let dir = common::temp_dir();
    let document = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/report.json");
    let plot = |name: &str| {
        let out = dir.path().join(name);
        let ran = run(distrofs(["lab", "plot"]).arg(&document).arg("-o").arg(&out));
        (ran, fs::read(out).unwrap_or_default())
    };
    assert!(plot("out.png").1.starts_with(b"\x89PNG"));
    assert!(!plot("out.svg").1.is_empty() && !plot("out.html").1.is_empty());
    plot("out.gif").0.refused(1, &[".svg"]);
    let bad = dir.path().join("bad.json");
    fs::write(&bad, "{\"title\": 3}").expect("write");
    run(distrofs(["lab", "plot"])
        .arg(&bad)
        .args(["-o", "/dev/null.svg"]))
    .refused(1, &["bad.json", "line 1"]);
}
