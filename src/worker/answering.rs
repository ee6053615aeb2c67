//! Questions of owners are answered beside everything else.
//!
//! Guarantees: each gets an answer, or the reason why there is none; while one
//! takes long, whoever asked hears that it goes on.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use serde::Serialize;

use super::images::Images;
use super::library::Library;
use super::questions::{Failed, Question};
use crate::wire::{News, pieces};

/// How many may be answered at a time.
const ANSWERS_MAX: usize = 8;

/// How often one who waits is told that it goes on.
const SIGN_OF_LIFE_EVERY: Duration = Duration::from_secs(5);

/// White space before an answer in JSON means nothing.
const SIGN_OF_LIFE: &str = " ";

type Answered = Result<String, Box<dyn std::error::Error>>;

/// Answers questions.
#[derive(Clone)]
pub(super) struct Answering {
    library: Arc<Library>,
    images: Arc<Images>,
    answers: Arc<AtomicUsize>,
}

impl Answering {
    pub(super) fn new(library: &Arc<Library>, images: &Arc<Images>) -> Self {
        Answering {
            library: Arc::clone(library),
            images: Arc::clone(images),
            answers: Arc::default(),
        }
    }

    /// Sees to it that a question is answered, which is JSON.
    pub(super) fn answer(&self, id: u64, question: &str) {
        let question = match serde_json::from_str(question) {
            // Asked again and again, and answered at once.
            Ok(Question::Report) => return self.say(id, json(&self.images.report())),
            Ok(question) => question,
            Err(error) => {
                let error = format!("not a question that this version knows: {error}");
                return self.say(id, Err(error.into()));
            }
        };
        if self.answers.fetch_add(1, Ordering::Relaxed) >= ANSWERS_MAX {
            self.answers.fetch_sub(1, Ordering::Relaxed);
            let error = "too much is asked at a time: try again";
            return self.say(id, Err(error.into()));
        }
        let answering = self.clone();
        let started = std::thread::Builder::new()
            .name("answer".to_owned())
            .spawn(move || {
                let own = answering.images.own_work();
                let _open = own.open();
                answering.wait_and_say(id, &question);
                answering.answers.fetch_sub(1, Ordering::Relaxed);
            });
        if let Err(error) = started {
            self.answers.fetch_sub(1, Ordering::Relaxed);
            self.say(id, Err(error.into()));
        }
    }

    fn wait_and_say(&self, id: u64, question: &Question) {
        let (done, is_done) = channel::<()>();
        std::thread::scope(|scope| {
            // Without it only those wait in vain who ask for what takes long.
            let _signs = std::thread::Builder::new()
                .name("signs of life".to_owned())
                .spawn_scoped(scope, move || {
                    while let Err(RecvTimeoutError::Timeout) =
                        is_done.recv_timeout(SIGN_OF_LIFE_EVERY)
                    {
                        self.piece(id, SIGN_OF_LIFE);
                    }
                });
            let answer = self.find(question);
            drop(done);
            self.say(id, answer);
        });
    }

    fn find(&self, question: &Question) -> Answered {
        let (library, images) = (&self.library, &*self.images);
        match question {
            Question::Report => json(&images.report()),
            Question::Images => json(&library.images()?),
            Question::Image { path } => json(&library.image(path)?),
            Question::Rollback { path, to } => json(&library.rollback(images, path, to)?),
            Question::Remove { path } => json(&library.remove(images, path)?),
            Question::RemoveVersion { path, version } => {
                json(&library.remove_version(images, path, version)?)
            }
            Question::Keep { path, versions } => json(&library.keep(images, path, *versions)?),
            Question::Chmod { path, mode, at } => json(&library.chmod(images, path, *mode, at)?),
            Question::Collect => json(&library.collect(images)?),
            Question::Verify { path } => json(&library.verify(path)?),
            Question::Check { path } => library.check(path),
            Question::RecordProfile { path, millis } => {
                json(&images.record_profile(path, Duration::from_millis(*millis))?)
            }
            Question::Profile { path } => json(&images.profile(path)?),
            Question::RemoveProfile { path } => json(&images.remove_profile(path)?),
            Question::Reclaim { path } => json(&library.reclaim(path)?),
        }
    }

    fn say(&self, id: u64, answer: Answered) {
        let answer = answer.or_else(|error| {
            let error = error.to_string();
            json(&Failed { error })
        });
        let answer = answer.unwrap_or_default();
        for piece in pieces(&answer).chain([""]) {
            self.piece(id, piece);
        }
    }

    fn piece(&self, id: u64, piece: &str) {
        let piece = piece.to_owned();
        self.images.tell(&News::Answer { id, piece }, &[]);
    }
}

fn json(answer: &impl Serialize) -> Answered {
    Ok(serde_json::to_string(answer)?)
}
