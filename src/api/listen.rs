//! Connections, and their bounds.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::sync::Semaphore;

use crate::sys::packets::Packets;

/// How long to wait when the address is somebody else's, or nothing can be accepted.
const RETRY: Duration = Duration::from_secs(2);

/// Connections at a time: others wait in the kernel.
const CONNECTIONS_MAX: usize = 64;

/// For a request's line and headers, and for everything: a connection is for one
/// request.
const HEADERS_WITHIN: Duration = Duration::from_secs(2);
const ALL_WITHIN: Duration = Duration::from_secs(30);

/// What a request's line and headers may take, and how many headers there may be.
const HEADERS_BYTES_MAX: usize = 16 * 1024;
const HEADERS_MAX: usize = 64;

/// Listens at `address` as soon as that can be done, and tells the supervisor where
/// that is.
pub(super) fn bind(address: SocketAddr, supervisor: &Packets) -> io::Result<TcpListener> {
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
    let at = listener.local_addr()?;
    tracing::info!(address = %at, "answering HTTP");
    supervisor.send(at.to_string().as_bytes(), &[])?;
    Ok(listener)
}

/// Waits for the next try; an error once the supervisor is gone.
fn wait(supervisor: &Packets) -> io::Result<()> {
    supervisor.set_receiving(RETRY)?;
    let waited = supervisor.receive();
    match waited {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            // For ever again.
            supervisor.set_receiving(Duration::from_secs(u32::MAX.into()))
        }
        _ => Err(io::Error::other("the service ended")),
    }
}

/// Answers whoever connects.
pub(super) async fn serve(listener: TcpListener, router: Router) -> io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut protocol = http1::Builder::new();
    protocol
        .timer(TokioTimer::new())
        .header_read_timeout(HEADERS_WITHIN)
        .max_buf_size(HEADERS_BYTES_MAX)
        .max_headers(HEADERS_MAX)
        .keep_alive(false);
    loop {
        let place = Arc::clone(&places).acquire_owned().await;
        let place = place.map_err(io::Error::other)?;
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "a connection was not accepted");
                tokio::time::sleep(RETRY).await;
                continue;
            }
        };
        let service = TowerToHyperService::new(router.clone());
        let served = protocol.serve_connection(TokioIo::new(stream), service);
        tokio::spawn(async move {
            // How it ended is the client's affair.
            match tokio::time::timeout(ALL_WITHIN, served).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::debug!(%error, "a connection ended"),
                Err(_) => tracing::debug!("a connection took too long"),
            }
            drop(place);
        });
    }
}
