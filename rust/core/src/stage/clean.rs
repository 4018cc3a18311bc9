//! Row by row: read ► filter ► truecase, in one streaming pass.
//!
//! Filters look at the row as it came, so that `rejects/` holds what the file says and `changes/` lists only rows that stay.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use arrow::array::RecordBatch;
use serde::Serialize;
use serde_json::json;

use super::{Counts, Observer, Outcome, Progress, Ticker, below, ordered, run};
use crate::error::{Error, Result};
use crate::filter::{FilterOptions, first_drop};
use crate::manifest::{FileEntry, Manifest, fingerprint};
use crate::read::{BadRow, Chunk, Chunks, Input, InputFile, OnBadRow, Position, Shape, find_files, recognise};
use crate::record::{Kind, Row};
use crate::schema::{self, ChangesBuilder, Reject, RowsBuilder};
use crate::shard::{Framing, PartWriter};
use crate::text::truecase::{self, TruecaseOptions};

/// How the input is read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReadOptions {
    /// Which kind of rows the input holds; `None`: what its first row is.
    pub kind: Option<Kind>,
    /// How the columns are understood; `None`: as each file's first row has it.
    pub shape: Option<Shape>,
    /// What to do with a row that cannot be read.
    pub on_bad_row: OnBadRow,
    /// Columns that are carried along to the packed rows.
    pub carry: Vec<String>,
}

/// What is repaired and what is dropped.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct CleanOptions {
    /// Casing.
    pub truecase: TruecaseOptions,
    /// The row filters.
    #[serde(flatten)]
    pub filters: FilterOptions,
}

/// Reason of rows that cannot be read.
const BAD_ROW: &str = "bad_row";

/// Reads `inputs` and writes `DIR/clean`.
pub fn clean(
    inputs: &[Input],
    dir: &Path,
    read: &ReadOptions,
    options: &CleanOptions,
    workers: usize,
    observer: Observer<'_>,
) -> Result<Outcome> {
    let mut ticker = Ticker::new(observer);
    let files = find_files(inputs)?;
    let before = stamps(&files)?;
    let entries = fingerprints(&files, &mut ticker)?;
    let (kind, files) = recognise(files, read.kind, read.shape)?;
    let carrying = |file: InputFile| file.carrying(&read.carry);
    let files = files.into_iter().map(carrying).collect::<Result<Vec<_>>>()?;
    let reject_bad = read.on_bad_row == OnBadRow::Reject;
    let recorded = json!({
        "read": {
            "on_bad_row": if reject_bad { "reject" } else { "stop" },
            "shape": read.shape.map_or("auto", Shape::as_str),
        },
        "clean": options,
    });
    let mut manifest = Manifest::new("clean", kind, recorded, entries);
    manifest.carry.clone_from(&read.carry);
    run(dir, "clean", "clean", manifest, |folder, manifest| {
        let total = manifest.inputs.iter().map(|file| file.bytes).sum();
        let job = Job { kind, reject_bad, options, carry: &read.carry };
        let named = files.clone();
        let mut output = Output::create(folder, kind, &read.carry)?;
        let (position, rows) = (Position::default(), AtomicU64::new(0));
        ordered::for_each(
            workers,
            Chunks::new(files, position.clone()),
            |chunk| job.run(&chunk),
            |cleaned| {
                rows.fetch_add(cleaned.rows_in, Ordering::Relaxed);
                output.write(&cleaned)
            },
            || {
                let done = position.get().min(total);
                ticker.tick(Progress { stage: "clean", done, total, rows: rows.load(Ordering::Relaxed) })
            },
        )?;
        // What was read would not be what the manifest says was read.
        let after = stamps(&named)?;
        if let Some((file, _)) =
            named.iter().zip(before.iter().zip(&after)).find(|(_, (before, after))| before != after)
        {
            return Err(Error::Format {
                path: file.name.to_string(),
                message: "it was changed while it was read".into(),
                hint: "wait until it is written, then run the same command again".into(),
            });
        }
        output.finish(manifest)
    })
}

/// What tells whether a file has been changed: its size, and when it was written.
fn stamps(files: &[InputFile]) -> Result<Vec<(u64, Option<SystemTime>)>> {
    let stamp = |file: &InputFile| {
        let metadata = std::fs::metadata(file.path()).map_err(Error::io("read", file.path()))?;
        Ok((metadata.len(), metadata.modified().ok()))
    };
    files.iter().map(stamp).collect()
}

fn fingerprints(files: &[InputFile], ticker: &mut Ticker<'_>) -> Result<Vec<FileEntry>> {
    let hashing = |done| Progress { stage: "clean", done, total: 0, rows: 0 };
    let mut entry = |file: &InputFile| {
        let entry = fingerprint(file.path(), &file.name, &mut |done| ticker.tick(hashing(done)))?;
        Ok(FileEntry { note: file.note.clone(), ..entry })
    };
    files.iter().map(&mut entry).collect()
}

/// What every worker knows.
pub(super) struct Job<'a> {
    pub(super) kind: Kind,
    pub(super) reject_bad: bool,
    pub(super) options: &'a CleanOptions,
    pub(super) carry: &'a [String],
}

/// A chunk's rows after the work.
pub(super) struct Cleaned {
    pub(super) rows: RecordBatch,
    pub(super) rejects: RecordBatch,
    pub(super) changes: RecordBatch,
    dropped: Vec<&'static str>,
    rows_in: u64,
    text_bytes: u64,
    rows_repaired: u64,
}

impl Job<'_> {
    pub(super) fn run(&self, chunk: &Chunk) -> Result<Cleaned> {
        let (mut rows, mut rejects) = (self.builder(), self.builder());
        let (mut changes, mut letters) = (ChangesBuilder::default(), Vec::new());
        let mut dropped = Vec::new();
        let (mut rows_in, mut text_bytes, mut rows_repaired) = (0, 0, 0);
        chunk.for_each_row(&mut |row| {
            rows_in += 1;
            match self.judge(row)? {
                Ok(mut row) => {
                    text_bytes += text_length(&row);
                    letters.clear();
                    truecase::repair(&mut row.record, &self.options.truecase, &mut letters);
                    rows_repaired += u64::from(!letters.is_empty());
                    for letter in &letters {
                        let pair = (letter.before, letter.after);
                        changes.push(&row.id, letter.turn, letter.byte_offset, pair, letter.rule.as_str());
                    }
                    rows.push(&row);
                }
                Err(reject) => {
                    text_bytes += reject.row.as_ref().map_or(0, text_length);
                    dropped.push(reject.reason);
                    rejects.push_reject(&reject);
                }
            }
            Ok(())
        })?;
        Ok(Cleaned {
            rows: rows.finish(),
            rejects: rejects.finish_rejects(),
            changes: changes.finish(),
            dropped,
            rows_in,
            text_bytes,
            rows_repaired,
        })
    }

    fn builder(&self) -> RowsBuilder {
        RowsBuilder::new(self.kind).carrying(self.carry)
    }

    /// The row, or why it goes; an error if the run must stop.
    fn judge(&self, row: std::result::Result<Row, BadRow>) -> Result<std::result::Result<Row, Reject>> {
        match row {
            Ok(row) => Ok(match first_drop(&row.record, &self.options.filters) {
                None => Ok(row),
                Some((reason, detail)) => Err(Reject::of(row, reason, detail)),
            }),
            Err(bad) if self.reject_bad => Ok(Err(Reject {
                row: None,
                id: format!("{}:{}", bad.file, bad.line),
                file: bad.file,
                line: bad.line,
                reason: BAD_ROW,
                detail: bad.error.to_string(),
                kept_id: None,
                raw: Some(bad.raw),
            })),
            Err(bad) => Err(bad.error),
        }
    }
}

fn text_length(row: &Row) -> u64 {
    row.record.messages().map(|message| message.content.len() as u64).sum()
}

struct Output {
    rows: PartWriter,
    rejects: PartWriter,
    changes: PartWriter,
    counts: Counts,
    text_bytes: u64,
    letters_repaired: u64,
    rows_repaired: u64,
}

impl Output {
    fn create(folder: &Path, kind: Kind, carry: &[String]) -> Result<Self> {
        let (rows, rejects) =
            (schema::carrying(&schema::rows(kind), carry), schema::carrying(&schema::rejects(kind), carry));
        Ok(Output {
            rows: PartWriter::create(folder, rows, Framing::File)?,
            rejects: PartWriter::create(&folder.join("rejects"), rejects, Framing::File)?,
            changes: PartWriter::create(&folder.join("changes"), schema::changes(), Framing::File)?,
            counts: Counts::default(),
            text_bytes: 0,
            letters_repaired: 0,
            rows_repaired: 0,
        })
    }

    fn write(&mut self, cleaned: &Cleaned) -> Result<()> {
        self.rows.write(&cleaned.rows)?;
        self.rejects.write(&cleaned.rejects)?;
        self.changes.write(&cleaned.changes)?;
        self.counts.rows_in += cleaned.rows_in;
        self.counts.rows_out += cleaned.rows.num_rows() as u64;
        cleaned.dropped.iter().for_each(|reason| self.counts.drop(reason));
        self.text_bytes += cleaned.text_bytes;
        self.letters_repaired += cleaned.changes.num_rows() as u64;
        self.rows_repaired += cleaned.rows_repaired;
        Ok(())
    }

    fn finish(self, manifest: &mut Manifest) -> Result<u64> {
        manifest.files = self.rows.finish()?;
        manifest.files.extend(below("rejects", self.rejects.finish()?));
        manifest.files.extend(below("changes", self.changes.finish()?));
        manifest.counts = self.counts.to_value();
        manifest.counts["text_bytes"] = self.text_bytes.into();
        manifest.counts["letters_repaired"] = self.letters_repaired.into();
        manifest.counts["rows_repaired"] = self.rows_repaired.into();
        Ok(self.text_bytes)
    }
}
