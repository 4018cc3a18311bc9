//! Near-duplicates of a whole data set, on any number of threads and in bounded memory.
//!
//! 1. Every row is sketched; the numbers of its bands go to sorted runs (`runs`), which spill to the disk.
//! 2. Rows that share a number make blocks. The words of their rows are written to the disk (`texts`), and those of one
//!    row of each prompt.
//! 3. Each block is compared exactly ([`crate::dedup::near::join`]), one block on one thread.
//!
//! In memory stay 112 bytes a row and what [`NearOptions::memory_limit`] leaves for buffers.
//!
//! Longer than most, because the three passes hand each other what they hold.

use std::cmp::Reverse;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::Serialize;

use super::fate::{Fate, settle};
use super::ordered;
use crate::dedup::near::block::Blocks;
use crate::dedup::near::document::Document;
use crate::dedup::near::join::{Join, Match};
use crate::dedup::near::{Bands, Keep, Policy, by_score};
use crate::error::{Error, Result};
use crate::record::Kind;
use crate::schema::RowsView;

pub(super) mod compare;
mod runs;
pub(super) mod scratch;
mod texts;

use compare::{BatchSketch, BatchTexts};
use runs::Sorter;
use scratch::Scratch;
use texts::{Texts, TextsWriter};

/// What stays in memory for every row: keys, fates, blocks, and where its words are.
const BYTES_PER_ROW: u64 = 112;
/// What the stage takes without any row: batches on their way, buffers of files.
const BASE_BYTES: u64 = 48 << 20;
/// A thread takes up blocks of about so many rows at a time.
const ROWS_AT_A_TIME: usize = 256;

/// What of a row is compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Compare {
    /// What the user says; for preferences the whole prompt.
    Prompt,
    /// All turns; for preferences the prompt and both answers, each for itself.
    #[default]
    Conversation,
    /// What the assistant says; for preferences both answers, each for itself.
    Assistant,
}

impl Compare {
    /// The name in options and reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Compare::Prompt => "prompt",
            Compare::Conversation => "conversation",
            Compare::Assistant => "assistant",
        }
    }
}

/// What is done about near-duplicates.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct NearOptions {
    /// Whether anything is.
    #[serde(rename = "near")]
    pub enabled: bool,
    /// What is compared.
    pub compare: Compare,
    /// From which Jaccard index on rows are near-duplicates.
    pub threshold: f64,
    /// Which rows go.
    pub policy: Policy,
    /// Which row would rather stay.
    pub keep: Keep,
    /// Number of bands.
    pub bands: usize,
    /// Slots of a band.
    pub rows: usize,
    /// Bytes of memory that the stage may take. The result does not depend on it.
    pub memory_limit: u64,
}

impl Default for NearOptions {
    fn default() -> Self {
        NearOptions {
            enabled: true,
            compare: Compare::default(),
            threshold: 0.8,
            policy: Policy::default(),
            keep: Keep::default(),
            bands: 20,
            rows: 6,
            memory_limit: 2_000_000_000,
        }
    }
}

impl NearOptions {
    pub(super) fn bands(&self) -> Result<Bands> {
        Bands::new(self.bands, self.rows)
    }

    /// Whether the compared text tells which answer is preferred.
    fn finds_contradictions(&self, kind: Kind) -> bool {
        kind == Kind::Preference && self.compare == Compare::Conversation
    }

    /// Whether the options can be honoured for so many rows, with so many bytes taken by other things.
    pub(super) fn check(&self, kind: Kind, rows: u64, taken: u64) -> Result<()> {
        let config = |key: &str, message: String, hint: &str| {
            Err(Error::Config { key: format!("dedup.{key}"), message, hint: hint.into() })
        };
        self.bands()?;
        if !(self.threshold > 0.0 && self.threshold <= 1.0) {
            let message = format!("`dedup.threshold` must be above 0 and at most 1, found: {}", self.threshold);
            return config("threshold", message, "0.8 is usual");
        }
        if self.keep == Keep::BestScore && kind == Kind::Chat {
            let message = "`dedup.keep` cannot be `best_score` for chats: they have no scores".to_string();
            return config("keep", message, "use `first` or `longest`");
        }
        let least = BASE_BYTES + rows * BYTES_PER_ROW + (2 << 20) + taken;
        if self.memory_limit < least {
            let of_rows = if rows == 0 { String::new() } else { format!(" for {rows} rows") };
            let found = self.memory_limit;
            let message = format!("`dedup.memory_limit` must be at least {least} bytes{of_rows}, found: {found}");
            return config("memory_limit", message, "give it more, or set `dedup.near` to false");
        }
        Ok(())
    }

    /// The S-curve of the bands, and what it means for the pairs that are looked for.
    pub(super) fn report(&self, clusters: usize) -> Result<serde_json::Value> {
        let bands = self.bands()?;
        let round = |chance: f64| (chance * 1e6).round() / 1e6;
        let curve: serde_json::Map<String, serde_json::Value> = (3..=10)
            .map(|tenth| f64::from(tenth) / 10.0)
            .map(|jaccard| (format!("{jaccard:.1}"), round(bands.chance(jaccard)).into()))
            .collect();
        Ok(serde_json::json!({
            "clusters": clusters,
            "recall_at_threshold": round(bands.chance(self.threshold)),
            "recall_from_threshold": round(bands.recall(self.threshold)),
            "s_curve": curve,
        }))
    }

    /// Bytes for buffers.
    fn free(&self, rows: usize) -> usize {
        self.memory_limit.saturating_sub(BASE_BYTES + rows as u64 * BYTES_PER_ROW) as usize
    }
}

/// The first pass: what the rows are known by.
pub(super) struct Sketches<'a> {
    options: &'a NearOptions,
    kind: Kind,
    workers: usize,
    scratch: &'a Scratch,
    sorter: Sorter<'a>,
    no_signal: Vec<(u32, f64)>,
    lengths: Vec<u64>,
    scores: Vec<Option<f64>>,
}

impl<'a> Sketches<'a> {
    pub(super) fn new(
        options: &'a NearOptions,
        kind: Kind,
        rows: usize,
        workers: usize,
        scratch: &'a Scratch,
    ) -> Sketches<'a> {
        let sketches = if options.finds_contradictions(kind) { 2 } else { 1 };
        let most = rows.saturating_mul(sketches * options.bands);
        let sorter = Sorter::new(scratch, "bands", most, options.free(rows) / 2, workers);
        let (no_signal, lengths, scores) = (Vec::new(), Vec::new(), Vec::new());
        Sketches { options, kind, workers, scratch, sorter, no_signal, lengths, scores }
    }

    /// Adds a batch whose first row has this number.
    pub(super) fn add(&mut self, first: u32, batch: BatchSketch) -> Result<()> {
        for (key, row) in batch.pairs {
            self.sorter.push((key, first + row))?;
        }
        self.no_signal.extend(batch.no_signal.into_iter().map(|(row, similarity)| (first + row, similarity)));
        self.lengths.extend(batch.lengths);
        self.scores.extend(batch.scores);
        Ok(())
    }

    /// Ends the first pass. `prompts` has one number for each row's prompt, or is empty if the rows are not split.
    pub(super) fn finish(self, fates: &mut [Fate], prompts: &[u64]) -> Result<Search<'a>> {
        let Sketches { options, kind, workers, scratch, sorter, no_signal, lengths, scores } = self;
        for (row, similarity) in no_signal {
            if fates[row as usize] == Fate::Keep {
                fates[row as usize] = Fate::NoSignal { similarity };
            }
        }
        let (members, ends) = blocks(sorter, fates.len(), |row| fates[row as usize] == Fate::Keep)?;
        let mut is_member = vec![false; fates.len()];
        for &row in &members {
            is_member[row as usize] = true;
        }
        Ok(Search {
            options,
            kind,
            workers,
            bands: options.bands()?,
            members,
            ends,
            is_member,
            lengths,
            scores,
            first_of_prompt: first_rows(prompts),
            texts: TextsWriter::create(scratch, "texts")?,
            prompt_texts: TextsWriter::create(scratch, "prompt-texts")?,
            prompt_sorter: Sorter::new(
                scratch,
                "prompt-bands",
                prompts.len().saturating_mul(options.bands),
                options.free(fates.len()) / 2,
                workers,
            ),
            tests: Vec::new(),
        })
    }
}

/// For each row the first one with the same number.
fn first_rows(numbers: &[u64]) -> Vec<u32> {
    let mut order: Vec<(u64, u32)> = numbers.iter().copied().zip(0..).collect();
    order.sort_unstable();
    let mut first = vec![0; numbers.len()];
    for same in order.chunk_by(|a, b| a.0 == b.0) {
        for &(_, row) in same {
            first[row as usize] = same[0].1;
        }
    }
    first
}

/// The blocks of the rows that share numbers.
fn blocks(sorter: Sorter<'_>, rows: usize, counts: impl Fn(u32) -> bool) -> Result<(Vec<u32>, Vec<usize>)> {
    let mut blocks = Blocks::new(rows);
    let mut before: Option<(u64, u32)> = None;
    sorter.merge(|(key, row)| {
        if counts(row) {
            match before {
                Some((same, first)) if same == key => blocks.join(first, row),
                _ => before = Some((key, row)),
            }
        }
        Ok(())
    })?;
    Ok(blocks.members())
}

/// The second pass: the words of the rows that must be compared.
pub(super) struct Search<'a> {
    options: &'a NearOptions,
    kind: Kind,
    workers: usize,
    bands: Bands,
    members: Vec<u32>,
    ends: Vec<usize>,
    is_member: Vec<bool>,
    lengths: Vec<u64>,
    scores: Vec<Option<f64>>,
    first_of_prompt: Vec<u32>,
    texts: TextsWriter,
    prompt_texts: TextsWriter,
    prompt_sorter: Sorter<'a>,
    tests: Vec<u32>,
}

/// What a worker of the second pass must know.
pub(super) struct Wanted<'s> {
    kind: Kind,
    compare: Compare,
    bands: Bands,
    is_member: &'s [bool],
    first_of_prompt: &'s [u32],
}

impl Wanted<'_> {
    /// The words that are needed of a batch whose first row has this number.
    pub(super) fn texts(&self, first: u32, rows: &RowsView<'_>, is_test: impl Fn(&str) -> bool) -> BatchTexts {
        let is_member = |row: u32| self.is_member[(first + row) as usize];
        let is_first = |row: u32| self.first_of_prompt.get((first + row) as usize) == Some(&(first + row));
        compare::texts(rows, self.kind, self.compare, self.bands, is_member, is_first, is_test)
    }
}

/// Writes what the workers of the second pass found.
pub(super) struct TextsSink<'s, 'a> {
    texts: &'s mut TextsWriter,
    prompt_texts: &'s mut TextsWriter,
    prompt_sorter: &'s mut Sorter<'a>,
    tests: &'s mut Vec<u32>,
}

impl TextsSink<'_, '_> {
    /// Adds a batch whose first row has this number.
    pub(super) fn add(&mut self, first: u32, batch: BatchTexts) -> Result<()> {
        for (row, id, words) in batch.rows {
            self.texts.push(first + row, &id, &words)?;
        }
        for (row, id, words) in batch.prompts {
            self.prompt_texts.push(first + row, &id, &words)?;
        }
        for (key, row) in batch.prompt_pairs {
            self.prompt_sorter.push((key, first + row))?;
        }
        self.tests.extend(batch.tests.into_iter().map(|row| first + row));
        Ok(())
    }
}

/// What was found.
pub(super) struct Found {
    texts: Texts,
    /// Rows that stay for others, in order.
    pub(super) representatives: Vec<u32>,
    /// Per row, whether it is of the test side; empty if the rows are not split.
    pub(super) is_test: Vec<bool>,
}

impl Found {
    /// The id of a row of a block.
    pub(super) fn id(&self, row: u32) -> Result<String> {
        self.texts.id(row)
    }
}

impl<'a> Search<'a> {
    /// The two sides of the second pass.
    pub(super) fn pass(&mut self) -> (Wanted<'_>, TextsSink<'_, 'a>) {
        let Search { kind, options, bands, is_member, first_of_prompt, .. } = self;
        let wanted = Wanted { kind: *kind, compare: options.compare, bands: *bands, is_member, first_of_prompt };
        let (texts, prompt_texts) = (&mut self.texts, &mut self.prompt_texts);
        (wanted, TextsSink { texts, prompt_texts, prompt_sorter: &mut self.prompt_sorter, tests: &mut self.tests })
    }

    /// Compares the blocks, and enters what was found in the fates.
    pub(super) fn finish(self, fates: &mut [Fate], tick: &mut dyn FnMut() -> Result<()>) -> Result<Found> {
        let Search { options, kind, workers, members, ends, lengths, scores, .. } = self;
        let texts = self.texts.finish()?;
        let compare = Comparison { options, workers, budget: options.free(fates.len()) / (2 * workers) };
        let is_test = if self.first_of_prompt.is_empty() {
            Vec::new()
        } else {
            let prompt_texts = self.prompt_texts.finish()?;
            let (members, ends) = blocks(self.prompt_sorter, fates.len(), |_| true)?;
            compare.sides(&self.first_of_prompt, &self.tests, &prompt_texts, (&members, &ends), tick)?
        };

        let order = |block: &mut Vec<u32>| match options.keep {
            Keep::First => {}
            Keep::Longest => block.sort_by_key(|&row| Reverse(lengths[row as usize])),
            Keep::BestScore => block.sort_by(|&a, &b| by_score(&scores, a, b)),
        };
        compare.each(
            (&members, &ends),
            &texts,
            |join, found| match options.policy {
                Policy::Direct => join.direct(&mut |duplicate| found.push(duplicate)),
                Policy::Component => join.component(&mut |duplicate| found.push(duplicate)),
            },
            order,
            |Match { row, other, similarity }| fates[row as usize] = Fate::Near { kept: other, similarity },
            tick,
        )?;
        if options.finds_contradictions(kind) {
            let mut opposites = Vec::new();
            compare.each(
                (&members, &ends),
                &texts,
                |join, found| join.pairs(&[0, 2, 1], &mut |pair| found.push(pair)),
                |block| block.retain(|&row| fates[row as usize] == Fate::Keep),
                |Match { row, other, similarity }| {
                    opposites.extend([(row, other, similarity), (other, row, similarity)]);
                },
                tick,
            )?;
            opposites.sort_unstable_by_key(|&(row, other, _)| (row, other));
            for same in opposites.chunk_by(|a, b| a.0 == b.0) {
                let (row, other, similarity) = same[0];
                fates[row as usize] = Fate::Contradiction { other, similarity };
            }
        }
        settle(fates);
        let mut representatives: Vec<u32> = fates
            .iter()
            .filter_map(|fate| if let Fate::Near { kept, .. } = fate { Some(*kept) } else { None })
            .collect();
        representatives.sort_unstable();
        representatives.dedup();
        Ok(Found { texts, representatives, is_test })
    }
}

/// How blocks are compared.
struct Comparison<'a> {
    options: &'a NearOptions,
    workers: usize,
    /// Bytes for each worker.
    budget: usize,
}

/// Rows by block, and where each block ends.
type BlockList<'b> = (&'b [u32], &'b [usize]);

impl Comparison<'_> {
    /// Hands every block to `work` on some thread, in the order that `arrange` gives its rows, and what `work` found to
    /// `write`, block by block.
    fn each(
        &self,
        (members, ends): BlockList<'_>,
        texts: &Texts,
        work: impl Fn(&mut Join<'_, &mut dyn FnMut(u32) -> Result<Document>>, &mut Vec<Match>) -> Result<()> + Sync,
        arrange: impl Fn(&mut Vec<u32>) + Sync,
        mut write: impl FnMut(Match) + Send,
        tick: &mut dyn FnMut() -> Result<()>,
    ) -> Result<()> {
        // A block may take long, so the wish to stop is looked for at every row.
        let stop = AtomicBool::new(false);
        let compare = |(from, to): (usize, usize)| {
            let mut found = Vec::new();
            let mut start = if from == 0 { 0 } else { ends[from - 1] };
            for &end in &ends[from..to] {
                let mut block = members[start..end].to_vec();
                start = end;
                arrange(&mut block);
                let mut load = |row: u32| {
                    if stop.load(Ordering::Relaxed) { Err(Error::Interrupted) } else { texts.document(row) }
                };
                let load: &mut dyn FnMut(u32) -> Result<Document> = &mut load;
                let mut join = Join { threshold: self.options.threshold, budget: self.budget, rows: &block, load };
                work(&mut join, &mut found)?;
            }
            Ok(found)
        };
        ordered::for_each(
            self.workers,
            portions(ends).map(Ok),
            compare,
            |found| {
                found.into_iter().for_each(&mut write);
                Ok(())
            },
            || tick().inspect_err(|_| stop.store(true, Ordering::Relaxed)),
        )
    }

    /// The side of every row: that of the first row among those with near-duplicate prompts.
    fn sides(
        &self,
        first_of_prompt: &[u32],
        tests: &[u32],
        texts: &Texts,
        blocks: BlockList<'_>,
        tick: &mut dyn FnMut() -> Result<()>,
    ) -> Result<Vec<bool>> {
        let mut leader: Vec<u32> = (0..first_of_prompt.len() as u32).collect();
        self.each(
            blocks,
            texts,
            |join, found| {
                let rows = join.rows;
                let places = join.connect()?;
                let matches = rows.iter().zip(places);
                found.extend(matches.map(|(&row, place)| Match { row, other: rows[place as usize], similarity: 1.0 }));
                Ok(())
            },
            |_| (),
            |Match { row, other, .. }| leader[row as usize] = other,
            tick,
        )?;
        let mut is_test = vec![false; first_of_prompt.len()];
        for &row in tests {
            is_test[row as usize] = true;
        }
        let side = |&first: &u32| is_test[leader[first as usize] as usize];
        Ok(first_of_prompt.iter().map(side).collect())
    }
}

/// Blocks in portions of about [`ROWS_AT_A_TIME`] rows.
fn portions(ends: &[usize]) -> impl Iterator<Item = (usize, usize)> + Send + '_ {
    let mut from = 0;
    std::iter::from_fn(move || {
        let start = if from == 0 { 0 } else { ends[from - 1] };
        let first = from;
        while from < ends.len() {
            from += 1;
            if ends[from - 1] - start >= ROWS_AT_A_TIME {
                break;
            }
        }
        (first < from).then_some((first, from))
    })
}
