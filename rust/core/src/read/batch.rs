//! Rows in Arrow memory, as Parquet and Arrow files give them: the few columns that mean something.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, LargeStringArray, ListArray, RecordBatch, StringArray, StructArray};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Float64Type};

use super::shape::{Columns, Fault, Said, Shape, Slot};
use super::{BadRow, carry};
use crate::error::Result;
use crate::record::{Kind, Message, Row};

/// Rows of a file.
pub(super) struct Batch {
    pub(super) file: Arc<str>,
    pub(super) first_row: u64,
    pub(super) rows: RecordBatch,
    /// Names of all columns of the file, for hints.
    pub(super) fields: Arc<[String]>,
}

/// Whether a column of this name can mean something in any shape or is carried along; the others are not even decoded.
pub(super) fn is_wanted(name: &str, carry: &[String]) -> bool {
    Shape::ALL.iter().any(|shape| shape.slot(name).is_some()) || carry.iter().any(|carried| carried == name)
}

/// One column, brought to the types that are read here.
pub(super) enum Column {
    Text(StringArray),
    Number(arrow::array::Float64Array),
    Turns(Box<TurnsColumn>),
    Wrong(String),
}

pub(super) struct TurnsColumn {
    shape: Shape,
    lists: ListArray,
    /// Which messages are there at all.
    there: Option<NullBuffer>,
    role: (&'static str, StringArray),
    content: (&'static str, Contents),
}

/// What is said: strings, or lists of text parts.
enum Contents {
    Text(StringArray),
    Parts(Box<Parts>),
}

struct Parts {
    lists: ListArray,
    kind: StringArray,
    text: StringArray,
}

impl Column {
    pub(super) fn new(array: &ArrayRef, slot: Slot, shape: Shape) -> Column {
        let wrong = || Column::Wrong(array.data_type().to_string());
        match slot {
            Slot::Id => {
                let known = array.data_type().is_integer() || is_text(array.data_type());
                let ids = known.then(|| cast(array, &DataType::Utf8).ok()).flatten();
                ids.and_then(|ids| ids.as_string_opt().cloned()).map_or_else(wrong, Column::Text)
            }
            Slot::ScoreChosen | Slot::ScoreRejected => {
                let known = array.data_type().is_numeric() || array.data_type().is_null();
                let numbers = known.then(|| cast(array, &DataType::Float64).ok()).flatten();
                let numbers = numbers.and_then(|numbers| numbers.as_primitive_opt::<Float64Type>().cloned());
                numbers.map_or_else(wrong, Column::Number)
            }
            _ => match (strings(array), turns(array, shape)) {
                (Some(text), _) => Column::Text(text),
                (None, Some(turns)) => Column::Turns(Box::new(turns)),
                (None, None) => wrong(),
            },
        }
    }

    /// Whether the column's type is one of texts or turns.
    pub(super) fn check(&self, name: &str) -> std::result::Result<(), Fault> {
        match self {
            Column::Text(_) | Column::Turns(_) => Ok(()),
            Column::Number(_) => Err(wrong_type(name, "Float64")),
            Column::Wrong(found) => Err(wrong_type(name, found)),
        }
    }

    /// The column's value in a row.
    pub(super) fn said(&self, index: usize, name: &str) -> std::result::Result<Option<Said>, Fault> {
        match self {
            Column::Text(text) => Ok(text.is_valid(index).then(|| Said::Text(text.value(index).to_owned()))),
            Column::Turns(turns) if turns.lists.is_null(index) => Ok(None),
            Column::Turns(turns) => turns.get(index, name).map(|turns| Some(Said::Turns(turns))),
            Column::Number(_) | Column::Wrong(_) => self.check(name).map(|()| None),
        }
    }

    fn text(&self, index: usize, name: &str) -> std::result::Result<Option<String>, Fault> {
        match self {
            Column::Text(text) => Ok(text.is_valid(index).then(|| text.value(index).to_owned())),
            Column::Wrong(found) if found != "Null" => Err(Fault::new(
                name,
                format!("expected strings, found the type {found}"),
                "write the column as strings",
            )),
            _ => Ok(None),
        }
    }

    fn number(&self, index: usize, name: &str) -> std::result::Result<Option<f64>, Fault> {
        match self {
            Column::Number(numbers) => Ok(numbers.is_valid(index).then(|| numbers.value(index))),
            Column::Wrong(found) => Err(Fault::new(
                name,
                format!("expected numbers, found the type {found}"),
                "write scores as numbers, or leave the column out",
            )),
            _ => Ok(None),
        }
    }
}

fn wrong_type(name: &str, found: &str) -> Fault {
    Fault::new(
        name,
        format!("expected strings or lists of messages, found the type {found}"),
        "write the column as `list<struct<role: string, content: string>>`, or as strings",
    )
}

fn is_text(data_type: &DataType) -> bool {
    match data_type {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => true,
        DataType::Dictionary(_, values) => is_text(values),
        _ => false,
    }
}

/// Strings of any of Arrow's layouts as the plain one.
pub(super) fn strings(array: &ArrayRef) -> Option<StringArray> {
    if !is_text(array.data_type()) && !array.data_type().is_null() {
        return None;
    }
    if let Some(large) = array.as_string_opt::<i64>() {
        return short(large);
    }
    cast(array, &DataType::Utf8).ok()?.as_string_opt().cloned()
}

/// Strings with long offsets as those with short ones, without a copy of the text. A slice that begins behind two gigabytes
/// of other rows has short ones, too, which `cast` does not see.
fn short(large: &LargeStringArray) -> Option<StringArray> {
    let (offsets, nulls) = (large.offsets(), large.nulls().cloned());
    let (first, last) = (offsets[0], offsets[large.len()]);
    i32::try_from(last - first).ok()?;
    let offsets = OffsetBuffer::new(offsets.iter().map(|&offset| (offset - first) as i32).collect());
    let values = large.values().slice_with_length(usize::try_from(first).ok()?, usize::try_from(last - first).ok()?);
    StringArray::try_new(offsets, values, nulls).ok()
}

/// Lists of any of Arrow's layouts as the plain one.
pub(super) fn lists(array: &ArrayRef) -> Option<ListArray> {
    let (DataType::List(item)
    | DataType::LargeList(item)
    | DataType::FixedSizeList(item, _)
    | DataType::ListView(item)
    | DataType::LargeListView(item)) = array.data_type()
    else {
        return None;
    };
    let list = DataType::List(Arc::new(Field::new("item", item.data_type().clone(), true)));
    cast(array, &list).ok()?.as_list_opt().map(trimmed)
}

/// The lists with their own items alone. A slice has those of all rows, and what is cast of it would be cast for each of a
/// batch's slices anew.
fn trimmed(lists: &ListArray) -> ListArray {
    let (DataType::List(item), offsets) = (lists.data_type(), lists.offsets()) else { return lists.clone() };
    let (first, last) = (offsets[0], offsets[lists.len()]);
    let items = lists.values().slice(first.cast_unsigned() as usize, (last - first).cast_unsigned() as usize);
    let offsets = OffsetBuffer::new(offsets.iter().map(|offset| offset - first).collect());
    ListArray::new(item.clone(), offsets, items, lists.nulls().cloned())
}

fn turns(array: &ArrayRef, shape: Shape) -> Option<TurnsColumn> {
    let lists = lists(array)?;
    let messages = lists.values().as_struct_opt()?;
    let [own, other] = shape.turn_fields();
    let role = field(messages, [own.0, other.0]).and_then(|(name, array)| Some((name, strings(array)?)))?;
    let content = field(messages, [own.1, other.1]).and_then(|(name, array)| Some((name, Contents::new(array)?)))?;
    Some(TurnsColumn { shape, lists: lists.clone(), there: messages.nulls().cloned(), role, content })
}

fn field<'a>(messages: &'a StructArray, names: [&'static str; 2]) -> Option<(&'static str, &'a ArrayRef)> {
    names.into_iter().find_map(|name| Some((name, messages.column_by_name(name)?)))
}

impl Contents {
    fn new(array: &ArrayRef) -> Option<Contents> {
        if let Some(text) = strings(array) {
            return Some(Contents::Text(text));
        }
        let lists = lists(array)?;
        let parts = lists.values().as_struct_opt()?;
        let kind = strings(parts.column_by_name("type")?)?;
        let text = strings(parts.column_by_name("text")?)?;
        Some(Contents::Parts(Box::new(Parts { lists: lists.clone(), kind, text })))
    }

    fn get(&self, at: usize, place: &str) -> std::result::Result<String, Fault> {
        let null = || {
            let hint = "a message needs a role and a content; leave such rows out";
            Fault::new(place, "expected a string, found null", hint)
        };
        match self {
            Contents::Text(text) if text.is_null(at) => Err(null()),
            Contents::Text(text) => Ok(text.value(at).to_owned()),
            Contents::Parts(parts) if parts.lists.is_null(at) => Err(null()),
            Contents::Parts(parts) => {
                let Parts { lists, kind, text } = parts.as_ref();
                let range = range(lists, at);
                let first = range.start;
                let mut content = String::new();
                for part in range {
                    if kind.is_null(part) || kind.value(part) != "text" || text.is_null(part) {
                        let found = if kind.is_null(part) { "null" } else { kind.value(part) };
                        let hint = "a part has the type `text` and a text; images and other parts are not read";
                        return Err(Fault::new(
                            format!("{place}[{}].type", part - first),
                            format!("unknown part `{found}`"),
                            hint,
                        ));
                    }
                    content.push_str(text.value(part));
                }
                Ok(content)
            }
        }
    }
}

fn range(lists: &ListArray, index: usize) -> std::ops::Range<usize> {
    let offsets = lists.value_offsets();
    offsets[index].cast_unsigned() as usize..offsets[index + 1].cast_unsigned() as usize
}

impl TurnsColumn {
    fn get(&self, index: usize, name: &str) -> std::result::Result<Vec<Message>, Fault> {
        let range = range(&self.lists, index);
        let first = range.start;
        let (role_name, roles) = &self.role;
        let (content_name, contents) = &self.content;
        range
            .map(|at| {
                let place = |field: &str| format!("{name}[{}].{field}", at - first);
                if self.there.as_ref().is_some_and(|there| there.is_null(at)) {
                    let hint = "a message needs a role and a content; leave such rows out";
                    return Err(Fault::new(format!("{name}[{}]", at - first), "expected a message, found null", hint));
                }
                if roles.is_null(at) {
                    let hint = "a message needs a role and a content; leave such rows out";
                    return Err(Fault::new(place(role_name), "expected a string, found null", hint));
                }
                let role = roles.value(at);
                let role = self.shape.role(role).ok_or_else(|| {
                    Fault::new(place(role_name), format!("unknown role `{role}`"), self.shape.roles_hint())
                })?;
                Ok(Message { role, content: contents.get(at, &place(content_name))? })
            })
            .collect()
    }
}

impl Batch {
    pub(super) fn bytes(&self) -> u64 {
        self.rows.get_array_memory_size() as u64
    }

    pub(super) fn for_each_row(
        &self,
        layout: &carry::Layout,
        each: &mut dyn FnMut(std::result::Result<Row, BadRow>) -> Result<()>,
    ) -> Result<()> {
        let shape = layout.shape;
        let columns: Vec<(&str, Slot, Column)> = shape
            .columns()
            .iter()
            .filter_map(|(name, slot)| {
                let array = self.rows.column_by_name(name)?;
                Some((*name, *slot, Column::new(array, *slot, shape)))
            })
            .collect();
        for index in 0..self.rows.num_rows() {
            let line = self.first_row + index as u64;
            let row = fill(&columns, index)
                .and_then(|row| row.into_row(shape, &self.file, line))
                .and_then(|row| Ok(Row { carried: self.carried(&layout.carry, index)?, ..row }));
            each(row.map_err(|fault| fault.at(&self.file, line, self.raw(index))))?;
        }
        Ok(())
    }

    /// The values of the columns that are carried along.
    fn carried(&self, carry: &[String], index: usize) -> std::result::Result<Vec<Option<String>>, Fault> {
        let value = |name: &String| match self.rows.column_by_name(name) {
            Some(array) => Ok(carry::of_arrow(array, index)),
            None => Err(carry::absent(name, self.fields.iter().map(String::as_str))),
        };
        carry.iter().map(value).collect()
    }

    /// A bad row for `rejects/`: its columns as text.
    fn raw(&self, index: usize) -> String {
        let options = arrow::util::display::FormatOptions::default();
        let columns = self.rows.columns().iter().zip(self.rows.schema_ref().fields());
        let fields = columns.map(|(column, field)| {
            let value = arrow::util::display::ArrayFormatter::try_new(column, &options);
            let value = value.and_then(|value| value.value(index).try_to_string()).unwrap_or_default();
            format!("{}: {value}", field.name())
        });
        fields.collect::<Vec<_>>().join(", ")
    }

    pub(super) fn first_shape(&self, kind: Option<Kind>) -> Option<Shape> {
        let column = |name: &str| self.rows.column_by_name(name).filter(|column| column.null_count() < column.len());
        Shape::of(
            kind,
            |name| column(name).is_some(),
            |name| {
                let text = strings(column(name)?)?;
                (0..text.len()).find(|&index| text.is_valid(index)).map(|index| text.value(index).to_owned().into())
            },
        )
    }
}

/// The columns of one row.
fn fill(columns: &[(&str, Slot, Column)], index: usize) -> std::result::Result<Columns, Fault> {
    let mut row = Columns::default();
    for (name, slot, column) in columns {
        match slot {
            Slot::Id => row.id = column.text(index, name).ok().flatten(),
            Slot::System => row.system = column.text(index, name)?,
            Slot::Input => row.input = column.text(index, name)?,
            Slot::Turns => row.turns = column.said(index, name)?,
            Slot::Prompt => row.prompt = column.said(index, name)?,
            Slot::Chosen => row.chosen = column.said(index, name)?,
            Slot::Rejected => row.rejected = column.said(index, name)?,
            // Where the answer has two names, the one that stands first in the list counts.
            Slot::Answer if row.answer.is_none() => row.answer = column.said(index, name)?,
            Slot::Answer => {}
            Slot::ScoreChosen => row.score_chosen = column.number(index, name)?,
            Slot::ScoreRejected => row.score_rejected = column.number(index, name)?,
        }
    }
    Ok(row)
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{LargeListArray, StringViewArray};
    use arrow::buffer::{Buffer, ScalarBuffer};

    #[test]
    fn a_slice_of_lists_has_the_items_of_its_own_rows_alone() {
        let texts = Arc::new(StringViewArray::from_iter_values(["a", "b", "c", "d", "e"])) as ArrayRef;
        let item = Arc::new(Field::new("item", DataType::Utf8View, true));
        let offsets = OffsetBuffer::new(ScalarBuffer::from(vec![0i64, 1, 3, 4, 5]));
        let whole = LargeListArray::new(item, offsets, texts, None);
        let slice = lists(&(Arc::new(whole.slice(1, 2)) as ArrayRef)).unwrap();
        assert_eq!(slice.value_offsets(), [0, 2, 3]);
        let items = strings(slice.values()).unwrap();
        assert_eq!(items.iter().flatten().collect::<Vec<_>>(), ["b", "c", "d"]);
    }

    #[test]
    fn strings_behind_two_gigabytes_are_read() {
        let text = b"onetwo";
        let far = i32::MAX as usize + 4;
        let mut bytes = vec![0; far + text.len()]; // the system gives memory only where it is written
        bytes[far..].copy_from_slice(text);
        let ends = [0, far, far + 3, far + 6].map(|end| i64::try_from(end).unwrap());
        let offsets = OffsetBuffer::new(ScalarBuffer::from(ends.to_vec()));
        let large = LargeStringArray::new(offsets, Buffer::from_vec(bytes), None);
        let read = |from, rows| strings(&(Arc::new(large.slice(from, rows)) as ArrayRef));
        assert_eq!(read(1, 2).unwrap().iter().flatten().collect::<Vec<_>>(), ["one", "two"]);
        assert_eq!(read(0, 1), None);
    }
}
