//! Which rows are not worth training on, one rule a file.
//!
//! A rule looks at one record and gives a [`Verdict`]; it sees nothing else, so rules can be run in any order and on any
//! number of threads. [`FILTERS`] is the whole list. Each rule's file says what it drops, why, gives an example and says
//! what it keeps; the same stands at length in `docs/filters/`.
//!
//! ```
//! use zephyr_data_core::filter::{FilterOptions, first_drop};
//! use zephyr_data_core::record::{Chat, Message, Record, Role};
//!
//! let messages = vec![Message::new(Role::User, "Hi"), Message::new(Role::Assistant, " \n")];
//! let dropped = first_drop(&Record::Chat(Chat { messages }), &FilterOptions::default());
//! assert_eq!(dropped, Some(("empty", "turn 1 (assistant) has no visible text".to_owned())));
//! ```

use crate::record::{Message, Record, Role};

pub mod ai_preface;
pub mod empty;
pub mod length;
pub mod refusal;
pub mod repetition;
pub mod turns;

/// What a rule says of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The rule has nothing against it.
    Keep,
    /// The row goes; the reason is the rule's name, `detail` the evidence (the matched text, the length, …).
    Drop {
        /// What was found, short enough to be read in a table.
        detail: String,
    },
}

/// One rule.
pub struct Filter {
    /// Name of the file, of the option, of the reject reason and of the count.
    pub name: &'static str,
    /// Whether the options ask for the rule.
    pub enabled: fn(&FilterOptions) -> bool,
    /// The rule itself; it does not look at `enabled`.
    pub check: fn(&Record, &FilterOptions) -> Verdict,
}

/// Every rule, in the order in which they run: first what makes a row unusable, then what needs its text to be read.
pub const FILTERS: &[Filter] = &[
    Filter { name: "empty", enabled: |options| options.empty.enabled, check: empty::check },
    Filter { name: "turns", enabled: |options| options.turns.enabled, check: turns::check },
    Filter { name: "length", enabled: |options| options.length.enabled, check: length::check },
    Filter { name: "ai_preface", enabled: |options| options.ai_preface.enabled, check: ai_preface::check },
    Filter { name: "repetition", enabled: |options| options.repetition.enabled, check: repetition::check },
    Filter { name: "refusal", enabled: |options| options.refusal.enabled, check: refusal::check },
];

/// The options of all rules.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct FilterOptions {
    /// Turns without visible text.
    pub empty: empty::EmptyOptions,
    /// The order and number of turns.
    pub turns: turns::TurnsOptions,
    /// The number of characters.
    pub length: length::LengthOptions,
    /// "As an AI language model, …" where nobody asked.
    pub ai_preface: ai_preface::AiPrefaceOptions,
    /// Answers that are stuck in a loop.
    pub repetition: repetition::RepetitionOptions,
    /// Answers that decline.
    pub refusal: refusal::RefusalOptions,
}

/// The first enabled rule that drops the record: its name, which is the reject reason, and the detail.
pub fn first_drop(record: &Record, options: &FilterOptions) -> Option<(&'static str, String)> {
    FILTERS.iter().filter(|filter| (filter.enabled)(options)).find_map(|filter| match (filter.check)(record, options) {
        Verdict::Keep => None,
        Verdict::Drop { detail } => Some((filter.name, detail)),
    })
}

/// One assistant turn, with all that was said before it.
pub(crate) struct Answer<'a> {
    /// Its number along [`Record::messages`], from 0.
    pub(crate) turn: usize,
    /// What it says.
    pub(crate) text: &'a str,
    before: [&'a [Message]; 2],
}

impl<'a> Answer<'a> {
    /// The user turns before the answer, in their order.
    pub(crate) fn user_turns(&self) -> impl Iterator<Item = &'a str> {
        let turns = self.before.into_iter().flatten();
        turns.filter(|message| message.role == Role::User).map(|message| message.content.as_str())
    }
}

/// All assistant turns: a chat's, or those of a preference's prompt and of both its answers.
pub(crate) fn answers(record: &Record) -> impl Iterator<Item = Answer<'_>> {
    let (prompt, sides): (&[Message], [&[Message]; 2]) = match record {
        Record::Chat(chat) => (&chat.messages, [&[], &[]]),
        Record::Preference(pair) => (&pair.prompt, [&pair.chosen, &pair.rejected]),
    };
    let second_side = prompt.len() + sides[0].len();
    let parts: [(usize, &[Message], &[Message]); 3] =
        [(0, &[], prompt), (prompt.len(), prompt, sides[0]), (second_side, prompt, sides[1])];
    parts.into_iter().flat_map(|(first_turn, context, messages)| {
        let assistant = messages.iter().enumerate().filter(|(_, message)| message.role == Role::Assistant);
        assistant.map(move |(index, message)| Answer {
            turn: first_turn + index,
            text: &message.content,
            before: [context, &messages[..index]],
        })
    })
}

/// A piece of text for a `detail`: on one line, at most 80 characters.
pub(crate) fn excerpt(text: &str) -> String {
    const MAX_CHARS: usize = 80;
    let mut words = String::new();
    // No more than the head is looked at: the text can be a line of megabytes.
    let head: String = text.chars().take(4 * MAX_CHARS).collect();
    for word in head.split_whitespace() {
        if !words.is_empty() {
            words.push(' ');
        }
        words.push_str(word);
    }
    match words.char_indices().nth(MAX_CHARS) {
        Some((end, _)) => format!("{}…", &words[..end]),
        None => words,
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::{FILTERS, FilterOptions, Verdict, answers, excerpt, first_drop};
    use crate::record::{Chat, Message, Preference, Record, Role};
    use serde_json::Value;

    /// A chat from its turns, the user first.
    pub(crate) fn chat(turns: &[&str]) -> Record {
        let roles = [Role::User, Role::Assistant].into_iter().cycle();
        Record::Chat(Chat { messages: roles.zip(turns).map(|(role, text)| Message::new(role, *text)).collect() })
    }

    /// A preference with one turn in each place.
    pub(crate) fn pair(prompt: &str, chosen: &str, rejected: &str) -> Record {
        Record::Preference(Preference {
            prompt: vec![Message::new(Role::User, prompt)],
            chosen: vec![Message::new(Role::Assistant, chosen)],
            rejected: vec![Message::new(Role::Assistant, rejected)],
            score_chosen: None,
            score_rejected: None,
        })
    }

    fn messages(value: &Value) -> Vec<Message> {
        let text = |message: &Value, key: &str| message[key].as_str().expect("a string").to_owned();
        let turns = value.as_array().expect("a list of messages").iter();
        turns
            .map(|turn| Message::new(Role::parse(&text(turn, "role")).expect("a role"), text(turn, "content")))
            .collect()
    }

    fn record(json: &str) -> Record {
        let value: Value = serde_json::from_str(json).expect("an example is one JSON object");
        if value.get("messages").is_some() {
            return Record::Chat(Chat { messages: messages(&value["messages"]) });
        }
        Record::Preference(Preference {
            prompt: messages(&value["prompt"]),
            chosen: messages(&value["chosen"]),
            rejected: messages(&value["rejected"]),
            score_chosen: None,
            score_rejected: None,
        })
    }

    /// The fenced blocks of a page whose first line is ```` ```json KIND ````.
    fn examples(page: &str, kind: &str) -> Vec<Record> {
        let opening = format!("```json {kind}\n");
        page.split(&opening).skip(1).map(|rest| record(rest.split("\n```").next().expect("a closed block"))).collect()
    }

    #[test]
    fn every_filter_has_a_page_whose_examples_are_true() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/filters");
        let index = std::fs::read_to_string(format!("{folder}/README.md")).expect("docs/filters/README.md");
        for filter in FILTERS {
            let name = filter.name;
            let page = std::fs::read_to_string(format!("{folder}/{name}.md"))
                .unwrap_or_else(|error| panic!("no page for `{name}`: {error}"));
            for heading in ["## What it drops", "## Why", "## Example", "## What it keeps", "## Options"] {
                assert!(page.contains(heading), "docs/filters/{name}.md has no heading `{heading}`");
            }
            assert!(index.contains(&format!("({name}.md)")), "docs/filters/README.md does not name `{name}`");
            let (dropped, kept) = (examples(&page, "drop"), examples(&page, "keep"));
            assert!(!dropped.is_empty() && !kept.is_empty(), "docs/filters/{name}.md needs a drop and a keep example");
            let options = FilterOptions::default();
            for record in dropped {
                assert_ne!((filter.check)(&record, &options), Verdict::Keep, "`{name}` should drop: {record:?}");
            }
            for record in kept {
                assert_eq!((filter.check)(&record, &options), Verdict::Keep, "`{name}` should keep: {record:?}");
            }
        }
    }

    #[test]
    fn the_order_is_fixed() {
        let names: Vec<&str> = FILTERS.iter().map(|filter| filter.name).collect();
        assert_eq!(names, ["empty", "turns", "length", "ai_preface", "repetition", "refusal"]);
    }

    #[test]
    fn first_drop_names_the_earliest_rule() {
        let (both, _) = first_drop(&chat(&["Hi", ""]), &FilterOptions::default()).expect("dropped");
        assert_eq!(both, "empty");
    }

    #[test]
    fn a_rule_that_is_off_does_not_drop() {
        let mut options = FilterOptions::default();
        let refused = chat(&["How do I pick a lock?", "I'm sorry, but I can't help with that."]);
        assert_eq!(first_drop(&refused, &options), None);
        options.refusal.enabled = true;
        assert_eq!(first_drop(&refused, &options).map(|(name, _)| name), Some("refusal"));
        options.empty.enabled = false;
        options.length.enabled = false;
        assert_eq!(first_drop(&chat(&["Hi", ""]), &options), None);
    }

    #[test]
    fn answers_come_with_what_was_said_before() {
        let Record::Preference(mut both) = pair("And now?", "yes", "no") else { unreachable!() };
        both.prompt.splice(0..0, [Message::new(Role::User, "Hi"), Message::new(Role::Assistant, "Hello")]);
        let record = Record::Preference(both);
        let found: Vec<_> = answers(&record).map(|a| (a.turn, a.text, a.user_turns().collect::<Vec<_>>())).collect();
        let all = vec!["Hi", "And now?"];
        assert_eq!(found, [(1, "Hello", vec!["Hi"]), (3, "yes", all.clone()), (4, "no", all)]);
    }

    #[test]
    fn an_excerpt_is_one_short_line() {
        assert_eq!(excerpt(" a\n\n b\t"), "a b");
        assert_eq!(excerpt(&"é".repeat(500)), format!("{}…", "é".repeat(80)));
    }
}
