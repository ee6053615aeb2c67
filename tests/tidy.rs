//! Repository rules that rustc cannot check, run as ordinary tests.
//!
//! * every source file opens with `//!` module documentation;
//! * top-level modules depend on each other only as `LAYERS` allows, so the
//!   module graph stays acyclic;
//! * outside crates stay behind the one module that owns them (`OWNERS`);
//! * no file outgrows `MAX_CODE_LINES`, not counting its test module.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// `(module, modules it may name)`. A module may only name modules above it,
/// which makes a cycle impossible to write down.
const LAYERS: &[(&str, &[&str])] = &[
    ("types", &[]),
    ("text", &["types"]),
    // Plain data in, pictures out: it knows nothing of caches.
    ("report", &["types", "text"]),
    ("metrics", &[]),
    ("trace", &["types"]),
    ("profile", &["types", "trace"]),
    ("budget", &["types"]),
    ("config", &["types"]),
    ("sys", &["types"]),
    ("source", &["types", "metrics", "budget", "sys"]),
    ("index", &["types"]),
    ("sidecar", &["types", "sys"]),
    (
        "store",
        &[
            "types", "metrics", "profile", "budget", "sys", "source", "index", "sidecar",
        ],
    ),
    (
        "cache",
        &["types", "metrics", "trace", "profile", "budget", "source"],
    ),
    ("fs", &["types", "metrics", "trace", "source", "index"]),
    (
        "fuse",
        &["types", "metrics", "trace", "config", "sys", "fs"],
    ),
    (
        "inspect",
        &["types", "text", "metrics", "source", "index", "fs"],
    ),
    ("view", &["types", "sys", "index", "inspect"]),
    ("container", &["sys", "view"]),
    ("wire", &["types", "metrics", "sys"]),
    // Who may use what: no archive, no mount, no message.
    ("registry", &["types"]),
    (
        "serving",
        &[
            "types", "metrics", "trace", "profile", "budget", "config", "sys", "source", "index",
            "cache", "fs", "fuse", "view", "wire",
        ],
    ),
    (
        "lab",
        &[
            "types", "text", "metrics", "budget", "trace", "source", "cache",
        ],
    ),
    (
        "worker",
        &[
            "types", "text", "metrics", "trace", "profile", "budget", "config", "sys", "source",
            "index", "sidecar", "store", "cache", "fs", "fuse", "inspect", "wire", "serving",
        ],
    ),
    // Root parses nothing of a customer's: no archive, no index.
    ("supervisor", &["types", "config", "sys", "view", "wire"]),
    // It answers strangers: it reaches what it tells by messages only.
    (
        "api",
        &["types", "text", "metrics", "sys", "wire", "registry"],
    ),
    (
        "cli",
        &[
            "types",
            "text",
            "metrics",
            "trace",
            "profile",
            "budget",
            "config",
            "sys",
            "source",
            "index",
            "sidecar",
            "store",
            "cache",
            "fs",
            "fuse",
            "inspect",
            "view",
            "container",
            "wire",
            "serving",
            "report",
            "lab",
            "worker",
            "registry",
            "supervisor",
            "api",
        ],
    ),
];

/// `(path or crate name as it appears in code, files that may name it)`.
const OWNERS: &[(&str, &[&str])] = &[
    ("fuser::", &["fuse/"]),
    ("unsafe ", &["sys/"]),
    ("flate2::", &["source/"]),
    ("memmap2::", &["sys/"]),
    ("rustix::mount", &["sys/"]),
    ("tar::", &["index/"]),
    ("lru::", &["cache/"]),
    ("dashmap::", &["cache/"]),
    ("clap::", &["cli/", "main.rs"]),
    ("axum::", &["api/"]),
    ("hyper::", &["api/"]),
    ("hyper_util::", &["api/"]),
    ("tokio::", &["api/"]),
    ("tiny_skia::", &["report/png.rs", "report/tests.rs"]),
    ("ttf_parser::", &["report/font.rs"]),
    (
        "rusqlite::",
        &["registry/", "inspect/packages/rpm/", "sys/sqlite.rs"],
    ),
    ("libc::E", &["fs/error.rs", "sys/"]),
];

const MAX_CODE_LINES: usize = 600;

#[test]
fn the_layer_table_is_acyclic() {
    let mut seen = BTreeSet::new();
    for (module, deps) in LAYERS {
        for dep in *deps {
            assert!(
                seen.contains(dep),
                "{module} names {dep}, which is not above it"
            );
        }
        assert!(seen.insert(*module), "{module} is listed twice");
    }
}

#[test]
fn modules_respect_their_layer() {
    for_each_source(|file, code| {
        let own = top_module(file);
        let Some((_, allowed)) = LAYERS.iter().find(|(m, _)| *m == own) else {
            assert!(
                matches!(own, "lib" | "main"),
                "{file}: add `{own}` to LAYERS"
            );
            return;
        };
        for named in crate_paths(code) {
            let known = LAYERS.iter().any(|(m, _)| *m == named);
            assert!(
                !known || named == own || allowed.contains(&named.as_str()),
                "{file}: `{own}` may not depend on `{named}`"
            );
        }
    });
}

#[test]
fn outside_crates_have_one_owner() {
    for_each_source(|file, code| {
        for (needle, homes) in OWNERS {
            let home = homes.iter().any(|h| file.starts_with(h));
            assert!(
                home || !mentions(code, needle),
                "{file}: `{needle}` belongs in {homes:?}"
            );
        }
    });
}

#[test]
fn files_are_documented_and_short() {
    for_each_file(|file, text| {
        assert!(
            text.starts_with("//!") || text.starts_with("#![doc = include_str!"),
            "{file}: start with `//!` module docs"
        );
        let is_test = file.ends_with("/tests.rs") || file.contains("/tests/");
        let lines = if is_test {
            0
        } else {
            without_tests(text).lines().count()
        };
        assert!(
            lines <= MAX_CODE_LINES,
            "{file}: {lines} lines of code, split it"
        );
    });
}

/// Calls `check(path below src, text)` for every Rust file.
fn for_each_file(mut check: impl FnMut(&str, &str)) {
    let src = src_dir();
    let mut pending = vec![src.clone()];
    while let Some(dir) = pending.pop() {
        for entry in fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                pending.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                check(path.strip_prefix(&src).unwrap().to_str().unwrap(), &text);
            }
        }
    }
}

/// Like [`for_each_file`], with comments and the test module removed.
fn for_each_source(mut check: impl FnMut(&str, &str)) {
    for_each_file(|file, text| {
        let code: String = without_tests(text)
            .lines()
            .map(|line| line.split("//").next().unwrap())
            .flat_map(|line| [line, "\n"])
            .collect();
        check(file, &code);
    });
}

fn src_dir() -> PathBuf {
    match std::env::var_os("TIDY_SRC") {
        Some(dir) => PathBuf::from(dir),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("src"),
    }
}

fn without_tests(text: &str) -> &str {
    text.split("\n#[cfg(test)]\nmod ").next().unwrap()
}

fn top_module(file: &str) -> &str {
    file.split('/').next().unwrap().trim_end_matches(".rs")
}

/// First path segment after each `crate::`, including grouped `use crate::{..}`.
fn crate_paths(code: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for rest in code.split("crate::").skip(1) {
        match rest.strip_prefix('{') {
            Some(group) => found.extend(group_heads(group)),
            None => found.extend([ident(rest)]),
        }
    }
    found
}

fn group_heads(group: &str) -> Vec<String> {
    let (mut depth, mut heads, mut start) = (0, Vec::new(), 0);
    for (i, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' | ',' if depth == 0 => {
                heads.push(ident(group[start..i].trim_start()));
                start = i + 1;
                if c == '}' {
                    break;
                }
            }
            '}' => depth -= 1,
            _ => (),
        }
    }
    heads
}

fn ident(text: &str) -> String {
    text.chars()
        .take_while(|c| c.is_alphanumeric() || *c == '_')
        .collect()
}

/// Whether `needle` occurs in `code` and does not merely end a longer word.
fn mentions(code: &str, needle: &str) -> bool {
    code.match_indices(needle)
        .any(|(at, _)| !code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':'))
}
