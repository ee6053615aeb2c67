//! The journal: what is being taken in, so that it can be finished or undone.
//!
//! Layout of `incoming`, T being 16 random hexadecimal digits: `T.dfsx` an index,
//! `T.json` what is to be done with it (an `Intent`), `T.archive` the archive on
//! its way, `T.copy` a patch layer on its way, `T.arriving` an archive that is being
//! sent ([`arrive`](super::arrive)). In this order:
//!
//! 1. the index is made under a lease, and the archive's bytes are on the disk;
//! 2. the intent is written;
//! 3. the archive is moved here from `distros`, and looked at again: it is still
//!    the one that was indexed, and nobody has it open for writing;
//! 4. it gets its place, then its index does; if there is one already, neither;
//! 5. the record names it;
//! 6. what is left here is removed, the intent last.
//!
//! Without an intent, or before 3, all is undone by removing what is here. From 3
//! on all is finished by doing the rest again: each step can be done twice. An archive
//! that is sent takes the same steps; 3 gives it another name here.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;

use rustix::rand::{GetRandomFlags, getrandom};
use serde::{Deserialize, Serialize};

use super::error::HomeError;
use super::fault::{Step, step, system_step};
use super::folder::{Folder, Stamp};
use super::record::{ImageRecord, Version};
use super::{Home, INDEX, index_name};
use crate::sidecar::Sidecar;
use crate::sys::lease::Lease;
use crate::sys::remove;
use crate::types::{Digest, ImagePath};

const FORMAT: u32 = 1;
const INTENT_BYTES_MAX: u64 = 64 << 10;
const INTENT: &str = ".json";
const ARCHIVE: &str = ".archive";
const COPY: &str = ".copy";
const ARRIVING: &str = ".arriving";
const TOKEN_DIGITS: usize = 16;
/// Names that a file is given back under, if its own is taken.
const RETURNS_MAX: u32 = 1000;

/// What was begun and could not be finished or undone yet. It is tried again by
/// every [`Home::scan`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unfinished {
    /// The image, if that is known.
    pub path: Option<ImagePath>,
    /// Why not, and what to do.
    pub reason: String,
}

/// What is to be done with an index and its archive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Intent {
    format: u32,
    /// The image that it will be a version of.
    pub(super) path: ImagePath,
    /// The archive.
    pub(super) stamp: Stamp,
    /// The version.
    pub(super) version: Version,
}

impl Intent {
    pub(super) fn new(path: ImagePath, stamp: Stamp, version: Version) -> Self {
        Self {
            format: FORMAT,
            path,
            stamp,
            version,
        }
    }
}

/// What the files of one upload have in common.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Token(String);

impl Token {
    pub(super) fn new() -> io::Result<Token> {
        let mut random = [0; TOKEN_DIGITS / 2];
        getrandom(&mut random, GetRandomFlags::empty())?;
        let digits = random.iter().map(|byte| format!("{byte:02x}"));
        Ok(Token(digits.collect()))
    }

    pub(super) fn index(&self) -> String {
        format!("{}{INDEX}", self.0)
    }

    pub(super) fn archive(&self) -> String {
        format!("{}{ARCHIVE}", self.0)
    }

    pub(super) fn copy(&self) -> String {
        format!("{}{COPY}", self.0)
    }

    pub(super) fn arriving(&self) -> String {
        format!("{}{ARRIVING}", self.0)
    }

    fn intent(&self) -> String {
        format!("{}{INTENT}", self.0)
    }

    /// The token and the rest of the name of a file in `incoming`.
    fn parse(name: &[u8]) -> Option<(Token, &str)> {
        let name = std::str::from_utf8(name).ok()?;
        let (token, rest) = name.split_at_checked(TOKEN_DIGITS)?;
        let is_token = token.bytes().all(|byte| byte.is_ascii_hexdigit());
        is_token.then(|| (Token(token.to_owned()), rest))
    }
}

/// What there is of one token.
#[derive(Default)]
struct Found {
    has_intent: bool,
    has_archive: bool,
}

impl Home {
    /// Finishes or undoes what was begun before the last end of the process: to be
    /// called first. What cannot be settled now is told, and tried again later.
    pub fn recover(&self) -> Result<Vec<Unfinished>, HomeError> {
        let _turn = self.turn.lock();
        self.sweep_scratch()
            .map_err(HomeError::doing("clean the directory scratch"))?;
        self.settle()
    }

    fn sweep_scratch(&self) -> io::Result<()> {
        for entry in self.scratch.entries(usize::MAX)?.0 {
            remove::tree(self.scratch.as_fd(), &CString::new(entry.name)?)?;
        }
        Ok(())
    }

    /// The same for who has the turn.
    pub(super) fn settle(&self) -> Result<Vec<Unfinished>, HomeError> {
        let entries = self.incoming.entries(usize::MAX);
        let (entries, _) = entries.map_err(HomeError::doing("read the directory incoming"))?;
        let mut tokens = BTreeMap::<Token, Found>::new();
        for entry in entries {
            match Token::parse(&entry.name) {
                Some((token, INTENT)) => tokens.entry(token).or_default().has_intent = true,
                Some((token, ARCHIVE)) => tokens.entry(token).or_default().has_archive = true,
                Some((token, INDEX)) => drop(tokens.entry(token).or_default()),
                Some((token, ARRIVING)) if self.arriving.lock().contains(&token) => {}
                // What was being written, of which nothing else knows.
                _ => {
                    let removed = self.incoming.remove(&entry.name);
                    removed.map_err(HomeError::doing("clean the directory incoming"))?;
                }
            }
        }
        let settled = tokens.iter().map(|(token, found)| {
            let intent = match found.has_intent {
                true => self.read_intent(token),
                false => Ok(None),
            };
            let intent = intent.unwrap_or_else(|error| {
                tracing::warn!(%error, "what was being taken in is not known any more");
                None
            });
            let settled = match &intent {
                Some(intent) => self.settle_intent(token, intent),
                None => self.settle_unknown(token, found),
            };
            settled.map_err(|error| Unfinished {
                path: intent.map(|intent| intent.path),
                reason: error.to_string(),
            })
        });
        Ok(settled.filter_map(Result::err).collect())
    }

    /// Writes down what is about to be done.
    pub(super) fn write_intent(&self, token: &Token, intent: &Intent) -> Result<(), HomeError> {
        system_step(Step::Journal, "write down what is taken in", || {
            let bytes = serde_json::to_vec(intent)?;
            let name = token.intent();
            self.incoming.replace(name.as_bytes(), &bytes, 0o600)
        })
    }

    fn read_intent(&self, token: &Token) -> io::Result<Option<Intent>> {
        let bytes = self
            .incoming
            .read(token.intent().as_bytes(), INTENT_BYTES_MAX)?;
        let Some(bytes) = bytes else { return Ok(None) };
        let intent: Intent = serde_json::from_slice(&bytes)?;
        Ok(Some(intent).filter(|intent| intent.format == FORMAT))
    }

    /// Archives that something in `incoming` is about.
    pub(super) fn intended(&self) -> io::Result<Vec<Digest>> {
        let mut digests = Vec::new();
        for entry in self.incoming.entries(usize::MAX)?.0 {
            if let Some((token, INTENT)) = Token::parse(&entry.name)
                && let Ok(Some(intent)) = self.read_intent(&token)
            {
                digests.push(intent.version.sha256);
            }
        }
        Ok(digests)
    }

    fn settle_intent(&self, token: &Token, intent: &Intent) -> Result<(), HomeError> {
        let looking = HomeError::doing("look at what was being taken in");
        let staged = token.archive();
        let placed = intent.version.sha256.to_string();
        let is_staged = self.incoming.stat(staged.as_bytes()).map_err(&looking)?;
        if is_staged.is_some() {
            if !self.is_still(&staged, intent).map_err(&looking)? {
                let name = intent.version.name.as_bytes();
                self.give_back(&self.incoming, staged.as_bytes(), name)?;
                return self.forget(token);
            }
        } else if self.archives.stamp(placed.as_bytes()).map_err(&looking)? != Some(intent.stamp) {
            // It never left, or all is done but for this.
            return self.forget(token);
        }
        match self.complete(token, intent) {
            Err(HomeError::Lost { .. }) => self.undo_moved(token, intent),
            done => done,
        }
    }

    /// Whether what was moved here is the archive that was indexed, and nobody is
    /// writing into it.
    fn is_still(&self, staged: &str, intent: &Intent) -> io::Result<bool> {
        if self.incoming.stamp(staged.as_bytes())? != Some(intent.stamp) {
            return Ok(false);
        }
        let file = Arc::new(self.incoming.file(staged.as_bytes())?);
        Ok(Lease::take(&file)?.is_some())
    }

    /// Its index is lost, so it has to come again.
    fn undo_moved(&self, token: &Token, intent: &Intent) -> Result<(), HomeError> {
        let looking = HomeError::doing("look at what was being taken in");
        let placed = intent.version.sha256.to_string();
        let name = intent.version.name.as_bytes();
        for (folder, file) in [(&self.incoming, token.archive()), (&self.archives, placed)] {
            if folder.stamp(file.as_bytes()).map_err(&looking)? == Some(intent.stamp) {
                self.give_back(folder, file.as_bytes(), name)?;
            }
        }
        self.forget(token)
    }

    fn settle_unknown(&self, token: &Token, found: &Found) -> Result<(), HomeError> {
        if found.has_archive {
            // What kind of archive it is, is told by its content.
            let name = format!("recovered-{}.tar", token.0);
            self.give_back(&self.incoming, token.archive().as_bytes(), name.as_bytes())?;
        }
        self.forget(token)
    }

    /// Moves a file back to `distros`, under its name if that is free.
    pub(super) fn give_back(
        &self,
        from: &Folder,
        file: &[u8],
        name: &[u8],
    ) -> Result<(), HomeError> {
        let distros = self.distros()?;
        let failed = HomeError::doing("move an upload back to distros");
        let mut to = name.to_vec();
        for number in 1..RETURNS_MAX {
            if from.rename_if_free(file, &distros, &to).map_err(&failed)? {
                return distros.sync().map_err(&failed);
            }
            to = format!("returned-{number}.").into_bytes();
            to.extend_from_slice(name.get(..200).unwrap_or(name));
        }
        Err(failed(io::ErrorKind::AlreadyExists.into()))
    }

    /// Steps 4 to 6.
    pub(super) fn complete(&self, token: &Token, intent: &Intent) -> Result<(), HomeError> {
        self.enter(token, intent)?;
        self.clear(token)
    }

    /// Steps 4 and 5.
    pub(super) fn enter(&self, token: &Token, intent: &Intent) -> Result<(), HomeError> {
        let records = self.records.lock();
        if !self.is_whole(&intent.version.sha256) {
            self.place(token, intent)?;
        }
        let record = match records.find(&intent.path)? {
            Some(mut record) => {
                record.add(intent.version.clone());
                record.prune(self.options.keep_versions);
                record
            }
            None => ImageRecord::new(intent.path.clone(), intent.version.clone()),
        };
        let failed = HomeError::doing("write the record of an image");
        step(Step::Record, failed, || records.write(&record))
    }

    /// Step 6.
    pub(super) fn clear(&self, token: &Token) -> Result<(), HomeError> {
        system_step(Step::Clean, "clean the directory incoming", || {
            self.incoming.remove(token.archive().as_bytes())?;
            self.incoming.remove(token.index().as_bytes())
        })?;
        self.forget(token)
    }

    fn place(&self, token: &Token, intent: &Intent) -> Result<(), HomeError> {
        let digest = intent.version.sha256;
        let lost = |what| HomeError::Lost { digest, what };
        let looking = HomeError::doing("look at what was being taken in");
        let (staged, index) = (token.archive(), token.index());
        let waits = self.incoming.stamp(index.as_bytes()).map_err(&looking)?;
        let is_staged = self.incoming.stamp(staged.as_bytes()).map_err(&looking)?;
        if is_staged == Some(intent.stamp) {
            if waits.is_none() {
                return Err(lost("without its index"));
            }
            system_step(Step::PlaceArchive, "give an archive its place", || {
                let placed = digest.to_string();
                self.incoming
                    .rename(staged.as_bytes(), &self.archives, placed.as_bytes())?;
                self.archives.sync()
            })?;
        }
        if waits.is_some() {
            system_step(Step::PlaceIndex, "give an index its place", || {
                let placed = index_name(&digest);
                self.incoming
                    .rename(index.as_bytes(), &self.archives, placed.as_bytes())?;
                self.archives.sync()
            })?;
        }
        match self.is_whole(&digest) {
            true => Ok(()),
            false => Err(lost("not whole")),
        }
    }

    /// Whether the archive is in the store with an index that was made of it.
    pub(super) fn is_whole(&self, digest: &Digest) -> bool {
        let archive = self.archives.file(digest.to_string().as_bytes());
        let Ok(Ok(archive)) = archive.map(|file| file.metadata()) else {
            return false;
        };
        let index = Sidecar::open(&self.index_path(digest));
        index.is_ok_and(|index| {
            let identity = index.identity();
            identity.same_file(&archive) && identity.sha256 == *digest.bytes()
        })
    }

    /// Removes an index that came to nothing and what was written down.
    pub(super) fn forget(&self, token: &Token) -> Result<(), HomeError> {
        system_step(Step::Forget, "clean the directory incoming", || {
            self.incoming.remove(token.index().as_bytes())?;
            self.incoming.remove(token.copy().as_bytes())?;
            self.incoming.remove(token.intent().as_bytes())?;
            self.incoming.sync()
        })
    }
}
