//! The files of `DIR/packed`.

use std::borrow::Borrow;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanBuilder, Float64Builder, Int32Builder, Int64Builder, ListBuilder, RecordBatch, StringBuilder,
};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use serde_json::{Value, json};

use super::encode::{Document, Pair};
use super::fit::Encoded;
use super::pack::PackOptions;
use super::spill::{Origin, Spill, Spilled};
use super::{below, ordered};
use crate::error::{Error, Result};
use crate::manifest::{FileEntry, Manifest, fingerprint};
use crate::pack::best_fit_decreasing;
use crate::schema::{self, CarriedBuilder};
use crate::shard::{Framing, PartWriter};

/// The sides of the split, as folders and in the column `split`.
pub(super) const SIDES: [&str; 2] = ["train", "test"];
/// The label of a token that carries no loss, in torch's cross entropy.
const IGNORED: i32 = -100;
/// Packed rows a batch: a few megabytes at the usual length.
pub(super) const BATCH: usize = 256;
/// Bytes of texts in a batch of the index, after which another one begins. A column of texts holds two gigabytes, and 256 packed
/// rows may hold any number of documents that carry texts of any length.
const PLACES_BYTES: usize = 1 << 28;

/// Lists of token ids into a column.
pub(super) struct Ids(ListBuilder<Int32Builder>);

impl Ids {
    pub(super) fn new() -> Self {
        Ids(ListBuilder::new(Int32Builder::new()))
    }

    pub(super) fn push(&mut self, ids: impl Iterator<Item = i32>) {
        self.0.values().extend(ids.map(Some));
        self.0.append(true);
    }

    pub(super) fn finish(&mut self) -> ArrayRef {
        Arc::new(self.0.finish())
    }
}

/// Nullable, though nothing is null: `datasets` has no other columns, and casts those that differ.
pub(super) fn ids_field(name: &str) -> Field {
    Field::new(name, DataType::List(Arc::new(Field::new("item", DataType::Int32, true))), true)
}

/// Columns of `packed/train` and `packed/test` for chats.
pub(super) fn rows_schema() -> SchemaRef {
    Arc::new(Schema::new(["input_ids", "labels", "seq_lengths"].map(ids_field).to_vec()))
}

/// Columns of `packed/index/*.arrow`: which document lies where in which row.
pub(super) fn index_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("row", DataType::Int64, false),
        Field::new("start", DataType::Int32, false),
        Field::new("length", DataType::Int32, false),
        Field::new("id", DataType::Utf8, false),
        Field::new("truncated", DataType::Boolean, false),
    ]))
}

/// Columns of `packed/train` and `packed/test` for preferences.
pub(super) fn pairs_schema() -> SchemaRef {
    let mut fields = ["prompt_ids", "chosen_ids", "rejected_ids"].map(ids_field).to_vec();
    fields.push(Field::new("id", DataType::Utf8, true));
    fields.extend(["score_chosen", "score_rejected"].map(|name| Field::new(name, DataType::Float64, true)));
    Arc::new(Schema::new(fields))
}

/// Chats on their way into packed rows.
pub(super) struct Chats {
    spills: [Spill; 2],
    truncated: [u64; 2],
    supervised: [u64; 2],
    carry: Vec<String>,
}

impl Chats {
    pub(super) fn create(folder: &Path, carry: &[String]) -> Result<Self> {
        let spill = |side: &str| Spill::create(&folder.join(format!(".{side}.spill")));
        let spills = [spill(SIDES[0])?, spill(SIDES[1])?];
        Ok(Chats { spills, truncated: [0; 2], supervised: [0; 2], carry: carry.to_vec() })
    }

    pub(super) fn push(&mut self, encoded: &[(usize, Encoded)]) -> Result<()> {
        for (side, encoded) in encoded {
            let Encoded::Documents(documents) = encoded else { continue };
            let side = *side;
            for (document, origin) in documents {
                self.truncated[side] += u64::from(origin.truncated);
                self.supervised[side] += document.mask.iter().map(|&bit| u64::from(bit)).sum::<u64>();
                self.spills[side].push(document, origin)?;
            }
        }
        Ok(())
    }

    pub(super) fn finish(
        self,
        folder: &Path,
        manifest: &mut Manifest,
        options: &PackOptions,
        workers: usize,
        tick: &mut dyn FnMut() -> Result<()>,
    ) -> Result<()> {
        let mut indexes = Vec::new();
        for (at, spill) in self.spills.into_iter().enumerate() {
            let spilled = spill.finish()?;
            let tokens: u64 = spilled.lengths().iter().map(|&length| u64::from(length)).sum();
            let (rows, files, index) = gather(&spilled, folder, SIDES[at], &self.carry, options, workers, tick)?;
            let room = rows * u64::from(options.max_length);
            manifest.counts[SIDES[at]] = json!({
                "documents": spilled.lengths().len(),
                "rows": rows,
                "tokens": tokens,
                "supervised_tokens": self.supervised[at],
                "truncated": self.truncated[at],
                "efficiency": if room == 0 { Value::Null } else { json!(tokens as f64 / room as f64) },
            });
            manifest.files.extend(files);
            indexes.extend(index);
        }
        manifest.files.extend(indexes);
        manifest.files.extend(dataset_dict(folder)?);
        Ok(())
    }
}

/// Writes the packed rows of one side: their number, their files and the files of their index.
fn gather(
    spilled: &Spilled,
    folder: &Path,
    side: &str,
    carry: &[String],
    options: &PackOptions,
    workers: usize,
    tick: &mut dyn FnMut() -> Result<()>,
) -> Result<(u64, Vec<FileEntry>, Vec<FileEntry>)> {
    let packing = best_fit_decreasing(spilled.lengths(), options.max_length, options.seed);
    let rows: Vec<&[u32]> = packing.iter().collect();
    let mut writer = PartWriter::create(&folder.join(side), rows_schema(), Framing::Stream)?;
    let index_folder = format!("index/{side}");
    let mut index =
        PartWriter::create(&folder.join(&index_folder), schema::carrying(&index_schema(), carry), Framing::File)?;
    let chunks = rows.chunks(BATCH).enumerate().map(|(number, rows)| Ok((number * BATCH, rows)));
    ordered::for_each(
        workers,
        chunks,
        |(first, rows)| {
            let (mut batch, mut buffer) = (ChatBatch::new(carry), Vec::new());
            for (number, documents) in rows.iter().enumerate() {
                let read = documents.iter().map(|&document| spilled.read(document, &mut buffer));
                batch.push(first + number, &read.collect::<Result<Vec<_>>>()?);
            }
            Ok(batch.finish())
        },
        |(rows, places)| {
            writer.write(&rows)?;
            places.iter().try_for_each(|places| index.write(places))
        },
        tick,
    )?;
    let files = dataset(folder, side, &rows_schema(), writer.finish()?)?;
    Ok((packing.rows() as u64, files, below(&index_folder, index.finish()?).collect()))
}

/// Packed rows and their index, being built.
pub(super) struct ChatBatch {
    input_ids: Ids,
    labels: Ids,
    seq_lengths: Ids,
    row: Int64Builder,
    start: Int32Builder,
    length: Int32Builder,
    id: StringBuilder,
    truncated: BooleanBuilder,
    carried: CarriedBuilder,
    /// Bytes of the texts in the index that are not in `places` yet, and how many there may be.
    open: usize,
    most: usize,
    places: Vec<RecordBatch>,
}

impl ChatBatch {
    pub(super) fn new(carry: &[String]) -> Self {
        ChatBatch {
            input_ids: Ids::new(),
            labels: Ids::new(),
            seq_lengths: Ids::new(),
            row: Int64Builder::new(),
            start: Int32Builder::new(),
            length: Int32Builder::new(),
            id: StringBuilder::new(),
            truncated: BooleanBuilder::new(),
            carried: CarriedBuilder::new(carry),
            open: 0,
            most: PLACES_BYTES,
            places: Vec::new(),
        }
    }

    /// Adds the packed row of this number.
    pub(super) fn push(&mut self, row: usize, documents: &[impl Borrow<(Document, Origin)>]) {
        let documents = || documents.iter().map(Borrow::borrow);
        let mut start = 0;
        for (document, origin) in documents() {
            let texts = origin.carried.iter().flatten().map(String::len).sum::<usize>() + origin.id.len();
            if self.open + texts > self.most {
                self.close_places();
            }
            self.open += texts;
            let length = (document.ids.len() as u32).cast_signed();
            self.row.append_value((row as u64).cast_signed());
            self.start.append_value(start);
            self.length.append_value(length);
            self.id.append_value(&origin.id);
            self.truncated.append_value(origin.truncated);
            self.carried.push(&origin.carried);
            start += length;
        }
        let ids = || documents().flat_map(|(document, _)| &document.ids).map(|id| id.cast_signed());
        let mask = documents().flat_map(|(document, _)| &document.mask);
        self.labels.push(ids().zip(mask).map(|(id, bit)| if *bit == 1 { id } else { IGNORED }));
        self.input_ids.push(ids());
        self.seq_lengths.push(documents().map(|(document, _)| (document.ids.len() as u32).cast_signed()));
    }

    /// The packed rows, and which document lies where in them, usually in one batch.
    pub(super) fn finish(mut self) -> (RecordBatch, Vec<RecordBatch>) {
        self.close_places();
        let rows = vec![self.input_ids.finish(), self.labels.finish(), self.seq_lengths.finish()];
        (schema::batch(rows_schema(), rows), self.places)
    }

    fn close_places(&mut self) {
        let index: Vec<ArrayRef> = vec![
            Arc::new(self.row.finish()),
            Arc::new(self.start.finish()),
            Arc::new(self.length.finish()),
            Arc::new(self.id.finish()),
            Arc::new(self.truncated.finish()),
        ];
        self.open = 0;
        self.places.push(self.carried.finish(&index_schema(), index));
    }
}

/// Preferences, written as they come.
pub(super) struct Preferences {
    writers: [PartWriter; 2],
    carry: Vec<String>,
    counts: [PairCounts; 2],
}

#[derive(Clone, Copy, Default)]
struct PairCounts {
    rows: u64,
    tokens: u64,
    supervised: u64,
    truncated: u64,
}

impl Preferences {
    pub(super) fn create(folder: &Path, carry: &[String]) -> Result<Self> {
        let schema = schema::carrying(&pairs_schema(), carry);
        let writer = |side: &str| PartWriter::create(&folder.join(side), schema.clone(), Framing::Stream);
        let writers = [writer(SIDES[0])?, writer(SIDES[1])?];
        Ok(Preferences { writers, carry: carry.to_vec(), counts: Default::default() })
    }

    pub(super) fn write(&mut self, encoded: &[(usize, Encoded)]) -> Result<()> {
        let mut batches = [PairBatch::new(&self.carry), PairBatch::new(&self.carry)];
        for (side, encoded) in encoded {
            let Encoded::Pair { id, carried, scores, pair, truncated } = encoded else { continue };
            batches[*side].push(id, carried, *scores, pair);
            let counts = &mut self.counts[*side];
            let answers = (pair.chosen.len() + pair.rejected.len()) as u64;
            counts.rows += 1;
            counts.tokens += pair.prompt.len() as u64 + answers;
            counts.supervised += answers;
            counts.truncated += u64::from(*truncated);
        }
        for (writer, batch) in self.writers.iter_mut().zip(batches) {
            writer.write(&batch.finish())?;
        }
        Ok(())
    }

    pub(super) fn finish(self, folder: &Path, manifest: &mut Manifest) -> Result<()> {
        for ((writer, side), counts) in self.writers.into_iter().zip(SIDES).zip(self.counts) {
            let schema = schema::carrying(&pairs_schema(), &self.carry);
            manifest.files.extend(dataset(folder, side, &schema, writer.finish()?)?);
            manifest.counts[side] = json!({
                "rows": counts.rows,
                "tokens": counts.tokens,
                "supervised_tokens": counts.supervised,
                "truncated": counts.truncated,
            });
        }
        manifest.files.extend(dataset_dict(folder)?);
        Ok(())
    }
}

/// Pairs, being built.
pub(super) struct PairBatch {
    ids: [Ids; 3],
    id: StringBuilder,
    scores: [Float64Builder; 2],
    carried: CarriedBuilder,
}

impl PairBatch {
    pub(super) fn new(carry: &[String]) -> Self {
        PairBatch {
            ids: [Ids::new(), Ids::new(), Ids::new()],
            id: StringBuilder::new(),
            scores: [Float64Builder::new(), Float64Builder::new()],
            carried: CarriedBuilder::new(carry),
        }
    }

    pub(super) fn push(&mut self, id: &str, carried: &[Option<String>], scores: [Option<f64>; 2], pair: &Pair) {
        for (column, ids) in self.ids.iter_mut().zip([&pair.prompt, &pair.chosen, &pair.rejected]) {
            column.push(ids.iter().map(|id| id.cast_signed()));
        }
        self.id.append_value(id);
        self.carried.push(carried);
        self.scores.iter_mut().zip(scores).for_each(|(column, score)| column.append_option(score));
    }

    pub(super) fn finish(mut self) -> RecordBatch {
        let mut columns: Vec<ArrayRef> = self.ids.iter_mut().map(Ids::finish).collect();
        columns.push(Arc::new(self.id.finish()));
        columns.extend(self.scores.iter_mut().map(|column| Arc::new(column.finish()) as ArrayRef));
        self.carried.finish(&pairs_schema(), columns)
    }
}

/// Adds what `datasets.load_from_disk` wants beside the Arrow files of one split.
fn dataset(folder: &Path, side: &str, schema: &Schema, data: Vec<FileEntry>) -> Result<Vec<FileEntry>> {
    let feature = |field: &Arc<Field>| match field.data_type() {
        DataType::List(_) => json!({"feature": {"dtype": "int32", "_type": "Value"}, "_type": "List"}),
        DataType::Float64 => json!({"dtype": "float64", "_type": "Value"}),
        _ => json!({"dtype": "string", "_type": "Value"}),
    };
    let features: serde_json::Map<String, Value> =
        schema.fields().iter().map(|field| (field.name().clone(), feature(field))).collect();
    let info = json!({"citation": "", "description": "", "features": features, "homepage": "", "license": ""});
    // datasets keys its caches by this; the data's own hash makes it the same for the same bytes.
    let fingerprint = data.iter().fold(String::new(), |all, file| all + &file.xxh3_128);
    let fingerprint = format!("{:016x}", xxhash_rust::xxh3::xxh3_64(fingerprint.as_bytes()));
    let names: Vec<Value> = data.iter().map(|file| json!({"filename": file.name})).collect();
    let state = json!({
        "_data_files": names,
        "_fingerprint": fingerprint,
        "_format_columns": null,
        "_format_kwargs": {},
        "_format_type": null,
        "_output_all_columns": false,
        "_split": side,
    });
    let side_folder = folder.join(side);
    let mut files: Vec<FileEntry> = below(side, data).collect();
    for (name, value) in [("dataset_info.json", info), ("state.json", state)] {
        files.push(write_json(&side_folder.join(name), &format!("{side}/{name}"), &value)?);
    }
    Ok(files)
}

/// Lets `datasets.load_from_disk` open both splits at once.
fn dataset_dict(folder: &Path) -> Result<Option<FileEntry>> {
    let name = "dataset_dict.json";
    write_json(&folder.join(name), name, &json!({"splits": SIDES})).map(Some)
}

fn write_json(path: &Path, name: &str, value: &Value) -> Result<FileEntry> {
    let mut bytes = serde_json::to_vec_pretty(value).unwrap_or_default();
    bytes.push(b'\n');
    std::fs::write(path, bytes).map_err(Error::io("write", path))?;
    fingerprint(path, name, &mut |_| Ok(()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_carried_texts_begin_another_batch_of_the_index() {
        let document = |number: usize| {
            let document = Document { ids: vec![1, 2], mask: vec![0, 1], lost: 0 };
            let carried = vec![Some("x".repeat(number)), None];
            (document, Origin { id: format!("{number}"), truncated: false, carried })
        };
        let mut batch = ChatBatch::new(&["a".to_string(), "b".to_string()]);
        batch.most = 10;
        batch.push(0, &[document(3), document(4), document(30)]);
        batch.push(1, &[document(1), document(7)]);
        let (rows, places) = batch.finish();
        assert_eq!(rows.num_rows(), 2);
        // An empty one, before a text that is too long by itself, leaves no trace in the file.
        let sizes: Vec<usize> = places.iter().map(RecordBatch::num_rows).collect();
        assert_eq!(sizes, [2, 1, 2]);
        let all = arrow::compute::concat_batches(&places[0].schema(), &places).unwrap();
        let starts: &arrow::array::Int32Array = all.column(1).as_any().downcast_ref().unwrap();
        assert_eq!(starts.values().as_ref(), [0, 2, 4, 0, 2]);
        assert_eq!(ChatBatch::new(&[]).most, PLACES_BYTES);
    }

    #[test]
    fn own_columns_cannot_be_carried() {
        for columns in [index_schema(), pairs_schema()] {
            let unknown = columns.fields().iter().find(|field| !schema::OWN_COLUMNS.contains(&field.name().as_str()));
            assert_eq!(unknown, None);
        }
    }
}
