//! Shell. Answers to Metadata for all topics, written once for each image.
//!
//! Clients ask for everything again and again, and with many topics the answer is megabytes: whoever asks the same of the
//! same image gets the same bytes, shared by all connections that have yet to send them. As long as everybody may see
//! everything, nothing but what is in [`Question`] may decide what the answer is.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use parking_lot::Mutex;

use crate::error::ErrorCode;

/// Answers kept for an image: as many as there are versions that clients in use ask in, and more.
const MOST: usize = 8;

/// What is asked, beside the image.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Question {
    /// In which version.
    pub version: i16,
    /// On which listener: brokers' addresses are of one.
    pub listener: Arc<str>,
    /// With what a principal may do to topics.
    pub topic_operations: bool,
    /// With what it may do to the cluster.
    pub cluster_operations: bool,
}

/// An answer, and how often each error code stands in it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Answer {
    /// The response's body.
    pub body: Bytes,
    /// The codes.
    pub codes: Arc<[(ErrorCode, u64)]>,
}

/// The answers to one image.
#[derive(Default)]
struct Kept {
    version: u64,
    /// The oldest first.
    answers: Vec<(Question, Arc<OnceLock<Answer>>)>,
}

/// The answers to the newest image.
#[derive(Default)]
pub struct MetadataAnswers {
    kept: Mutex<Kept>,
}

impl MetadataAnswers {
    /// The answer that is kept, or else the one that `write` writes. Who asks meanwhile waits for it instead of writing
    /// another.
    pub fn get(&self, image_version: u64, question: &Question, write: impl FnOnce() -> Answer) -> Answer {
        match self.place(image_version, question) {
            Some(place) => place.get_or_init(write).clone(),
            None => write(),
        }
    }

    /// The place of an answer; none for an image that others have passed by.
    fn place(&self, image_version: u64, question: &Question) -> Option<Arc<OnceLock<Answer>>> {
        let mut kept = self.kept.lock();
        if image_version < kept.version {
            return None;
        }
        if image_version > kept.version {
            *kept = Kept { version: image_version, answers: Vec::new() };
        }
        if let Some((_, place)) = kept.answers.iter().find(|(known, _)| known == question) {
            return Some(Arc::clone(place));
        }
        if kept.answers.len() == MOST {
            kept.answers.remove(0);
        }
        let place = Arc::default();
        kept.answers.push((question.clone(), Arc::clone(&place)));
        Some(place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question(version: i16) -> Question {
        Question { version, listener: "PLAINTEXT".into(), topic_operations: false, cluster_operations: false }
    }

    fn answer(body: &'static str) -> Answer {
        Answer { body: Bytes::from_static(body.as_bytes()), codes: Arc::default() }
    }

    #[test]
    fn an_answer_is_written_once_for_an_image_and_question() {
        let answers = MetadataAnswers::default();
        assert_eq!(answers.get(7, &question(1), || answer("a")).body, "a");
        assert_eq!(answers.get(7, &question(1), || panic!("it is kept")).body, "a");
        assert_eq!(answers.get(7, &question(2), || answer("b")).body, "b");
        let elsewhere = Question { listener: "INSIDE".into(), ..question(1) };
        assert_eq!(answers.get(7, &elsewhere, || answer("c")).body, "c");
        assert_eq!(answers.get(8, &question(1), || answer("d")).body, "d");
    }

    #[test]
    fn an_image_that_was_passed_by_is_answered_and_not_kept() {
        let answers = MetadataAnswers::default();
        answers.get(8, &question(1), || answer("new"));
        assert_eq!(answers.get(7, &question(1), || answer("old")).body, "old");
        assert_eq!(answers.get(8, &question(1), || panic!("it is kept")).body, "new");
    }

    #[test]
    fn few_answers_are_kept() {
        let answers = MetadataAnswers::default();
        for version in 0..100 {
            answers.get(1, &question(version), || answer("a"));
        }
        assert_eq!(answers.kept.lock().answers.len(), MOST);
        assert_eq!(answers.get(1, &question(0), || answer("again")).body, "again");
    }
}
