//! Which columns make a chat or a preference, whatever the file format.
//!
//! | shape | columns |
//! | --- | --- |
//! | chat | `messages`: list of `{role, content}` |
//! | preference, explicit prompt | `prompt`, `chosen`, `rejected`: strings, or message lists |
//! | preference, implicit prompt | `chosen`, `rejected`: message lists that begin with the same messages |
//!
//! Other columns never matter. `id` (a string or an integer), `score_chosen` and `score_rejected` (numbers) are taken along.
//! A row is read twice only if it is bad: the fast parser just fails, [`diagnose`] then finds out where. Both stand in this file,
//! long as it is, because what one refuses the other must be able to name.

use std::fmt;
use std::sync::Arc;

use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

use super::BadRow;
use crate::error::Error;
use crate::record::{Chat, Kind, Message, Preference, Record, Role, Row};

/// The shapes, as hints name them.
pub(super) const KNOWN: &str = "a chat has `messages`, a preference has `chosen` and `rejected` (and `prompt`)";

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

/// What a `prompt`, `chosen` or `rejected` column holds.
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
#[derive(Default)]
pub(super) struct Columns {
    pub(super) id: Option<String>,
    pub(super) messages: Option<Vec<Message>>,
    pub(super) prompt: Option<Said>,
    pub(super) chosen: Option<Said>,
    pub(super) rejected: Option<Said>,
    pub(super) score_chosen: Option<f64>,
    pub(super) score_rejected: Option<f64>,
}

impl Columns {
    /// The row that the columns make.
    pub(super) fn into_row(self, kind: Kind, file: &Arc<str>, line: u64) -> Result<Row, Fault> {
        let record = match kind {
            Kind::Chat => {
                let messages = self.messages.ok_or_else(|| Fault::new("", "no field `messages`", KNOWN))?;
                Record::Chat(Chat { messages })
            }
            Kind::Preference => {
                let missing = |name: &str| Fault::new("", format!("no field `{name}`"), KNOWN);
                let chosen = self.chosen.ok_or_else(|| missing("chosen"))?;
                let rejected = self.rejected.ok_or_else(|| missing("rejected"))?;
                let (prompt, chosen, rejected) = split_prompt(self.prompt, chosen, rejected)?;
                Record::Preference(Preference {
                    prompt,
                    chosen,
                    rejected,
                    score_chosen: self.score_chosen,
                    score_rejected: self.score_rejected,
                })
            }
        };
        let id = self.id.unwrap_or_else(|| format!("{file}:{line}"));
        Ok(Row { id, file: file.clone(), line, record })
    }
}

type Turns = Vec<Message>;

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

/// The kind of a row, if it has the columns of one.
pub(super) fn json_kind(text: &[u8]) -> Option<Kind> {
    kind_of(
        |name, row: &Value| row.get(name).is_some_and(|value| !value.is_null()),
        &serde_json::from_slice(text).ok()?,
    )
}

/// The kind that the columns make; a preference may have `messages` besides, a chat has no `chosen`.
pub(super) fn kind_of<R: ?Sized>(has: impl Fn(&str, &R) -> bool, row: &R) -> Option<Kind> {
    if has("chosen", row) && has("rejected", row) {
        Some(Kind::Preference)
    } else if has("messages", row) {
        Some(Kind::Chat)
    } else {
        None
    }
}

/// A line of JSON as a row.
pub(super) fn parse_json(text: &[u8], kind: Kind, file: &Arc<str>, line: u64) -> Result<Row, Fault> {
    let mut parser = serde_json::Deserializer::from_slice(text);
    let columns = ColumnsSeed(kind).deserialize(&mut parser).and_then(|columns| parser.end().map(|()| columns));
    match columns {
        Ok(columns) => columns
            .into_row(kind, file, line)
            .map_err(|fault| if fault.field.is_empty() { diagnose(text, kind).unwrap_or(fault) } else { fault }),
        Err(error) => Err(diagnose(text, kind).unwrap_or_else(|| {
            Fault::new(
                "",
                format!("not a row that can be read: {error}"),
                "compare the row with the shapes in docs/FORMAT.md",
            )
        })),
    }
}

/// Reads the columns of one kind and skips the rest.
struct ColumnsSeed(Kind);

impl<'de> DeserializeSeed<'de> for ColumnsSeed {
    type Value = Columns;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Columns, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for ColumnsSeed {
    type Value = Columns;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Columns, A::Error> {
        let mut columns = Columns::default();
        while let Some(key) = map.next_key::<Key>()? {
            match (key, self.0) {
                (Key::Id, _) => columns.id = map.next_value_seed(IdSeed)?,
                (Key::Messages, Kind::Chat) => columns.messages = Some(map.next_value_seed(TurnsSeed)?),
                (Key::Prompt, Kind::Preference) => columns.prompt = map.next_value_seed(SaidSeed)?,
                (Key::Chosen, Kind::Preference) => columns.chosen = map.next_value_seed(SaidSeed)?,
                (Key::Rejected, Kind::Preference) => columns.rejected = map.next_value_seed(SaidSeed)?,
                (Key::ScoreChosen, Kind::Preference) => columns.score_chosen = map.next_value()?,
                (Key::ScoreRejected, Kind::Preference) => columns.score_rejected = map.next_value()?,
                _ => _ = map.next_value::<IgnoredAny>()?,
            }
        }
        Ok(columns)
    }
}

/// Keys that mean something.
#[derive(serde::Deserialize)]
#[serde(rename_all = "snake_case")]
enum Key {
    Id,
    Messages,
    Prompt,
    Chosen,
    Rejected,
    ScoreChosen,
    ScoreRejected,
    Role,
    Content,
    #[serde(other)]
    Other,
}

struct TurnsSeed;

impl<'de> DeserializeSeed<'de> for TurnsSeed {
    type Value = Turns;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Turns, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for TurnsSeed {
    type Value = Turns;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of messages")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Turns, A::Error> {
        let mut turns = Vec::new();
        while let Some(turn) = items.next_element_seed(MessageSeed)? {
            turns.push(turn);
        }
        Ok(turns)
    }
}

struct MessageSeed;

impl<'de> DeserializeSeed<'de> for MessageSeed {
    type Value = Message;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Message, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for MessageSeed {
    type Value = Message;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a message")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Message, A::Error> {
        let (mut role, mut content) = (None, None);
        while let Some(key) = map.next_key::<Key>()? {
            match key {
                Key::Role => role = Role::parse(&map.next_value::<std::borrow::Cow<'_, str>>()?),
                Key::Content => content = Some(map.next_value::<String>()?),
                _ => _ = map.next_value::<IgnoredAny>()?,
            }
        }
        match (role, content) {
            (Some(role), Some(content)) => Ok(Message { role, content }),
            _ => Err(A::Error::custom("a message needs a known `role` and a `content`")),
        }
    }
}

struct SaidSeed;

impl<'de> DeserializeSeed<'de> for SaidSeed {
    type Value = Option<Said>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Option<Said>, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for SaidSeed {
    type Value = Option<Said>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string or a list of messages")
    }

    fn visit_str<E>(self, text: &str) -> Result<Option<Said>, E> {
        Ok(Some(Said::Text(text.to_owned())))
    }

    fn visit_string<E>(self, text: String) -> Result<Option<Said>, E> {
        Ok(Some(Said::Text(text)))
    }

    fn visit_unit<E>(self) -> Result<Option<Said>, E> {
        Ok(None)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<Option<Said>, A::Error> {
        Ok(Some(Said::Turns(TurnsSeed.visit_seq(items)?)))
    }
}

/// An `id` that is a string or an integer; anything else is as good as none.
struct IdSeed;

impl<'de> DeserializeSeed<'de> for IdSeed {
    type Value = Option<String>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Option<String>, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for IdSeed {
    type Value = Option<String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an id")
    }

    fn visit_str<E>(self, text: &str) -> Result<Option<String>, E> {
        Ok(Some(text.to_owned()))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Option<String>, E> {
        Ok(Some(number.to_string()))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Option<String>, E> {
        Ok(Some(number.to_string()))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Option<String>, E> {
        Ok(None)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Option<String>, E> {
        Ok(None)
    }

    fn visit_unit<E>(self) -> Result<Option<String>, E> {
        Ok(None)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Option<String>, A::Error> {
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(None)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Option<String>, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(None)
    }
}

/// Where and why a line of JSON is no row; `None` if nothing is found.
fn diagnose(text: &[u8], kind: Kind) -> Option<Fault> {
    if let Err(error) = std::str::from_utf8(text) {
        let message = format!("the line is not UTF-8 from byte {} on", error.valid_up_to() + 1);
        return Some(Fault::new("", message, "convert the file to UTF-8"));
    }
    let row: Value = match serde_json::from_slice(text) {
        Ok(row) => row,
        Err(error) => {
            let words = error.to_string();
            let words = words.split(" at line ").next().unwrap_or_default();
            let message = format!("not valid JSON: {words}, column {}", error.column());
            return Some(Fault::new("", message, "each line must be one JSON object"));
        }
    };
    let Some(object) = row.as_object() else {
        return Some(Fault::new("", format!("expected a JSON object, found {}", type_name(&row)), KNOWN));
    };
    let needed: &[&str] = match kind {
        Kind::Chat => &["messages"],
        Kind::Preference => &["chosen", "rejected"],
    };
    for name in needed {
        match object.get(*name) {
            None => return Some(missing(name, kind, object)),
            Some(value) => {
                if let Some(fault) = diagnose_said(value, name, kind == Kind::Preference) {
                    return Some(fault);
                }
            }
        }
    }
    if kind == Kind::Preference {
        if let Some(fault) =
            object.get("prompt").filter(|v| !v.is_null()).and_then(|v| diagnose_said(v, "prompt", true))
        {
            return Some(fault);
        }
        for name in ["score_chosen", "score_rejected"] {
            if let Some(value) = object.get(name).filter(|value| !value.is_null() && !value.is_number()) {
                let message = format!("expected a number, found {}", type_name(value));
                return Some(Fault::new(name, message, "write scores as numbers, or leave the column out"));
            }
        }
    }
    None
}

fn missing(name: &str, kind: Kind, object: &serde_json::Map<String, Value>) -> Fault {
    let found: Vec<String> = object.keys().take(12).map(|key| format!("`{key}`")).collect();
    let found = if found.is_empty() { "no field at all".to_string() } else { found.join(", ") };
    let other = kind_of(|name, row: &serde_json::Map<String, Value>| row.contains_key(name), object);
    let hint = match other {
        Some(other) if other != kind => format!(
            "the row has {found}: it is a {}, the run is for rows of the kind `{}`; prepare each kind on its own",
            other.as_str(),
            kind.as_str()
        ),
        _ => format!("the row has {found}; {KNOWN}"),
    };
    Fault::new("", format!("no field `{name}`"), hint)
}

fn diagnose_said(value: &Value, name: &str, text_allowed: bool) -> Option<Fault> {
    if text_allowed && value.is_string() {
        return None;
    }
    let Some(turns) = value.as_array() else {
        let expected = if text_allowed { "a string or a list of messages" } else { "a list of messages" };
        return Some(Fault::new(name, format!("expected {expected}, found {}", type_name(value)), KNOWN));
    };
    turns.iter().enumerate().find_map(|(index, turn)| diagnose_turn(turn, &format!("{name}[{index}]")))
}

fn diagnose_turn(turn: &Value, place: &str) -> Option<Fault> {
    const MESSAGE: &str = "a message is an object with the strings `role` and `content`";
    let Some(turn) = turn.as_object() else {
        return Some(Fault::new(place, format!("expected a message, found {}", type_name(turn)), MESSAGE));
    };
    for name in ["role", "content"] {
        match turn.get(name) {
            None => return Some(Fault::new(place, format!("no field `{name}`"), MESSAGE)),
            Some(Value::String(role)) if name == "role" && Role::parse(role).is_none() => {
                let hint = "the roles are `system`, `user` and `assistant`; rename the role or leave such rows out";
                return Some(Fault::new(format!("{place}.role"), format!("unknown role `{role}`"), hint));
            }
            Some(Value::String(_)) => {}
            Some(other) => {
                let message = format!("expected a string, found {}", type_name(other));
                return Some(Fault::new(format!("{place}.{name}"), message, MESSAGE));
            }
        }
    }
    None
}

fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str, kind: Kind) -> Result<Row, Fault> {
        parse_json(text.as_bytes(), kind, &Arc::from("f.jsonl"), 3)
    }

    fn fault(text: &str, kind: Kind) -> (String, String) {
        let fault = parse(text, kind).unwrap_err();
        (fault.field, fault.message)
    }

    fn pair(text: &str) -> Preference {
        match parse(text, Kind::Preference).unwrap().record {
            Record::Preference(pair) => pair,
            Record::Chat(_) => panic!("a preference"),
        }
    }

    #[test]
    fn a_chat_needs_messages_and_nothing_else_matters() {
        let row = parse(
            r#"{"prompt": 5, "chosen": null, "id": 12, "messages": [{"role": "user", "content": "a\n", "x": [1]}]}"#,
            Kind::Chat,
        );
        let row = row.unwrap();
        assert_eq!((row.id.as_str(), row.line), ("12", 3));
        assert_eq!(row.record.prompt(), "a\n");
        let unnamed = parse(r#"{"id": null, "messages": []}"#, Kind::Chat).unwrap();
        assert_eq!(unnamed.id, "f.jsonl:3");
    }

    #[test]
    fn the_prompt_of_a_preference_is_found_as_trl_finds_it() {
        let strings = pair(r#"{"prompt": "p", "chosen": "c", "rejected": "r", "score_chosen": 4.5}"#);
        assert_eq!(strings.prompt, [Message::new(Role::User, "p")]);
        assert_eq!(strings.chosen, [Message::new(Role::Assistant, "c")]);
        assert_eq!((strings.score_chosen, strings.score_rejected), (Some(4.5), None));
        let inside = r#"{"prompt": "p", "messages": [], "chosen": [{"role": "user", "content": "p"}, {"role": "assistant", "content": "c"}],
            "rejected": [{"role": "user", "content": "p"}, {"role": "assistant", "content": "r"}]}"#;
        assert_eq!(pair(inside).prompt, strings.prompt);
        assert_eq!(pair(inside).rejected, [Message::new(Role::Assistant, "r")]);
        let answers = r#"{"prompt": "p", "chosen": [{"role": "assistant", "content": "c"}], "rejected": [{"role": "assistant", "content": "r"}]}"#;
        assert_eq!(pair(answers).prompt, strings.prompt);
        let equal = r#"{"chosen": [{"role": "user", "content": "p"}, {"role": "assistant", "content": "c"}],
            "rejected": [{"role": "user", "content": "p"}, {"role": "assistant", "content": "c"}]}"#;
        assert_eq!(pair(equal).chosen, pair(equal).rejected);
        assert_eq!(pair(equal).chosen, strings.chosen);
    }

    #[test]
    fn faults_name_the_field() {
        let chat = |text| fault(text, Kind::Chat);
        assert_eq!(chat("[1]").1, "expected a JSON object, found a list");
        assert_eq!(chat(r#"{"messages": [}"#).1, "not valid JSON: expected value, column 15");
        assert_eq!(chat(r#"{"conversations": []}"#).1, "no field `messages`");
        assert_eq!(
            chat(r#"{"messages": "x"}"#),
            ("messages".into(), "expected a list of messages, found a string".into())
        );
        assert_eq!(
            chat(r#"{"messages": [{"role": "user", "content": "x"}, {"role": "tool", "content": "x"}]}"#),
            ("messages[1].role".into(), "unknown role `tool`".into())
        );
        assert_eq!(
            chat(r#"{"messages": [{"role": "user", "content": null}]}"#),
            ("messages[0].content".into(), "expected a string, found null".into())
        );
        assert_eq!(chat(r#"{"messages": [{"role": "user"}]}"#), ("messages[0]".into(), "no field `content`".into()));
        let preference = |text| fault(text, Kind::Preference);
        assert_eq!(preference(r#"{"chosen": "a", "rejected": "b"}"#).1, "no field `prompt`");
        assert_eq!(
            preference(r#"{"prompt": "p", "chosen": "a", "rejected": "b", "score_chosen": "N/A"}"#),
            ("score_chosen".into(), "expected a number, found a string".into())
        );
        assert_eq!(
            preference(r#"{"prompt": "p", "chosen": "a", "rejected": []}"#).1,
            "`chosen` and `rejected` are of different types"
        );
        let hint = parse(r#"{"prompt": "p", "chosen": "a", "rejected": "b"}"#, Kind::Chat).unwrap_err().hint;
        assert!(hint.contains("it is a preference"), "{hint}");
    }

    #[test]
    fn deep_nesting_is_an_error_not_a_crash() {
        let deep = format!("{{\"x\": {}", "[".repeat(200_000));
        assert!(fault(&deep, Kind::Chat).1.starts_with("not valid JSON: recursion limit exceeded"));
    }
}
