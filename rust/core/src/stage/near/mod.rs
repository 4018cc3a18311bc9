//! Near-duplicates of a whole data set, on any number of threads and in bounded memory.
//!
//! 1. Every row is sketched (`sketches`); the numbers of its bands go to sorted runs (`runs`) on the disk.
//! 2. Rows that share a number make blocks (`blocks`). The words of their rows are written to the disk (`log`), and those of
//!    one row of each prompt (`search`).
//! 3. Each block is compared exactly (`comparison`), one block on one thread.
//!
//! In memory stay `BYTES_PER_ROW`, and what [`NearOptions::memory_limit`] leaves for buffers; of that not more than helps.

use serde::Serialize;

use crate::dedup::near::{Bands, Keep, Policy};
use crate::error::{Error, Result};
use crate::record::Kind;

mod blocks;
pub(super) mod compare;
mod comparison;
pub(super) mod log;
mod prompts;
pub(super) mod runs;
pub(super) mod scratch;
mod search;
mod sketches;
mod sort;

pub(super) use search::Found;
pub(super) use sketches::Sketches;

/// What stays in memory for every row: four bytes while blocks are made, and up to eight times one bit.
const BYTES_PER_ROW: u64 = 5;
/// What the stage takes without any row: the process, batches on their way, buffers of files.
const BASE_BYTES: u64 = 48 << 20;
/// What must be left for buffers.
const LEAST_BUFFERS: u64 = 2 << 20;
/// Buffers of a phase take no more than this, however much they may: more saves no time, as runs are merged as a stream.
const MOST_BUFFERS: usize = 32 << 20;

/// What of a row is compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Compare {
    /// What the user says; for preferences the prompt.
    Prompt,
    /// All turns but those of the system; for preferences the prompt and both answers, each for itself.
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
        let least = BASE_BYTES + rows * BYTES_PER_ROW + LEAST_BUFFERS + taken;
        if self.memory_limit < least {
            let of_rows = if rows == 0 { String::new() } else { format!(" for {rows} rows") };
            let found = self.memory_limit;
            let message = format!("`dedup.memory_limit` must be at least {least} bytes{of_rows}, found: {found}");
            return config("memory_limit", message, "give it more, or set `dedup.near` to false");
        }
        Ok(())
    }

    /// The S-curve of the bands, and what it means for the pairs that are looked for.
    pub(super) fn report(&self, clusters: u32) -> Result<serde_json::Value> {
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
    pub(super) fn free(&self, rows: usize) -> usize {
        self.memory_limit.saturating_sub(BASE_BYTES + rows as u64 * BYTES_PER_ROW) as usize
    }

    /// Bytes for one of the buffers of a phase: a part of all.
    pub(super) fn buffer(&self, rows: usize, part: usize) -> usize {
        self.free(rows).min(2 * MOST_BUFFERS) / part
    }
}
