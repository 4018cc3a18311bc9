//! Template ► tokens and mask ► packed rows: `DIR/dedup` into `DIR/packed`, which `datasets.load_from_disk` opens.
//!
//! Chats are encoded in input order into a spill file, packed by their lengths, then gathered row by row. Preferences are
//! encoded and written as they come: the collator packs them.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use arrow::array::RecordBatch;
use serde::Serialize;
use serde_json::json;

use super::encode::{ChatEncoder, EncodeOptions, Scratch, TokenizerSpec};
use super::fit::{Encoded, Fit, Fitter};
use super::packed::{Chats, Preferences, SIDES};
use super::{Counts, Observer, Outcome, Progress, Ticker, below, ordered, previous, run, verify};
use crate::error::{Error, Result};
use crate::manifest::Manifest;
use crate::record::Kind;
use crate::schema::{self, Reject, RowsBuilder, RowsView};
use crate::shard::{Framing, PartReader, PartWriter};

/// What happens to a row of more than `max_length` tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Overlong {
    /// It is cut: a chat loses its end; a preference keeps the end of its prompt and the start of its answers.
    #[default]
    Truncate,
    /// It goes.
    Drop,
    /// A chat becomes several, cut between exchanges; a preference loses the first exchanges of its prompt. What still does
    /// not fit is cut.
    SplitTurns,
}

/// How rows are encoded and packed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PackOptions {
    /// Tokens a packed row holds; a preference's prompt and longer answer together.
    pub max_length: u32,
    /// What happens to longer ones.
    pub overlong: Overlong,
    /// How records are encoded.
    #[serde(flatten)]
    pub encode: EncodeOptions,
    /// Decides the order of the packed rows.
    pub seed: u64,
}

impl Default for PackOptions {
    fn default() -> Self {
        PackOptions { max_length: 2048, overlong: Overlong::default(), encode: EncodeOptions::default(), seed: 0 }
    }
}

impl PackOptions {
    pub(super) fn fit(&self) -> Fit {
        Fit { overlong: self.overlong, max_length: self.max_length as usize }
    }

    /// Refuses lengths that can only be mistakes.
    pub(super) fn check(&self) -> Result<()> {
        if (LEAST_LENGTH..=MOST_LENGTH).contains(&self.max_length) {
            return Ok(());
        }
        Err(Error::Config {
            key: "pack.max_length".into(),
            message: format!(
                "`pack.max_length` must be from {LEAST_LENGTH} to {MOST_LENGTH} tokens, found: {}",
                self.max_length
            ),
            hint: "2048 is what the Zephyr recipe takes".into(),
        })
    }
}

/// Shorter rows cannot hold a turn of any template.
const LEAST_LENGTH: u32 = 8;
/// Longer rows are a mistyped number: no model has such a context.
const MOST_LENGTH: u32 = 1 << 24;

/// Reads `DIR/dedup` and writes `DIR/packed`.
pub fn pack(
    dir: &Path,
    spec: &TokenizerSpec,
    options: &PackOptions,
    workers: usize,
    observer: Observer<'_>,
) -> Result<Outcome> {
    options.check()?;
    let mut ticker = Ticker::new(observer);
    let (dedup, inputs, paths) = previous(dir, "dedup")?;
    let kind = dedup.kind();
    let encoder = ChatEncoder::new(spec, options.encode.clone())?;
    let mut manifest = Manifest::new("pack", kind, json!({"pack": options}), inputs);
    manifest.tokenizer = Some(encoder.entry(spec));
    manifest.carry.clone_from(&dedup.carry);
    let total = dedup.counts["text_bytes"].as_u64().unwrap_or(0);
    run(dir, "pack", "packed", manifest, |folder, manifest| {
        let fitter = Fitter { encoder: &encoder, fit: options.fit() };
        let mut output = Output::create(folder, kind, &dedup.carry)?;
        let (rows, bytes) = (AtomicU64::new(0), AtomicU64::new(0));
        let scratches = Scratches::default();
        let mut tick = || {
            let (done, rows) = (bytes.load(Ordering::Relaxed), rows.load(Ordering::Relaxed));
            ticker.tick(Progress { stage: "pack", done, total, rows })
        };
        verify(dir, "dedup", &dedup, &mut tick)?;
        ordered::for_each(
            workers,
            PartReader::new(paths),
            |batch| scratches.with(|scratch| encode_batch(&batch.read()?, kind, &dedup.carry, &fitter, scratch)),
            |batch| {
                rows.fetch_add(batch.rows, Ordering::Relaxed);
                bytes.fetch_add(batch.text_bytes, Ordering::Relaxed);
                output.write(&batch)
            },
            &mut tick,
        )?;
        output.finish(folder, manifest, options, workers, &mut tick)?;
        Ok(bytes.load(Ordering::Relaxed))
    })
}

/// Buffers and memos from batch to batch: what one batch has met is met again in the next. No more than there are threads.
#[derive(Default)]
pub(super) struct Scratches(Mutex<Vec<Scratch>>);

impl Scratches {
    pub(super) fn with<T>(&self, work: impl FnOnce(&mut Scratch) -> T) -> T {
        let free = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = free().pop();
        let mut scratch = taken.unwrap_or_default();
        let result = work(&mut scratch);
        free().push(scratch);
        result
    }
}

/// A batch's rows after encoding.
struct EncodedBatch {
    /// Side of the split (index into [`SIDES`]) and what the row became.
    encoded: Vec<(usize, Encoded)>,
    rejects: RecordBatch,
    dropped: Vec<&'static str>,
    rows: u64,
    text_bytes: u64,
}

fn encode_batch(
    batch: &RecordBatch,
    kind: Kind,
    carry: &[String],
    fitter: &Fitter<'_>,
    scratch: &mut Scratch,
) -> Result<EncodedBatch> {
    let rows = RowsView::new(batch, kind).and_then(|rows| rows.carrying(batch, carry));
    let rows = rows.ok_or_else(|| Error::Manifest {
        path: "dedup".into(),
        message: "its columns are not those of this version".into(),
        hint: "run the command again with `--overwrite`".into(),
    })?;
    let mut rejects = RowsBuilder::new(kind).carrying(carry);
    let (mut encoded, mut dropped, mut text_bytes) = (Vec::with_capacity(rows.len()), Vec::new(), 0);
    for index in 0..rows.len() {
        let row = rows.row(index);
        text_bytes += row.record.messages().map(|message| message.content.len() as u64).sum::<u64>();
        let side = usize::from(rows.split(index) == Some(SIDES[1]));
        match fitter.fit(&row, scratch)? {
            Ok(fitted) => encoded.push((side, fitted)),
            Err((reason, detail)) => {
                dropped.push(reason);
                rejects.push_reject(&Reject::of(row, reason, detail));
            }
        }
    }
    Ok(EncodedBatch { encoded, rejects: rejects.finish_rejects(), dropped, rows: rows.len() as u64, text_bytes })
}

enum Sink {
    Chats(Box<Chats>),
    Preferences(Box<Preferences>),
}

struct Output {
    sink: Sink,
    rejects: PartWriter,
    counts: Counts,
}

impl Output {
    fn create(folder: &Path, kind: Kind, carry: &[String]) -> Result<Self> {
        let sink = match kind {
            Kind::Chat => Sink::Chats(Box::new(Chats::create(folder, carry)?)),
            Kind::Preference => Sink::Preferences(Box::new(Preferences::create(folder, carry)?)),
        };
        let rejects = schema::carrying(&schema::rejects(kind), carry);
        let rejects = PartWriter::create(&folder.join("rejects"), rejects, Framing::File)?;
        Ok(Output { sink, rejects, counts: Counts::default() })
    }

    fn write(&mut self, batch: &EncodedBatch) -> Result<()> {
        self.counts.rows_in += batch.rows;
        self.counts.rows_out += batch.encoded.len() as u64;
        batch.dropped.iter().for_each(|reason| self.counts.drop(reason));
        self.rejects.write(&batch.rejects)?;
        match &mut self.sink {
            Sink::Chats(chats) => chats.push(&batch.encoded),
            Sink::Preferences(preferences) => preferences.write(&batch.encoded),
        }
    }

    fn finish(
        self,
        folder: &Path,
        manifest: &mut Manifest,
        options: &PackOptions,
        workers: usize,
        tick: &mut dyn FnMut() -> Result<()>,
    ) -> Result<()> {
        manifest.counts = self.counts.to_value();
        manifest.files = below("rejects", self.rejects.finish()?).collect();
        match self.sink {
            Sink::Chats(chats) => chats.finish(folder, manifest, options, workers, tick),
            Sink::Preferences(preferences) => preferences.finish(folder, manifest),
        }
    }
}
