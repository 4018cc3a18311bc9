//! The first pass over the rows: what they are known by, and which of them meet.

use super::blocks::Making;
use super::compare::BatchSketch;
use super::prompts::Prompts;
use super::runs::{Keys, Pair, RunWriter, Sorted, Sorter};
use super::scratch::Scratch;
use super::search::Search;
use super::{MOST_BUFFERS, NearOptions};
use crate::dedup::near::Keep;
use crate::error::Result;
use crate::record::Kind;
use crate::stage::fate::Fate;
use crate::stage::fates::Fates;

/// Collects the sketches of all rows.
pub(in crate::stage) struct Sketches<'a> {
    options: &'a NearOptions,
    kind: Kind,
    workers: usize,
    scratch: &'a Scratch,
    sorter: Sorter<'a, Pair>,
    wishes: Option<RunWriter>,
}

impl<'a> Sketches<'a> {
    pub(in crate::stage) fn new(
        options: &'a NearOptions,
        kind: Kind,
        rows: usize,
        workers: usize,
        scratch: &'a Scratch,
    ) -> Result<Sketches<'a>> {
        let sketches = if options.finds_contradictions(kind) { 2 } else { 1 };
        let most = rows.saturating_mul(sketches * options.bands);
        let sorter =
            Sorter::new(scratch, ("bands", Keys::Random), most, options.buffer(rows, 2).min(MOST_BUFFERS), workers);
        let wishes = match options.keep {
            Keep::First => None,
            Keep::Longest | Keep::BestScore => Some(RunWriter::create(scratch, "wishes")?),
        };
        Ok(Sketches { options, kind, workers, scratch, sorter, wishes })
    }

    /// Adds a batch whose first row has this number.
    pub(in crate::stage) fn add(&mut self, first: u32, batch: BatchSketch, fates: &mut Fates) -> Result<()> {
        for (key, row) in batch.pairs {
            self.sorter.push((key, first + row))?;
        }
        if let Some(wishes) = &mut self.wishes {
            (first..).zip(batch.wishes).try_for_each(|(row, wish)| wishes.push((wish, row)))?;
        }
        for (row, similarity) in batch.no_signal {
            fates.set(first + row, Fate::NoSignal { similarity })?;
        }
        Ok(())
    }

    /// Ends the first pass. `prompts` has one number for each row's prompt; none if the rows are not split.
    pub(in crate::stage) fn finish(self, fates: &Fates, prompts: Option<Sorted<Pair>>) -> Result<Search<'a>> {
        let Sketches { options, kind, workers, scratch, sorter, wishes } = self;
        let bytes = options.buffer(fates.len(), 8);
        let making = Making { scratch, name: "members", rows: fates.len(), bytes, workers };
        let (members, is_member) = making.blocks(&sorter.finish()?, |row| fates.stays(row), wishes)?;
        let prompts = prompts.map(|rows| Prompts::new(rows, options, scratch, fates.len(), workers)).transpose()?;
        Search::new((options, kind, workers), scratch, (members, is_member), prompts)
    }
}
