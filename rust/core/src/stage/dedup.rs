//! All rows at once: texts of benchmarks, exact duplicates, constant answers, near-duplicates, and the train/test split.
//!
//! Passes over `DIR/clean`: the first takes what rows are known by; the second, for near-duplicates, the words of the rows
//! that must be compared; the last writes the rows that stay. What is known of a row lies in sorted runs and files on the
//! disk; in memory are a few bits a row and buffers.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow::array::{ArrayRef, BooleanArray, RecordBatch, StringArray};
use arrow::compute::filter_record_batch;
use serde::Serialize;
use serde_json::json;

use super::bits::Bits;
use super::contamination::{self as benchmarks, BYTES_PER_ROW, Benchmark, Benchmarks, Findings, try_out};
use super::dedup_output::Output;
use super::exact_rows::{ExactRows, RowKeys, WithPrompts};
use super::fate::Fate;
use super::fates::Fates;
use super::near::scratch::Scratch;
use super::near::{Found, NearOptions, Sketches, compare};
use super::{Observer, Outcome, Progress, Ticker, holds_rows, ordered, previous, run, verify};
use crate::dedup::contamination::{self, Index};
use crate::dedup::exact;
use crate::error::{Error, Result};
use crate::manifest::Manifest;
use crate::record::Kind;
use crate::schema::{self, RowsView};
use crate::shard::PartReader;

/// What goes, and how the rest is split.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DedupOptions {
    /// Exact duplicates and constant answers.
    #[serde(flatten)]
    pub exact: exact::Options,
    /// Near-duplicates.
    #[serde(flatten)]
    pub near: NearOptions,
    /// Benchmarks whose texts must not be in the data.
    pub decontaminate: Vec<Benchmark>,
    /// When they are.
    pub contamination: contamination::Options,
    /// Share of all prompts that make the test set, from 0 to below 1.
    pub test_fraction: f64,
    /// Decides which prompts these are.
    pub seed: u64,
}

impl Default for DedupOptions {
    fn default() -> Self {
        DedupOptions {
            exact: exact::Options::default(),
            near: NearOptions::default(),
            decontaminate: Vec::new(),
            contamination: contamination::Options::default(),
            test_fraction: 0.01,
            seed: 0,
        }
    }
}

/// The folder below DIR for what does not fit in memory.
const SPILL: &str = ".dedup.spill";

/// Whether the options can be honoured, as far as that can be known before there is a row; all benchmarks are read. What is
/// wrong with them should be told before minutes of cleaning.
///
/// # Errors
/// An option cannot be honoured; a benchmark is not there or cannot be read, a row of one has no such field or something else
/// than texts in it, or the texts need more memory than there may be.
pub fn check(options: &DedupOptions, observer: Observer<'_>) -> Result<()> {
    options.check()?;
    if options.near.enabled {
        options.near.check(Kind::Preference, 0, 0)?; // which has all that rows can have
    }
    let mut ticker = Ticker::new(observer);
    let mut tick = || ticker.tick(Progress { stage: "dedup", done: 0, total: 0, rows: 0 });
    try_out(&options.decontaminate, options.contamination, options.near.memory_limit, &mut tick)
}

impl DedupOptions {
    fn check(&self) -> Result<()> {
        if !(0.0..1.0).contains(&self.test_fraction) {
            return Err(Error::Config {
                key: "dedup.test_fraction".into(),
                message: format!("`dedup.test_fraction` must be at least 0 and below 1, found: {}", self.test_fraction),
                hint: "0.01 keeps one prompt in a hundred for the test set".into(),
            });
        }
        self.contamination.check()
    }
}

/// Reads `DIR/clean` and writes `DIR/dedup`.
pub fn dedup(dir: &Path, options: &DedupOptions, workers: usize, observer: Observer<'_>) -> Result<Outcome> {
    options.check()?;
    let spill = dir.join(SPILL);
    Scratch::clear(&spill)?;
    let mut ticker = Ticker::new(observer);
    let benchmarks = Benchmarks::find(&options.decontaminate)?;
    let (clean, mut inputs, paths) = previous(dir, "clean")?;
    inputs.extend(benchmarks.entries(&mut ticker)?);
    let kind = clean.kind();
    let rows_total: u64 = clean.files.iter().filter(|file| holds_rows(file)).filter_map(|file| file.rows).sum();
    check_rows(&dir.join("clean"), rows_total)?;
    if options.near.enabled {
        options.near.check(kind, rows_total, 0)?;
    }
    let text_bytes = clean.counts["text_bytes"].as_u64().unwrap_or(0);
    let mut recorded = json!({"dedup": options});
    if let Some(section) = recorded["dedup"].as_object_mut() {
        section.remove("memory_limit"); // no byte depends on it
    }
    let mut manifest = Manifest::new("dedup", kind, recorded, inputs);
    manifest.carry.clone_from(&clean.carry);
    run(dir, "dedup", "dedup", manifest, |folder, manifest| {
        Scratch::with(&spill, |scratch| {
            // Progress counts every row once a pass, as bytes of text.
            let passes = if options.near.enabled { 3 } else { 2 };
            let rows_seen = AtomicU64::new(0);
            let mut tick = || {
                let seen = rows_seen.load(Ordering::Relaxed);
                let done = text_bytes * seen / (passes * rows_total).max(1);
                ticker.tick(Progress { stage: "dedup", done, total: text_bytes, rows: seen / passes })
            };
            verify(dir, "clean", &clean, &mut tick)?;
            let mut options = options.clone();
            let mut loaded = benchmarks.load(options.contamination, options.near.memory_limit, &mut tick)?;
            if let Some((index, _)) = &loaded
                && options.near.enabled
            {
                let taken = index.bytes() as u64 + rows_total * BYTES_PER_ROW;
                options.near.check(kind, rows_total, taken)?;
                options.near.memory_limit -= taken;
            }
            let job = Job { kind, options: &options, workers, paths, carry: &clean.carry, rows_seen: &rows_seen };
            let (mut fates, found) = job.decide(rows_total, &mut loaded, scratch, &mut tick)?;
            let findings = loaded.map(|(_, findings)| findings);
            let output = job.write(folder, &mut fates, found.as_ref(), findings.as_ref(), scratch, &mut tick)?;
            output.finish(folder, manifest)?;
            if let Some(findings) = findings {
                manifest.counts["contamination"] = findings.report(&fates);
            }
            if options.near.enabled {
                manifest.counts["near"] =
                    options.near.report(found.map_or(0, |found| found.representatives.count()))?;
            }
            Ok(text_bytes)
        })
    })
}

/// Rows are numbered with 32 bits, the last of which means none.
fn check_rows(clean: &Path, rows_total: u64) -> Result<()> {
    let most = u32::MAX - 1;
    if rows_total > u64::from(most) {
        return Err(Error::Format {
            path: clean.display().to_string(),
            message: format!("it has more than {most} rows: {rows_total}"),
            hint: "give it in parts".into(),
        });
    }
    Ok(())
}

/// What all passes share.
struct Job<'a> {
    kind: Kind,
    options: &'a DedupOptions,
    workers: usize,
    paths: Vec<PathBuf>,
    carry: &'a [String],
    rows_seen: &'a AtomicU64,
}

impl Job<'_> {
    /// Goes through all rows: `work` gets each batch with the number of its first row, on any thread; `write` what it made,
    /// in order.
    fn pass<O: Send>(
        &self,
        work: impl Fn(u32, &RecordBatch) -> Result<O> + Sync,
        mut write: impl FnMut(u32, O) -> Result<()> + Send,
        tick: &mut dyn FnMut() -> Result<()>,
    ) -> Result<()> {
        let mut first = 0;
        let numbered = PartReader::new(self.paths.clone()).map(|batch| {
            let batch = batch?;
            let start = first;
            first += batch.rows as u32;
            Ok((start, batch))
        });
        ordered::for_each(
            self.workers,
            numbered,
            |(first, batch)| Ok((first, batch.rows, work(first, &batch.read()?)?)),
            |(first, rows, output)| {
                self.rows_seen.fetch_add(rows as u64, Ordering::Relaxed);
                write(first, output)
            },
            tick,
        )
    }

    /// What happens to each row.
    fn decide(
        &self,
        rows_total: u64,
        loaded: &mut Option<(Index, Findings)>,
        scratch: &Scratch,
        tick: &mut dyn FnMut() -> Result<()>,
    ) -> Result<(Fates, Option<Found>)> {
        let Job { kind, options, workers, .. } = *self;
        let (near, rows) = (&options.near, rows_total as usize);
        let min_chars = options.exact.constant_answer.min_chars;
        let bytes = near.buffer(rows, 4);
        let mut fates = Fates::new(scratch, rows, bytes / 4)?;
        // Without near-duplicates each row's own prompt decides on its side.
        let with_prompts = if near.enabled && options.test_fraction > 0.0 { WithPrompts::Yes } else { WithPrompts::No };
        let mut exact_rows = ExactRows::new(scratch, &options.exact, (kind, rows), with_prompts, (bytes, workers));
        let (index, mut findings) = match loaded {
            Some((index, findings)) => (Some(&*index), Some(findings)),
            None => (None, None),
        };
        let mut sketches = if near.enabled { Some(Sketches::new(near, kind, rows, workers, scratch)?) } else { None };
        self.pass(
            |_, batch| {
                let rows = view(batch, kind)?;
                let sketched = if near.enabled { Some(compare::sketch(&rows, kind, near)?) } else { None };
                let held = index.map(|index| benchmarks::check(index, &rows)).unwrap_or_default();
                Ok((batch_keys(&rows, kind, min_chars), sketched, held))
            },
            |first, (keys, sketched, held)| {
                let mut next = held.iter().peekable();
                for (number, keys) in (0..).zip(keys) {
                    let finding = next.next_if(|finding| finding.row == number);
                    exact_rows.push(keys, finding.is_some_and(|finding| finding.is_enough))?;
                }
                if let Some(findings) = &mut findings {
                    findings.add(first, held);
                }
                match (&mut sketches, sketched) {
                    (Some(sketches), Some(batch)) => sketches.add(first, batch, &mut fates),
                    _ => Ok(()),
                }
            },
            tick,
        )?;
        let prompts = exact_rows.decide(&mut fates)?;
        for (row, finding) in findings.iter().flat_map(|findings| findings.contaminated()) {
            fates.set(row, Fate::Contaminated { finding })?;
        }
        let Some(sketches) = sketches else { return Ok((fates, None)) };
        let mut search = sketches.finish(&fates, prompts)?;
        let (wanted, mut sink) = search.pass();
        let is_test = |prompt: &str| exact::is_test(prompt, options.seed, options.test_fraction);
        self.pass(
            |first, batch| Ok(wanted.texts(first, &view(batch, kind)?, is_test)),
            |first, batch| sink.add(first, batch),
            tick,
        )?;
        let found = search.finish(&mut fates, tick)?;
        Ok((fates, Some(found)))
    }

    /// Writes the rows that stay, and those that go.
    fn write<'f>(
        &self,
        folder: &Path,
        fates: &'f mut Fates,
        found: Option<&'f Found>,
        findings: Option<&'f Findings>,
        scratch: &Scratch,
        tick: &mut dyn FnMut() -> Result<()>,
    ) -> Result<Output<'f>> {
        let Job { kind, options, carry, .. } = *self;
        let stays = fates.staying();
        let mut output = Output::create(folder, (kind, carry), fates, found, findings, options.near, scratch)?;
        self.pass(
            |first, batch| {
                let is_test = found.and_then(|found| found.is_test.as_ref());
                let (kept, text_bytes) = split(batch, kind, carry, first, &stays, is_test, options)?;
                Ok((kept, text_bytes, batch.clone()))
            },
            |first, (kept, text_bytes, batch)| {
                output.text_bytes += text_bytes;
                output.write(first, &kept, &batch)
            },
            tick,
        )?;
        Ok(output)
    }
}

/// The columns of a batch of the clean stage.
pub(super) fn view(batch: &RecordBatch, kind: Kind) -> Result<RowsView<'_>> {
    carrying_view(batch, kind, &[])
}

/// The same, with those that are carried along.
pub(super) fn carrying_view<'a>(batch: &'a RecordBatch, kind: Kind, carry: &[String]) -> Result<RowsView<'a>> {
    RowsView::new(batch, kind).and_then(|rows| rows.carrying(batch, carry)).ok_or_else(|| Error::Manifest {
        path: "clean".into(),
        message: "its columns are not those of this version".into(),
        hint: "run the command again with `--overwrite`".into(),
    })
}

fn batch_keys(rows: &RowsView<'_>, kind: Kind, min_chars: u32) -> Vec<RowKeys> {
    let mut lists = Vec::new();
    let keys = (0..rows.len()).map(|index| {
        lists.clear();
        lists.extend(rows.lists().iter().map(|list| list.get(index).collect::<Vec<_>>()));
        exact::keys_of(kind, &lists, min_chars)
    });
    keys.collect()
}

/// The rows that stay, with their side of the split, and their bytes of text; `is_test` decides where there is one.
fn split(
    batch: &RecordBatch,
    kind: Kind,
    carry: &[String],
    first: u32,
    stays: &Bits,
    is_test: Option<&Bits>,
    options: &DedupOptions,
) -> Result<(RecordBatch, u64)> {
    let rows = view(batch, kind)?;
    let stays = |index: usize| stays.get(first + index as u32);
    let side = |index: usize| {
        let by_prompt = || exact::is_test(compare::prompt(&rows, index), options.seed, options.test_fraction);
        let in_test = is_test.map_or_else(by_prompt, |is_test| is_test.get(first + index as u32));
        if in_test { "test" } else { "train" }
    };
    let sides: ArrayRef = Arc::new((0..rows.len()).map(|index| Some(side(index))).collect::<StringArray>());
    let mut columns = batch.columns().to_vec();
    columns.insert(columns.len() - carry.len(), sides);
    let batch = schema::batch(schema::carrying(&schema::split_rows(kind), carry), columns);
    let staying: BooleanArray = (0..rows.len()).map(|index| Some(stays(index))).collect();
    let kept = filter_record_batch(&batch, &staying).map_err(|error| Error::Panic { message: error.to_string() })?;
    let staying = (0..rows.len()).filter(|&index| stays(index));
    let contents = staying.flat_map(|index| rows.lists().iter().flat_map(move |list| list.get(index)));
    let text_bytes = contents.map(|(_, content)| content.len() as u64).sum();
    Ok((kept, text_bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_rows_than_can_be_numbered_are_refused() {
        let most = u64::from(u32::MAX) - 1;
        assert!(check_rows(Path::new("clean"), most).is_ok());
        let message = check_rows(Path::new("clean"), most + 1).unwrap_err().to_string();
        assert!(message.contains("it has more than 4294967294 rows: 4294967295"), "{message}");
    }
}
