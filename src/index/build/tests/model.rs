//! Random archives against a model that is too simple to be wrong: a tree of
//! reference-counted nodes, walked by recursion; hard links that wait are tried
//! again until nothing changes.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use proptest::prelude::*;

use crate::index::build::{ModeChange, Problem};
use crate::index::testing::{Archive, Head, build, derive, tree};

#[derive(Clone, Debug)]
enum Op {
    Dir(String, u32),
    File(String, String),
    Symlink(String, String),
    HardLink(String, String),
    /// Of layers: removes what the path names, or all in the directory.
    Remove(String),
    Hide(String),
}

#[derive(Debug)]
enum Node {
    Dir {
        mode: u32,
        entries: Vec<(String, Shared)>,
    },
    File(String, u32),
    Link(String),
    /// The name of the hard link that waits with this number.
    Waiting(usize),
}

type Shared = Rc<RefCell<Node>>;

struct Model {
    root: Shared,
    waiting: RefCell<Vec<Waiting>>,
    /// Whether what comes goes on top of an image.
    layered: Cell<bool>,
}

/// A hard link whose target was not there.
struct Waiting {
    path: String,
    target: String,
    before: Option<Shared>,
}

/// Links followed on one path.
const LINKS_MAX: u32 = 40;

fn new_dir(mode: u32) -> Shared {
    Rc::new(RefCell::new(Node::Dir {
        mode,
        entries: Vec::new(),
    }))
}

fn child(dir: &Shared, name: &str) -> Option<Shared> {
    match &*dir.borrow() {
        Node::Dir { entries, .. } => entries
            .iter()
            .find(|(n, _)| n == name)
            .map(|(_, node)| node.clone()),
        _ => None,
    }
}

fn remove(dir: &Shared, name: &str) {
    if let Node::Dir { entries, .. } = &mut *dir.borrow_mut() {
        entries.retain(|(n, _)| n != name);
    }
}

fn waiting(node: &Shared) -> Option<usize> {
    match &*node.borrow() {
        Node::Waiting(number) => Some(*number),
        _ => None,
    }
}

fn put(dir: &Shared, name: &str, node: Shared) {
    let Node::Dir { entries, .. } = &mut *dir.borrow_mut() else {
        panic!("not a directory");
    };
    match entries.iter_mut().find(|(n, _)| n == name) {
        Some((_, there)) => *there = node,
        None => entries.push((name.into(), node)),
    }
}

fn is_dir(node: &Shared) -> bool {
    matches!(&*node.borrow(), Node::Dir { .. })
}

impl Model {
    /// Walks from the directory `stack` is the path to; makes what is missing
    /// if `make`. Returns the path of nodes to the end.
    fn walk(
        &self,
        mut stack: Vec<Shared>,
        names: &[&str],
        make: bool,
        follow_last: bool,
        links: &mut u32,
    ) -> Option<Vec<Shared>> {
        for (at, name) in names.iter().enumerate() {
            if !is_dir(stack.last()?) {
                return None;
            }
            match *name {
                "" | "." => continue,
                ".." => {
                    if stack.len() > 1 {
                        stack.pop();
                    }
                    continue;
                }
                _ => {}
            }
            let dir = stack.last()?.clone();
            let found = match child(&dir, name) {
                Some(found) => found,
                None if make => {
                    put(&dir, name, new_dir(0o755));
                    child(&dir, name)?
                }
                None => return None,
            };
            let target = match &*found.borrow() {
                Node::Link(to) if follow_last || at + 1 < names.len() => Some(to.clone()),
                _ => None,
            };
            let Some(target) = target else {
                stack.push(found);
                continue;
            };
            *links += 1;
            if *links > LINKS_MAX {
                return None;
            }
            if target.starts_with('/') {
                stack.truncate(1);
            }
            let names: Vec<_> = target.split('/').collect();
            stack = self.walk(stack, &names, false, true, links)?;
        }
        Some(stack)
    }

    fn apply(&self, op: &Op) {
        let (Op::Dir(path, _) | Op::File(path, _) | Op::Symlink(path, _) | Op::HardLink(path, _)) =
            op
        else {
            return;
        };
        let mut names: Vec<_> = path.split('/').collect();
        let name = names.pop().unwrap();
        let stack = self.walk(vec![self.root.clone()], &names, true, true, &mut 0);
        let Some(parent) = stack.and_then(|mut stack| stack.pop()).filter(is_dir) else {
            return;
        };
        let node = match op {
            Op::Dir(_, mode) => Some(new_dir(*mode)),
            Op::File(_, body) => Some(Rc::new(RefCell::new(Node::File(body.clone(), 0o644)))),
            Op::Symlink(_, to) => Some(Rc::new(RefCell::new(Node::Link(to.clone())))),
            Op::HardLink(_, target) => match self.target(target) {
                Some(found) => Some(found).filter(|node| !is_dir(node)),
                None => {
                    let before = child(&parent, name);
                    if !before.as_ref().is_some_and(is_dir) {
                        self.waiting.borrow_mut().push(Waiting {
                            path: path.clone(),
                            target: target.clone(),
                            before,
                        });
                    }
                    None
                }
            },
            Op::Remove(_) | Op::Hide(_) => None,
        };
        let Some(node) = node else { return };
        let Some(there) = child(&parent, name) else {
            return put(&parent, name, node);
        };
        if Rc::ptr_eq(&there, &node) {
            return;
        }
        match (&mut *there.borrow_mut(), op) {
            (Node::Dir { mode, .. }, Op::Dir(_, new)) => *mode = *new,
            (Node::Dir { entries, .. }, _) if !entries.is_empty() && !self.layered.get() => {}
            _ => put(&parent, name, node),
        }
    }

    /// Puts a layer on top: what it removes first.
    fn layer(&self, ops: &[Op]) {
        self.layered.set(true);
        let removed = ops.iter().filter_map(|op| match op {
            Op::Remove(path) => self.place(path),
            _ => None,
        });
        let hidden = ops.iter().filter_map(|op| {
            let Op::Hide(path) = op else { return None };
            let names: Vec<_> = path.split('/').collect();
            let found = self.walk(vec![self.root.clone()], &names, false, true, &mut 0);
            found?.pop()
        });
        let (removed, hidden): (Vec<_>, Vec<_>) = (removed.collect(), hidden.collect());
        removed.iter().for_each(|(dir, name)| remove(dir, name));
        for dir in hidden {
            if let Node::Dir { entries, .. } = &mut *dir.borrow_mut() {
                entries.clear();
            }
        }
        ops.iter().for_each(|op| self.apply(op));
        self.finish();
    }

    /// Changes a mode; whether that was possible.
    fn chmod(&self, path: &str, new: u16) -> Option<Problem> {
        let mut at = self.root.clone();
        for name in path.split('/') {
            let problem = match &*at.borrow() {
                Node::Dir { .. } => None,
                Node::Link(_) => Some(Problem::BehindLink),
                _ => Some(Problem::NotDirectory),
            };
            if problem.is_some() {
                return problem;
            }
            let Some(next) = child(&at, name) else {
                return Some(Problem::NotFound);
            };
            at = next;
        }
        match &mut *at.borrow_mut() {
            Node::Dir { mode, .. } | Node::File(_, mode) => *mode = new.into(),
            _ => return Some(Problem::IsLink),
        }
        None
    }

    /// What the target of a hard link names.
    fn target(&self, path: &str) -> Option<Shared> {
        let names: Vec<_> = path.split('/').collect();
        let found = self.walk(vec![self.root.clone()], &names, false, false, &mut 0);
        found.and_then(|mut stack| stack.pop())
    }

    /// The directory of a path as it is now, and the name in it.
    fn place<'a>(&self, path: &'a str) -> Option<(Shared, &'a str)> {
        let mut names: Vec<_> = path.split('/').collect();
        let name = names.pop()?;
        let stack = self.walk(vec![self.root.clone()], &names, false, true, &mut 0);
        let dir = stack?.pop().filter(is_dir)?;
        Some((dir, name))
    }

    /// Makes the links that wait.
    fn finish(&self) {
        let mut waiting_all = self.waiting.take();
        // The names that they get, until they are known to lead somewhere.
        let mut named: Vec<Option<(Shared, &str)>> = Vec::new();
        let paths: Vec<_> = waiting_all.iter().map(|w| w.path.clone()).collect();
        for (number, path) in paths.iter().enumerate() {
            named.push(None);
            let Some((dir, name)) = self.place(path) else {
                continue;
            };
            let there = child(&dir, name);
            let earlier = there.as_ref().and_then(waiting);
            let same = match (&there, &waiting_all[number].before) {
                (Some(there), Some(before)) => Rc::ptr_eq(there, before),
                (there, _) => there.is_none(),
            };
            if let Some(earlier) = earlier {
                waiting_all[number].before = waiting_all[earlier].before.clone();
                named[earlier] = None;
            } else if !same {
                continue;
            }
            put(&dir, name, Rc::new(RefCell::new(Node::Waiting(number))));
            named[number] = Some((dir, name));
        }
        let targets: Vec<_> = waiting_all.iter().map(|w| self.target(&w.target)).collect();
        // Every round settles those whose target is settled.
        loop {
            let mut changed = false;
            for (number, target) in targets.iter().enumerate() {
                let Some((dir, name)) = named[number].clone() else {
                    continue;
                };
                let target = match target.as_ref().map(|t| (t, waiting(t))) {
                    None => None,
                    Some((_, Some(other))) if named[other].is_some() => continue,
                    Some((_, Some(other))) => {
                        self.place(&paths[other]).and_then(|(d, n)| child(&d, n))
                    }
                    Some((target, None)) => Some(target.clone()).filter(|t| !is_dir(t)),
                };
                self.settle(&waiting_all[number], &dir, name, target);
                named[number] = None;
                changed = true;
            }
            if changed {
                continue;
            }
            // What is left leads into circles: all of one is lost.
            let Some(mut at) = named.iter().position(Option::is_some) else {
                return;
            };
            let next = |at: usize| targets[at].as_ref().and_then(waiting).unwrap();
            for _ in 0..targets.len() {
                at = next(at);
            }
            let start = at;
            loop {
                let (dir, name) = named[at].take().unwrap();
                self.settle(&waiting_all[at], &dir, name, None);
                at = next(at);
                if at == start {
                    break;
                }
            }
        }
    }

    fn settle(&self, link: &Waiting, dir: &Shared, name: &str, target: Option<Shared>) {
        match target.or_else(|| link.before.clone()) {
            Some(node) => put(dir, name, node),
            None => remove(dir, name),
        }
    }

    /// What the tree looks like, as `testing::tree` has it.
    fn lines(&self, dir: &Shared, path: &str, lines: &mut Vec<String>) {
        let Node::Dir { entries, .. } = &*dir.borrow() else {
            return;
        };
        for (name, node) in entries {
            let path = format!("{path}{name}");
            let names = names_of(&self.root, node);
            lines.push(match &*node.borrow() {
                Node::Dir { mode, entries } => {
                    let dirs = entries.iter().filter(|(_, n)| is_dir(n)).count();
                    format!("{path} d{mode:o} n{}", dirs + 2)
                }
                Node::File(body, mode) => format!("{path} f{mode:o} n{names} {body}"),
                Node::Link(to) => format!("{path} l777 n{names} {to}"),
                Node::Waiting(_) => format!("{path} waits"),
            });
            self.lines(node, &format!("{path}/"), lines);
        }
    }
}

fn names_of(dir: &Shared, wanted: &Shared) -> usize {
    match &*dir.borrow() {
        Node::Dir { entries, .. } => entries
            .iter()
            .map(|(_, node)| usize::from(Rc::ptr_eq(node, wanted)) + names_of(node, wanted))
            .sum(),
        _ => 0,
    }
}

fn name() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["a", "b", "c"])
}

fn path() -> impl Strategy<Value = String> {
    prop::collection::vec(name(), 1..4).prop_map(|names| names.join("/"))
}

fn op() -> impl Strategy<Value = Op> {
    let target = (
        prop::sample::select(vec!["", "/", "../", "../../", "./", "b/../"]),
        path(),
        prop::sample::select(vec!["", "", "/", "/.", "/.."]),
    );
    let target = target.prop_map(|(front, path, back)| format!("{front}{path}{back}"));
    prop_oneof![
        3 => (path(), prop::sample::select(vec![0o700, 0o755, 0o1777])).prop_map(|(p, m)| Op::Dir(p, m)),
        4 => (path(), "[xyz]{0,3}").prop_map(|(p, body)| Op::File(p, body)),
        2 => (path(), target).prop_map(|(p, to)| Op::Symlink(p, to)),
        2 => (path(), path()).prop_map(|(p, to)| Op::HardLink(p, to)),
    ]
}

fn layer() -> impl Strategy<Value = Vec<Op>> {
    let op = prop_oneof![
        8 => op(),
        3 => path().prop_map(Op::Remove),
        1 => prop_oneof![path(), Just(String::new())].prop_map(Op::Hide),
    ];
    prop::collection::vec(op, 0..20)
}

/// An archive of what was done.
fn archive(ops: &[Op]) -> Vec<u8> {
    let add = |archive: Archive, op: &Op| match op {
        Op::Dir(path, mode) => archive.head(&Head {
            mode: *mode,
            ..Head::new(b'5', path)
        }),
        Op::File(path, body) => archive.file(path, body),
        Op::Symlink(path, to) => archive.symlink(path, to),
        Op::HardLink(path, to) => archive.hard_link(path, to),
        Op::Remove(path) => {
            let (dir, name) = path.rsplit_once('/').unwrap_or(("", path));
            archive.file(&format!("{dir}/.wh.{name}"), "")
        }
        Op::Hide(path) => archive.file(&format!("{path}/.wh..wh..opq"), ""),
    };
    ops.iter().fold(Archive::default(), add).end()
}

impl Model {
    fn of(ops: &[Op]) -> Self {
        let model = Model {
            root: new_dir(0o755),
            waiting: RefCell::default(),
            layered: Cell::new(false),
        };
        ops.iter().for_each(|op| model.apply(op));
        model.finish();
        model
    }

    fn all_lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        self.lines(&self.root, "", &mut lines);
        lines.sort();
        lines
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn the_index_equals_the_model(ops in prop::collection::vec(op(), 0..40)) {
        let stream = archive(&ops);
        let (index, _) = build(&stream);
        prop_assert_eq!(tree(&index, &stream), Model::of(&ops).all_lines());
    }

    #[test]
    fn an_image_with_patches_equals_the_model(
        ops in prop::collection::vec(op(), 0..30),
        layers in prop::collection::vec(layer(), 0..4),
        changes in prop::collection::vec((path(), 0_u16..0o10000), 0..6),
    ) {
        let model = Model::of(&ops);
        layers.iter().for_each(|layer| model.layer(layer));
        let problems = changes.iter().filter_map(|(path, mode)| {
            Some((path.clone().into_bytes(), model.chmod(path, *mode)?))
        });
        let problems: Vec<_> = problems.collect();
        let changes: Vec<_> = changes.iter()
            .map(|(path, mode)| ModeChange::new(path.as_bytes(), (*mode).into()).unwrap())
            .collect();
        let patches: Vec<_> = layers.iter().map(|layer| archive(layer)).collect();
        let (index, derived, stream) = derive(&archive(&ops), &patches, &changes);
        prop_assert_eq!(tree(&index, &stream), model.all_lines());
        let found = derived.unapplied.into_iter().map(|it| (it.path, it.problem));
        prop_assert_eq!(found.collect::<Vec<_>>(), problems);
    }
}
