//! A JSON object as a row: the columns of one shape are read in one pass, everything else is skipped.
//!
//! The fast parser just fails; a row is read a second time only if it is bad, by [`diagnose`](super::diagnose), which finds
//! out where. What one refuses the other must be able to name.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;

use super::carry::{self, Layout};
use super::diagnose::{diagnose, json_shape};
use super::shape::{Columns, Fault, Said, Shape, Slot};
use crate::record::{Kind, Message, Row};

/// The shape of a row, if it has the columns of one.
pub(super) fn shape_of(text: &[u8], kind: Option<Kind>) -> Option<Shape> {
    match serde_json::from_slice(text).ok()? {
        Value::Object(object) => json_shape(&object, kind),
        _ => None,
    }
}

/// A JSON object as a row.
pub(super) fn parse(text: &[u8], layout: &Layout, file: &Arc<str>, line: u64) -> Result<Row, Fault> {
    let Layout { shape, carry } = layout;
    let mut parser = serde_json::Deserializer::from_slice(text);
    let mut carried = vec![None; carry.len()];
    let seed = ColumnsSeed { shape: *shape, carry, carried: &mut carried };
    let columns = seed.deserialize(&mut parser).and_then(|columns| parser.end().map(|()| columns));
    let row = match columns {
        Ok(columns) => columns
            .into_row(*shape, file, line)
            .map_err(|fault| if fault.field.is_empty() { diagnose(text, *shape).unwrap_or(fault) } else { fault })?,
        Err(error) => return Err(diagnose(text, *shape).unwrap_or_else(|| unreadable(&error))),
    };
    let value = |(name, value): (&String, Option<&RawValue>)| match value {
        Some(value) => carry::of_json(value).map_err(|error| unreadable(&error)),
        None => Err(carry::absent(name, carry::fields(text).iter().map(String::as_str))),
    };
    let carried = carry.iter().zip(carried).map(value).collect::<Result<_, _>>()?;
    Ok(Row { carried, ..row })
}

fn unreadable(error: &serde_json::Error) -> Fault {
    let message = format!("not a row that can be read: {error}");
    Fault::new("", message, "compare the row with the shapes in docs/SHAPES.md")
}

/// Reads the columns of one shape, keeps hold of those that are carried along, and skips the rest.
struct ColumnsSeed<'a, 'de> {
    shape: Shape,
    carry: &'a [String],
    carried: &'a mut [Option<&'de RawValue>],
}

impl<'de> DeserializeSeed<'de> for ColumnsSeed<'_, 'de> {
    type Value = Columns;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Columns, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for ColumnsSeed<'_, 'de> {
    type Value = Columns;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Columns, A::Error> {
        let mut columns = Columns::default();
        while let Some(Borrowed(name)) = map.next_key::<Borrowed<'_>>()? {
            let said = SaidSeed(self.shape);
            match self.shape.slot(&name) {
                Some(Slot::Id) => columns.id = map.next_value_seed(IdSeed)?,
                Some(Slot::System) => columns.system = map.next_value()?,
                Some(Slot::Turns) => columns.turns = map.next_value_seed(said)?,
                Some(Slot::Prompt) => columns.prompt = map.next_value_seed(said)?,
                Some(Slot::Input) => columns.input = map.next_value()?,
                Some(Slot::Answer) => {
                    // It has two names; where both are there, the shape's own counts.
                    let answer = map.next_value_seed(said)?;
                    if columns.answer.is_none() || (answer.is_some() && name != "response") {
                        columns.answer = answer;
                    }
                }
                Some(Slot::Chosen) => columns.chosen = map.next_value_seed(said)?,
                Some(Slot::Rejected) => columns.rejected = map.next_value_seed(said)?,
                Some(Slot::ScoreChosen) => columns.score_chosen = map.next_value()?,
                Some(Slot::ScoreRejected) => columns.score_rejected = map.next_value()?,
                None => match self.carry.iter().position(|carried| *carried == name) {
                    Some(at) => self.carried[at] = Some(map.next_value()?),
                    None => _ = map.next_value::<IgnoredAny>()?,
                },
            }
        }
        Ok(columns)
    }
}

/// A string that stays where it is in the line, unless it has escapes.
#[derive(serde::Deserialize)]
#[serde(transparent)]
struct Borrowed<'a>(#[serde(borrow)] Cow<'a, str>);

struct TurnsSeed(Shape);

impl<'de> DeserializeSeed<'de> for TurnsSeed {
    type Value = Vec<Message>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Vec<Message>, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for TurnsSeed {
    type Value = Vec<Message>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of messages")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Vec<Message>, A::Error> {
        let mut turns = Vec::new();
        while let Some(turn) = items.next_element_seed(MessageSeed(self.0))? {
            turns.push(turn);
        }
        Ok(turns)
    }
}

struct MessageSeed(Shape);

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
        let [own, other] = self.0.turn_fields();
        let (mut role, mut content) = (None, None);
        let (mut own_role, mut own_content) = (false, false);
        while let Some(Borrowed(name)) = map.next_key::<Borrowed<'_>>()? {
            if name == own.0 || (name == other.0 && !own_role) {
                own_role = name == own.0;
                role = self.0.role(&map.next_value::<Borrowed<'_>>()?.0);
            } else if name == own.1 || (name == other.1 && !own_content) {
                own_content = name == own.1;
                content = Some(map.next_value_seed(ContentSeed)?);
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        match (role, content) {
            (Some(role), Some(content)) => Ok(Message { role, content }),
            _ => Err(A::Error::custom("a message needs a known role and a content")),
        }
    }
}

/// What is said: a string, or a list of text parts, which are put together as chat templates do it: end to end.
struct ContentSeed;

impl<'de> DeserializeSeed<'de> for ContentSeed {
    type Value = String;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<String, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for ContentSeed {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string or a list of text parts")
    }

    fn visit_str<E>(self, text: &str) -> Result<String, E> {
        Ok(text.to_owned())
    }

    fn visit_string<E>(self, text: String) -> Result<String, E> {
        Ok(text)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut parts: A) -> Result<String, A::Error> {
        #[derive(serde::Deserialize)]
        struct Part<'a> {
            #[serde(borrow)]
            r#type: Cow<'a, str>,
            #[serde(borrow, default)]
            text: Option<Cow<'a, str>>,
        }
        let mut content = String::new();
        while let Some(part) = parts.next_element::<Part<'_>>()? {
            match (part.r#type.as_ref(), part.text) {
                ("text", Some(text)) => content.push_str(&text),
                _ => return Err(A::Error::custom("a part that is no text")),
            }
        }
        Ok(content)
    }
}

struct SaidSeed(Shape);

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
        Ok(Some(Said::Turns(TurnsSeed(self.0).visit_seq(items)?)))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Preference, Record, Role};

    fn read(text: &str, shape: Shape) -> Result<Row, Fault> {
        parse(text.as_bytes(), &shape.into(), &Arc::from("f.jsonl"), 3)
    }

    fn fault(text: &str, shape: Shape) -> (String, String) {
        let fault = read(text, shape).unwrap_err();
        (fault.field, fault.message)
    }

    fn pair(text: &str) -> Preference {
        match read(text, Shape::Preference).unwrap().record {
            Record::Preference(pair) => pair,
            Record::Chat(_) => panic!("a preference"),
        }
    }

    /// The shape that is found, and the chat that it makes, as `role: content` lines.
    fn chat(text: &str) -> (&'static str, String) {
        let shape = shape_of(text.as_bytes(), None).unwrap();
        let row = read(text, shape).unwrap();
        let turns: Vec<String> =
            row.record.messages().map(|turn| format!("{}: {}", turn.role.as_str(), turn.content)).collect();
        (shape.as_str(), turns.join("\n"))
    }

    #[test]
    fn a_chat_needs_messages_and_nothing_else_matters() {
        let row = read(
            r#"{"prompt": 5, "chosen": null, "id": 12, "messages": [{"role": "user", "content": "a\n", "x": [1]}]}"#,
            Shape::Messages,
        );
        let row = row.unwrap();
        assert_eq!((row.id.as_str(), row.line), ("12", 3));
        assert_eq!(row.record.prompt(), "a\n");
        let unnamed = read(r#"{"id": null, "messages": []}"#, Shape::Messages).unwrap();
        assert_eq!(unnamed.id, "f.jsonl:3");
    }

    #[test]
    fn shapes_are_found_by_their_columns() {
        let expected = "user: Hi\nassistant: Hello!";
        for (text, shape) in [
            (
                r#"{"messages": [{"role": "user", "content": [{"type": "text", "text": "H"}, {"text": "i", "type": "text"}]},
                {"role": "assistant", "content": "Hello!"}]}"#,
                "messages",
            ),
            (
                r#"{"conversations": [{"from": "human", "value": "Hi"}, {"value": "Hello!", "from": "gpt"}], "system": ""}"#,
                "sharegpt",
            ),
            (
                r#"{"conversations": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello!"}]}"#,
                "sharegpt",
            ),
            (r#"{"instruction": "Hi", "input": "", "output": "Hello!"}"#, "alpaca"),
            (r#"{"response": "no", "instruction": "Hi", "output": "Hello!", "input": null}"#, "alpaca"),
            (r#"{"output": "Hello!", "instruction": "Hi", "response": "no"}"#, "alpaca"),
            (r#"{"instruction": "Hi", "output": null, "response": "Hello!"}"#, "alpaca"),
            (r#"{"prompt": "Hi", "completion": "Hello!"}"#, "prompt_completion"),
            (r#"{"prompt": [{"role": "user", "content": "Hi"}], "response": "Hello!"}"#, "prompt_completion"),
            (r#"{"text": "\n\nHuman: Hi\n\nAssistant: Hello!"}"#, "transcript"),
        ] {
            assert_eq!(chat(text), (shape, expected.to_string()), "{text}");
        }
        let (_, asked) = chat(r#"{"instruction": "Area?", "input": "w: 5", "output": "10", "system": "Be brief."}"#);
        assert_eq!(asked, "system: Be brief.\nuser: Area?\nw: 5\nassistant: 10");
        assert_eq!(shape_of(br#"{"text": "Human beings"}"#, None), None);
        assert_eq!(
            shape_of(br#"{"messages": [], "chosen": "a", "rejected": "b"}"#, Some(Kind::Chat)),
            Some(Shape::Messages)
        );
        assert_eq!(shape_of(br#"{"messages": [], "chosen": "a", "rejected": "b"}"#, None), Some(Shape::Preference));
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
        let transcripts =
            pair(r#"{"chosen": "\n\nHuman: p\n\nAssistant: c", "rejected": "\n\nHuman: p\n\nAssistant: r"}"#);
        assert_eq!((&transcripts.prompt, &transcripts.chosen), (&strings.prompt, &strings.chosen));
        assert_eq!(transcripts.rejected, strings.rejected);
    }

    #[test]
    fn faults_name_the_field() {
        let chat = |text| fault(text, Shape::Messages);
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
        assert_eq!(
            chat(r#"{"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]}"#),
            ("messages[0].content[0].type".into(), "unknown part `image_url`".into())
        );
        assert_eq!(chat(r#"{"messages": [{"role": "user"}]}"#), ("messages[0]".into(), "no field `content`".into()));
        assert_eq!(
            fault(r#"{"conversations": [{"from": "tool", "value": "x"}]}"#, Shape::ShareGpt),
            ("conversations[0].from".into(), "unknown role `tool`".into())
        );
        assert_eq!(
            fault(r#"{"conversations": [{"value": "x"}]}"#, Shape::ShareGpt),
            ("conversations[0]".into(), "no field `from`".into())
        );
        assert_eq!(
            fault(r#"{"instruction": "a", "output": "b", "input": 3}"#, Shape::Alpaca),
            ("input".into(), "expected a string, found a number".into())
        );
        assert_eq!(fault(r#"{"instruction": "a", "output": null}"#, Shape::Alpaca).1, "no field `output`");
        assert_eq!(
            fault(r#"{"text": "no speaker"}"#, Shape::Transcript),
            ("text".into(), "the transcript does not begin with a speaker".into())
        );
        let preference = |text| fault(text, Shape::Preference);
        assert_eq!(preference(r#"{"chosen": "a", "rejected": "b"}"#).1, "no field `prompt`");
        assert_eq!(
            preference(r#"{"prompt": "p", "chosen": "a", "rejected": "b", "score_chosen": "N/A"}"#),
            ("score_chosen".into(), "expected a number, found a string".into())
        );
        assert_eq!(
            preference(r#"{"prompt": "p", "chosen": "a", "rejected": []}"#).1,
            "`chosen` and `rejected` are of different types"
        );
        let hint = read(r#"{"prompt": "p", "chosen": "a", "rejected": "b"}"#, Shape::Messages).unwrap_err().hint;
        assert!(hint.contains("it is a preference"), "{hint}");
        let hint = read(r#"{"instruction": "p", "output": "a"}"#, Shape::Messages).unwrap_err().hint;
        assert!(hint.contains("its shape is `alpaca`, that of the file `messages`"), "{hint}");
    }

    #[test]
    fn deep_nesting_is_an_error_not_a_crash() {
        let deep = format!("{{\"x\": {}", "[".repeat(200_000));
        assert!(fault(&deep, Shape::Messages).1.starts_with("not valid JSON: recursion limit exceeded"));
    }
}
