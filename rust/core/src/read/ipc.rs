//! Arrow IPC: the file format and the stream format, told apart by the file's first bytes.
//!
//! `datasets` writes streams into its `.arrow` files, polars and pandas write the file format into theirs (also named
//! `.feather` and `.ipc`). Batches are cut into pieces, so that threads share a file that was written as one batch.

use std::fs::File;
use std::io::{BufReader, Cursor, Read, Seek};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::ipc::reader::{FileReader, StreamReader};

use super::batch::Batch;
use super::codec::{self, Codec};
use super::guard::{each_guarded, guarded};
use super::ipc_lengths::{self, Fitting};
use super::{InputFile, Position, Rows, Stretches};
use crate::error::{Error, Result};

/// Rows a piece: about a megabyte of chats.
const PIECE: usize = 512;
/// What a file, other than a stream, begins with.
const MAGIC: &[u8] = b"ARROW1";

type Batches = Box<dyn Iterator<Item = std::result::Result<RecordBatch, String>> + Send>;
/// The names of a file's columns and its batches, or what Arrow has to say against the file.
type Opened = std::result::Result<(Arc<[String]>, Batches), String>;

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
    let batches = (0..rows.len()).map(move |number| rows[number].project(&columns).map_err(|error| error.to_string()));
    pieces(file, fields, Box::new(batches))
}

fn damaged(name: &str, error: &str) -> Error {
    Error::Format {
        path: name.to_string(),
        message: format!("not an Arrow file that can be read: {error}"),
        hint: "fetch or write the file again".into(),
    }
}

fn pieces(file: &InputFile, fields: Arc<[String]>, batches: Batches) -> Stretches {
    let (name, mut first_row) = (file.name.clone(), 1);
    // One after the other, not all at once: a column of nulls has no bytes, so nothing bounds the rows that it claims.
    Box::new(batches.flat_map(move |batch| -> Stretches {
        let batch = match batch {
            Ok(batch) => batch,
            Err(error) => return Box::new(std::iter::once(Err(damaged(&name, &error)))),
        };
        let (file, fields, first) = (name.clone(), fields.clone(), first_row);
        first_row += batch.num_rows() as u64;
        Box::new((0..batch.num_rows()).step_by(PIECE).map(move |start| {
            let rows = batch.slice(start, PIECE.min(batch.num_rows() - start));
            let first_row = first + start as u64;
            Ok(Rows::Batch(Batch { file: file.clone(), first_row, rows, fields: fields.clone() }))
        }))
    }))
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
        // A pipe has no length.
        let length = opened.metadata().ok().filter(std::fs::Metadata::is_file).map_or(u64::MAX, |found| found.len());
        drop(opened);
        return Ok(of_stream(codec::open(file, position)?, length, file));
    }
    // The file format is read from its end, which a compressed stream cannot do: unpack it first.
    let bytes = codec::unpack(file, position)?;
    let length = bytes.len() as u64;
    let bytes = Cursor::new(bytes);
    Ok(if bytes.get_ref().starts_with(MAGIC) { of_file(bytes, file) } else { of_stream(bytes, length, file) })
}

fn of_file(mut source: impl Read + Seek + Send + 'static, file: &InputFile) -> Opened {
    ipc_lengths::check_file(&mut source)?;
    let reader = guarded(|| FileReader::try_new(source, None))?;
    let (fields, columns) = columns(&reader.schema(), file);
    Ok((fields, Box::new(each_guarded(reader.map(move |batch| batch?.project(&columns))))))
}

fn of_stream(source: impl Read + Send + 'static, length: u64, file: &InputFile) -> Opened {
    let reader = guarded(|| StreamReader::try_new(Fitting::new(source, length), None))?;
    let (fields, columns) = columns(&reader.schema(), file);
    Ok((fields, Box::new(each_guarded(reader.map(move |batch| batch?.project(&columns))))))
}

/// The names of all columns, and which of them can mean something or are carried along.
fn columns(schema: &SchemaRef, file: &InputFile) -> (Arc<[String]>, Vec<usize>) {
    let fields = schema.fields().iter().enumerate();
    let wanted = fields.filter(|(_, field)| file.wants(field.name())).map(|(index, _)| index).collect();
    (schema.fields().iter().map(|field| field.name().clone()).collect(), wanted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{ArrayRef, NullArray, StringArray};
    use arrow::ipc::writer::{FileWriter, StreamWriter};

    #[test]
    fn rows_without_bytes_take_no_memory() {
        // A trillion nulls are a few hundred bytes of file.
        let nulls = Arc::new(NullArray::new(1 << 40)) as ArrayRef;
        let batch = RecordBatch::try_from_iter_with_nullable([("text", nulls, true)]).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.arrow");
        let mut writer = StreamWriter::try_new(File::create(&path).unwrap(), &batch.schema()).unwrap();
        writer.write(&batch).unwrap();
        writer.finish().unwrap();
        let pieces = open(&InputFile::new(&path).unwrap(), &Position::default()).unwrap();
        let first_rows = pieces.take(3).map(|piece| match piece.unwrap() {
            Rows::Batch(batch) => batch.first_row,
            _ => 0,
        });
        assert_eq!(first_rows.collect::<Vec<_>>(), [1, 513, 1025]);
    }

    #[test]
    fn no_damaged_byte_is_a_panic() {
        let text = Arc::new(StringArray::from(vec!["one", "two"])) as ArrayRef;
        let batch = RecordBatch::try_from_iter([("text", text)]).unwrap();
        let mut stream = StreamWriter::try_new(Vec::new(), &batch.schema()).unwrap();
        stream.write(&batch).unwrap();
        let mut whole = FileWriter::try_new(Vec::new(), &batch.schema()).unwrap();
        whole.write(&batch).unwrap();
        let file = InputFile::new("a.arrow".as_ref()).unwrap();
        let mut panics = [0, 0];
        for (kind, bytes) in [stream.into_inner().unwrap(), whole.into_inner().unwrap()].into_iter().enumerate() {
            for (at, put) in (0..bytes.len()).flat_map(|at| [0, 3, 0x7F, 0xFF].map(|put| (at, put))) {
                let mut damaged = bytes.clone();
                damaged[at] = put;
                let (length, source) = (damaged.len() as u64, Cursor::new(damaged));
                let opened = if kind == 0 { of_stream(source, length, &file) } else { of_file(source, &file) };
                let found = opened.and_then(|(_, batches)| batches.collect::<std::result::Result<Vec<_>, _>>());
                panics[kind] += usize::from(found.is_err_and(|error| error.starts_with("the decoder stopped")));
            }
        }
        assert!(panics[0] > 0 && panics[1] > 0, "no damage trips Arrow any more: {panics:?}");
    }
}
