//! What would change an image is refused.

use fuser::{Errno, INodeNo, Request};

use super::adapter::Adapter;
use super::convert::errno;
use crate::fs::FsError;
use crate::metrics::Op;

impl Adapter {
    /// Refuses a change.
    pub(super) fn refuse(&self, op: Op, req: &Request, ino: INodeNo, answer: impl FnOnce(Errno)) {
        self.serve(op, || {
            self.metrics.counters.refused_writes.add(1);
            answer(errno(&FsError::ReadOnly));
            if let Some(left_out) = self.refusals.admit() {
                let (op, ino, pid, uid) = (op.name(), ino.0, req.pid(), req.uid());
                tracing::warn!(op, ino, pid, uid, left_out, "refused to change an image");
            }
        });
    }

    /// Refuses a change that the kernel may have made in its cache already.
    pub(super) fn refuse_and_forget(
        &self,
        op: Op,
        req: &Request,
        ino: INodeNo,
        answer: impl FnOnce(Errno),
    ) {
        self.refuse(op, req, ino, answer);
        self.invalidations.push(ino.0);
    }
}
