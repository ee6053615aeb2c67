//! Connections, and their bounds.
//!
//! Guarantees: so many connections at a time, each with a bounded buffer; when there
//! are more, of those who are not known to be a customer the first goes, so that
//! nobody keeps customers out by asking slowly. A connection is for one request, and
//! ends when its time is over ([`Patience`]). What a client still sends when it has
//! its answer is read for a moment, or it would lose the answer.
//!
//! | module | what it is |
//! |---|---|
//! | `places` | who is connected |
//! | `patience` | how long that may last |
//! | `visit` | what a request knows of its connection |

mod patience;
mod places;
mod visit;

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;
use tower_service::Service;

use crate::wire::Link;
use crate::wire::http::HttpJob;
use patience::Patience;
use places::Places;
pub(super) use visit::Visit;

/// How long to wait when the address is somebody else's, or nothing can be accepted.
const RETRY: Duration = Duration::from_secs(2);

/// Connections at a time.
const CONNECTIONS_MAX: usize = 2048;

/// For a request's line and headers.
const HEADERS_WITHIN: Duration = Duration::from_secs(10);

/// What a request's line and headers may take, and how many headers there may be.
const HEADERS_BYTES_MAX: usize = 16 * 1024;
const HEADERS_MAX: usize = 64;

/// How much of what nobody wants is read, and how long.
const LINGER_BYTES_MAX: usize = 1 << 20;
const LINGER: Duration = Duration::from_secs(2);

/// Who is at the other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Client {
    /// A machine.
    Address(IpAddr),
    /// A user of this one.
    User(u32),
}

/// Listens at `address` as soon as that can be done.
pub(super) fn bind(address: SocketAddr, supervisor: &Link) -> io::Result<TcpListener> {
    let mut is_told = false;
    let listener = loop {
        match TcpListener::bind(address) {
            Ok(listener) => break listener,
            Err(error) => {
                if !is_told {
                    is_told = true;
                    tracing::error!(
                        %address,
                        %error,
                        "cannot answer HTTP, and tries again; images are served all the same. \
                         To have it elsewhere, change `listen`"
                    );
                }
                wait(supervisor)?;
            }
        }
    };
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Waits for the next try; an error once the supervisor is gone.
fn wait(supervisor: &Link) -> io::Result<()> {
    supervisor.set_receiving(RETRY)?;
    let waited = supervisor.receive::<HttpJob>();
    match waited {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            // For ever again.
            supervisor.set_receiving(Duration::from_secs(u32::MAX.into()))
        }
        _ => Err(io::Error::other("the service ended")),
    }
}

/// Where clients connect.
#[derive(Debug)]
pub(super) struct Doors {
    /// By TCP.
    pub(super) tcp: Option<TcpListener>,
    /// By a Unix socket.
    pub(super) unix: Option<OwnedFd>,
}

/// Answers whoever connects.
pub(super) async fn serve(doors: Doors, router: Router) -> io::Result<()> {
    let server = Arc::new(Server {
        router,
        places: Places::new(CONNECTIONS_MAX),
    });
    let unix = match doors.unix {
        Some(socket) => {
            let listener = std::os::unix::net::UnixListener::from(socket);
            listener.set_nonblocking(true)?;
            Some(tokio::net::UnixListener::from_std(listener)?)
        }
        None => None,
    };
    let tcp = doors
        .tcp
        .map(tokio::net::TcpListener::from_std)
        .transpose()?;
    if let Some(unix) = unix {
        let server = Arc::clone(&server);
        let accepting = async move {
            loop {
                match unix.accept().await {
                    Ok((stream, _)) => {
                        let peer = stream.peer_cred().map_or(u32::MAX, |peer| peer.uid());
                        server.admit(stream, Client::User(peer)).await;
                    }
                    Err(error) => not_accepted(&error).await,
                }
            }
        };
        match tcp {
            Some(_) => drop(tokio::spawn(accepting)),
            None => accepting.await,
        }
    }
    let Some(tcp) = tcp else {
        return std::future::pending().await;
    };
    loop {
        match tcp.accept().await {
            Ok((stream, peer)) => server.admit(stream, Client::Address(peer.ip())).await,
            Err(error) => not_accepted(&error).await,
        }
    }
}

async fn not_accepted(error: &io::Error) {
    tracing::warn!(%error, "a connection was not accepted");
    tokio::time::sleep(RETRY).await;
}

#[derive(Debug)]
struct Server {
    router: Router,
    places: Arc<Places>,
}

impl Server {
    /// Answers a client, as soon as there is a place for it.
    async fn admit<S>(self: &Arc<Self>, stream: S, client: Client)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let place = self.places.take().await;
        let (router, seat) = (self.router.clone(), place.seat());
        let visit = Visit {
            client,
            patience: Patience::new(),
            seat: place.seat(),
        };
        let task = tokio::spawn(async move {
            attend(stream, visit, router).await;
            drop(place);
        });
        seat.is_of(task.abort_handle());
    }
}

/// Answers one request.
async fn attend<S>(stream: S, visit: Visit, router: Router)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let patience = visit.patience.clone();
    let service = service_fn(|request: Request<Incoming>| {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(visit.clone());
        router.clone().call(request)
    });
    let mut protocol = http1::Builder::new();
    protocol
        .timer(TokioTimer::new())
        .header_read_timeout(HEADERS_WITHIN)
        .max_buf_size(HEADERS_BYTES_MAX)
        .max_headers(HEADERS_MAX)
        .half_close(true)
        .keep_alive(false);
    let served = protocol.serve_connection(TokioIo::new(stream), service);
    // How it ended is the client's affair.
    match patience.lasts(served.without_shutdown()).await {
        Some(Ok(parts)) => linger(parts.io.into_inner()).await,
        Some(Err(error)) => tracing::debug!(%error, "a connection ended"),
        None => tracing::debug!("a connection took too long"),
    }
}

/// Ends a connection so that the client can read all of its answer.
async fn linger<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S) {
    let last = async {
        stream.shutdown().await?;
        let mut left = LINGER_BYTES_MAX;
        let mut buffer = [0; 4096];
        while left > 0 {
            let len = stream.read(&mut buffer).await?;
            if len == 0 {
                break;
            }
            left = left.saturating_sub(len);
        }
        io::Result::Ok(())
    };
    // It may be gone, or never end.
    let _ended = timeout(LINGER, last).await.is_ok();
}
