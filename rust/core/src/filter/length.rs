//! Answers that are too short, turns that are too long.
//!
//! # What it drops
//! A chat whose assistant text, all turns together, has fewer characters than `min_chars`; a preference of which either
//! answer has fewer; any record with a turn, of any role, of more than `max_chars` characters.
//!
//! # Why
//! A turn of 200,000 characters is some 50,000 tokens, beyond the training context of nearly every recipe: it would be cut,
//! and a turn that is cut has lost its end. In practice it is a file that was pasted or a model that did not stop. The
//! lower bound is off (1 character) because short answers are often the right ones (`4`, `B`, `Yes.`); raise it for data in
//! which they are not.
//!
//! # Example
//! A chat in which the user pastes a log file of 300,000 characters.
//!
//! # What it keeps
//! The answer `4` to "2+2?", and a long essay.

use super::{FilterOptions, Verdict};
use crate::record::{Message, Record, Role};

/// Options of [`check`].
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct LengthOptions {
    /// Whether the rule is run. On by default.
    pub enabled: bool,
    /// Fewest characters of a chat's assistant turns together, or of one side of a preference; 1 by default.
    pub min_chars: usize,
    /// Most characters of one turn; 200,000 by default.
    pub max_chars: usize,
}

impl Default for LengthOptions {
    fn default() -> Self {
        LengthOptions { enabled: true, min_chars: 1, max_chars: 200_000 }
    }
}

/// Drops a record with too little assistant text or with too long a turn.
pub fn check(record: &Record, options: &FilterOptions) -> Verdict {
    let options = &options.length;
    for (turn, message) in record.messages().enumerate() {
        // A character has at least one byte, so most turns need not be counted.
        if message.content.len() > options.max_chars {
            let chars = message.content.chars().count();
            if chars > options.max_chars {
                let (max_chars, role) = (options.max_chars, message.role.as_str());
                return Verdict::Drop {
                    detail: format!("turn {turn} ({role}) is over {max_chars} characters: {chars}"),
                };
            }
        }
    }
    let shortest = match record {
        Record::Chat(chat) => assistant_chars(&chat.messages, options.min_chars),
        Record::Preference(pair) => {
            let sides = [&pair.chosen, &pair.rejected];
            sides.map(|answer| assistant_chars(answer, options.min_chars)).into_iter().min().unwrap_or(0)
        }
    };
    if shortest < options.min_chars {
        let min_chars = options.min_chars;
        return Verdict::Drop { detail: format!("assistant text is under {min_chars} characters: {shortest}") };
    }
    Verdict::Keep
}

/// Characters of the assistant turns, counted no further than `enough`.
fn assistant_chars(messages: &[Message], enough: usize) -> usize {
    let assistant = messages.iter().filter(|message| message.role == Role::Assistant);
    assistant.flat_map(|message| message.content.chars()).take(enough).count()
}

#[cfg(test)]
mod tests {
    use super::{LengthOptions, check};
    use crate::filter::tests::{chat, pair};
    use crate::filter::{FilterOptions, Verdict};
    use crate::record::Record;

    fn detail(record: &Record, min_chars: usize, max_chars: usize) -> String {
        let length = LengthOptions { enabled: true, min_chars, max_chars };
        match check(record, &FilterOptions { length, ..FilterOptions::default() }) {
            Verdict::Keep => "keep".to_owned(),
            Verdict::Drop { detail } => detail,
        }
    }

    #[test]
    fn short_answers_stay_by_default() {
        assert_eq!(check(&chat(&["2+2?", "4"]), &FilterOptions::default()), Verdict::Keep);
    }

    #[test]
    fn assistant_turns_count_together() {
        assert_eq!(detail(&chat(&["long question", "ab", "q", "cd"]), 4, 100), "keep");
        let found = "assistant text is under 5 characters: 4";
        assert_eq!(detail(&chat(&["long question", "ab", "q", "cd"]), 5, 100), found);
    }

    #[test]
    fn characters_are_counted_not_bytes() {
        assert_eq!(detail(&chat(&["q", "日本語"]), 3, 3), "keep");
        assert_eq!(detail(&chat(&["q", "日本語"]), 4, 9), "assistant text is under 4 characters: 3");
        assert_eq!(detail(&chat(&["q", "日本語"]), 1, 2), "turn 1 (assistant) is over 2 characters: 3");
    }

    #[test]
    fn one_turn_of_any_role_can_be_too_long() {
        assert_eq!(detail(&chat(&["abcdef", "ok"]), 1, 5), "turn 0 (user) is over 5 characters: 6");
        assert_eq!(detail(&chat(&["abcde", "abcde"]), 1, 5), "keep");
    }

    #[test]
    fn a_preference_is_as_short_as_its_shorter_answer() {
        assert_eq!(detail(&pair("q", "abcd", "a"), 2, 100), "assistant text is under 2 characters: 1");
        assert_eq!(detail(&pair("q", "a", "abcd"), 2, 100), "assistant text is under 2 characters: 1");
        assert_eq!(detail(&pair("q", "ab", "abcd"), 2, 100), "keep");
        assert_eq!(detail(&pair("q", "ab", "abcdef"), 2, 5), "turn 2 (assistant) is over 5 characters: 6");
    }
}
