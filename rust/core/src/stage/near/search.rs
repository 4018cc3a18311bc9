//! The second pass over the rows, which takes the words of those that must be compared, and the comparison of all of them.

use super::blocks::{Making, Members};
use super::compare::{self, BatchTexts};
use super::comparison::Comparison;
use super::log::{Log, LogWriter};
use super::prompts::Prompts;
use super::runs::{Pair, Sorter};
use super::scratch::Scratch;
use super::{Compare, NearOptions};
use crate::dedup::near::join::Match;
use crate::dedup::near::{Bands, Policy};
use crate::error::Result;
use crate::record::Kind;
use crate::schema::RowsView;
use crate::stage::bits::{Bits, Numbered};
use crate::stage::fate::Fate;
use crate::stage::fates::Fates;

/// What the first pass has found, and what the second one adds.
pub(in crate::stage) struct Search<'a> {
    options: &'a NearOptions,
    kind: Kind,
    workers: usize,
    scratch: &'a Scratch,
    bands: Bands,
    members: Members,
    is_member: Bits,
    ids: LogWriter,
    texts: LogWriter,
    prompts: Option<Prompts<'a>>,
}

/// What a worker of the second pass must know.
pub(in crate::stage) struct Wanted<'s> {
    kind: Kind,
    compare: Compare,
    bands: Bands,
    is_member: &'s Bits,
    is_first: Option<&'s Bits>,
}

impl Wanted<'_> {
    /// The words that are needed of a batch whose first row has this number.
    pub(in crate::stage) fn texts(
        &self,
        first: u32,
        rows: &RowsView<'_>,
        is_test: impl Fn(&str) -> bool,
    ) -> BatchTexts {
        let is_member = |row: u32| self.is_member.get(first + row);
        let is_first = |row: u32| self.is_first.is_some_and(|is_first| is_first.get(first + row));
        compare::texts(rows, self.kind, self.compare, self.bands, is_member, is_first, is_test)
    }
}

/// Writes what the workers of the second pass found.
pub(in crate::stage) struct TextsSink<'s, 'a> {
    ids: &'s mut LogWriter,
    texts: &'s mut LogWriter,
    /// Words, bands and sides of the prompts.
    prompts: Option<(&'s mut LogWriter, &'s mut Sorter<'a, Pair>, &'s mut Bits)>,
}

impl TextsSink<'_, '_> {
    /// Adds a batch whose first row has this number.
    pub(in crate::stage) fn add(&mut self, first: u32, batch: BatchTexts) -> Result<()> {
        for (row, id, words) in batch.rows {
            self.ids.push(first + row, id.as_bytes())?;
            self.texts.push(first + row, &words)?;
        }
        let Some((texts, bands, is_test)) = &mut self.prompts else { return Ok(()) };
        for (row, words) in batch.prompts {
            texts.push(first + row, &words)?;
        }
        for (key, row) in batch.prompt_pairs {
            bands.push((key, first + row))?;
        }
        batch.tests.into_iter().for_each(|row| is_test.set(first + row, true));
        Ok(())
    }
}

/// What was found.
pub(in crate::stage) struct Found {
    ids: Log,
    /// Rows that stay for others, by number of their cluster.
    pub(in crate::stage) representatives: Numbered,
    /// Per row, whether it is of the test side; none if the rows are not split.
    pub(in crate::stage) is_test: Option<Bits>,
}

impl Found {
    /// The id of a row of a block.
    pub(in crate::stage) fn id(&self, row: u32) -> Result<String> {
        Ok(String::from_utf8_lossy(&self.ids.read(row)?).into_owned())
    }
}

impl<'a> Search<'a> {
    pub(super) fn new(
        (options, kind, workers): (&'a NearOptions, Kind, usize),
        scratch: &'a Scratch,
        (members, is_member): (Members, Bits),
        prompts: Option<Prompts<'a>>,
    ) -> Result<Self> {
        Ok(Search {
            options,
            kind,
            workers,
            scratch,
            bands: options.bands()?,
            members,
            is_member,
            ids: LogWriter::create(scratch, "ids")?,
            texts: LogWriter::create(scratch, "texts")?,
            prompts,
        })
    }

    /// The two sides of the second pass.
    pub(in crate::stage) fn pass(&mut self) -> (Wanted<'_>, TextsSink<'_, 'a>) {
        let Search { kind, options, bands, is_member, ids, texts, prompts, .. } = self;
        let (is_first, prompts) = match prompts {
            Some(Prompts { is_first, is_test, texts, bands, .. }) => (Some(&*is_first), Some((texts, bands, is_test))),
            None => (None, None),
        };
        let wanted = Wanted { kind: *kind, compare: options.compare, bands: *bands, is_member, is_first };
        (wanted, TextsSink { ids, texts, prompts })
    }

    /// Compares the blocks, and enters what was found in the fates.
    pub(in crate::stage) fn finish(self, fates: &mut Fates, tick: &mut dyn FnMut() -> Result<()>) -> Result<Found> {
        let Search { options, kind, workers, scratch, members, is_member, ids, texts, prompts, .. } = self;
        drop(is_member);
        let (ids, texts) = (ids.finish()?, texts.finish()?);
        let compare = Comparison::new(options, fates.len(), workers);
        let bytes = options.buffer(fates.len(), 8);
        let making = Making { scratch, name: "prompt-members", rows: fates.len(), bytes, workers };
        let is_test = prompts.map(|prompts| prompts.sides(&making, &compare, tick)).transpose()?;

        compare.each(
            &members,
            &texts,
            |join, found| match options.policy {
                Policy::Direct => join.direct(&mut |duplicate| found.push(duplicate)),
                Policy::Component => join.component(&mut |duplicate| found.push(duplicate)),
            },
            |_| true,
            |Match { row, other, similarity }| fates.set(row, Fate::Near { kept: other, similarity }),
            tick,
        )?;
        if options.finds_contradictions(kind) {
            let stays = fates.staying();
            compare.each(
                &members,
                &texts,
                |join, found| join.first_opposites(&[0, 2, 1], &mut |opposite| found.push(opposite)),
                |row| stays.get(row),
                |Match { row, other, similarity }| fates.set(row, Fate::Contradiction { other, similarity }),
                tick,
            )?;
        }
        Ok(Found { ids, representatives: fates.settle()?, is_test })
    }
}
