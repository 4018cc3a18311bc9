//! All rows at once, by their keys: exact duplicates, constant answers, and the train/test split.
//!
//! Two passes over `DIR/clean`: the first keeps a few dozen bytes a row, the second writes the rows that stay.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow::array::{ArrayRef, BooleanArray, RecordBatch, StringArray};
use arrow::compute::filter_record_batch;
use serde::Serialize;
use serde_json::json;

use super::{Counts, Observer, Outcome, Progress, Ticker, below, ordered, previous, run};
use crate::dedup::exact::{self, AnswerKey, Fate, Keys};
use crate::error::{Error, Result};
use crate::manifest::Manifest;
use crate::record::{Kind, Role};
use crate::schema::{self, Reject, RowsBuilder, RowsView};
use crate::shard::{Framing, PartReader, PartWriter};

/// What goes, and how the rest is split.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DedupOptions {
    /// Exact duplicates and constant answers.
    #[serde(flatten)]
    pub exact: exact::Options,
    /// Share of all prompts that make the test set, from 0 to below 1.
    pub test_fraction: f64,
    /// Decides which prompts these are.
    pub seed: u64,
}

impl Default for DedupOptions {
    fn default() -> Self {
        DedupOptions { exact: exact::Options::default(), test_fraction: 0.01, seed: 0 }
    }
}

/// Reads `DIR/clean` and writes `DIR/dedup`.
pub fn dedup(dir: &Path, options: &DedupOptions, workers: usize, observer: Observer<'_>) -> Result<Outcome> {
    if !(0.0..1.0).contains(&options.test_fraction) {
        return Err(Error::Config {
            key: "dedup.test_fraction".into(),
            message: format!("`dedup.test_fraction` must be at least 0 and below 1, found: {}", options.test_fraction),
            hint: "0.01 keeps one prompt in a hundred for the test set".into(),
        });
    }
    let mut ticker = Ticker::new(observer);
    let (clean, inputs, paths) = previous(dir, "clean")?;
    let kind = clean.kind();
    let rows_total: u64 = clean.files.iter().filter(|file| !file.name.contains('/')).filter_map(|file| file.rows).sum();
    let text_bytes = clean.counts["text_bytes"].as_u64().unwrap_or(0);
    let manifest = Manifest::new("dedup", kind, json!({"dedup": options}), inputs);
    run(dir, "dedup", "dedup", manifest, |folder, manifest| {
        // Two passes over the rows: progress counts every row twice, as bytes of text.
        let rows_seen = AtomicU64::new(0);
        let mut tick = || {
            let seen = rows_seen.load(Ordering::Relaxed);
            let done = text_bytes * seen / (2 * rows_total).max(1);
            ticker.tick(Progress { stage: "dedup", done, total: text_bytes, rows: seen / 2 })
        };
        let mut keys = Keys::default();
        let min_chars = options.exact.constant_answer.min_chars;
        ordered::for_each(
            workers,
            PartReader::new(paths.clone()),
            |batch| batch_keys(&batch, kind, min_chars),
            |batch| {
                rows_seen.fetch_add(batch.len() as u64, Ordering::Relaxed);
                for (row, prompt, answers) in batch {
                    keys.push(row, prompt, answers);
                }
                Ok(())
            },
            &mut tick,
        )?;
        let fates = keys.decide(&options.exact);
        drop(keys);
        let mut output = Output::create(folder, kind, &fates)?;
        let mut first = 0;
        let numbered = PartReader::new(paths).map(|batch| {
            let batch = batch?;
            let start = first;
            first += batch.num_rows();
            Ok((start, batch))
        });
        ordered::for_each(
            workers,
            numbered,
            |(first, batch)| Ok((first, split(&batch, kind, &fates[first..], options)?, batch)),
            |(first, (kept, text_bytes), batch)| {
                rows_seen.fetch_add(batch.num_rows() as u64, Ordering::Relaxed);
                output.text_bytes += text_bytes;
                output.write(first, &kept, &batch)
            },
            &mut tick,
        )?;
        output.finish(manifest)?;
        Ok(text_bytes)
    })
}

fn view(batch: &RecordBatch, kind: Kind) -> Result<RowsView<'_>> {
    RowsView::new(batch, kind).ok_or_else(|| Error::Manifest {
        path: "clean".into(),
        message: "its columns are not those of this version".into(),
        hint: "run the command again with `--overwrite`".into(),
    })
}

type RowKeys = (u128, u64, [AnswerKey; 2]);

fn batch_keys(batch: &RecordBatch, kind: Kind, min_chars: u32) -> Result<Vec<RowKeys>> {
    let rows = view(batch, kind)?;
    let mut lists = Vec::new();
    let keys = (0..rows.len()).map(|index| {
        lists.clear();
        lists.extend(rows.lists().iter().map(|list| list.get(index).collect::<Vec<_>>()));
        exact::keys_of(kind, &lists, min_chars)
    });
    Ok(keys.collect())
}

/// The rows that stay, with their side of the split, and their bytes of text.
fn split(batch: &RecordBatch, kind: Kind, fates: &[Fate], options: &DedupOptions) -> Result<(RecordBatch, u64)> {
    let rows = view(batch, kind)?;
    let user = Role::User.as_str();
    let side = |index: usize| {
        let mut turns = rows.lists().iter().flat_map(|list| list.get(index));
        let prompt = turns.find(|(role, _)| *role == user).map_or("", |(_, content)| content);
        if exact::is_test(prompt, options.seed, options.test_fraction) { "test" } else { "train" }
    };
    let sides: ArrayRef = Arc::new((0..rows.len()).map(|index| Some(side(index))).collect::<StringArray>());
    let mut columns = batch.columns().to_vec();
    columns.push(sides);
    let batch = schema::batch(schema::split_rows(kind), columns);
    let stays: BooleanArray = fates[..rows.len()].iter().map(|fate| Some(*fate == Fate::Keep)).collect();
    let kept = filter_record_batch(&batch, &stays).map_err(|error| Error::Panic { message: error.to_string() })?;
    let staying = (0..rows.len()).filter(|&index| fates[index] == Fate::Keep);
    let contents = staying.flat_map(|index| rows.lists().iter().flat_map(move |list| list.get(index)));
    let text_bytes = contents.map(|(_, content)| content.len() as u64).sum();
    Ok((kept, text_bytes))
}

struct Output<'a> {
    kind: Kind,
    fates: &'a [Fate],
    /// Rows that stay in place of others, and their ids once they have been seen; they come before what they replace.
    kept_ids: HashMap<u32, Option<String>>,
    rows: PartWriter,
    rejects: PartWriter,
    counts: Counts,
    sides: [u64; 2],
    text_bytes: u64,
}

impl<'a> Output<'a> {
    fn create(folder: &Path, kind: Kind, fates: &'a [Fate]) -> Result<Self> {
        let kept = fates.iter().filter_map(|fate| match fate {
            Fate::Duplicate { of } => Some((*of, None)),
            _ => None,
        });
        Ok(Output {
            kind,
            fates,
            kept_ids: kept.collect(),
            rows: PartWriter::create(folder, schema::split_rows(kind), Framing::File)?,
            rejects: PartWriter::create(&folder.join("rejects"), schema::rejects(kind), Framing::File)?,
            counts: Counts::default(),
            sides: [0; 2],
            text_bytes: 0,
        })
    }

    fn write(&mut self, first: usize, kept: &RecordBatch, batch: &RecordBatch) -> Result<()> {
        let rows = view(batch, self.kind)?;
        let mut rejects = RowsBuilder::new(self.kind);
        for index in 0..rows.len() {
            let number = (first + index) as u32;
            if let Some(id) = self.kept_ids.get_mut(&number) {
                *id = Some(rows.id(index).to_string());
            }
            if let Some(reject) = self.reject(number, &rows, index) {
                self.counts.drop(reject.reason);
                rejects.push_reject(&reject);
            }
        }
        self.counts.rows_in += batch.num_rows() as u64;
        self.counts.rows_out += kept.num_rows() as u64;
        let sides = view(kept, self.kind)?;
        let test = (0..sides.len()).filter(|&index| sides.split(index) == Some("test")).count() as u64;
        self.sides[0] += kept.num_rows() as u64 - test;
        self.sides[1] += test;
        self.rows.write(kept)?;
        self.rejects.write(&rejects.finish_rejects())
    }

    fn reject(&self, number: u32, rows: &RowsView<'_>, index: usize) -> Option<Reject> {
        match self.fates[number as usize] {
            Fate::Keep => None,
            Fate::Duplicate { of } => {
                let detail = "equal but for case, white space and punctuation marks".to_string();
                let mut reject = Reject::of(rows.row(index), "exact_duplicate", detail);
                reject.kept_id = self.kept_ids.get(&of).cloned().flatten();
                Some(reject)
            }
            Fate::Constant { prompts } => {
                let detail = format!("the same answer is given to {prompts} different prompts");
                Some(Reject::of(rows.row(index), "constant_answer", detail))
            }
        }
    }

    fn finish(self, manifest: &mut Manifest) -> Result<()> {
        manifest.files = self.rows.finish()?;
        manifest.files.extend(below("rejects", self.rejects.finish()?));
        manifest.counts = self.counts.to_value();
        manifest.counts["train"] = self.sides[0].into();
        manifest.counts["test"] = self.sides[1].into();
        manifest.counts["text_bytes"] = self.text_bytes.into();
        Ok(())
    }
}
