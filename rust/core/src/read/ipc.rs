//! Arrow IPC: the file format and the stream format, told apart by the file's first bytes.
//!
//! `datasets` writes streams into its `.arrow` files, polars and pandas write the file format into theirs (also named
//! `.feather` and `.ipc`). Batches are cut into pieces, so that threads share a file that was written as one batch.

use std::fs::File;
use std::io::{BufReader, Cursor, Read, Seek};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use arrow::ipc::reader::{FileReader, StreamReader};

use super::batch::Batch;
use super::codec::{self, Codec};
use super::{InputFile, Position, Rows, Stretches};
use crate::error::{Error, Result};

/// Rows a piece: about a megabyte of chats.
const PIECE: usize = 512;
/// What a file, other than a stream, begins with.
const MAGIC: &[u8] = b"ARROW1";

type Batches = Box<dyn Iterator<Item = std::result::Result<RecordBatch, ArrowError>> + Send>;
/// The names of a file's columns and its batches, or what Arrow has to say against the file.
type Opened = std::result::Result<(Arc<[String]>, Batches), ArrowError>;

/// The pieces of an Arrow file.
pub(super) fn open(file: &InputFile, position: &Position) -> Result<Stretches> {
    let (fields, batches) = batches(file, position)?.map_err(|error| damaged(&file.name, &error))?;
    Ok(pieces(file, fields, batches))
}

/// The pieces of batches in memory.
pub(super) fn of_memory(file: &InputFile, rows: &Arc<[RecordBatch]>) -> Stretches {
    let (fields, columns) = rows.first().map(|batch| columns(batch.schema_ref(), file)).unzip();
    let (fields, columns) = (fields.unwrap_or_default(), columns.unwrap_or_default());
    let rows = rows.clone();
    let batches = (0..rows.len()).map(move |number| rows[number].project(&columns));
    pieces(file, fields, Box::new(batches))
}

fn damaged(name: &str, error: &ArrowError) -> Error {
    Error::Format {
        path: name.to_string(),
        message: format!("not an Arrow file that can be read: {error}"),
        hint: "fetch or write the file again".into(),
    }
}

fn pieces(file: &InputFile, fields: Arc<[String]>, batches: Batches) -> Stretches {
    let (name, mut first_row) = (file.name.clone(), 1);
    let pieces = batches.flat_map(move |batch| {
        let pieces: Vec<Result<Rows>> = match batch {
            Err(error) => vec![Err(damaged(&name, &error))],
            Ok(batch) => (0..batch.num_rows())
                .step_by(PIECE)
                .map(|start| {
                    let rows = batch.slice(start, PIECE.min(batch.num_rows() - start));
                    let piece = Batch { file: name.clone(), first_row, rows, fields: fields.clone() };
                    first_row += piece.rows.num_rows() as u64;
                    Ok(Rows::Batch(piece))
                })
                .collect(),
        };
        pieces
    });
    Box::new(pieces)
}

/// An error of the system or of the compression ends the run.
fn batches(file: &InputFile, position: &Position) -> Result<Opened> {
    if file.codec == Codec::Plain {
        let mut opened = File::open(file.path()).map_err(Error::io("read", file.path()))?;
        let mut start = Vec::new();
        let read = (&mut opened).take(MAGIC.len() as u64).read_to_end(&mut start);
        read.and_then(|_| opened.rewind()).map_err(Error::io("read", file.path()))?;
        if start == MAGIC {
            let bytes = opened.metadata().map_or(0, |metadata| metadata.len());
            // Read here and there: the position is told at the end, which is near enough for a bar.
            let position = position.clone();
            let end = std::iter::once_with(move || position.add(bytes)).filter_map(|()| None);
            let opened = of_file(BufReader::new(opened), file);
            return Ok(opened.map(|(fields, batches)| (fields, Box::new(batches.chain(end)) as Batches)));
        }
        drop(opened);
        return Ok(of_stream(codec::open(file, position)?, file));
    }
    // The file format is read from its end, which a compressed stream cannot do: unpack it first.
    let bytes = codec::unpack(file, position)?;
    Ok(if bytes.starts_with(MAGIC) { of_file(Cursor::new(bytes), file) } else { of_stream(Cursor::new(bytes), file) })
}

fn of_file(source: impl Read + Seek + Send + 'static, file: &InputFile) -> Opened {
    let reader = FileReader::try_new(source, None)?;
    let (fields, columns) = columns(&reader.schema(), file);
    Ok((fields, Box::new(reader.map(move |batch| batch?.project(&columns)))))
}

fn of_stream(source: impl Read + Send + 'static, file: &InputFile) -> Opened {
    let reader = StreamReader::try_new(source, None)?;
    let (fields, columns) = columns(&reader.schema(), file);
    Ok((fields, Box::new(reader.map(move |batch| batch?.project(&columns)))))
}

/// The names of all columns, and which of them can mean something or are carried along.
fn columns(schema: &SchemaRef, file: &InputFile) -> (Arc<[String]>, Vec<usize>) {
    let fields = schema.fields().iter().enumerate();
    let wanted = fields.filter(|(_, field)| file.wants(field.name())).map(|(index, _)| index).collect();
    (schema.fields().iter().map(|field| field.name().clone()).collect(), wanted)
}
