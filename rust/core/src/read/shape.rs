//! Which columns make a chat or a preference, whatever the file format.
//!
//! | shape | columns |
//! | --- | --- |
//! | `messages` | `messages`: list of `{role, content}`, the content a string or a list of text parts |
//! | `sharegpt` | `conversations`: list of `{from, value}`, and `system` |
//! | `alpaca` | `instruction`, `input`, `output` (or `response`), and `system` |
//! | `prompt_completion` | `prompt` and `completion` (or `response`): strings, or message lists |
//! | `transcript` | `text`: "\n\nHuman: … \n\nAssistant: …" |
//! | `preference` | `prompt`, `chosen`, `rejected`: strings, or message lists; without `prompt`, message lists or transcripts that begin alike |
//!
//! Other columns do not matter, though [`carry`](super::carry) may take them along. `id` (a string or an integer), `score_chosen` and `score_rejected` (numbers) are taken along.
//! A file has one shape, that of its first row with the columns of one. This module knows columns by what they are for
//! ([`Slot`]); `json` and `batch` fill them, and here they become a [`Row`].

use std::borrow::Cow;
use std::sync::Arc;

use super::transcript;
use super::{BadRow, Error};
use crate::record::{Chat, Kind, Message, Preference, Record, Role, Row};

/// The shapes, as hints name them.
pub(super) const KNOWN: &str = "a chat has `messages`, `conversations`, `instruction` and `output`, `prompt` and `completion`, or a `text` that is a \
     transcript; a preference has `chosen` and `rejected` (and `prompt`)";

/// How a file's columns are to be understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// `messages`, as OpenAI and transformers have them.
    Messages,
    /// `conversations` with `from` and `value`.
    ShareGpt,
    /// `instruction`, `input`, `output`.
    Alpaca,
    /// `prompt`, `completion`.
    PromptCompletion,
    /// `text` with the speakers in it.
    Transcript,
    /// `prompt`, `chosen`, `rejected`.
    Preference,
}

/// What a column is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Slot {
    Id,
    /// A text that goes in front as a system turn.
    System,
    Turns,
    Prompt,
    /// What the prompt is about; it follows the prompt.
    Input,
    Answer,
    Chosen,
    Rejected,
    ScoreChosen,
    ScoreRejected,
}

impl Shape {
    /// All shapes; where a row has the columns of several, the first one counts.
    pub const ALL: [Shape; 6] = [
        Shape::Preference,
        Shape::Messages,
        Shape::ShareGpt,
        Shape::Alpaca,
        Shape::PromptCompletion,
        Shape::Transcript,
    ];

    /// The shape's name in options, manifests and pages.
    pub fn as_str(self) -> &'static str {
        match self {
            Shape::Messages => "messages",
            Shape::ShareGpt => "sharegpt",
            Shape::Alpaca => "alpaca",
            Shape::PromptCompletion => "prompt_completion",
            Shape::Transcript => "transcript",
            Shape::Preference => "preference",
        }
    }

    /// What its rows are.
    pub fn kind(self) -> Kind {
        match self {
            Shape::Preference => Kind::Preference,
            _ => Kind::Chat,
        }
    }

    /// What a file without a row that can be recognised is taken for.
    pub(super) fn usual(kind: Kind) -> Shape {
        match kind {
            Kind::Chat => Shape::Messages,
            Kind::Preference => Shape::Preference,
        }
    }

    /// The columns that mean something, and what for.
    pub(super) fn columns(self) -> &'static [(&'static str, Slot)] {
        use Slot::{Answer, Chosen, Id, Input, Prompt, Rejected, ScoreChosen, ScoreRejected, System, Turns};
        match self {
            Shape::Messages => &[("id", Id), ("messages", Turns)],
            Shape::ShareGpt => &[("id", Id), ("conversations", Turns), ("system", System)],
            Shape::Alpaca => &[
                ("id", Id),
                ("instruction", Prompt),
                ("input", Input),
                ("output", Answer),
                ("response", Answer),
                ("system", System),
            ],
            Shape::PromptCompletion => {
                &[("id", Id), ("prompt", Prompt), ("completion", Answer), ("response", Answer), ("system", System)]
            }
            Shape::Transcript => &[("id", Id), ("text", Turns)],
            Shape::Preference => &[
                ("id", Id),
                ("prompt", Prompt),
                ("chosen", Chosen),
                ("rejected", Rejected),
                ("score_chosen", ScoreChosen),
                ("score_rejected", ScoreRejected),
            ],
        }
    }

    /// What the column of this name is for, if anything.
    pub(super) fn slot(self, name: &str) -> Option<Slot> {
        self.columns().iter().find(|(known, _)| *known == name).map(|(_, slot)| *slot)
    }

    /// The columns that a row cannot do without; of each group one.
    pub(super) fn needed(self) -> &'static [&'static [&'static str]] {
        match self {
            Shape::Messages => &[&["messages"]],
            Shape::ShareGpt => &[&["conversations"]],
            Shape::Alpaca => &[&["instruction"], &["output", "response"]],
            Shape::PromptCompletion => &[&["prompt"], &["completion", "response"]],
            Shape::Transcript => &[&["text"]],
            Shape::Preference => &[&["chosen"], &["rejected"]],
        }
    }

    /// The shape that the columns make, among those of `kind`. `text` gives a column's text, if it is one.
    pub(super) fn of<'a>(
        kind: Option<Kind>,
        has: impl Fn(&str) -> bool,
        text: impl Fn(&str) -> Option<Cow<'a, str>>,
    ) -> Option<Shape> {
        Shape::ALL.into_iter().filter(|shape| kind.is_none_or(|kind| shape.kind() == kind)).find(|shape| {
            let complete = shape.needed().iter().all(|group| group.iter().any(|name| has(name)));
            complete && (*shape != Shape::Transcript || text("text").is_some_and(|text| transcript::is_one(&text)))
        })
    }

    /// The names that a turn's fields may have: who speaks, and what is said. The first are the shape's own.
    pub(super) fn turn_fields(self) -> [(&'static str, &'static str); 2] {
        match self {
            Shape::ShareGpt => [("from", "value"), ("role", "content")],
            _ => [("role", "content"), ("role", "content")],
        }
    }

    /// The role that a name stands for; ShareGPT has names of its own.
    pub(super) fn role(self, name: &str) -> Option<Role> {
        match (self, name) {
            (Shape::ShareGpt, "human") => Some(Role::User),
            (Shape::ShareGpt, "gpt" | "chatgpt" | "bing" | "bard" | "model") => Some(Role::Assistant),
            _ => Role::parse(name),
        }
    }

    /// Which roles there are, for hints.
    pub(super) fn roles_hint(self) -> &'static str {
        match self {
            Shape::ShareGpt => {
                "the names are `system`, `human` or `user`, and `gpt`, `chatgpt`, `bing`, `bard`, `model` or `assistant`; \
                 rename the speaker or leave such rows out"
            }
            _ => "the roles are `system`, `user` and `assistant`; rename the role or leave such rows out",
        }
    }
}

/// What is wrong with a row.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) field: String,
    pub(super) message: String,
    pub(super) hint: String,
}

impl Fault {
    pub(super) fn new(field: impl Into<String>, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Fault { field: field.into(), message: message.into(), hint: hint.into() }
    }

    pub(super) fn at(self, file: &Arc<str>, line: u64, raw: String) -> BadRow {
        let error =
            Error::Row { path: file.to_string(), line, field: self.field, message: self.message, hint: self.hint };
        BadRow { error, file: file.clone(), line, raw }
    }
}

/// What a column of text or of turns holds.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Said {
    Text(String),
    Turns(Vec<Message>),
}

impl Said {
    fn into_turns(self, role: Role) -> Vec<Message> {
        match self {
            Said::Text(text) => vec![Message::new(role, text)],
            Said::Turns(turns) => turns,
        }
    }
}

/// The columns of a row that mean something.
#[derive(Debug, Default)]
pub(super) struct Columns {
    pub(super) id: Option<String>,
    pub(super) system: Option<String>,
    pub(super) turns: Option<Said>,
    pub(super) prompt: Option<Said>,
    pub(super) input: Option<String>,
    pub(super) answer: Option<Said>,
    pub(super) chosen: Option<Said>,
    pub(super) rejected: Option<Said>,
    pub(super) score_chosen: Option<f64>,
    pub(super) score_rejected: Option<f64>,
}

type Turns = Vec<Message>;

impl Columns {
    /// The row that the columns make.
    pub(super) fn into_row(mut self, shape: Shape, file: &Arc<str>, line: u64) -> Result<Row, Fault> {
        let id = self.id.take().unwrap_or_else(|| format!("{file}:{line}"));
        let record = match shape.kind() {
            Kind::Chat => Record::Chat(Chat { messages: self.into_messages(shape)? }),
            Kind::Preference => Record::Preference(self.into_preference()?),
        };
        Ok(Row { id, file: file.clone(), line, record, carried: Vec::new() })
    }

    fn into_messages(self, shape: Shape) -> Result<Turns, Fault> {
        let mut messages = match shape {
            Shape::Messages | Shape::ShareGpt => {
                let name = shape.needed()[0][0];
                match self.turns.ok_or_else(|| absent(name))? {
                    Said::Turns(turns) => turns,
                    Said::Text(_) => {
                        return Err(Fault::new(name, "expected a list of messages, found a string", KNOWN));
                    }
                }
            }
            Shape::Transcript => match self.turns.ok_or_else(|| absent("text"))? {
                Said::Text(text) => transcript::turns(&text).map_err(|fault| fault.of("text"))?,
                Said::Turns(_) => {
                    return Err(Fault::new("text", "expected a string, found a list of messages", KNOWN));
                }
            },
            Shape::Alpaca | Shape::PromptCompletion => {
                let [prompt, answer] = [shape.needed()[0][0], shape.needed()[1][0]];
                let mut messages = self.prompt.ok_or_else(|| absent(prompt))?.into_turns(Role::User);
                // An empty input is how Alpaca says that there is none.
                if let (Some(input), Some(last)) =
                    (self.input.filter(|input| !input.trim().is_empty()), messages.last_mut())
                {
                    last.content.push('\n');
                    last.content.push_str(&input);
                }
                messages.extend(self.answer.ok_or_else(|| absent(answer))?.into_turns(Role::Assistant));
                messages
            }
            Shape::Preference => Vec::new(),
        };
        if let Some(system) = self.system.filter(|system| !system.trim().is_empty())
            && messages.first().is_none_or(|first| first.role != Role::System)
        {
            messages.insert(0, Message::new(Role::System, system));
        }
        Ok(messages)
    }

    fn into_preference(self) -> Result<Preference, Fault> {
        let chosen = self.chosen.ok_or_else(|| absent("chosen"))?;
        let rejected = self.rejected.ok_or_else(|| absent("rejected"))?;
        let (prompt, chosen, rejected) = match (self.prompt, chosen, rejected) {
            (None, Said::Text(chosen), Said::Text(rejected))
                if transcript::is_one(&chosen) && transcript::is_one(&rejected) =>
            {
                let chosen = transcript::turns(&chosen).map_err(|fault| fault.of("chosen"))?;
                let rejected = transcript::turns(&rejected).map_err(|fault| fault.of("rejected"))?;
                split_prompt(None, Said::Turns(chosen), Said::Turns(rejected))?
            }
            (prompt, chosen, rejected) => split_prompt(prompt, chosen, rejected)?,
        };
        Ok(Preference {
            prompt,
            chosen,
            rejected,
            score_chosen: self.score_chosen,
            score_rejected: self.score_rejected,
        })
    }
}

fn absent(name: &str) -> Fault {
    Fault::new("", format!("no field `{name}`"), KNOWN)
}

/// Prompt and answers as message lists. The rule is trl's: message lists without a message-list prompt hold it themselves,
/// as the messages with which both begin.
fn split_prompt(prompt: Option<Said>, chosen: Said, rejected: Said) -> Result<(Turns, Turns, Turns), Fault> {
    match (prompt, chosen, rejected) {
        (Some(prompt @ Said::Turns(_)), chosen, rejected)
        | (Some(prompt), chosen @ Said::Text(_), rejected @ Said::Text(_)) => Ok((
            prompt.into_turns(Role::User),
            chosen.into_turns(Role::Assistant),
            rejected.into_turns(Role::Assistant),
        )),
        (prompt, Said::Turns(mut chosen), Said::Turns(mut rejected)) => {
            let shared = chosen.iter().zip(&rejected).take_while(|(a, b)| a == b).count();
            // Equal answers would be taken for the prompt: the last message always belongs to the answer.
            let shared = shared.min(chosen.len().saturating_sub(1)).min(rejected.len().saturating_sub(1));
            let common: Turns = chosen.drain(..shared).collect();
            rejected.drain(..shared);
            match (common.is_empty(), prompt) {
                (false, _) => Ok((common, chosen, rejected)),
                (true, Some(prompt)) => Ok((prompt.into_turns(Role::User), chosen, rejected)),
                (true, None) => Err(Fault::new(
                    "chosen",
                    "`chosen` and `rejected` do not begin with the same messages",
                    "put the prompt at the start of both, or into a column `prompt`",
                )),
            }
        }
        (None, Said::Text(_), _) | (None, _, Said::Text(_)) => Err(Fault::new(
            "",
            "no field `prompt`",
            "answers that are strings need a `prompt`, a string or a message list",
        )),
        (Some(Said::Text(_)), _, _) => Err(Fault::new(
            "rejected",
            "`chosen` and `rejected` are of different types",
            "make both strings, or both message lists",
        )),
    }
}
