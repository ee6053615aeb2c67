//! The kernel's requests: each is counted, asked of the filesystem, answered.

use std::ffi::OsStr;
use std::io;
use std::ops::ControlFlow;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::{Instant, SystemTime};

use fuser::{
    AccessFlags, BsdFileFlags, CopyFileRangeFlags, Errno, FileHandle, Filesystem, FopenFlags,
    Generation, INodeNo, IoctlFlags, KernelConfig, LockOwner, OpenAccMode, OpenFlags, PollEvents,
    PollFlags, PollNotifier, RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory,
    ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyIoctl, ReplyLseek, ReplyOpen, ReplyPoll,
    ReplyStatfs, ReplyWrite, ReplyXattr, Request, TimeOrNow, WriteFlags,
};

use crate::config::FuseTuning;
use crate::fs::{FsError, ImageFs, Whence, XattrAnswer};
use crate::fuse::convert::{absent, errno, file_attr, file_type};
use crate::fuse::invalidate::Invalidations;
use crate::fuse::negotiate::negotiate;
use crate::fuse::progress::Progress;
use crate::fuse::quiet::Quiet;
use crate::fuse::reads::{Failures, Range, Reads};
use crate::fuse::session::{Answers, Means};
use crate::fuse::spin::Spin;
use crate::metrics::{Metrics, Op};
use crate::sys::breadcrumbs::Crumb;
use crate::sys::ioctl::{self, Question};
use crate::types::KernelOffer;

/// Inode numbers are never used for another file.
const GENERATION: Generation = Generation(0);

/// No state is kept per open file.
const NO_HANDLE: FileHandle = FileHandle(0);

/// An image, as `fuser` wants a filesystem.
pub(super) struct Adapter {
    fs: Arc<ImageFs>,
    tuning: FuseTuning,
    pub(super) metrics: Arc<Metrics>,
    answers: Answers,
    reads: Reads,
    failures: Arc<Failures>,
    pub(super) refusals: Quiet,
    pub(super) invalidations: Arc<Invalidations>,
    spin: Spin,
    pub(super) progress: Arc<Progress>,
    crumb: Crumb,
    daemon_uid: u32,
    /// Set when the session has begun.
    offer: Arc<OnceLock<KernelOffer>>,
}

impl Adapter {
    /// Starts the threads that help answering requests from `fd`.
    pub(super) fn start(
        fd: impl AsFd,
        fs: Arc<ImageFs>,
        tuning: &FuseTuning,
        means: Means,
        offer: Arc<OnceLock<KernelOffer>>,
    ) -> io::Result<Adapter> {
        let Means {
            metrics,
            answers,
            recorder,
            buffers,
            crumb,
        } = means;
        let failures = Arc::new(Failures::new(Arc::clone(&metrics)));
        let reads = Reads::new(
            Arc::clone(&fs),
            tuning,
            Arc::clone(&metrics),
            Arc::clone(&failures),
            recorder,
            (buffers, crumb.clone()),
        );
        Ok(Adapter {
            fs,
            tuning: tuning.clone(),
            metrics,
            answers,
            progress: Arc::new(Progress::new(tuning.threads, reads.oldest())),
            reads,
            failures,
            refusals: Quiet::default(),
            invalidations: Arc::default(),
            spin: Spin::start(fd, tuning.spin)?,
            crumb,
            daemon_uid: rustix::process::geteuid().as_raw(),
            offer,
        })
    }

    pub(super) fn invalidations(&self) -> Arc<Invalidations> {
        Arc::clone(&self.invalidations)
    }

    /// Counts a request and has it answered; if that panics, the reply is
    /// dropped, which answers EIO.
    pub(super) fn serve(&self, op: Op, answer: impl FnOnce()) {
        self.metrics.arrived(op);
        let busy = self.progress.begin(Instant::now());
        let _open = self.crumb.open();
        if catch_unwind(AssertUnwindSafe(answer)).is_err() {
            tracing::error!(op = op.name(), "a request panicked and was answered EIO");
        }
        self.answered(op, busy.arrived);
    }

    fn answered(&self, op: Op, arrived: Instant) {
        self.metrics.answered(op, arrived.elapsed());
        // While the pool works its threads need the processor more.
        if self.reads.idle() {
            self.spin.request();
        }
    }

    fn failed(&self, op: Op, ino: INodeNo, error: &FsError) -> Errno {
        self.failures.errno(op, ino.0, error)
    }

    fn answer_to(&self, req: &Request, question: Option<Question>) -> Result<Vec<u8>, FsError> {
        let question = question.ok_or(FsError::NoIoctl)?;
        if req.uid() != 0 && req.uid() != self.daemon_uid {
            return Err(FsError::NotPermitted);
        }
        ioctl::pack(&(self.answers)(question)?).ok_or(FsError::AnswerTooLong)
    }
}

impl std::fmt::Debug for Adapter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Adapter")
            .field("fs", &self.fs)
            .finish_non_exhaustive()
    }
}

impl Filesystem for Adapter {
    fn init(&mut self, _req: &Request, config: &mut KernelConfig) -> io::Result<()> {
        // Only the first handshake counts, and there is only one.
        let _first = self.offer.set(KernelOffer {
            minor: config.kernel_abi().1,
            flags: config.capabilities().bits(),
        });
        negotiate(&mut self.tuning, config);
        Ok(())
    }

    fn lookup(&self, _req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        self.serve(Op::Lookup, || {
            match self.fs.lookup(parent.0, name.as_bytes()) {
                Ok(Some(attr)) => reply.entry(&self.tuning.ttl, &file_attr(&attr), GENERATION),
                Ok(None) if self.tuning.negative_entries => {
                    reply.entry(&self.tuning.ttl, &absent(), GENERATION);
                }
                Ok(None) => reply.error(errno(&FsError::NotFound)),
                Err(error) => reply.error(self.failed(Op::Lookup, parent, &error)),
            }
        });
    }

    fn forget(&self, _req: &Request, _ino: INodeNo, _nlookup: u64) {
        // Nothing is kept that could be forgotten, and nobody waits.
        self.metrics.arrived(Op::Forget);
    }

    fn getattr(&self, _req: &Request, ino: INodeNo, _fh: Option<FileHandle>, reply: ReplyAttr) {
        self.serve(Op::Getattr, || match self.fs.getattr(ino.0) {
            Ok(attr) => reply.attr(&self.tuning.ttl, &file_attr(&attr)),
            Err(error) => reply.error(self.failed(Op::Getattr, ino, &error)),
        });
    }

    fn readlink(&self, _req: &Request, ino: INodeNo, reply: ReplyData) {
        self.serve(Op::Readlink, || match self.fs.readlink(ino.0) {
            Ok(target) => reply.data(&target),
            Err(error) => reply.error(self.failed(Op::Readlink, ino, &error)),
        });
    }

    fn open(&self, req: &Request, ino: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        if self.tuning.no_open {
            self.serve(Op::Open, || reply.error(errno(&FsError::NotNeeded)));
        } else if flags.acc_mode() != OpenAccMode::O_RDONLY {
            self.refuse(Op::Open, req, ino, |refusal| reply.error(refusal));
        } else {
            let keep = FopenFlags::FOPEN_KEEP_CACHE | FopenFlags::FOPEN_NOFLUSH;
            self.serve(Op::Open, || reply.opened(NO_HANDLE, keep));
        }
    }

    fn read(
        &self,
        _req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        self.metrics.arrived(Op::Read);
        let busy = self.progress.begin(Instant::now());
        let _open = self.crumb.open();
        let range = Range {
            ino: ino.0,
            offset,
            len: size,
        };
        match catch_unwind(AssertUnwindSafe(|| {
            self.reads.at_once(range, busy.arrived, reply)
        })) {
            Ok(Some(reply)) => {
                self.spin.rest();
                self.reads.later(range, busy.arrived, reply);
                return;
            }
            Ok(None) => {}
            Err(_) => tracing::error!(ino = ino.0, "a read panicked and was answered EIO"),
        }
        self.answered(Op::Read, busy.arrived);
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        self.serve(Op::Flush, || reply.error(errno(&FsError::NotNeeded)));
    }

    fn release(
        &self,
        _req: &Request,
        _ino: INodeNo,
        _fh: FileHandle,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        self.serve(Op::Release, || reply.ok());
    }

    // Nothing is ever unwritten: a sync succeeds, and the kernel asks only once.
    fn fsync(&self, _: &Request, _: INodeNo, _: FileHandle, _datasync: bool, reply: ReplyEmpty) {
        self.serve(Op::Other, || reply.error(errno(&FsError::NotNeeded)));
    }

    fn fsyncdir(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        self.serve(Op::Other, || reply.error(errno(&FsError::NotNeeded)));
    }

    fn opendir(&self, _req: &Request, _ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        let keep = FopenFlags::FOPEN_KEEP_CACHE | FopenFlags::FOPEN_CACHE_DIR;
        self.serve(Op::Opendir, || match self.tuning.no_opendir {
            true => reply.error(errno(&FsError::NotNeeded)),
            false => reply.opened(NO_HANDLE, keep),
        });
    }

    fn readdir(
        &self,
        _req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        self.serve(Op::Readdir, || {
            let read = self.fs.readdir(ino.0, offset, &mut |entry| {
                let name = OsStr::from_bytes(entry.name);
                let kind = file_type(entry.attr.kind);
                let full = reply.add(INodeNo(entry.attr.ino), entry.next_offset, kind, name);
                if full {
                    ControlFlow::Break(())
                } else {
                    ControlFlow::Continue(())
                }
            });
            match read {
                Ok(()) => reply.ok(),
                Err(error) => reply.error(self.failed(Op::Readdir, ino, &error)),
            }
        });
    }

    fn readdirplus(
        &self,
        _req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        mut reply: ReplyDirectoryPlus,
    ) {
        self.serve(Op::Readdirplus, || {
            let ttl = &self.tuning.ttl;
            let read = self.fs.readdir(ino.0, offset, &mut |entry| {
                let (attr, name) = (file_attr(&entry.attr), OsStr::from_bytes(entry.name));
                let full = reply.add(attr.ino, entry.next_offset, name, ttl, &attr, GENERATION);
                if full {
                    ControlFlow::Break(())
                } else {
                    ControlFlow::Continue(())
                }
            });
            match read {
                Ok(()) => reply.ok(),
                Err(error) => reply.error(self.failed(Op::Readdirplus, ino, &error)),
            }
        });
    }

    fn releasedir(
        &self,
        _req: &Request,
        _ino: INodeNo,
        _fh: FileHandle,
        _flags: OpenFlags,
        reply: ReplyEmpty,
    ) {
        self.serve(Op::Releasedir, || reply.ok());
    }

    fn statfs(&self, _req: &Request, ino: INodeNo, reply: ReplyStatfs) {
        self.serve(Op::Statfs, || match self.fs.statfs() {
            Ok(s) => {
                let (bsize, namelen) = (s.block_size, s.name_bytes_max);
                reply.statfs(s.blocks, 0, 0, s.files, 0, bsize, namelen, bsize);
            }
            Err(error) => reply.error(self.failed(Op::Statfs, ino, &error)),
        });
    }

    fn getxattr(&self, _req: &Request, ino: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        self.serve(Op::Getxattr, || {
            let answer = if self.tuning.xattr_enosys && !self.fs.has_xattrs() {
                Err(FsError::NotNeeded)
            } else {
                self.fs.getxattr(ino.0, name.as_bytes(), size)
            };
            match answer {
                Ok(XattrAnswer::Size(size)) => reply.size(size),
                Ok(XattrAnswer::Data(value)) => reply.data(&value),
                Err(error) => reply.error(self.failed(Op::Getxattr, ino, &error)),
            }
        });
    }

    fn listxattr(&self, _req: &Request, ino: INodeNo, size: u32, reply: ReplyXattr) {
        self.serve(Op::Listxattr, || {
            let answer = if self.tuning.xattr_enosys && !self.fs.has_xattrs() {
                Err(FsError::NotNeeded)
            } else {
                self.fs.listxattr(ino.0, size)
            };
            match answer {
                Ok(XattrAnswer::Size(size)) => reply.size(size),
                Ok(XattrAnswer::Data(names)) => reply.data(&names),
                Err(error) => reply.error(self.failed(Op::Listxattr, ino, &error)),
            }
        });
    }

    // The kernel checks the permission bits itself (`default_permissions`).
    fn access(&self, _: &Request, _: INodeNo, _: AccessFlags, reply: ReplyEmpty) {
        self.serve(Op::Access, || reply.error(errno(&FsError::NotNeeded)));
    }

    fn ioctl(
        &self,
        req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        _flags: IoctlFlags,
        cmd: u32,
        in_data: &[u8],
        out_size: u32,
        reply: ReplyIoctl,
    ) {
        let question = Question::parse(cmd, in_data, out_size);
        self.serve(Op::Ioctl, || match self.answer_to(req, question) {
            Ok(answer) => reply.ioctl(0, &answer),
            Err(error) => reply.error(self.failed(Op::Ioctl, ino, &error)),
        });
    }

    fn poll(
        &self,
        _req: &Request,
        _ino: INodeNo,
        _fh: FileHandle,
        _ph: PollNotifier,
        _events: PollEvents,
        _flags: PollFlags,
        reply: ReplyPoll,
    ) {
        self.serve(Op::Other, || reply.error(errno(&FsError::NotNeeded)));
    }

    fn lseek(
        &self,
        _req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: i64,
        whence: i32,
        reply: ReplyLseek,
    ) {
        self.serve(Op::Lseek, || {
            let found = match whence {
                libc::SEEK_DATA => self.fs.lseek(ino.0, offset, Whence::Data),
                libc::SEEK_HOLE => self.fs.lseek(ino.0, offset, Whence::Hole),
                _ => Err(FsError::Invalid),
            };
            match found.map(i64::try_from) {
                Ok(Ok(offset)) => reply.offset(offset),
                Ok(Err(_)) => reply.error(errno(&FsError::Invalid)),
                Err(error) => reply.error(self.failed(Op::Lseek, ino, &error)),
            }
        });
    }

    // From here on: everything that would change an image.

    fn setattr(
        &self,
        req: &Request,
        ino: INodeNo,
        _mode: Option<u32>,
        _uid: Option<u32>,
        _gid: Option<u32>,
        _size: Option<u64>,
        _atime: Option<TimeOrNow>,
        _mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        _fh: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        self.refuse_and_forget(Op::Setattr, req, ino, |refusal| reply.error(refusal));
    }

    fn write(
        &self,
        req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        _offset: u64,
        _data: &[u8],
        _write_flags: WriteFlags,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        self.refuse_and_forget(Op::Write, req, ino, |refusal| reply.error(refusal));
    }

    fn mknod(
        &self,
        req: &Request,
        parent: INodeNo,
        _name: &OsStr,
        _mode: u32,
        _umask: u32,
        _rdev: u32,
        reply: ReplyEntry,
    ) {
        self.refuse(Op::Modify, req, parent, |refusal| reply.error(refusal));
    }

    fn mkdir(
        &self,
        req: &Request,
        parent: INodeNo,
        _name: &OsStr,
        _mode: u32,
        _umask: u32,
        reply: ReplyEntry,
    ) {
        self.refuse(Op::Modify, req, parent, |refusal| reply.error(refusal));
    }

    fn unlink(&self, req: &Request, parent: INodeNo, _name: &OsStr, reply: ReplyEmpty) {
        self.refuse(Op::Modify, req, parent, |refusal| reply.error(refusal));
    }

    fn rmdir(&self, req: &Request, parent: INodeNo, _name: &OsStr, reply: ReplyEmpty) {
        self.refuse(Op::Modify, req, parent, |refusal| reply.error(refusal));
    }

    fn symlink(
        &self,
        req: &Request,
        parent: INodeNo,
        _link_name: &OsStr,
        _target: &Path,
        reply: ReplyEntry,
    ) {
        self.refuse(Op::Modify, req, parent, |refusal| reply.error(refusal));
    }

    fn rename(
        &self,
        req: &Request,
        parent: INodeNo,
        _name: &OsStr,
        _newparent: INodeNo,
        _newname: &OsStr,
        _flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        self.refuse(Op::Modify, req, parent, |refusal| reply.error(refusal));
    }

    fn link(
        &self,
        req: &Request,
        ino: INodeNo,
        _newparent: INodeNo,
        _newname: &OsStr,
        reply: ReplyEntry,
    ) {
        self.refuse(Op::Modify, req, ino, |refusal| reply.error(refusal));
    }

    fn create(
        &self,
        req: &Request,
        parent: INodeNo,
        _name: &OsStr,
        _mode: u32,
        _umask: u32,
        _flags: i32,
        reply: ReplyCreate,
    ) {
        self.refuse(Op::Modify, req, parent, |refusal| reply.error(refusal));
    }

    fn setxattr(
        &self,
        req: &Request,
        ino: INodeNo,
        _name: &OsStr,
        _value: &[u8],
        _flags: i32,
        _position: u32,
        reply: ReplyEmpty,
    ) {
        self.refuse(Op::Modify, req, ino, |refusal| reply.error(refusal));
    }

    fn removexattr(&self, req: &Request, ino: INodeNo, _name: &OsStr, reply: ReplyEmpty) {
        self.refuse(Op::Modify, req, ino, |refusal| reply.error(refusal));
    }

    fn fallocate(
        &self,
        req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        _offset: u64,
        _length: u64,
        _mode: i32,
        reply: ReplyEmpty,
    ) {
        self.refuse_and_forget(Op::Modify, req, ino, |refusal| reply.error(refusal));
    }

    fn copy_file_range(
        &self,
        req: &Request,
        _ino_in: INodeNo,
        _fh_in: FileHandle,
        _offset_in: u64,
        ino_out: INodeNo,
        _fh_out: FileHandle,
        _offset_out: u64,
        _len: u64,
        _flags: CopyFileRangeFlags,
        reply: ReplyWrite,
    ) {
        self.refuse_and_forget(Op::Modify, req, ino_out, |refusal| reply.error(refusal));
    }
}
