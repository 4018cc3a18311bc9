//! One column of a table in memory, of texts or of chats, as [`crate::stage::deduplicate`] compares it.
//!
//! It is read as the columns of files are, with the same messages; a null is a row that has nothing to compare.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef};

use super::batch::Column;
use super::shape::{Said, Shape, Slot};
use crate::error::Result;
use crate::record::Message;

/// Rows a piece, so that threads share a table of one batch.
const PIECE: usize = 512;

/// The pieces of a column, each with the number of its first row, from 0.
pub fn pieces(column: &[ArrayRef]) -> impl Iterator<Item = (usize, ArrayRef)> + Send + '_ {
    let starts = column.iter().scan(0, |next, array| {
        let start = *next;
        *next += array.len();
        Some((start, array))
    });
    starts.flat_map(|(first, array)| {
        let slice = move |start: usize| (first + start, array.slice(start, PIECE.min(array.len() - start)));
        (0..array.len()).step_by(PIECE).map(slice)
    })
}

/// What a row says.
#[derive(Debug, PartialEq, Eq)]
pub enum Spoken<'a> {
    /// A plain text.
    Text(&'a str),
    /// A chat.
    Chat(Vec<Message>),
}

/// The rows of a piece.
pub struct Values<'a> {
    column: Column,
    name: &'a str,
    file: &'a Arc<str>,
    first: usize,
}

impl<'a> Values<'a> {
    /// The rows of a piece of the column `name`, of which the first has the number `first`; in errors `file` stands for the
    /// table.
    pub fn new(piece: &ArrayRef, name: &'a str, file: &'a Arc<str>, first: usize) -> Values<'a> {
        Values { column: Column::new(piece, Slot::Turns, Shape::Messages), name, file, first }
    }

    /// Whether the column has a type that is read.
    ///
    /// # Errors
    /// It holds neither texts nor chats.
    pub fn check(&self) -> Result<()> {
        self.column.check(self.name).map_err(|fault| fault.at(self.file, self.first as u64 + 1, String::new()).error)
    }

    /// What the row says that stands at `index` in the piece; `None` for a null.
    ///
    /// # Errors
    /// A message lacks its role or its content, the role is unknown, or the column holds neither texts nor chats.
    pub fn get(&self, index: usize) -> Result<Option<Spoken<'_>>> {
        if let Column::Text(texts) = &self.column {
            return Ok(texts.is_valid(index).then(|| Spoken::Text(texts.value(index))));
        }
        match self.column.said(index, self.name) {
            Ok(Some(Said::Turns(turns))) => Ok(Some(Spoken::Chat(turns))),
            Ok(_) => Ok(None),
            Err(fault) => Err(fault.at(self.file, (self.first + index) as u64 + 1, String::new()).error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Int64Array, StringViewArray};

    #[test]
    fn pieces_are_numbered_through_all_batches() {
        let texts = |count: usize| Arc::new(StringViewArray::from_iter_values(vec!["a"; count])) as ArrayRef;
        let column = [texts(PIECE + 1), texts(0), texts(2)];
        let found: Vec<_> = pieces(&column).map(|(first, piece)| (first, piece.len())).collect();
        assert_eq!(found, [(0, PIECE), (PIECE, 1), (PIECE + 1, 2)]);
    }

    #[test]
    fn what_is_neither_text_nor_chat_is_named() {
        let (numbers, file) = (Arc::new(Int64Array::from(vec![1])) as ArrayRef, Arc::from("frame"));
        let values = Values::new(&numbers, "n", &file, 6);
        let expected = "expected strings or lists of messages, found the type Int64 at frame:7, field: `n`\n\
             hint: write the column as `list<struct<role: string, content: string>>`, or as strings";
        assert_eq!(values.check().unwrap_err().to_string(), expected);
        assert_eq!(values.get(0).unwrap_err().to_string(), expected);
    }
}
