//! Texts out of files that need not be chats, such as benchmarks: the strings of some fields of each row.
//!
//! The fields are those that the user names, or all that have a name by which questions usually go. A list gives each of its
//! elements, an object what its usual members hold, so that `turns: [...]` and `prompt: [{role, content}]` are both read.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, ListArray, StringArray};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use serde_json::{Map, Value};

use super::batch::{Batch, lists, strings};
use super::diagnose::{parse_object, type_name};
use super::shape::Fault;
use super::{InputFile, Position, Rows, open};
use crate::error::{Error, Result};

/// Fields that hold what a benchmark asks, where nobody names others; capitals do not matter.
const USUAL: [&str; 13] = [
    "turns",
    "prompt",
    "question",
    "instruction",
    "text",
    "input",
    "problem",
    "query",
    "goal",
    "ctx",
    "sentence",
    "messages",
    "conversations",
];
/// Where an object has its text, besides in one of the usual fields.
const MEMBERS: [&str; 3] = ["content", "value", "stem"];

/// Which fields are read.
#[derive(Debug)]
pub(super) struct Fields(Option<Vec<String>>);

impl Fields {
    pub(super) fn wants(&self, name: &str) -> bool {
        match &self.0 {
            Some(named) => named.iter().any(|known| known == name),
            None => is_usual(name),
        }
    }

    fn hint(&self) -> String {
        match self.0 {
            Some(_) => "name fields that hold texts, lists of them, or messages".into(),
            None => "name the fields that hold its texts in the configuration: `dedup: {decontaminate: [{path: FILE, fields: [NAME]}]}`".into(),
        }
    }
}

fn is_usual(name: &str) -> bool {
    USUAL.iter().any(|usual| usual.eq_ignore_ascii_case(name))
}

/// A text of a row.
#[derive(Clone, Copy, Debug)]
pub struct FieldText<'a> {
    /// Line, row or element, from 1.
    pub row: u64,
    /// The field, as a path like `turns[0]`.
    pub field: &'a str,
    /// What it holds.
    pub text: &'a str,
}

/// Hands over the texts of a file in their order: those of `fields`, or of all fields of a usual name.
///
/// # Errors
/// The file cannot be read, or a row has no such field or something else than texts in it; also whatever `each` gives.
pub fn for_each_text(
    file: &InputFile,
    fields: Option<&[String]>,
    each: &mut dyn FnMut(FieldText<'_>) -> Result<()>,
) -> Result<()> {
    let fields = Arc::new(Fields(fields.map(<[String]>::to_vec)));
    let file = InputFile { fields: Some(fields.clone()), ..file.clone() };
    let mut found = false;
    let mut row = |line: u64, object: std::result::Result<Map<String, Value>, Fault>| -> Result<()> {
        let mut texts = Vec::new();
        let object = object.and_then(|object| texts_of(&object, &fields, &mut texts));
        object.map_err(|fault| fault.at(&file.name, line, String::new()).error)?;
        for (field, text) in &texts {
            found = true;
            each(FieldText { row: line, field, text })?;
        }
        Ok(())
    };
    for rows in open(&file, &Position::default())? {
        match rows? {
            Rows::Lines(lines) => {
                for (line, text) in lines.lines() {
                    row(line, parse_object(text, &fields.hint()))?;
                }
            }
            Rows::Items(items) => {
                for (line, text) in items.items() {
                    row(line, parse_object(text, &fields.hint()))?;
                }
            }
            Rows::Batch(batch) => {
                let columns = columns(&batch);
                for index in 0..batch.rows.num_rows() {
                    let values = columns.iter().map(|(name, column)| (name.clone(), column.value(index)));
                    row(batch.first_row + index as u64, Ok(values.collect()))?;
                }
            }
        }
    }
    if found {
        return Ok(());
    }
    Err(Error::Format { path: file.name.to_string(), message: "it holds no text".into(), hint: fields.hint() })
}

/// The texts of a row's fields, with the places where they stand.
fn texts_of(
    object: &Map<String, Value>,
    fields: &Fields,
    texts: &mut Vec<(String, String)>,
) -> std::result::Result<(), Fault> {
    let mut there = false;
    for (name, value) in object.iter().filter(|(name, _)| fields.wants(name)) {
        there = true;
        walk(value, name.clone(), fields, texts)?;
    }
    if let Some(missing) = fields.0.iter().flatten().find(|name| !object.contains_key(name.as_str())) {
        return Err(Fault::new(missing, "there is no such field", format!("{}{}", fields.hint(), named(object))));
    }
    if there {
        return Ok(());
    }
    let message = format!("no field has a usual name such as `{}`", USUAL[..5].join("`, `"));
    Err(Fault::new("", message, format!("{}{}", fields.hint(), named(object))))
}

fn named(object: &Map<String, Value>) -> String {
    let names: Vec<String> = object.keys().take(12).map(|name| format!("`{name}`")).collect();
    if names.is_empty() { String::new() } else { format!("; the row has {}", names.join(", ")) }
}

fn walk(
    value: &Value,
    place: String,
    fields: &Fields,
    texts: &mut Vec<(String, String)>,
) -> std::result::Result<(), Fault> {
    match value {
        Value::Null => Ok(()),
        Value::String(text) => {
            texts.push((place, text.clone()));
            Ok(())
        }
        Value::Array(items) => {
            items.iter().enumerate().try_for_each(|(at, item)| walk(item, format!("{place}[{at}]"), fields, texts))
        }
        Value::Object(members) => {
            let held = |name: &str| MEMBERS.contains(&name) || is_usual(name);
            let mut there = members.iter().filter(|(name, _)| held(name)).peekable();
            if there.peek().is_none() {
                return Err(Fault::new(place, "expected a text, found an object without one", fields.hint()));
            }
            there.try_for_each(|(name, member)| walk(member, format!("{place}.{name}"), fields, texts))
        }
        other => Err(Fault::new(place, format!("expected a text, found {}", type_name(other)), fields.hint())),
    }
}

/// A column of a table, brought to the types that are read here.
enum Column {
    Text(StringArray),
    List(ListArray, Box<Column>),
    Object(ArrayRef, Vec<(String, Column)>),
    /// Numbers, for the message that says so.
    Number(ArrayRef),
    Boolean(ArrayRef),
}

fn columns(batch: &Batch) -> Vec<(String, Column)> {
    let names = batch.rows.schema_ref().fields().iter().map(|field| field.name().clone());
    names.zip(batch.rows.columns().iter().map(Column::new)).collect()
}

impl Column {
    fn new(array: &ArrayRef) -> Column {
        if let Some(text) = strings(array) {
            return Column::Text(text);
        }
        if let Some(lists) = lists(array) {
            let items = Column::new(lists.values());
            return Column::List(lists, Box::new(items));
        }
        if let DataType::Dictionary(_, values) = array.data_type()
            && let Ok(plain) = cast(array, values)
        {
            return Column::new(&plain);
        }
        match array.as_struct_opt() {
            Some(members) => {
                let names = members.fields().iter().map(|field| field.name().clone());
                Column::Object(array.clone(), names.zip(members.columns().iter().map(Column::new)).collect())
            }
            None if *array.data_type() == DataType::Boolean => Column::Boolean(array.clone()),
            None => Column::Number(array.clone()),
        }
    }

    /// The value as JSON has it; numbers are told from nulls and no more.
    fn value(&self, index: usize) -> Value {
        match self {
            Column::Text(text) if text.is_valid(index) => text.value(index).into(),
            Column::List(lists, items) if lists.is_valid(index) => {
                let offsets = lists.value_offsets();
                let range = offsets[index].cast_unsigned() as usize..offsets[index + 1].cast_unsigned() as usize;
                range.map(|at| items.value(at)).collect()
            }
            Column::Object(objects, members) if objects.is_valid(index) => {
                Value::Object(members.iter().map(|(name, member)| (name.clone(), member.value(index))).collect())
            }
            Column::Number(numbers) if numbers.is_valid(index) => 0.into(),
            Column::Boolean(values) if values.is_valid(index) => false.into(),
            _ => Value::Null,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(name: &str, content: &str, fields: Option<&[&str]>) -> std::result::Result<Vec<String>, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        let fields = fields.map(|fields| fields.iter().map(ToString::to_string).collect::<Vec<_>>());
        let mut found = Vec::new();
        for_each_text(&InputFile::new(&path).unwrap(), fields.as_deref(), &mut |text| {
            found.push(format!("{} {} {}", text.row, text.field, text.text));
            Ok(())
        })
        .map_err(|error| error.to_string().replace(&*path.to_string_lossy(), "F"))?;
        Ok(found)
    }

    #[test]
    fn usual_fields_are_found_and_others_can_be_named() {
        let rows =
            "{\"id\": 1, \"turns\": [\"a\", \"b\"], \"answer\": \"x\"}\n\n{\"Question\": \"c\", \"input\": null}\n";
        assert_eq!(read("f.jsonl", rows, None).unwrap(), ["1 turns[0] a", "1 turns[1] b", "3 Question c"]);
        let messages = "[{\"prompt\": [{\"role\": \"user\", \"content\": \"d\"}]}, {\"question\": {\"stem\": \"e\"}}]";
        assert_eq!(read("f.json", messages, None).unwrap(), ["1 prompt[0].content d", "2 question.stem e"]);
        assert_eq!(read("f.jsonl", "{\"q\": \"g\", \"text\": \"h\"}", Some(&["q"])).unwrap(), ["1 q g"]);
    }

    #[test]
    fn what_is_no_text_is_named_with_its_place() {
        let usual = "hint: name the fields that hold its texts in the configuration: `dedup: {decontaminate: [{path: FILE, fields: [NAME]}]}`";
        assert_eq!(
            read("f.jsonl", "{\"text\": \"a\"}\n{\"text\": [\"b\", 7]}", None).unwrap_err(),
            format!("expected a text, found a number at F:2, field: `text[1]`\n{usual}")
        );
        assert_eq!(
            read("f.jsonl", "{\"a\": \"b\"}", None).unwrap_err(),
            format!(
                "no field has a usual name such as `turns`, `prompt`, `question`, `instruction`, `text` at F:1\n{usual}; the row has `a`"
            )
        );
        assert_eq!(
            read("f.jsonl", "{\"a\": \"b\"}", Some(&["q"])).unwrap_err(),
            "there is no such field at F:1, field: `q`\nhint: name fields that hold texts, lists of them, or messages; the row has `a`"
        );
        assert_eq!(
            read("f.jsonl", "{\"text\": \"a\"", None).unwrap_err(),
            "not valid JSON: EOF while parsing an object, column 12 at F:1\nhint: each line must be one JSON object"
        );
        assert_eq!(read("f.jsonl", "\n", None).unwrap_err(), format!("cannot read `F`: it holds no text\n{usual}"));
    }
}
