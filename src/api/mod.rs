//! The process that answers HTTP: the platform's API, `/metrics` and `/healthz`.
//!
//! It has no rights: no user's files, no capabilities, no connections of its own
//! making. It has the registry, and tells the supervisor what that decides; what it
//! tells of images it asks the supervisor, as any command does.
//!
//! Guarantees: whoever connects can neither keep it busy nor make it large: so many
//! connections at a time, each for so long, for one request with so many headers and
//! so long a body. Serving images and starting containers never depends on it.
//!
//! | module | what it is |
//! |---|---|
//! | `listen` | connections, and their bounds |
//! | `guard` | who asks |
//! | `routes` | what can be asked for |
//! | `body`, `answer` | what comes in, what goes out |
//! | `database` | the registry, for many requests |
//! | `push` | what the registry decides, to the supervisor; alarms, from it |
//! | `ask` | what the supervisor tells |
//! | `families`, `exposition` | the metrics that there are, and their text |

mod answer;
mod ask;
mod body;
mod database;
mod exposition;
mod families;
mod guard;
mod listen;
mod push;
mod routes;

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;

use crate::sys::confine::confine;
use crate::sys::spawn;
use crate::wire::Link;
use crate::wire::http::{HttpJob, Listening};
use ask::Asker;
use database::Database;
use guard::Guard;
use listen::Doors;
use push::{Ends, Pushed};
use routes::{Registered, Service};

/// Why it ended.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// Something of the system.
    #[error("cannot {doing}: {cause}")]
    System {
        /// What was tried.
        doing: &'static str,
        /// Why not.
        cause: io::Error,
    },
}

/// Threads that may wait at a time: for the registry, for passwords, for the
/// supervisor.
const THREADS_MAX: usize = 24;
const STACK_BYTES: usize = 512 * 1024;

/// Answers until the supervisor, which is at the other end of `supervisor`, is gone.
pub fn run(supervisor: Link) -> Result<(), ApiError> {
    let system = |doing| move |cause| ApiError::System { doing, cause };
    spawn::hide().map_err(system("hide"))?;
    let given = Given::by(&supervisor).map_err(system("learn what to do"))?;
    let job = given.job;
    let tcp = match job.listen {
        Some(address) => Some(listen::bind(address, &supervisor).map_err(system("listen"))?),
        None => None,
    };
    let bound = tcp.as_ref().map(std::net::TcpListener::local_addr);
    let address = bound.transpose().map_err(system("listen"))?;
    tracing::info!(?address, "answering HTTP");
    supervisor
        .send(&Listening { address }, &[])
        .map_err(system("tell where it listens"))?;
    // From here on there is nothing else to open.
    let reached: Vec<_> = given.registry.iter().collect();
    if !confine(&reached).map_err(system("give up what it may reach"))? {
        tracing::warn!("this kernel has no Landlock: what users may do is all that confines");
    }
    std::thread::Builder::new()
        .name("supervisor".to_owned())
        .spawn(move || {
            let _over = supervisor.receive::<HttpJob>().is_err();
            std::process::exit(0);
        })
        .map_err(system("start a thread"))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .max_blocking_threads(THREADS_MAX)
        .thread_stack_size(STACK_BYTES)
        .build()
        .map_err(system("begin"))?;
    let run = Arc::new(given.run);
    let registered = match given.registry {
        Some(_) => Some(registered(&job, &run).map_err(system("begin"))?),
        None => None,
    };
    let service = Service::new(Asker::new(run), registered, job.server, job.image_bytes_max);
    let unix = given.socket;
    let served = runtime.block_on(listen::serve(Doors { tcp, unix }, routes::router(service)));
    served.map_err(system("listen"))
}

fn registered(job: &HttpJob, run: &Arc<RunDirectory>) -> io::Result<Registered> {
    let database = Arc::new(Database::new(job.registry.clone()));
    let ends = Ends {
        run: Arc::clone(run),
        registry: job.registry.clone(),
        server: job.server.clone(),
    };
    Ok(Registered {
        guard: Guard::new(Arc::clone(&database), job.is_forwarded)?,
        pushed: Pushed::start(&ends)?,
        database,
    })
}

/// What the supervisor gives.
struct Given {
    job: HttpJob,
    run: RunDirectory,
    /// The directory of the registry, if it can be used.
    registry: Option<OwnedFd>,
    /// The Unix socket, if there is one.
    socket: Option<OwnedFd>,
}

/// The directory of the service's sockets.
#[derive(Debug)]
struct RunDirectory {
    path: PathBuf,
    /// Keeps the path alive.
    _fd: OwnedFd,
}

impl Given {
    /// By one message.
    fn by(supervisor: &Link) -> io::Result<Given> {
        let ended = || io::Error::other("the service ended");
        let (job, fds) = supervisor.receive::<HttpJob>()?.ok_or_else(ended)?;
        let mut fds = fds.into_iter();
        let fd = fds.next().ok_or_else(ended)?;
        let path = format!("/proc/self/fd/{}", fd.as_raw_fd()).into();
        Ok(Given {
            run: RunDirectory { path, _fd: fd },
            registry: job.has_registry.then(|| fds.next()).flatten(),
            socket: job.has_socket.then(|| fds.next()).flatten(),
            job,
        })
    }
}
