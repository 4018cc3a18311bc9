//! Turns in which there is nothing to read.
//!
//! # What it drops
//! A record with a turn, of any role, that holds no visible character: white space, zero-width and other invisible
//! formatting characters, and control characters do not count.
//!
//! # Why
//! An empty answer teaches the model to end its turn at once; an answer to an empty question teaches it to guess.
//!
//! # Example
//! A user turn `"Hi"` and an assistant turn `"\u{200B}\n"`.
//!
//! # What it keeps
//! Every turn with one visible character, were it a full stop or an emoji.

use super::{FilterOptions, Verdict};
use crate::record::Record;

/// Options of [`check`].
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct EmptyOptions {
    /// Whether the rule is run. On by default.
    pub enabled: bool,
}

impl Default for EmptyOptions {
    fn default() -> Self {
        EmptyOptions { enabled: true }
    }
}

/// Drops a record with a turn that has no visible text.
pub fn check(record: &Record, _: &FilterOptions) -> Verdict {
    for (turn, message) in record.messages().enumerate() {
        if !message.content.chars().any(is_visible) {
            return Verdict::Drop { detail: format!("turn {turn} ({}) has no visible text", message.role.as_str()) };
        }
    }
    Verdict::Keep
}

/// Whether a reader would see the character, alone or as a mark on its neighbour.
fn is_visible(char: char) -> bool {
    if char.is_whitespace() || char.is_control() {
        return false;
    }
    // Unicode's Default_Ignorable_Code_Point, and the blanks that are neither white space nor ignorable: the Braille
    // blank, the object replacement character and the interlinear annotation marks.
    !matches!(char,
        '\u{AD}' | '\u{34F}' | '\u{61C}' | '\u{115F}'..='\u{1160}' | '\u{17B4}'..='\u{17B5}' | '\u{180B}'..='\u{180F}'
        | '\u{200B}'..='\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2060}'..='\u{206F}' | '\u{2800}' | '\u{3164}'
        | '\u{FE00}'..='\u{FE0F}' | '\u{FEFF}' | '\u{FFA0}' | '\u{FFF0}'..='\u{FFFC}' | '\u{1BCA0}'..='\u{1BCA3}'
        | '\u{1D173}'..='\u{1D17A}' | '\u{E0000}'..='\u{E0FFF}')
}

#[cfg(test)]
mod tests {
    use super::check;
    use crate::filter::tests::{chat, pair};
    use crate::filter::{FilterOptions, Verdict};
    use crate::record::{Chat, Message, Record, Role};

    fn detail(record: &Record) -> Option<String> {
        match check(record, &FilterOptions::default()) {
            Verdict::Keep => None,
            Verdict::Drop { detail } => Some(detail),
        }
    }

    #[test]
    fn white_space_is_empty() {
        for blank in ["", " ", "\n\t\r ", "\u{A0}\u{3000}\u{2028}"] {
            assert_eq!(detail(&chat(&["Hi", blank])).as_deref(), Some("turn 1 (assistant) has no visible text"));
        }
    }

    #[test]
    fn zero_width_and_control_characters_are_empty() {
        for blank in
            ["\u{200B}\u{200D}\u{FEFF}", "\u{0}\u{7}\u{1B}\u{9F}", "\u{2060}\u{AD}\u{FE0F}", "\u{2800} \u{3164}"]
        {
            assert!(detail(&chat(&["Hi", blank])).is_some(), "{blank:?}");
        }
    }

    #[test]
    fn the_turn_and_its_role_are_named() {
        assert_eq!(detail(&chat(&["", "Hi"])).as_deref(), Some("turn 0 (user) has no visible text"));
        let system =
            vec![Message::new(Role::System, " "), Message::new(Role::User, "a"), Message::new(Role::Assistant, "b")];
        let record = Record::Chat(Chat { messages: system });
        assert_eq!(detail(&record).as_deref(), Some("turn 0 (system) has no visible text"));
    }

    #[test]
    fn a_preference_is_checked_in_all_three_parts() {
        assert_eq!(detail(&pair("", "a", "b")).as_deref(), Some("turn 0 (user) has no visible text"));
        assert_eq!(detail(&pair("q", "", "b")).as_deref(), Some("turn 1 (assistant) has no visible text"));
        assert_eq!(detail(&pair("q", "a", "")).as_deref(), Some("turn 2 (assistant) has no visible text"));
        assert_eq!(detail(&pair("q", "a", "b")), None);
    }

    #[test]
    fn one_visible_character_is_enough() {
        for text in [".", "0", "é", "e\u{301}", "是", "👍", "\u{200B}x\u{200B}", "\u{FFFD}"] {
            assert_eq!(detail(&chat(&["Hi", text])), None, "{text:?}");
        }
    }
}
