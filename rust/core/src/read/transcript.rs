//! Chats written as one text: "\n\nHuman: … \n\nAssistant: …", as Anthropic's preference data has them.
//!
//! A speaker's name counts only at the start of the text or behind an empty line, so "Human: " inside a turn stays text.
//! Of the white space around a turn nothing stays but what lies inside it.

use super::shape::Fault;
use crate::record::{Message, Role};

const SPEAKERS: [(&str, Role); 3] =
    [("Human:", Role::User), ("Assistant:", Role::Assistant), ("System:", Role::System)];

/// Whether the text begins as a transcript does.
pub(super) fn is_one(text: &str) -> bool {
    let start = text.trim_start();
    SPEAKERS.iter().any(|(name, _)| start.starts_with(name)) && next_border(text, text.len() - start.len()).is_some()
}

/// What is wrong with a transcript; the column is not known here.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TranscriptFault(&'static str);

impl TranscriptFault {
    pub(super) fn of(self, column: &str) -> Fault {
        Fault::new(
            column,
            self.0,
            "a transcript is `\\n\\nHuman: …\\n\\nAssistant: …`, with an empty line before each speaker",
        )
    }
}

/// The turns of a transcript.
pub(super) fn turns(text: &str) -> Result<Vec<Message>, TranscriptFault> {
    let mut turns = Vec::new();
    let start = text.len() - text.trim_start().len();
    let (mut at, mut role) = speaker(&text[start..])
        .map(|(length, role)| (start + length, role))
        .ok_or(TranscriptFault("the transcript does not begin with a speaker"))?;
    while let Some((border, next, speaks)) = next_border(text, at) {
        turns.push(Message::new(role, text[at..border].trim()));
        (at, role) = (next, speaks);
    }
    turns.push(Message::new(role, text[at..].trim()));
    Ok(turns)
}

fn speaker(text: &str) -> Option<(usize, Role)> {
    SPEAKERS.iter().find(|(name, _)| text.starts_with(name)).map(|(name, role)| (name.len(), *role))
}

/// The next empty line with a speaker behind it: where it begins, where the speaker's words begin, and who speaks.
fn next_border(text: &str, from: usize) -> Option<(usize, usize, Role)> {
    text[from..].match_indices("\n\n").find_map(|(offset, line)| {
        let name = from + offset + line.len();
        speaker(&text[name..]).map(|(length, role)| (from + offset, name + length, role))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(text: &str) -> Vec<(Role, String)> {
        turns(text).unwrap().into_iter().map(|turn| (turn.role, turn.content)).collect()
    }

    #[test]
    fn speakers_count_behind_an_empty_line() {
        let text = "\n\nHuman: Say\nHuman: hi \n\nAssistant: Hi.\n\n\n\nMore.\n\nHuman:\n\nAssistant: ";
        assert!(is_one(text));
        assert_eq!(
            plain(text),
            [
                (Role::User, "Say\nHuman: hi".to_string()),
                (Role::Assistant, "Hi.\n\n\n\nMore.".to_string()),
                (Role::User, String::new()),
                (Role::Assistant, String::new()),
            ]
        );
    }

    #[test]
    fn a_text_about_humans_is_no_transcript() {
        assert!(!is_one("Human: a species.") && !is_one("A text.\n\nHuman: hi\n\nAssistant: ho"));
        assert!(turns("no speaker").is_err());
    }
}
