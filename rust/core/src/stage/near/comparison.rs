//! The blocks on the threads: every block is compared on one of them, what is found is written in the order of the blocks.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::NearOptions;
use super::blocks::{Members, Portion};
use super::log::Log;
use crate::dedup::near::document::Document;
use crate::dedup::near::join::{Join, Match};
use crate::error::{Error, Result};
use crate::stage::ordered;

/// Bytes that a comparison takes for each row of its block, whatever the budget.
const BYTES_PER_MEMBER: usize = 12;

/// How blocks are compared.
pub(super) struct Comparison<'a> {
    options: &'a NearOptions,
    workers: usize,
    /// Bytes for each worker.
    budget: usize,
}

impl Comparison<'_> {
    pub(super) fn new(options: &NearOptions, rows: usize, workers: usize) -> Comparison<'_> {
        Comparison { options, workers, budget: options.free(rows) / (2 * workers) }
    }

    /// Hands every block to `work` on some thread, without the rows that `counts` is not true of, and what `work` found to
    /// `write`, block by block.
    pub(super) fn each(
        &self,
        members: &Members,
        texts: &Log,
        work: impl Fn(&mut Join<'_, &mut dyn FnMut(u32) -> Result<Document>>, &mut Vec<Match>) -> Result<()> + Sync,
        counts: impl Fn(u32) -> bool + Sync,
        mut write: impl FnMut(Match) -> Result<()> + Send,
        tick: &mut dyn FnMut() -> Result<()>,
    ) -> Result<()> {
        // A block may take long, so the wish to stop is looked for at every row. Portions from this one on need not be
        // compared; those before one that failed go on, as the first failure decides.
        let needless_from = AtomicUsize::new(usize::MAX);
        let compare = |(number, mut portion): (usize, Portion)| {
            // At most one match a row; what is not written to takes no memory.
            let mut found = Vec::with_capacity(portion.rows.len());
            let mut start = 0;
            for &end in &portion.ends {
                let block = retain(&mut portion.rows[start..end], &counts);
                start = end;
                let mut load = |row: u32| {
                    if number >= needless_from.load(Ordering::Relaxed) {
                        Err(Error::Interrupted)
                    } else {
                        texts.read(row).map(Document::new)
                    }
                };
                let load: &mut dyn FnMut(u32) -> Result<Document> = &mut load;
                let budget = self.budget.saturating_sub(BYTES_PER_MEMBER * block.len()).max(self.budget / 2);
                let mut join = Join { threshold: self.options.threshold, budget, rows: block, load };
                if let Err(error) = work(&mut join, &mut found) {
                    needless_from.fetch_min(number + 1, Ordering::Relaxed);
                    return Err(error);
                }
            }
            Ok(found)
        };
        ordered::for_each(
            self.workers,
            members.portions()?.enumerate().map(|(number, portion)| Ok((number, portion?))),
            compare,
            |found| {
                let mut found = found.into_iter();
                found.try_for_each(&mut write).inspect_err(|_| needless_from.store(0, Ordering::Relaxed))
            },
            || tick().inspect_err(|_| needless_from.store(0, Ordering::Relaxed)),
        )
    }
}

/// Moves the rows that `counts` is true of to the front, in their order, and gives them.
fn retain(rows: &mut [u32], counts: impl Fn(u32) -> bool) -> &[u32] {
    let mut kept = 0;
    for at in 0..rows.len() {
        if counts(rows[at]) {
            rows[kept] = rows[at];
            kept += 1;
        }
    }
    &rows[..kept]
}
