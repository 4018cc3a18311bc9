//! Conversations whose turns are not in order.
//!
//! # What it drops
//! A chat without messages or without an assistant turn; one that does not end with the assistant; one with a system turn
//! that is not the first; one in which user and assistant do not take turns, the user first; one with fewer exchanges than
//! `min_turns` or more than `max_turns`. A preference whose prompt does not end with the user, whose answers do not begin
//! and end with the assistant, or whose answers are the same.
//!
//! # Why
//! Chat templates raise an error on most of these or, worse, write them down as something else. A last turn by the user has
//! nothing to train on. Equal answers carry no preference: their loss pulls in no direction and dilutes the batch.
//!
//! # Example
//! A user turn, and another user turn, and an answer.
//!
//! # What it keeps
//! A system turn at the beginning, any number of exchanges by default, and preferences with several turns to an answer.

use super::{FilterOptions, Verdict};
use crate::record::{Message, Preference, Record, Role};

/// Options of [`check`].
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct TurnsOptions {
    /// Whether the rule is run. On by default.
    pub enabled: bool,
    /// Fewest exchanges (a user turn and its answer) of a record; 1 by default. A preference counts its longer answer.
    pub min_turns: usize,
    /// Most exchanges; no limit by default.
    pub max_turns: Option<usize>,
}

impl Default for TurnsOptions {
    fn default() -> Self {
        TurnsOptions { enabled: true, min_turns: 1, max_turns: None }
    }
}

/// Drops a record whose turns are out of order, too few or too many.
pub fn check(record: &Record, options: &FilterOptions) -> Verdict {
    let fault = match record {
        Record::Chat(chat) => chat_fault(&chat.messages),
        Record::Preference(pair) => preference_fault(pair),
    };
    match fault.or_else(|| count_fault(record, &options.turns)) {
        None => Verdict::Keep,
        Some(detail) => Verdict::Drop { detail },
    }
}

fn chat_fault(messages: &[Message]) -> Option<String> {
    let Some(last) = messages.last() else { return Some("no messages".to_owned()) };
    if !messages.iter().any(|message| message.role == Role::Assistant) {
        return Some("no assistant turn".to_owned());
    }
    if last.role != Role::Assistant {
        return Some(format!("the last turn is not the assistant's, found: `{}`", last.role.as_str()));
    }
    prompt_fault(messages)
}

fn preference_fault(pair: &Preference) -> Option<String> {
    match pair.prompt.last() {
        None => return Some("`prompt` has no messages".to_owned()),
        Some(last) if last.role != Role::User => {
            return Some(format!("`prompt` does not end with a user turn, found: `{}`", last.role.as_str()));
        }
        Some(_) => {}
    }
    if let Some(fault) = prompt_fault(&pair.prompt) {
        return Some(fault);
    }
    let mut first_turn = pair.prompt.len();
    for (name, answer) in [("chosen", &pair.chosen), ("rejected", &pair.rejected)] {
        let Some(last) = answer.last() else { return Some(format!("`{name}` has no messages")) };
        if last.role != Role::Assistant {
            return Some(format!("`{name}` does not end with the assistant, found: `{}`", last.role.as_str()));
        }
        if let Some(fault) = alternation_fault(answer, Role::Assistant, first_turn) {
            return Some(format!("`{name}`: {fault}"));
        }
        first_turn += answer.len();
    }
    (pair.chosen == pair.rejected).then(|| "`chosen` and `rejected` are the same".to_owned())
}

/// What is wrong with turns that begin a conversation: perhaps a system turn, then the user.
fn prompt_fault(messages: &[Message]) -> Option<String> {
    let system = usize::from(messages.first().is_some_and(|message| message.role == Role::System));
    alternation_fault(&messages[system..], Role::User, system)
}

/// The first turn that is not by whose turn it is; `first_turn` is the number of `messages[0]` in the record.
fn alternation_fault(messages: &[Message], first: Role, first_turn: usize) -> Option<String> {
    let mut expected = first;
    for (turn, message) in (first_turn..).zip(messages) {
        if message.role == Role::System {
            return Some(format!("turn {turn} is a system turn, which may only be the first"));
        }
        if message.role != expected {
            let (expected, role) = (expected.as_str(), message.role.as_str());
            return Some(format!("turn {turn} should be by `{expected}`, found: `{role}`"));
        }
        expected = if expected == Role::User { Role::Assistant } else { Role::User };
    }
    None
}

fn count_fault(record: &Record, options: &TurnsOptions) -> Option<String> {
    let assistant = |messages: &[Message]| messages.iter().filter(|message| message.role == Role::Assistant).count();
    let turns = match record {
        Record::Chat(chat) => assistant(&chat.messages),
        Record::Preference(pair) => assistant(&pair.prompt) + assistant(&pair.chosen).max(assistant(&pair.rejected)),
    };
    if turns < options.min_turns {
        return Some(format!("fewer exchanges than {}, found: {turns}", options.min_turns));
    }
    match options.max_turns {
        Some(max_turns) if turns > max_turns => Some(format!("more exchanges than {max_turns}, found: {turns}")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::{TurnsOptions, check};
    use crate::filter::tests::{chat, pair};
    use crate::filter::{FilterOptions, Verdict};
    use crate::record::{Chat, Message, Preference, Record, Role};

    fn detail(record: &Record, options: TurnsOptions) -> String {
        match check(record, &FilterOptions { turns: options, ..FilterOptions::default() }) {
            Verdict::Keep => "keep".to_owned(),
            Verdict::Drop { detail } => detail,
        }
    }

    /// Turns named by their initials: `s`, `u`, `a`.
    fn turns(initials: &str) -> Vec<Message> {
        let role = |initial| Role::ALL.into_iter().find(|role| role.as_str().starts_with(initial)).expect("an initial");
        initials.chars().map(|initial| Message::new(role(initial), "text")).collect()
    }

    fn of_chat(initials: &str) -> String {
        detail(&Record::Chat(Chat { messages: turns(initials) }), TurnsOptions::default())
    }

    fn of_pair(prompt: &str, chosen: &str, rejected: &str) -> String {
        let (prompt, chosen, mut rejected) = (turns(prompt), turns(chosen), turns(rejected));
        for message in &mut rejected {
            message.content.push('!');
        }
        let pair = Preference { prompt, chosen, rejected, score_chosen: None, score_rejected: None };
        detail(&Record::Preference(pair), TurnsOptions::default())
    }

    #[test]
    fn no_messages() {
        assert_eq!(of_chat(""), "no messages");
    }

    #[test]
    fn no_assistant_turn() {
        assert_eq!(of_chat("u"), "no assistant turn");
        assert_eq!(of_chat("s"), "no assistant turn");
    }

    #[test]
    fn the_last_turn_is_not_the_assistant() {
        assert_eq!(of_chat("uau"), "the last turn is not the assistant's, found: `user`");
    }

    #[test]
    fn a_system_turn_that_is_not_first() {
        assert_eq!(of_chat("usa"), "turn 1 is a system turn, which may only be the first");
        assert_eq!(of_chat("ssua"), "turn 1 is a system turn, which may only be the first");
    }

    #[test]
    fn two_turns_of_the_same_role() {
        assert_eq!(of_chat("uua"), "turn 1 should be by `assistant`, found: `user`");
        assert_eq!(of_chat("suaa"), "turn 3 should be by `user`, found: `assistant`");
    }

    #[test]
    fn the_user_begins() {
        assert_eq!(of_chat("a"), "turn 0 should be by `user`, found: `assistant`");
        assert_eq!(of_chat("sa"), "turn 1 should be by `user`, found: `assistant`");
    }

    #[test]
    fn good_chats_stay() {
        for initials in ["ua", "sua", "uauaua", "suaua"] {
            assert_eq!(of_chat(initials), "keep", "{initials}");
        }
    }

    #[test]
    fn a_preference_prompt_ends_with_the_user() {
        assert_eq!(of_pair("", "a", "a"), "`prompt` has no messages");
        assert_eq!(of_pair("ua", "a", "a"), "`prompt` does not end with a user turn, found: `assistant`");
        assert_eq!(of_pair("uu", "a", "a"), "turn 1 should be by `assistant`, found: `user`");
    }

    #[test]
    fn preference_answers_begin_and_end_with_the_assistant() {
        assert_eq!(of_pair("u", "", "a"), "`chosen` has no messages");
        assert_eq!(of_pair("u", "a", "ua"), "`rejected`: turn 2 should be by `assistant`, found: `user`");
        assert_eq!(of_pair("u", "au", "a"), "`chosen` does not end with the assistant, found: `user`");
        assert_eq!(of_pair("u", "a", "sa"), "`rejected`: turn 2 is a system turn, which may only be the first");
        assert_eq!(of_pair("u", "aa", "a"), "`chosen`: turn 2 should be by `user`, found: `assistant`");
    }

    #[test]
    fn good_preferences_stay() {
        assert_eq!(of_pair("suau", "a", "a"), "keep");
        assert_eq!(of_pair("u", "aua", "a"), "keep");
    }

    #[test]
    fn equal_answers_carry_no_signal() {
        assert_eq!(detail(&pair("q", "a", "a"), TurnsOptions::default()), "`chosen` and `rejected` are the same");
        assert_eq!(detail(&pair("q", "a", "A"), TurnsOptions::default()), "keep");
    }

    #[test]
    fn exchanges_are_counted() {
        let options = TurnsOptions { enabled: true, min_turns: 2, max_turns: Some(2) };
        assert_eq!(detail(&chat(&["q", "a"]), options.clone()), "fewer exchanges than 2, found: 1");
        assert_eq!(detail(&chat(&["q", "a", "q", "a"]), options.clone()), "keep");
        assert_eq!(detail(&chat(&["q", "a", "q", "a", "q", "a"]), options.clone()), "more exchanges than 2, found: 3");
        assert_eq!(detail(&pair("q", "a", "b"), options), "fewer exchanges than 2, found: 1");
    }
}
