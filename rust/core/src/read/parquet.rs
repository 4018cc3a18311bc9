//! Parquet: rows in batches, the few columns that mean something.

use std::fs::File;
use std::io::Read;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, ListArray, RecordBatch, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Float64Type};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::file::reader::ChunkReader;

use super::codec::{self, Codec};
use super::shape::{Columns, Fault, Said, kind_of};
use super::{BadRow, Chunk, InputFile, Position};
use crate::error::{Error, Result};
use crate::record::{Kind, Message, Role, Row};

/// Rows a batch: about a megabyte of chats.
const BATCH: usize = 512;
const WANTED: [&str; 7] = ["id", "messages", "prompt", "chosen", "rejected", "score_chosen", "score_rejected"];

/// Rows of a file.
pub struct Batch {
    file: Arc<str>,
    first_row: u64,
    rows: RecordBatch,
}

/// The batches of a Parquet file.
pub(super) fn open(file: &InputFile, position: &Position) -> Result<Box<dyn Iterator<Item = Result<Chunk>> + Send>> {
    if file.codec == Codec::Plain {
        let opened = File::open(file.path()).map_err(Error::io("read", file.path()))?;
        let bytes = opened.metadata().map_or(0, |metadata| metadata.len());
        // Read here and there: the position is told at the end, which is near enough for a bar.
        let position = position.clone();
        let end = std::iter::once_with(move || position.add(bytes)).filter_map(|()| None);
        return Ok(Box::new(batches(file, opened)?.chain(end)));
    }
    // Parquet is read from its end, which a compressed stream cannot do: unpack it first.
    let mut bytes = Vec::new();
    codec::open(file, position)?.read_to_end(&mut bytes).map_err(|source| codec::read_error(file, source))?;
    batches(file, bytes::Bytes::from(bytes))
}

fn batches(
    file: &InputFile,
    reader: impl ChunkReader + 'static,
) -> Result<Box<dyn Iterator<Item = Result<Chunk>> + Send>> {
    let damaged = {
        let name = file.name.clone();
        move |error: &dyn std::fmt::Display| Error::Format {
            path: name.to_string(),
            message: format!("not a Parquet file that can be read: {error}"),
            hint: "fetch or write the file again".into(),
        }
    };
    let builder = ParquetRecordBatchReaderBuilder::try_new(reader).map_err(|error| damaged(&error))?;
    let schema = builder.schema().clone();
    let roots = schema.fields().iter().enumerate().filter(|(_, field)| WANTED.contains(&field.name().as_str()));
    let mask = ProjectionMask::roots(builder.parquet_schema(), roots.map(|(index, _)| index));
    let reader = builder.with_projection(mask).with_batch_size(BATCH).build().map_err(|error| damaged(&error))?;
    let (name, mut first_row) = (file.name.clone(), 1);
    Ok(Box::new(reader.map(move |batch| {
        let batch = batch.map_err(|error| damaged(&error))?;
        let rows = batch.num_rows() as u64;
        let batch = Batch { file: name.clone(), first_row, rows: batch };
        first_row += rows;
        Ok(Chunk::Batch(batch))
    })))
}

/// One column, brought to the types that are read here.
enum Column {
    Missing,
    Text(StringArray),
    Turns(Box<TurnsColumn>),
    Wrong(String),
}

struct TurnsColumn {
    lists: ListArray,
    role: StringArray,
    content: StringArray,
}

fn column(batch: &RecordBatch, name: &str) -> Column {
    let Some(array) = batch.column_by_name(name) else { return Column::Missing };
    let wrong = || Column::Wrong(array.data_type().to_string());
    if let Some(text) = strings(array) {
        return Column::Text(text);
    }
    turns(array).map_or_else(wrong, |turns| Column::Turns(Box::new(turns)))
}

/// Strings of any of Arrow's layouts as the plain one.
fn strings(array: &ArrayRef) -> Option<StringArray> {
    let is_text = |data_type: &DataType| matches!(data_type, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View);
    let text = match array.data_type() {
        DataType::Dictionary(_, values) => is_text(values),
        data_type => is_text(data_type),
    };
    if !text {
        return None;
    }
    cast(array, &DataType::Utf8).ok()?.as_string_opt().cloned()
}

fn turns(array: &ArrayRef) -> Option<TurnsColumn> {
    let (DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _)) = array.data_type()
    else {
        return None;
    };
    let list = DataType::List(Arc::new(Field::new("item", item.data_type().clone(), true)));
    let lists: ListArray = cast(array, &list).ok()?.as_list_opt()?.clone();
    let messages = lists.values().as_struct_opt()?;
    let role = strings(messages.column_by_name("role")?)?;
    let content = strings(messages.column_by_name("content")?)?;
    Some(TurnsColumn { lists: lists.clone(), role, content })
}

impl TurnsColumn {
    fn get(&self, index: usize, name: &str) -> std::result::Result<Vec<Message>, Fault> {
        let offsets = self.lists.value_offsets();
        let range = offsets[index].cast_unsigned() as usize..offsets[index + 1].cast_unsigned() as usize;
        let first = range.start;
        range
            .map(|at| {
                let place = || format!("{name}[{}]", at - first);
                if self.role.is_null(at) || self.content.is_null(at) {
                    let field = if self.role.is_null(at) { "role" } else { "content" };
                    let hint = "a message needs a role and a content; leave such rows out";
                    return Err(Fault::new(format!("{}.{field}", place()), "expected a string, found null", hint));
                }
                let role = self.role.value(at);
                let role = Role::parse(role).ok_or_else(|| {
                    let hint = "the roles are `system`, `user` and `assistant`; rename the role or leave such rows out";
                    Fault::new(format!("{}.role", place()), format!("unknown role `{role}`"), hint)
                })?;
                Ok(Message::new(role, self.content.value(at)))
            })
            .collect()
    }
}

impl Column {
    fn said(&self, index: usize, name: &str) -> std::result::Result<Option<Said>, Fault> {
        match self {
            Column::Missing => Ok(None),
            Column::Text(text) => Ok(text.is_valid(index).then(|| Said::Text(text.value(index).to_owned()))),
            Column::Turns(turns) if turns.lists.is_null(index) => Ok(None),
            Column::Turns(turns) => turns.get(index, name).map(|turns| Some(Said::Turns(turns))),
            Column::Wrong(found) => Err(Fault::new(
                name,
                format!("expected strings or lists of messages, found the type {found}"),
                "write the column as `list<struct<role: string, content: string>>`, or as strings",
            )),
        }
    }
}

impl Batch {
    pub(super) fn bytes(&self) -> u64 {
        self.rows.get_array_memory_size() as u64
    }

    pub(super) fn for_each_row(
        &self,
        kind: Kind,
        each: &mut dyn FnMut(std::result::Result<Row, BadRow>) -> Result<()>,
    ) -> Result<()> {
        let id = self.rows.column_by_name("id").and_then(|ids| {
            let known = ids.data_type().is_integer() || strings(ids).is_some();
            known.then(|| cast(ids, &DataType::Utf8).ok()).flatten()
        });
        let score = |name| cast(self.rows.column_by_name(name)?, &DataType::Float64).ok();
        let scores = ["score_chosen", "score_rejected"].map(score);
        let columns = ["messages", "prompt", "chosen", "rejected"].map(|name| column(&self.rows, name));
        for index in 0..self.rows.num_rows() {
            let line = self.first_row + index as u64;
            let row = || {
                let [messages, prompt, chosen, rejected] = &columns;
                let score = |at: usize| {
                    let column = scores[at].as_ref()?.as_primitive_opt::<Float64Type>()?;
                    column.is_valid(index).then(|| column.value(index))
                };
                let mut row = Columns {
                    id: id
                        .as_ref()
                        .filter(|ids| ids.is_valid(index))
                        .map(|ids| ids.as_string::<i32>().value(index).to_owned()),
                    score_chosen: score(0),
                    score_rejected: score(1),
                    ..Columns::default()
                };
                match kind {
                    Kind::Chat => {
                        row.messages = match messages.said(index, "messages")? {
                            Some(Said::Turns(turns)) => Some(turns),
                            Some(Said::Text(_)) => {
                                let message = "expected a list of messages, found a string";
                                return Err(Fault::new("messages", message, super::shape::KNOWN));
                            }
                            None => None,
                        };
                    }
                    Kind::Preference => {
                        row.prompt = prompt.said(index, "prompt")?;
                        row.chosen = chosen.said(index, "chosen")?;
                        row.rejected = rejected.said(index, "rejected")?;
                    }
                }
                row.into_row(kind, &self.file, line)
            };
            each(row().map_err(|fault| fault.at(&self.file, line, self.raw(index))))?;
        }
        Ok(())
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

    pub(super) fn first_kind(&self) -> Option<Kind> {
        let has = |name: &str, batch: &RecordBatch| {
            batch.column_by_name(name).is_some_and(|column| column.null_count() < column.len())
        };
        kind_of(has, &self.rows)
    }
}
