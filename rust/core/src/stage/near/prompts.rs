//! Which side of the train/test split each row is on: one prompt is never on both, nor are near-duplicate ones.

use super::blocks::Making;
use super::comparison::Comparison;
use super::log::LogWriter;
use super::runs::{Keys, Pair, Sorted, Sorter};
use super::scratch::Scratch;
use super::{MOST_BUFFERS, NearOptions};
use crate::dedup::near::join::Match;
use crate::error::Result;
use crate::stage::bits::Bits;

/// The prompts of all rows.
pub(super) struct Prompts<'a> {
    /// All rows by their prompts.
    rows: Sorted<Pair>,
    /// The first row of each prompt.
    pub(super) is_first: Bits,
    /// Those of them that the hash puts into the test set.
    pub(super) is_test: Bits,
    /// Words of the prompts.
    pub(super) texts: LogWriter,
    /// Their bands.
    pub(super) bands: Sorter<'a, Pair>,
}

impl<'a> Prompts<'a> {
    /// From one number for each row's prompt.
    pub(super) fn new(
        sorted: Sorted<Pair>,
        options: &NearOptions,
        scratch: &'a Scratch,
        rows: usize,
        workers: usize,
    ) -> Result<Self> {
        let (mut is_first, mut distinct) = (Bits::new(rows), 0usize);
        let (mut items, mut before) = (sorted.items()?, None);
        while let Some((prompt, row)) = items.next()? {
            if before != Some(prompt) {
                is_first.set(row, true);
                distinct += 1;
                before = Some(prompt);
            }
        }
        drop(items);
        let bytes = options.buffer(rows, 2).min(MOST_BUFFERS);
        Ok(Prompts {
            rows: sorted,
            is_first,
            is_test: Bits::new(rows),
            texts: LogWriter::create(scratch, "prompt-texts")?,
            bands: Sorter::new(
                scratch,
                ("prompt-bands", Keys::Random),
                distinct.saturating_mul(options.bands),
                bytes,
                workers,
            ),
        })
    }

    /// Whether each row is of the test side: that of the first row among those with near-duplicate prompts.
    pub(super) fn sides(
        self,
        making: &Making<'_>,
        compare: &Comparison<'_>,
        tick: &mut dyn FnMut() -> Result<()>,
    ) -> Result<Bits> {
        let Prompts { rows, is_first, mut is_test, texts, bands } = self;
        drop(is_first);
        let (members, _) = making.blocks(&bands.finish()?, |_| true, None)?;
        compare.each(
            &members,
            &texts.finish()?,
            |join, found| {
                let rows = join.rows;
                let places = join.connect()?;
                let matches = rows.iter().zip(places);
                found.extend(matches.map(|(&row, place)| Match { row, other: rows[place as usize], similarity: 1.0 }));
                Ok(())
            },
            |_| true,
            // The first of a cluster follows itself alone, so its side is what it was.
            |Match { row, other, .. }| {
                is_test.set(row, is_test.get(other));
                Ok(())
            },
            tick,
        )?;
        let (mut items, mut first) = (rows.items()?, None);
        while let Some((prompt, row)) = items.next()? {
            match first {
                Some((same, of)) if same == prompt => is_test.set(row, is_test.get(of)),
                _ => first = Some((prompt, row)),
            }
        }
        Ok(is_test)
    }
}
