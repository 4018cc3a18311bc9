//! Extra columns that are carried along (`read.carry`): their values as text.
//!
//! Whatever the format, a text is carried as it is and null as null; everything else as JSON on one line: `4.5`, `true`,
//! `["a","b"]`, `{"by":"me"}`. So a column can be selected by its words, and nothing is rounded on the way.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::DataType;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use serde_json::value::RawValue;

use super::InputFile;
use super::shape::{Fault, Shape};
use crate::error::{Error, Result};
use crate::schema;

/// How the columns of a file are understood.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    /// Which of them make a record.
    pub(super) shape: Shape,
    /// Which others are carried along.
    pub(super) carry: Arc<[String]>,
}

impl From<Shape> for Layout {
    fn from(shape: Shape) -> Self {
        Layout { shape, carry: Arc::default() }
    }
}

impl InputFile {
    /// The file with the columns of these names carried along; its shape must be known.
    ///
    /// # Errors
    /// A name stands twice, is one of our own, or is that of a column which the shape reads.
    pub fn carrying(self, names: &[String]) -> Result<InputFile> {
        for (at, name) in names.iter().enumerate() {
            if names[..at].contains(name) {
                let hint = "name each column once";
                return Err(refused(format!("`read.carry` names a column twice: `{name}`"), hint.into()));
            }
            if schema::OWN_COLUMNS.contains(&name.as_str()) {
                let hint = "leave it out, or give the column another name in the input";
                let message = format!("`read.carry` names a column that the files of a run have anyway: `{name}`");
                return Err(refused(message, hint.into()));
            }
            if self.layout.shape.slot(name).is_some() {
                let (file, shape) = (&self.name, self.layout.shape.as_str());
                return Err(refused(
                    format!("`read.carry` names a column that is part of the rows of `{file}`: `{name}`"),
                    format!("the shape `{shape}` reads it; leave it out, or copy it to a column of another name"),
                ));
            }
        }
        Ok(InputFile { layout: Layout { carry: names.into(), ..self.layout }, ..self })
    }
}

fn refused(message: String, hint: String) -> Error {
    Error::Config { key: "read.carry".into(), message, hint }
}

/// What is said of a row without a column that is to be carried.
pub(super) fn absent<'a>(name: &str, found: impl Iterator<Item = &'a str>) -> Fault {
    let found: Vec<&str> = found.collect();
    let near = found.iter().map(|other| (distance(name, other), *other)).min();
    let hint = match near {
        Some((edits, near)) if 3 * edits <= name.chars().count() => format!("did you mean `{near}`?"),
        _ => {
            let listed: Vec<String> = found.iter().take(12).map(|name| format!("`{name}`")).collect();
            format!("the row has {}; write null where a row has no value", listed.join(", "))
        }
    };
    Fault::new(name, "no such field, which `read.carry` names", hint)
}

/// The names of a JSON object's fields.
pub(super) fn fields(text: &[u8]) -> Vec<String> {
    let fields = serde_json::from_slice::<BTreeMap<String, &RawValue>>(text);
    fields.map(|fields| fields.into_keys().collect()).unwrap_or_default()
}

/// How many characters must be added, taken away or replaced to make `b` of `a`.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (at, from) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], at + 1);
        for (to, letter) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(from != *letter);
            diagonal = row[to + 1];
            row[to + 1] = replaced.min(diagonal + 1).min(row[to] + 1);
        }
    }
    row[b.len()]
}

/// A JSON value as it is carried.
pub(super) fn of_json(value: &RawValue) -> serde_json::Result<Option<String>> {
    let text = value.get();
    match text.as_bytes().first() {
        Some(b'n') => Ok(None),
        Some(b'"') => serde_json::from_str(text).map(Some),
        _ => Ok(Some(compact(text))),
    }
}

/// JSON without the white space between its parts.
fn compact(json: &str) -> String {
    let (mut quoted, mut escaped) = (false, false);
    let kept = json.chars().filter(|&letter| {
        let kept = quoted || !letter.is_ascii_whitespace();
        if letter == '"' && !escaped {
            quoted = !quoted;
        }
        escaped = quoted && letter == '\\' && !escaped;
        kept
    });
    kept.collect()
}

/// A value of an Arrow column as it is carried.
pub(super) fn of_arrow(array: &ArrayRef, index: usize) -> Option<String> {
    let mut json = String::new();
    let (array, index) = looked_up(array, index);
    match scalar(array, index) {
        Scalar::Null => return None,
        Scalar::Text(text) | Scalar::Json(text) => json = text,
        Scalar::Nested => write_json(array, index, &mut json),
    }
    Some(json)
}

enum Scalar {
    Null,
    Text(String),
    Json(String),
    Nested,
}

fn scalar(array: &ArrayRef, index: usize) -> Scalar {
    if array.is_null(index) {
        return Scalar::Null;
    }
    match array.data_type() {
        DataType::Null => Scalar::Null,
        DataType::List(_)
        | DataType::LargeList(_)
        | DataType::FixedSizeList(..)
        | DataType::ListView(_)
        | DataType::LargeListView(_)
        | DataType::Map(..)
        | DataType::Struct(_) => Scalar::Nested,
        kind => {
            let text = ArrayFormatter::try_new(array, &FormatOptions::default())
                .and_then(|formatter| formatter.value(index).try_to_string())
                .unwrap_or_default();
            // JSON has no word for numbers that are not finite: those are carried as texts.
            let finite = |text: &str| text.ends_with(|last: char| last.is_ascii_digit());
            match kind {
                DataType::Boolean => Scalar::Json(text),
                kind if kind.is_numeric() && finite(&text) => Scalar::Json(text),
                _ => Scalar::Text(text),
            }
        }
    }
}

/// Where a value stands: of a dictionary, among its different values.
fn looked_up(array: &ArrayRef, index: usize) -> (&ArrayRef, usize) {
    match array.as_any_dictionary_opt() {
        Some(dictionary) if array.is_valid(index) => {
            looked_up(dictionary.values(), dictionary.normalized_keys()[index])
        }
        _ => (array, index),
    }
}

fn write_json(array: &ArrayRef, index: usize, out: &mut String) {
    let (array, index) = looked_up(array, index);
    match scalar(array, index) {
        Scalar::Null => out.push_str("null"),
        Scalar::Json(json) => out.push_str(&json),
        Scalar::Text(text) => out.push_str(&quoted(&text)),
        Scalar::Nested => {
            if let Some(fields) = array.as_struct_opt() {
                write_list(out, ['{', '}'], fields.num_columns(), |at, out| {
                    out.push_str(&quoted(fields.fields()[at].name()));
                    out.push(':');
                    write_json(fields.column(at), index, out);
                });
            } else if let Some(map) = array.as_map_opt() {
                // JSON has texts for keys; as in an object, they stand in their order.
                let entries = map.value(index);
                write_list(out, ['{', '}'], entries.len(), |at, out| {
                    out.push_str(&quoted(&of_arrow(entries.column(0), at).unwrap_or_default()));
                    out.push(':');
                    write_json(entries.column(1), at, out);
                });
            } else if let Some(items) = items(array, index) {
                write_list(out, ['[', ']'], items.len(), |at, out| write_json(&items, at, out));
            }
        }
    }
}

fn write_list(out: &mut String, [open, close]: [char; 2], count: usize, write: impl Fn(usize, &mut String)) {
    out.push(open);
    for at in 0..count {
        if at > 0 {
            out.push(',');
        }
        write(at, out);
    }
    out.push(close);
}

/// A list's items, whichever of Arrow's layouts it has.
fn items(array: &ArrayRef, index: usize) -> Option<ArrayRef> {
    let list = array.as_list_opt::<i32>().map(|lists| lists.value(index));
    let list = list.or_else(|| array.as_list_opt::<i64>().map(|lists| lists.value(index)));
    let list = list.or_else(|| array.as_fixed_size_list_opt().map(|lists| lists.value(index)));
    let list = list.or_else(|| array.as_list_view_opt::<i32>().map(|lists| lists.value(index)));
    list.or_else(|| array.as_list_view_opt::<i64>().map(|lists| lists.value(index)))
}

fn quoted(text: &str) -> String {
    serde_json::to_string(text).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{
        DictionaryArray, Float64Array, Int32Array, Int64Array, Int64Builder, ListArray, MapBuilder, StringArray,
        StringBuilder, StructArray,
    };
    use arrow::datatypes::{Field, Int32Type};

    fn json(text: &str) -> Option<String> {
        of_json(&serde_json::from_str::<Box<RawValue>>(text).unwrap()).unwrap()
    }

    #[test]
    fn json_values_as_text() {
        assert_eq!(json("null"), None);
        assert_eq!(json(r#""a \"b\" \u00e9""#).unwrap(), "a \"b\" é");
        assert_eq!(json("1.0e5").unwrap(), "1.0e5");
        assert_eq!(json("123456789012345678901234567890").unwrap(), "123456789012345678901234567890");
        assert_eq!(
            json("{ \"a b\" :\n [1, true, \"x \\\" y\\\\\" , null] }").unwrap(),
            r#"{"a b":[1,true,"x \" y\\",null]}"#
        );
        let deep = format!("{}{}", "[".repeat(200_000), "]".repeat(200_000));
        assert_eq!(json(&deep).unwrap(), deep);
    }

    #[test]
    fn arrow_values_as_the_same_text() {
        let text = |array: ArrayRef| (0..array.len()).map(|at| of_arrow(&array, at)).collect::<Vec<_>>();
        let some = |texts: &[&str]| texts.iter().map(|text| Some((*text).to_string())).collect::<Vec<_>>();
        assert_eq!(text(Arc::new(StringArray::from(vec![Some("a"), None]))), [Some("a".to_string()), None]);
        assert_eq!(text(Arc::new(Float64Array::from(vec![4.5, 3.0, f64::NAN]))), some(&["4.5", "3.0", "NaN"]));
        let words: DictionaryArray<Int32Type> = vec!["x", "y", "x"].into_iter().collect();
        assert_eq!(text(Arc::new(words)), some(&["x", "y", "x"]));
        let lists = ListArray::from_iter_primitive::<Int32Type, _, _>([Some(vec![Some(1), None]), Some(vec![])]);
        assert_eq!(text(Arc::new(lists.clone())), some(&["[1,null]", "[]"]));
        let field = |name, kind| Arc::new(Field::new(name, kind, true));
        let nested = StructArray::from(vec![
            (field("by", DataType::Utf8), Arc::new(StringArray::from(vec!["m\"e", "you"])) as ArrayRef),
            (field("n", DataType::Int64), Arc::new(Int64Array::from(vec![1, 2])) as ArrayRef),
            (field("l", lists.data_type().clone()), Arc::new(lists) as ArrayRef),
        ]);
        let nested = text(Arc::new(nested));
        assert_eq!(nested, some(&[r#"{"by":"m\"e","n":1,"l":[1,null]}"#, r#"{"by":"you","n":2,"l":[]}"#]));
    }

    #[test]
    fn maps_are_objects_and_dictionaries_what_they_stand_for() {
        let mut maps = MapBuilder::new(None, StringBuilder::new(), Int64Builder::new());
        maps.keys().append_value("a\"b");
        maps.values().append_value(1);
        maps.keys().append_value("c");
        maps.values().append_null();
        maps.append(true).unwrap();
        maps.append(true).unwrap();
        let maps: ArrayRef = Arc::new(maps.finish());
        assert_eq!(of_arrow(&maps, 0).unwrap(), r#"{"a\"b":1,"c":null}"#);
        assert_eq!(of_arrow(&maps, 1).unwrap(), "{}");
        let keys = Int32Array::from(vec![Some(1), None]);
        let words: ArrayRef = Arc::new(DictionaryArray::new(keys.clone(), Arc::new(StringArray::from(vec!["x", "y"]))));
        let lists = ListArray::from_iter_primitive::<Int32Type, _, _>([Some(vec![Some(1)]), Some(vec![Some(2), None])]);
        let lists: ArrayRef = Arc::new(DictionaryArray::new(keys, Arc::new(lists)));
        assert_eq!((of_arrow(&lists, 0).unwrap().as_str(), of_arrow(&lists, 1)), ("[2,null]", None));
        let field = |name, array: &ArrayRef| Arc::new(Field::new(name, array.data_type().clone(), true));
        let nested = vec![(field("w", &words), words), (field("l", &lists), lists)];
        let nested: ArrayRef = Arc::new(StructArray::from(nested));
        assert_eq!(of_arrow(&nested, 0).unwrap(), r#"{"w":"y","l":[2,null]}"#);
        assert_eq!(of_arrow(&nested, 1).unwrap(), r#"{"w":null,"l":null}"#);
    }

    #[test]
    fn the_nearest_name_is_named() {
        let hint = |name: &str| absent(name, ["messages", "source"].into_iter()).hint;
        assert_eq!(hint("sorce"), "did you mean `source`?");
        assert_eq!(hint("model"), "the row has `messages`, `source`; write null where a row has no value");
        assert_eq!((distance("", "ab"), distance("kitten", "sitting"), distance("a", "a")), (2, 3, 0));
    }
}
