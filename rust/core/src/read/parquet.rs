//! Parquet: rows in batches, decoded column by column.

use std::fs::File;
use std::sync::Arc;

use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::file::reader::ChunkReader;

use super::batch::Batch;
use super::codec::{self, Codec};
use super::guard::{each_guarded, guarded};
use super::{InputFile, Position, Rows, Stretches};
use crate::error::{Error, Result};

/// Rows a batch: about a megabyte of chats.
const BATCH: usize = 512;

/// The batches of a Parquet file.
pub(super) fn open(file: &InputFile, position: &Position) -> Result<Stretches> {
    if file.codec == Codec::Plain {
        let opened = File::open(file.path()).map_err(Error::io("read", file.path()))?;
        let bytes = opened.metadata().map_or(0, |metadata| metadata.len());
        // Read here and there: the position is told at the end, which is near enough for a bar.
        let position = position.clone();
        let end = std::iter::once_with(move || position.add(bytes)).filter_map(|()| None);
        return Ok(Box::new(batches(file, opened)?.chain(end)));
    }
    // Parquet is read from its end, which a compressed stream cannot do: unpack it first.
    batches(file, bytes::Bytes::from(codec::unpack(file, position)?))
}

fn batches(file: &InputFile, reader: impl ChunkReader + 'static) -> Result<Stretches> {
    let damaged = {
        let name = file.name.clone();
        move |error: String| Error::Format {
            path: name.to_string(),
            message: format!("not a Parquet file that can be read: {error}"),
            hint: "fetch or write the file again".into(),
        }
    };
    let builder = guarded(|| ParquetRecordBatchReaderBuilder::try_new(reader)).map_err(&damaged)?;
    let schema = builder.schema().clone();
    let fields: Arc<[String]> = schema.fields().iter().map(|field| field.name().clone()).collect();
    let roots = schema.fields().iter().enumerate().filter(|(_, field)| file.wants(field.name()));
    let mask = ProjectionMask::roots(builder.parquet_schema(), roots.map(|(index, _)| index));
    let builder = builder.with_projection(mask).with_batch_size(BATCH);
    let reader = guarded(|| builder.build()).map_err(&damaged)?;
    let (name, mut first_row) = (file.name.clone(), 1);
    Ok(Box::new(each_guarded(reader).map(move |batch| {
        let batch = batch.map_err(&damaged)?;
        let rows = batch.num_rows() as u64;
        let batch = Batch { file: name.clone(), first_row, rows: batch, fields: fields.clone() };
        first_row += rows;
        Ok(Rows::Batch(batch))
    })))
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{ArrayRef, RecordBatch, StringArray};
    use parquet::arrow::ArrowWriter;

    #[test]
    fn no_damaged_byte_is_a_panic() {
        let text = Arc::new(StringArray::from(vec!["one", "two"])) as ArrayRef;
        let batch = RecordBatch::try_from_iter([("text", text)]).unwrap();
        let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), None).unwrap();
        writer.write(&batch).unwrap();
        let bytes = writer.into_inner().unwrap();
        let file = InputFile::new("a.parquet".as_ref()).unwrap();
        let mut panics = 0;
        for (at, put) in (0..bytes.len()).flat_map(|at| [0, 3, 0x7F, 0xFF].map(|put| (at, put))) {
            let mut damaged = bytes.clone();
            damaged[at] = put;
            let found = batches(&file, bytes::Bytes::from(damaged)).and_then(Iterator::collect::<Result<Vec<_>>>);
            panics += usize::from(found.is_err_and(|error| error.to_string().contains("the decoder stopped")));
        }
        assert!(panics > 0, "no damage trips the crate any more");
    }
}
