//! What owners and administrators ask a worker, through the supervisor, which does
//! not read it.

use serde::{Deserialize, Serialize};

/// What is asked.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum Question {
    /// How what is served is doing: a
    /// [`WorkerReport`](crate::wire::served::WorkerReport).
    Report,
}

/// What is answered instead if it cannot be done.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Failed {
    /// Why not, and what to do.
    pub error: String,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::served::REPORT;

    #[test]
    fn what_the_supervisor_asks_by_itself_is_a_question() {
        let question = serde_json::from_str(REPORT).unwrap();
        assert!(matches!(question, Question::Report));
    }
}
