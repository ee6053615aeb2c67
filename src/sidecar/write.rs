//! Writing a sidecar file: several sections at once, then all or nothing.
//!
//! Guarantees: the final name only ever holds a complete file. Sections are
//! spooled to unnamed files in the final directory, so nothing large is held
//! in memory and nothing is left behind by a crash but, at worst, one file
//! named `.NAME.RANDOM.tmp`.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use super::header::{self, HEADER_BYTES, Identity, SECTION_ALIGN, Section};
use super::pages::{PageSums, SECTION_PAGES};
use super::read::SidecarError;
use crate::sys::file::unnamed_file;

/// Spool writes in pieces of this size.
const BUFFER_BYTES: usize = 64 * 1024;

/// A sidecar file in the making.
#[derive(Debug)]
pub struct SidecarWriter {
    path: PathBuf,
    directory: PathBuf,
    mode: u32,
}

/// A section in the making.
#[derive(Debug)]
pub struct SectionWriter {
    id: u32,
    spool: BufWriter<File>,
    crc: u32,
    len: u64,
}

impl Write for SectionWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.spool.write(bytes)?;
        self.crc = crc32c::crc32c_append(self.crc, &bytes[..n]);
        self.len += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.spool.flush()
    }
}

impl SidecarWriter {
    /// Prepares to write `path` with permission bits `mode`.
    pub fn new(path: &Path, mode: u32) -> Self {
        let directory = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
            _ => PathBuf::from("."),
        };
        Self {
            path: path.to_owned(),
            directory,
            mode,
        }
    }

    /// The directory that the file will be in; scratch files belong there too.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Starts a section. Sections may be written in turns.
    pub fn section(&self, id: u32) -> Result<SectionWriter, SidecarError> {
        let spool = unnamed_file(&self.directory).map_err(|e| self.error("write", e))?;
        Ok(SectionWriter {
            id,
            spool: BufWriter::with_capacity(BUFFER_BYTES, spool),
            crc: 0,
            len: 0,
        })
    }

    /// Puts the sections together and gives the file its name; answers its size.
    pub fn finish(
        &self,
        identity: &Identity,
        sections: Vec<SectionWriter>,
    ) -> Result<u64, SidecarError> {
        let (mut file, temporary) = self.create().map_err(|e| self.error("create", e))?;
        let written = self
            .assemble(&mut file, identity, sections)
            .and_then(|len| {
                file.sync_all()?;
                std::fs::rename(&temporary, &self.path)?;
                File::open(&self.directory)?.sync_all()?;
                Ok(len)
            });
        written.map_err(|cause| {
            let _gone_already = std::fs::remove_file(&temporary);
            self.error("write", cause)
        })
    }

    fn create(&self) -> io::Result<(File, PathBuf)> {
        let name = self
            .path
            .file_name()
            .ok_or(io::ErrorKind::InvalidInput)?
            .to_string_lossy();
        for attempt in 0_u32.. {
            let unique = format!(".{name}.{}-{attempt}.tmp", std::process::id());
            let path = self.directory.join(unique);
            let opened = OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(self.mode)
                .custom_flags(OFlags::NOFOLLOW.bits().cast_signed())
                .open(&path);
            match opened {
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists && attempt < 100 => {}
                other => return other.map(|file| (file, path)),
            }
        }
        Err(io::ErrorKind::AlreadyExists.into())
    }

    fn assemble(
        &self,
        file: &mut File,
        identity: &Identity,
        sections: Vec<SectionWriter>,
    ) -> io::Result<u64> {
        let mut table = Vec::with_capacity(sections.len() + 1);
        file.seek(io::SeekFrom::Start(HEADER_BYTES as u64))?;
        let mut body = Body {
            file,
            sums: PageSums::default(),
            at: HEADER_BYTES as u64,
        };
        for section in sections {
            let SectionWriter {
                id,
                spool,
                crc,
                len,
            } = section;
            let mut spool = spool.into_inner().map_err(io::IntoInnerError::into_error)?;
            spool.rewind()?;
            let offset = body.align()?;
            if body.copy(&mut spool)? != len {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            table.push(Section {
                id: id.into(),
                crc: crc.into(),
                offset: offset.into(),
                len: len.into(),
            });
        }
        let offset = body.align()?;
        let sums = body.sums.finish();
        file.write_all(&sums)?;
        let end = offset + sums.len() as u64;
        table.push(Section {
            id: SECTION_PAGES.into(),
            crc: crc32c::crc32c(&sums).into(),
            offset: offset.into(),
            len: (sums.len() as u64).into(),
        });
        let header = header::encode(identity, &table, end).ok_or(io::ErrorKind::InvalidInput)?;
        file.rewind()?;
        file.write_all(&header)?;
        Ok(end)
    }

    fn error(&self, doing: &'static str, cause: io::Error) -> SidecarError {
        SidecarError::Io {
            doing,
            path: self.path.clone(),
            cause,
        }
    }
}

/// What is written behind the header, with the checksums of its pages.
struct Body<'a> {
    file: &'a mut File,
    sums: PageSums,
    /// Where in the file the next byte goes.
    at: u64,
}

impl Body<'_> {
    /// Goes to where the next section starts.
    fn align(&mut self) -> io::Result<u64> {
        let gap = self.at.next_multiple_of(SECTION_ALIGN) - self.at;
        // Less than the alignment, so it fits.
        self.write(&vec![0; usize::try_from(gap).unwrap_or(0)])?;
        Ok(self.at)
    }

    /// Writes all that is left of `spool`; how many bytes.
    fn copy(&mut self, spool: &mut File) -> io::Result<u64> {
        let mut buffer = vec![0; BUFFER_BYTES];
        let before = self.at;
        loop {
            match spool.read(&mut buffer) {
                Ok(0) => return Ok(self.at - before),
                Ok(n) => self.write(&buffer[..n])?,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)?;
        self.sums.add(bytes);
        self.at += bytes.len() as u64;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::{Sidecar, SidecarError};
    use super::*;

    const IDENTITY: Identity = Identity {
        archive_bytes: 5,
        mtime: (-7, 8),
        inode: 9,
        sha256: [3; 32],
    };

    fn written(dir: &Path) -> PathBuf {
        let path = dir.join("a.dfsx");
        let writer = SidecarWriter::new(&path, 0o600);
        let (mut one, mut two) = (writer.section(1).unwrap(), writer.section(2).unwrap());
        for i in 0..1000_u32 {
            one.write_all(&i.to_le_bytes()).unwrap();
            two.write_all(b"x").unwrap();
        }
        writer.finish(&IDENTITY, vec![one, two]).unwrap();
        path
    }

    #[test]
    fn what_was_written_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let sidecar = Sidecar::open(&written(dir.path())).unwrap();
        assert_eq!(*sidecar.identity(), IDENTITY);
        assert_eq!(sidecar.section(1).unwrap().len(), 4000);
        assert_eq!(sidecar.section(2).unwrap().len(), 1000);
        assert_eq!(sidecar.section(3), None);
        assert_eq!(
            &sidecar.region().bytes()[sidecar.section(1).unwrap()][4..8],
            &1_u32.to_le_bytes()
        );
        sidecar.verify().unwrap();
        assert_eq!(
            std::fs::read_dir(dir.path()).unwrap().count(),
            1,
            "nothing is left behind"
        );
    }

    #[test]
    fn every_flip_in_the_header_and_every_cut_is_noticed_on_opening() {
        let dir = tempfile::tempdir().unwrap();
        let bytes = std::fs::read(written(dir.path())).unwrap();
        for at in 0..HEADER_BYTES {
            let mut changed = bytes.clone();
            changed[at] ^= 1 << (at % 8);
            assert!(
                Sidecar::from_region(Arc::new(changed)).is_err(),
                "byte {at}"
            );
        }
        for len in (0..bytes.len()).step_by(13) {
            assert!(
                Sidecar::from_region(Arc::new(bytes[..len].to_vec())).is_err(),
                "{len} bytes"
            );
        }
    }

    #[test]
    fn a_flip_in_a_section_is_found_by_verify() {
        let dir = tempfile::tempdir().unwrap();
        let mut bytes = std::fs::read(written(dir.path())).unwrap();
        bytes[HEADER_BYTES + 17] ^= 1;
        let sidecar = Sidecar::from_region(Arc::new(bytes)).unwrap();
        assert!(matches!(
            sidecar.verify(),
            Err(SidecarError::Damaged { .. })
        ));
    }

    /// An index that was damaged on its disk named other files, and gave other
    /// offsets: whoever reads a section has to be able to tell.
    #[test]
    fn a_flip_anywhere_behind_the_header_is_not_vouched_for() {
        let dir = tempfile::tempdir().unwrap();
        let bytes = std::fs::read(written(dir.path())).unwrap();
        let whole = Sidecar::from_region(Arc::new(bytes.clone())).unwrap();
        let sections = [1, 2].map(|id| whole.section(id).unwrap());
        assert!(sections.iter().all(|s| whole.region().vouch(s.clone())));
        for at in (HEADER_BYTES..bytes.len()).step_by(7) {
            let mut changed = bytes.clone();
            changed[at] ^= 1 << (at % 8);
            let Ok(sidecar) = Sidecar::from_region(Arc::new(changed)) else {
                continue;
            };
            assert!(sidecar.verify().is_err(), "byte {at}");
            let inside = |section: &std::ops::Range<usize>| section.contains(&at);
            for section in &sections {
                let vouched = sidecar.region().vouch(section.clone());
                assert!(!(vouched && inside(section)), "byte {at}");
            }
        }
    }

    #[test]
    fn another_file_and_another_version_are_told_apart() {
        let foreign = Sidecar::from_region(Arc::new(vec![b'P'; 9000]));
        assert!(matches!(foreign, Err(SidecarError::Foreign)));
        let mut newer = vec![0; HEADER_BYTES];
        newer[..8].copy_from_slice(b"DISTROFX");
        newer[8] = 99;
        let newer = Sidecar::from_region(Arc::new(newer));
        assert!(matches!(
            newer,
            Err(SidecarError::Version { found: 99, .. })
        ));
    }

    /// The temporary name could be planted as a link by whoever owns the
    /// directory; it must never be written through.
    #[test]
    fn a_planted_temporary_name_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let victim = dir.path().join("victim");
        std::fs::write(&victim, "precious").unwrap();
        for attempt in 0..3 {
            let name = format!(".a.dfsx.{}-{attempt}.tmp", std::process::id());
            std::os::unix::fs::symlink(&victim, dir.path().join(name)).unwrap();
        }
        Sidecar::open(&written(dir.path())).unwrap();
        assert_eq!(std::fs::read(&victim).unwrap(), b"precious");
    }
}
