//! Rows into tokens that fit into a packed row.

use super::encode::{ChatEncoder, Document, Pair, Scratch};
use super::pack::Overlong;
use super::spill::Origin;
use crate::error::{Error, Result};
use crate::record::{Chat, Message, Preference, Record, Role, Row};

/// What a row became.
pub(super) enum Encoded {
    /// A chat: one document, or several if it was split.
    Documents(Vec<(Document, Origin)>),
    /// A preference.
    Pair { id: String, carried: Vec<Option<String>>, scores: [Option<f64>; 2], pair: Pair, truncated: bool },
}

/// Reason and detail of a row that goes.
pub(super) type Dropped = (&'static str, String);

/// Reason of rows that are too long.
const OVERLONG: &str = "overlong";
/// Reason of rows that the chat template refuses.
const TEMPLATE: &str = "template";
/// Reason of rows with nothing to learn from.
const NO_LOSS: &str = "no_loss";

/// What fits, of tokens alone.
#[derive(Clone, Copy)]
pub(super) struct Fit {
    pub(super) overlong: Overlong,
    pub(super) max_length: usize,
}

/// Encodes rows and makes them fit.
pub(super) struct Fitter<'a> {
    pub(super) encoder: &'a ChatEncoder,
    pub(super) fit: Fit,
}

/// Turns a template's refusal of one row into a reason to drop that row.
fn refused<T>(result: Result<T>) -> Result<std::result::Result<T, Dropped>> {
    match result {
        Ok(value) => Ok(Ok(value)),
        Err(Error::Template { message, .. }) => Ok(Err((TEMPLATE, message))),
        Err(other) => Err(other),
    }
}

impl Fit {
    /// A chat's documents, or why it goes; `split` cuts it between its turns.
    pub(super) fn document(
        self,
        document: Document,
        split: impl FnOnce() -> Result<Vec<(Document, bool)>>,
    ) -> Result<std::result::Result<Vec<(Document, bool)>, Dropped>> {
        let tokens = document.ids.len();
        if document.lost > 0 {
            let detail = format!("the tokenizer does not tell where {} of its answers begin", document.lost);
            return Ok(Err((NO_LOSS, detail)));
        }
        if tokens <= self.max_length {
            return Ok(supervised(&document)
                .then(|| vec![(document, false)])
                .ok_or_else(|| (NO_LOSS, format!("none of its {tokens} tokens carries the loss"))));
        }
        let documents = match self.overlong {
            Overlong::Drop => return Ok(Err((OVERLONG, format!("{tokens} tokens")))),
            Overlong::Truncate => vec![self.cut(document)],
            Overlong::SplitTurns => split()?,
        };
        let documents: Vec<_> = documents.into_iter().filter(|(document, _)| supervised(document)).collect();
        if documents.is_empty() {
            let detail = format!("{tokens} tokens, none of the first {} carries the loss", self.max_length);
            return Ok(Err((OVERLONG, detail)));
        }
        Ok(Ok(documents))
    }

    fn cut(self, mut document: Document) -> (Document, bool) {
        let truncated = document.ids.len() > self.max_length;
        document.ids.truncate(self.max_length);
        document.mask.truncate(self.max_length);
        (document, truncated)
    }

    /// A preference's tokens and whether some were cut off, or why it goes; `shorten` leaves out the first exchanges.
    pub(super) fn pair(
        self,
        mut pair: Pair,
        shorten: impl FnOnce(Pair) -> Result<Pair>,
    ) -> Result<std::result::Result<(Pair, bool), Dropped>> {
        let tokens = length(&pair);
        if tokens > self.max_length {
            match self.overlong {
                Overlong::Drop => return Ok(Err((OVERLONG, format!("{tokens} tokens")))),
                Overlong::Truncate => {}
                Overlong::SplitTurns => pair = shorten(pair)?,
            }
        }
        let cut = tokens > self.max_length;
        if length(&pair) > self.max_length {
            self.cut_pair(&mut pair);
        }
        if pair.chosen == pair.rejected {
            let detail = if cut {
                format!("{tokens} tokens; within {} both answers are equal", self.max_length)
            } else {
                "both answers have the same tokens".to_string()
            };
            return Ok(Err((if cut { OVERLONG } else { NO_LOSS }, detail)));
        }
        if pair.chosen.is_empty() || pair.rejected.is_empty() {
            return Ok(Err((NO_LOSS, "an answer has no tokens of its own".to_string())));
        }
        Ok(Ok((pair, cut)))
    }

    /// Keeps the end of the prompt, at least half of the row if it is that long, and the start of the answers.
    fn cut_pair(self, pair: &mut Pair) {
        let longest = pair.chosen.len().max(pair.rejected.len());
        let room = self.max_length.saturating_sub(longest).max(self.max_length / 2).min(pair.prompt.len());
        pair.prompt.drain(..pair.prompt.len() - room);
        for answer in [&mut pair.chosen, &mut pair.rejected] {
            answer.truncate(self.max_length - room);
        }
    }
}

impl Fitter<'_> {
    /// The row's tokens, or why it goes.
    pub(super) fn fit(&self, row: &Row, scratch: &mut Scratch) -> Result<std::result::Result<Encoded, Dropped>> {
        match &row.record {
            Record::Chat(chat) => Ok(self.chat(chat, scratch)?.map(|documents| {
                let origin = |truncated| Origin { id: row.id.clone(), truncated, carried: row.carried.clone() };
                Encoded::Documents(documents.into_iter().map(|(document, cut)| (document, origin(cut))).collect())
            })),
            Record::Preference(preference) => Ok(self.preference(preference, scratch)?.map(|(pair, truncated)| {
                let scores = [preference.score_chosen, preference.score_rejected];
                Encoded::Pair { id: row.id.clone(), carried: row.carried.clone(), scores, pair, truncated }
            })),
        }
    }

    fn chat(&self, chat: &Chat, scratch: &mut Scratch) -> Result<std::result::Result<Vec<(Document, bool)>, Dropped>> {
        match refused(self.encoder.chat(&chat.messages, scratch))? {
            Ok(document) => self.fit.document(document, || self.pieces(&chat.messages, scratch)),
            Err(dropped) => Ok(Err(dropped)),
        }
    }

    /// As many exchanges a document as fit, each document with the system message.
    fn pieces(&self, messages: &[Message], scratch: &mut Scratch) -> Result<Vec<(Document, bool)>> {
        let (system, exchanges) = exchanges(messages);
        let mut pieces: Vec<(Document, bool)> = Vec::new();
        let mut first = 0;
        while first < exchanges.len() {
            // Grow the document exchange by exchange. An overlong chat is rare, so encoding a few prefixes twice is cheap.
            let mut best: Option<(usize, Document)> = None;
            for end in first + 1..=exchanges.len() {
                let part: Vec<Message> = system.iter().chain(exchanges[first..end].concat().iter()).cloned().collect();
                let document = self.encoder.chat(&part, scratch)?;
                let fits = document.ids.len() <= self.fit.max_length;
                if fits || best.is_none() {
                    best = Some((end, document));
                }
                if !fits {
                    break;
                }
            }
            let Some((end, document)) = best else { break };
            pieces.push(self.fit.cut(document));
            first = end;
        }
        Ok(pieces)
    }

    fn preference(
        &self,
        preference: &Preference,
        scratch: &mut Scratch,
    ) -> Result<std::result::Result<(Pair, bool), Dropped>> {
        match refused(self.encoder.pair(preference, scratch))? {
            Ok(pair) => self.fit.pair(pair, |pair| self.shorten(preference, pair, scratch)),
            Err(dropped) => Ok(Err(dropped)),
        }
    }

    /// Leaves out the first exchanges of the prompt, as few as needed.
    fn shorten(&self, preference: &Preference, whole: Pair, scratch: &mut Scratch) -> Result<Pair> {
        let (system, exchanges) = exchanges(&preference.prompt);
        let mut pair = whole;
        for first in 1..exchanges.len() {
            let prompt = system.iter().chain(exchanges[first..].concat().iter()).cloned().collect();
            pair = self.encoder.pair(&Preference { prompt, ..preference.clone() }, scratch)?;
            if length(&pair) <= self.fit.max_length {
                break;
            }
        }
        Ok(pair)
    }
}

fn supervised(document: &Document) -> bool {
    document.mask.contains(&1)
}

fn length(pair: &Pair) -> usize {
    pair.prompt.len() + pair.chosen.len().max(pair.rejected.len())
}

/// The system message, if there is one, and the rest cut before each user turn.
fn exchanges(messages: &[Message]) -> (&[Message], Vec<&[Message]>) {
    let system = messages.iter().take_while(|message| message.role == Role::System).count();
    let (system, rest) = messages.split_at(system);
    (system, rest.chunk_by(|_, next| next.role != Role::User).collect())
}
