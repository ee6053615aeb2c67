//! Asking the supervisor.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::Serialize;

use super::Link;
use super::control::{CONTROL, Reply, Request};
use crate::sys::packets::Packets;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// Nobody listens.
    #[error(
        "no service answers at {}: {cause}: start `distrofs serve`, or name its directory with \
         --run",
        .socket.display()
    )]
    Nobody {
        /// Where it should.
        socket: PathBuf,
        /// Why not.
        cause: io::Error,
    },
    /// The connection ended.
    #[error("the service ended: try again")]
    Ended,
    /// The connection failed, or it took too long.
    #[error("the service does not answer: {0}: try again, and look into its log")]
    Link(#[from] io::Error),
    /// The answer is longer than any should be.
    #[error("the service says more than {0} bytes: restart it")]
    TooLong(usize),
    /// It was refused, or failed. Why.
    #[error("{0}")]
    Refused(String),
}

/// Asks the service at `run`, and gives its replies to `hear`. Each may take
/// `patience`.
pub fn ask(
    run: &Path,
    request: &Request,
    patience: Duration,
    mut hear: impl FnMut(Reply, Option<OwnedFd>) -> Result<(), AskError>,
) -> Result<(), AskError> {
    let link = connect(run, patience)?;
    link.send(request, &[])?;
    hear_all(&link, &mut hear)
}

/// Tells the service at `run` something that takes more than one message. Each may
/// take `patience`, and so may its reply.
pub fn tell(
    run: &Path,
    request: &Request,
    more: &[impl Serialize],
    patience: Duration,
) -> Result<(), AskError> {
    let link = connect(run, patience)?;
    let sent = link
        .send(request, &[])
        .and_then(|()| more.iter().try_for_each(|message| link.send(message, &[])));
    // Why it listened no longer is in its reply.
    hear_all(&link, &mut |_, _| Ok(()))?;
    Ok(sent?)
}

fn connect(run: &Path, patience: Duration) -> Result<Link, AskError> {
    let socket = run.join(CONTROL);
    let link = match Packets::connect(&socket) {
        Ok(connected) => Link::from(connected),
        Err(cause) => return Err(AskError::Nobody { socket, cause }),
    };
    link.set_sending(patience)?;
    link.set_receiving(patience)?;
    Ok(link)
}

fn hear_all(
    link: &Link,
    hear: &mut dyn FnMut(Reply, Option<OwnedFd>) -> Result<(), AskError>,
) -> Result<(), AskError> {
    loop {
        match link.receive::<Reply>()? {
            None => return Err(AskError::Ended),
            Some((Reply::Done, _)) => return Ok(()),
            Some((Reply::Failed(why), _)) => return Err(AskError::Refused(why)),
            Some((reply, fds)) => hear(reply, fds.into_iter().next())?,
        }
    }
}

/// The same for what is answered by a text of at most `bytes_max`, within `patience`
/// for all of it.
pub fn ask_text(
    run: &Path,
    request: &Request,
    patience: Duration,
    bytes_max: usize,
) -> Result<String, AskError> {
    let (mut text, began) = (String::new(), Instant::now());
    ask(run, request, patience, |reply, _| {
        if let Reply::Text(piece) = reply {
            text += &piece;
        }
        if text.len() > bytes_max {
            return Err(AskError::TooLong(bytes_max));
        }
        match began.elapsed() > patience {
            true => Err(AskError::Link(io::ErrorKind::TimedOut.into())),
            false => Ok(()),
        }
    })?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::packets::Listener;

    const PATIENCE: Duration = Duration::from_secs(60);

    /// What a client gets of a service that replies so.
    fn answered(replies: &[Reply], bytes_max: usize) -> Result<String, AskError> {
        let run = tempfile::tempdir().unwrap();
        let listener = Listener::bind(&run.path().join(CONTROL), 0o600).unwrap();
        std::thread::scope(|scope| {
            scope.spawn(move || {
                let link = Link::from(listener.accept().unwrap());
                link.receive::<Request>().unwrap().unwrap();
                for reply in replies {
                    // A client may have heard enough.
                    let _gone = link.send(reply, &[]).is_err();
                }
            });
            ask_text(run.path(), &Request::Status, PATIENCE, bytes_max)
        })
    }

    #[test]
    fn an_answer_is_whole_or_an_error() {
        let text = |text: &str| Reply::Text(text.to_owned());
        let both = [text("a"), Reply::Note("n".into()), text("b"), Reply::Done];
        assert_eq!(answered(&both, 2).unwrap(), "ab");
        let error = answered(&both, 1).unwrap_err();
        assert!(matches!(error, AskError::TooLong(1)), "{error}");
        let error = answered(&both[..2], 2).unwrap_err();
        assert!(matches!(error, AskError::Ended), "{error}");
        let error = answered(&[text("a"), Reply::Failed("why".into())], 2).unwrap_err();
        assert_eq!(error.to_string(), "why");
        let nobody = ask_text(Path::new("/none"), &Request::Status, PATIENCE, 1);
        assert!(matches!(nobody, Err(AskError::Nobody { .. })), "{nobody:?}");
    }
}
