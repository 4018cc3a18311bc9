//! The stages' steps on rows in memory: tables in, tables out, no folder and no manifest.
//!
//! Each function does what its stage does with each row, by the same code, on the same threads: the rows are a file that is
//! there already ([`InputFile::of_rows`]). What [`encode`] gives, [`pack`] takes, and so does any table with its columns.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow::array::{ArrayRef, Int8Builder, LargeStringBuilder, ListBuilder, RecordBatch, StringBuilder, UInt32Builder};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};

use super::clean::{CleanOptions, Job, ReadOptions};
use super::encode::{ChatEncoder, Document, Scratch};
use super::encoded::EncodedRows;
use super::fit::Dropped;
use super::pack::{Overlong, PackOptions, Scratches};
use super::packed::{BATCH, ChatBatch, Ids, PairBatch, ids_field, index_schema, pairs_schema, rows_schema};
use super::spill::Origin;
use super::{Observer, Progress, Ticker, ordered};
use crate::error::{Error, Result};
use crate::pack::best_fit_decreasing;
use crate::read::{Chunk, Chunks, InputFile, OnBadRow, Position, recognise};
use crate::record::{Kind, Record, Row};
use crate::schema;

/// Batches of one schema.
#[derive(Clone, Debug)]
pub struct Table {
    /// The columns, also where there is no batch.
    pub schema: SchemaRef,
    /// The rows.
    pub batches: Vec<RecordBatch>,
}

impl Table {
    fn new(schema: SchemaRef) -> Table {
        Table { schema, batches: Vec::new() }
    }

    /// One batch.
    pub(super) fn of(batch: RecordBatch) -> Table {
        let mut table = Table::new(batch.schema());
        table.push(batch);
        table
    }

    fn push(&mut self, batch: RecordBatch) {
        if batch.num_rows() > 0 {
            self.batches.push(batch);
        }
    }
}

/// What [`clean`] gives.
#[derive(Clone, Debug)]
pub struct Cleaned {
    /// The rows that stay, with the columns of `clean/`.
    pub kept: Table,
    /// Those that go, with the columns of `clean/rejects/`.
    pub rejects: Table,
    /// The letters that were changed, with the columns of `clean/changes/`.
    pub changes: Table,
}

/// What the stage `clean` does.
pub fn clean(
    rows: InputFile,
    read: &ReadOptions,
    options: &CleanOptions,
    workers: usize,
    observer: Observer<'_>,
) -> Result<Cleaned> {
    let (kind, files) = recognise(vec![rows], read.kind, read.shape)?;
    let files = files.into_iter().map(|file| file.carrying(&read.carry)).collect::<Result<Vec<_>>>()?;
    let job = Job { kind, reject_bad: read.on_bad_row == OnBadRow::Reject, options, carry: &read.carry };
    let [mut kept, mut rejects] =
        [schema::rows(kind), schema::rejects(kind)].map(|columns| Table::new(schema::carrying(&columns, &read.carry)));
    let mut changes = Table::new(schema::changes());
    for_each_chunk(
        ("clean", files, workers, observer),
        |chunk| job.run(chunk),
        |cleaned| {
            kept.push(cleaned.rows);
            rejects.push(cleaned.rejects);
            changes.push(cleaned.changes);
        },
    )?;
    Ok(Cleaned { kept, rejects, changes })
}

/// The texts of chats by the chat template, in one column `text`.
pub fn render(
    rows: InputFile,
    read: &ReadOptions,
    encoder: &ChatEncoder,
    generation_prompt: bool,
    workers: usize,
    observer: Observer<'_>,
) -> Result<Table> {
    let (_, files) = recognise(vec![rows], read.kind.or(Some(Kind::Chat)), read.shape)?;
    let columns: SchemaRef = Arc::new(Schema::new(vec![Field::new("text", DataType::LargeUtf8, false)]));
    let scratches = Scratches::default();
    let work = |chunk: &Chunk| {
        let mut texts = LargeStringBuilder::new();
        scratches.with(|scratch| {
            chunk.for_each_row(&mut |row| {
                let row = row.map_err(|bad| bad.error)?;
                let Record::Chat(chat) = &row.record else { return Ok(()) };
                texts.append_value(
                    encoder
                        .rendered(&chat.messages, generation_prompt, scratch)
                        .map_err(|error| in_row(&row, error))?,
                );
                Ok(())
            })
        })?;
        Ok(schema::batch(columns.clone(), vec![Arc::new(texts.finish())]))
    };
    let mut table = Table::new(columns.clone());
    for_each_chunk(("render", files, workers, observer), work, |batch| table.push(batch))?;
    Ok(table)
}

/// Ids and masks of chats, or the ids of pairs, before anything is cut: one row for each.
pub fn encode(
    rows: InputFile,
    read: &ReadOptions,
    encoder: &ChatEncoder,
    workers: usize,
    observer: Observer<'_>,
) -> Result<Table> {
    let (kind, files) = recognise(vec![rows], read.kind, read.shape)?;
    let scratches = Scratches::default();
    let work = |chunk: &Chunk| scratches.with(|scratch| encode_chunk(chunk, kind, encoder, scratch));
    let mut table = Table::new(match kind {
        Kind::Chat => documents_schema(),
        Kind::Preference => pairs_schema(),
    });
    for_each_chunk(("encode", files, workers, observer), work, |batch| table.push(batch))?;
    Ok(table)
}

fn encode_chunk(chunk: &Chunk, kind: Kind, encoder: &ChatEncoder, scratch: &mut Scratch) -> Result<RecordBatch> {
    let (mut documents, mut pairs) = (DocumentBatch::default(), PairBatch::new(&[]));
    chunk.for_each_row(&mut |row| {
        let row = row.map_err(|bad| bad.error)?;
        match &row.record {
            Record::Chat(chat) => {
                let document = encoder.chat(&chat.messages, scratch).map_err(|error| in_row(&row, error))?;
                documents.push(&row.id, &document);
            }
            Record::Preference(preference) => {
                let pair = encoder.pair(preference, scratch).map_err(|error| in_row(&row, error))?;
                pairs.push(&row.id, &[], [preference.score_chosen, preference.score_rejected], &pair);
            }
        }
        Ok(())
    })?;
    Ok(match kind {
        Kind::Chat => documents.finish(),
        Kind::Preference => pairs.finish(),
    })
}

/// What [`pack`] gives.
#[derive(Clone, Debug)]
pub struct Packed {
    /// Packed rows with the columns of `packed/train`.
    pub rows: Table,
    /// Which document lies where, with the columns of `packed/index`; pairs have none.
    pub index: Option<Table>,
    /// The rows that go: their `id`, `reason` and `detail`.
    pub dropped: Table,
}

/// What the stage `pack` does with the rows of one side of the split, once they are encoded.
pub fn pack(
    name: &str,
    encoded: &[RecordBatch],
    columns: &Schema,
    options: &PackOptions,
    workers: usize,
    observer: Observer<'_>,
) -> Result<Packed> {
    options.check()?;
    if options.overlong == Overlong::SplitTurns {
        return Err(Error::Config {
            key: "pack.overlong".into(),
            message: "tokens cannot be cut between turns, found: `split_turns`".into(),
            hint: "choose `truncate` or `drop`; `prepare`, which has the messages, splits them".into(),
        });
    }
    let mut ticker = Ticker::new(observer);
    let total = encoded.iter().map(|batch| batch.get_array_memory_size() as u64).sum();
    let mut done = 0;
    let mut documents: Vec<(Document, Origin)> = Vec::new();
    let mut pairs = Table::new(pairs_schema());
    let (kind, fit) = (EncodedRows::kind(name, columns)?, options.fit());
    let mut dropped = DroppedBatch::default();
    let mut first_row = 1;
    for batch in encoded {
        let rows = EncodedRows::new(name, first_row, batch, kind)?;
        let mut kept = PairBatch::new(&[]);
        for index in 0..batch.num_rows() {
            match kind {
                Kind::Chat => match fit.document(rows.document(index)?, || Ok(Vec::new()))? {
                    Ok(parts) => documents.extend(parts.into_iter().map(|(document, truncated)| {
                        (document, Origin { id: rows.id(index), truncated, carried: Vec::new() })
                    })),
                    Err(why) => dropped.push(&rows.id(index), why),
                },
                Kind::Preference => match fit.pair(rows.pair(index)?, Ok)? {
                    Ok((pair, _)) => kept.push(&rows.id(index), &[], rows.scores(index), &pair),
                    Err(why) => dropped.push(&rows.id(index), why),
                },
            }
        }
        pairs.push(kept.finish());
        first_row += batch.num_rows() as u64;
        done += batch.get_array_memory_size() as u64;
        ticker.tick(Progress { stage: "pack", done, total, rows: first_row - 1 })?;
    }
    let dropped = dropped.finish();
    if kind == Kind::Preference {
        return Ok(Packed { rows: pairs, index: None, dropped });
    }
    let (rows, index) = gather(&documents, options, workers, &mut ticker)?;
    Ok(Packed { rows, index: Some(index), dropped })
}

/// Documents side by side in packed rows.
fn gather(
    documents: &[(Document, Origin)],
    options: &PackOptions,
    workers: usize,
    ticker: &mut Ticker<'_>,
) -> Result<(Table, Table)> {
    let lengths: Vec<u32> = documents.iter().map(|(document, _)| document.ids.len() as u32).collect();
    let packing = best_fit_decreasing(&lengths, options.max_length, options.seed);
    let numbers: Vec<&[u32]> = packing.iter().collect();
    let (mut rows, mut index) = (Table::new(rows_schema()), Table::new(index_schema()));
    let total = documents.len() as u64;
    ordered::for_each(
        workers,
        numbers.chunks(BATCH).enumerate().map(|(number, rows)| Ok((number * BATCH, rows))),
        |(first, rows)| {
            let mut batch = ChatBatch::new(&[]);
            for (number, members) in rows.iter().enumerate() {
                let members: Vec<_> = members.iter().map(|&number| &documents[number as usize]).collect();
                batch.push(first + number, &members);
            }
            Ok(batch.finish())
        },
        |(packed, places)| {
            rows.push(packed);
            for places in places {
                index.push(places);
            }
            Ok(())
        },
        || ticker.tick(Progress { stage: "pack", done: total, total, rows: total }),
    )?;
    Ok((rows, index))
}

/// Every chunk through `work` on any number of threads, and the results to `write` in their order.
fn for_each_chunk<T: Send>(
    (stage, files, workers, observer): (&'static str, Vec<InputFile>, usize, Observer<'_>),
    work: impl Fn(&Chunk) -> Result<T> + Sync,
    mut write: impl FnMut(T) + Send,
) -> Result<()> {
    let mut ticker = Ticker::new(observer);
    let done = AtomicU64::new(0);
    ordered::for_each(
        workers,
        Chunks::new(files, Position::default()),
        |chunk| {
            let result = work(&chunk)?;
            done.fetch_add(chunk.bytes(), Ordering::Relaxed);
            Ok(result)
        },
        |result| {
            write(result);
            Ok(())
        },
        || ticker.tick(Progress { stage, done: done.load(Ordering::Relaxed), total: 0, rows: 0 }),
    )
}

/// Says in which row the template refused.
fn in_row(row: &Row, error: Error) -> Error {
    match error {
        Error::Template { message, hint } => Error::Row {
            path: row.file.to_string(),
            line: row.line,
            field: String::new(),
            message: format!("the chat template refuses the chat: {message}"),
            hint,
        },
        other => other,
    }
}

fn documents_schema() -> SchemaRef {
    let masks = DataType::List(Arc::new(Field::new("item", DataType::Int8, true)));
    Arc::new(Schema::new(vec![
        ids_field("input_ids"),
        Field::new("assistant_masks", masks, true),
        Field::new("id", DataType::Utf8, true),
        Field::new("lost_answers", DataType::UInt32, true),
    ]))
}

struct DocumentBatch {
    input_ids: Ids,
    masks: ListBuilder<Int8Builder>,
    id: StringBuilder,
    lost: UInt32Builder,
}

impl Default for DocumentBatch {
    fn default() -> Self {
        DocumentBatch {
            input_ids: Ids::new(),
            masks: ListBuilder::new(Int8Builder::new()),
            id: StringBuilder::new(),
            lost: UInt32Builder::new(),
        }
    }
}

impl DocumentBatch {
    fn push(&mut self, id: &str, document: &Document) {
        self.input_ids.push(document.ids.iter().map(|id| id.cast_signed()));
        self.masks.values().extend(document.mask.iter().map(|bit| Some(bit.cast_signed())));
        self.masks.append(true);
        self.id.append_value(id);
        self.lost.append_value(document.lost as u32);
    }

    fn finish(mut self) -> RecordBatch {
        let columns: Vec<ArrayRef> = vec![
            self.input_ids.finish(),
            Arc::new(self.masks.finish()),
            Arc::new(self.id.finish()),
            Arc::new(self.lost.finish()),
        ];
        schema::batch(documents_schema(), columns)
    }
}

#[derive(Default)]
struct DroppedBatch {
    id: StringBuilder,
    reason: StringBuilder,
    detail: StringBuilder,
}

impl DroppedBatch {
    fn push(&mut self, id: &str, (reason, detail): Dropped) {
        self.id.append_value(id);
        self.reason.append_value(reason);
        self.detail.append_value(detail);
    }

    fn finish(mut self) -> Table {
        let fields = ["id", "reason", "detail"].map(|name| Field::new(name, DataType::Utf8, false));
        let columns = [self.id.finish(), self.reason.finish(), self.detail.finish()];
        let columns = columns.into_iter().map(|column| Arc::new(column) as ArrayRef).collect();
        Table::of(schema::batch(Arc::new(Schema::new(fields.to_vec())), columns))
    }
}
