//! Tables of tokens that somebody hands in, checked and read row by row.

use std::ops::Range;

use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray, ListArray, PrimitiveArray, RecordBatch, StringArray};
use arrow::compute::CastOptions;
use arrow::compute::cast_with_options;
use arrow::datatypes::{DataType, Field, Float64Type, Int8Type, Int32Type, Schema, UInt32Type};

use super::encode::{Document, Pair};
use crate::error::{Error, Result};
use crate::record::Kind;

/// A batch with the columns that `encode` gives.
pub(super) struct EncodedRows<'a> {
    name: &'a str,
    first_row: u64,
    lists: Vec<(&'static str, ListArray)>,
    id: Option<StringArray>,
    lost: Option<PrimitiveArray<UInt32Type>>,
    scores: [Option<PrimitiveArray<Float64Type>>; 2],
}

const CHAT: [&str; 2] = ["input_ids", "assistant_masks"];
const PAIR: [&str; 3] = ["prompt_ids", "chosen_ids", "rejected_ids"];
const HINT: &str = "give what `encode` gives: `input_ids` and `assistant_masks` of chats, or `prompt_ids`, `chosen_ids` and \
     `rejected_ids` of pairs";

impl<'a> EncodedRows<'a> {
    /// What the columns are those of.
    pub(super) fn kind(name: &str, columns: &Schema) -> Result<Kind> {
        let has = |names: &[&str]| names.iter().all(|name| columns.column_with_name(name).is_some());
        if has(&CHAT) {
            return Ok(Kind::Chat);
        }
        if has(&PAIR) {
            return Ok(Kind::Preference);
        }
        Err(Error::Format {
            path: name.to_string(),
            message: "it has not the columns of encoded chats or pairs".into(),
            hint: HINT.into(),
        })
    }

    /// The batch, whose first row has this number; columns of other integers are converted.
    pub(super) fn new(name: &'a str, first_row: u64, batch: &RecordBatch, kind: Kind) -> Result<Self> {
        let names: &[&'static str] = if kind == Kind::Chat { &CHAT } else { &PAIR };
        let lists = names.iter().map(|&column| {
            let item = if column == "assistant_masks" { DataType::Int8 } else { DataType::Int32 };
            let wanted = DataType::List(Field::new("item", item, true).into());
            let list = column_of(name, batch, column, &wanted)?.and_then(|array| array.as_list_opt().cloned());
            list.map(|list| (column, list)).ok_or_else(|| mistyped(name, column, &wanted, "nothing"))
        });
        let scores = ["score_chosen", "score_rejected"].map(|column| {
            let array = column_of(name, batch, column, &DataType::Float64)?;
            Ok(array.and_then(|array| array.as_primitive_opt().cloned()))
        });
        let [chosen, rejected] = scores;
        Ok(EncodedRows {
            name,
            first_row,
            lists: lists.collect::<Result<_>>()?,
            id: column_of(name, batch, "id", &DataType::Utf8)?.and_then(|array| array.as_string_opt().cloned()),
            lost: column_of(name, batch, "lost_answers", &DataType::UInt32)?
                .and_then(|array| array.as_primitive_opt().cloned()),
            scores: [chosen?, rejected?],
        })
    }

    /// The row's id, else its place.
    pub(super) fn id(&self, index: usize) -> String {
        let id = self.id.as_ref().filter(|ids| ids.is_valid(index)).map(|ids| ids.value(index).to_string());
        id.unwrap_or_else(|| format!("{}:{}", self.name, self.first_row + index as u64))
    }

    /// The row as a chat's tokens.
    pub(super) fn document(&self, index: usize) -> Result<Document> {
        let mask: Vec<u8> = self.values::<Int8Type>(1, index)?.iter().map(|bit| bit.cast_unsigned()).collect();
        let ids = self.ids(0, index)?;
        if ids.len() != mask.len() {
            let message = format!("`input_ids` has {} items, `assistant_masks` {}", ids.len(), mask.len());
            return Err(self.fault(index, "assistant_masks", message, "the mask has one item for each token"));
        }
        if let Some(bit) = mask.iter().find(|bit| **bit > 1) {
            let message = format!("expected 0 or 1, found: {}", bit.cast_signed());
            return Err(self.fault(index, "assistant_masks", message, "1 is where a token carries the loss"));
        }
        let lost = self.lost.as_ref().filter(|lost| lost.is_valid(index)).map_or(0, |lost| lost.value(index));
        Ok(Document { ids, mask, lost: lost as usize })
    }

    /// The row as a preference's tokens.
    pub(super) fn pair(&self, index: usize) -> Result<Pair> {
        Ok(Pair { prompt: self.ids(0, index)?, chosen: self.ids(1, index)?, rejected: self.ids(2, index)? })
    }

    /// The row's scores, where it has some.
    pub(super) fn scores(&self, index: usize) -> [Option<f64>; 2] {
        self.scores
            .each_ref()
            .map(|scores| scores.as_ref().filter(|scores| scores.is_valid(index)).map(|scores| scores.value(index)))
    }

    fn ids(&self, list: usize, index: usize) -> Result<Vec<u32>> {
        let ids = self.values::<Int32Type>(list, index)?;
        if let Some(id) = ids.iter().find(|id| **id < 0) {
            return Err(self.fault(index, self.lists[list].0, format!("expected an id, found: {id}"), HINT));
        }
        Ok(ids.iter().map(|id| id.cast_unsigned()).collect())
    }

    fn values<T: ArrowPrimitiveType>(&self, list: usize, index: usize) -> Result<&[T::Native]> {
        let (column, lists) = &self.lists[list];
        let offsets = lists.value_offsets();
        let range: Range<usize> = offsets[index].cast_unsigned() as usize..offsets[index + 1].cast_unsigned() as usize;
        let values = lists.values().as_primitive::<T>();
        let null = lists.is_null(index) || (values.null_count() > 0 && range.clone().any(|at| values.is_null(at)));
        if null {
            return Err(self.fault(index, column, "expected a list of numbers, found a null", "leave such rows out"));
        }
        Ok(&values.values()[range])
    }

    fn fault(&self, index: usize, field: &str, message: impl Into<String>, hint: &str) -> Error {
        Error::Row {
            path: self.name.to_string(),
            line: self.first_row + index as u64,
            field: field.to_string(),
            message: message.into(),
            hint: hint.to_string(),
        }
    }
}

/// A column in the wanted type, if there is one of that name.
fn column_of(name: &str, batch: &RecordBatch, column: &str, wanted: &DataType) -> Result<Option<ArrayRef>> {
    let Some(array) = batch.column_by_name(column) else { return Ok(None) };
    // Not safe: a number that does not fit would become a null.
    let options = CastOptions { safe: false, ..CastOptions::default() };
    let is_kin = match wanted {
        DataType::Utf8 => !array.data_type().is_nested(),
        DataType::List(_) => matches!(
            array.data_type(),
            DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _)
                if item.data_type().is_integer()
        ),
        _ => array.data_type().is_numeric() || array.data_type().is_null(),
    };
    let cast = is_kin.then(|| cast_with_options(array, wanted, &options));
    match cast {
        Some(Ok(array)) => Ok(Some(array)),
        Some(Err(error)) => Err(mistyped(name, column, wanted, &error.to_string())),
        None => Err(mistyped(name, column, wanted, &array.data_type().to_string())),
    }
}

fn mistyped(name: &str, column: &str, wanted: &DataType, found: &str) -> Error {
    Error::Format {
        path: name.to_string(),
        message: format!("column `{column}` must be of the type {wanted}, found: {found}"),
        hint: HINT.into(),
    }
}
