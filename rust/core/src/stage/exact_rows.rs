//! Exact duplicates and constant answers of a whole data set: the rules of [`crate::dedup::exact`] over sorted runs on the
//! disk, so that no key of any row stays in memory.

use super::bits::Bits;
use super::fate::Fate;
use super::fates::Fates;
use super::near::runs::{Keys, Merge, Pair, Sorted, Sorter, Wide};
use super::near::scratch::Scratch;
use crate::dedup::exact::{AnswerKey, Options};
use crate::error::Result;
use crate::record::Kind;

/// The keys of one row: of the whole row, of its prompt, of its answers.
pub(super) type RowKeys = (u128, u64, [AnswerKey; 2]);

/// Bytes of memory for all buffers at most; more would save little time.
const MOST: usize = 16 << 20;

/// Collects the keys of all rows.
pub(super) struct ExactRows<'a> {
    options: &'a Options,
    rows: u32,
    keys: Sorter<'a, Wide>,
    /// Answer, prompt, row; rejected answers for themselves.
    answers: Vec<Sorter<'a, Wide>>,
    prompts: Option<Sorter<'a, Pair>>,
}

impl<'a> ExactRows<'a> {
    /// For so many rows, in so many bytes; `with_prompts` says whether [`ExactRows::decide`] gives the prompts.
    pub(super) fn new(
        scratch: &'a Scratch,
        options: &'a Options,
        (kind, rows): (Kind, usize),
        with_prompts: WithPrompts,
        (bytes, workers): (usize, usize),
    ) -> Self {
        let bytes = bytes.min(MOST) / 4;
        let columns = match kind {
            _ if !options.constant_answer.enabled => 0,
            Kind::Chat => 1,
            Kind::Preference => 2,
        };
        let answers = ["answers", "rejected-answers"][..columns].iter();
        ExactRows {
            options,
            rows: 0,
            keys: Sorter::new(scratch, ("keys", Keys::Random), rows, bytes, workers),
            answers: answers.map(|name| Sorter::new(scratch, (name, Keys::Random), rows, bytes, workers)).collect(),
            prompts: (with_prompts == WithPrompts::Yes)
                .then(|| Sorter::new(scratch, ("prompts", Keys::Random), rows, bytes, workers)),
        }
    }

    /// Adds the next row's keys. One that is `aside` goes for a reason of its own and stands for nobody.
    pub(super) fn push(&mut self, (row, prompt, answers): RowKeys, aside: bool) -> Result<()> {
        let number = self.rows;
        self.rows += 1;
        if let Some(prompts) = &mut self.prompts {
            prompts.push((prompt, number))?;
        }
        if aside {
            return Ok(());
        }
        if self.options.exact {
            self.keys.push(((row >> 64) as u64, row as u64, number))?;
        }
        for (sorter, answer) in self.answers.iter_mut().zip(answers) {
            if let Some(answer) = answer {
                sorter.push((answer.get(), prompt, number))?;
            }
        }
        Ok(())
    }

    /// Enters what happens to each row, and gives the rows by prompt if they are wanted.
    pub(super) fn decide(self, fates: &mut Fates) -> Result<Option<Sorted<Pair>>> {
        let copies = copies(&self.keys.finish()?, fates)?;
        for answers in self.answers {
            constant(&answers.finish()?, self.options.constant_answer.min_prompts, &copies, fates)?;
        }
        // A duplicate of a row that goes has nobody to stand for it: it goes for the same reason.
        for row in copies.rows() {
            if let Fate::Exact { of, .. } = fates.get(row)?
                && let constant @ Fate::Constant { .. } = fates.get(of)?
            {
                fates.set(row, constant)?;
            }
        }
        self.prompts.map(Sorter::finish).transpose()
    }
}

/// Whether the prompts of rows are needed later on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WithPrompts {
    No,
    Yes,
}

/// Of rows with the same key all but the first.
fn copies(keys: &Sorted<Wide>, fates: &mut Fates) -> Result<Bits> {
    let (mut copies, mut items) = (Bits::new(fates.len()), keys.items()?);
    let mut first: Option<Wide> = None;
    while let Some((high, low, row)) = items.next()? {
        match first {
            Some((a, b, of)) if (a, b) == (high, low) => {
                copies.set(row, true);
                fates.set(row, Fate::Exact { of, kept: of })?;
            }
            _ => first = Some((high, low, row)),
        }
    }
    Ok(copies)
}

/// Rows whose answer is given to at least `min_prompts` prompts, copies not counted.
fn constant(answers: &Sorted<Wide>, min_prompts: u32, copies: &Bits, fates: &mut Fates) -> Result<()> {
    // One reader counts the prompts of an answer; the other one follows and marks the rows.
    let (mut ahead, mut behind) = (answers.items()?, answers.items()?);
    let mut item = next(&mut ahead, copies)?;
    while let Some((answer, mut prompt, _)) = item {
        let (mut rows, mut prompts) = (0u32, 1);
        while let Some((same, another, _)) = item
            && same == answer
        {
            prompts += u32::from(another != prompt);
            prompt = another;
            rows += 1;
            item = next(&mut ahead, copies)?;
        }
        for _ in 0..rows {
            if let Some((.., row)) = next(&mut behind, copies)?
                && prompts >= min_prompts
            {
                fates.set(row, Fate::Constant { prompts })?;
            }
        }
    }
    Ok(())
}

/// The next answer of a row that is no copy.
fn next(items: &mut Merge<'_, Wide>, copies: &Bits) -> Result<Option<Wide>> {
    loop {
        match items.next()? {
            Some((.., row)) if copies.get(row) => {}
            other => return Ok(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::near::scratch::in_scratch;
    use super::*;
    use crate::dedup::exact::{self, ConstantAnswer, Keys};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_decided_on_the_disk_is_what_is_decided_in_memory(
            rows in prop::collection::vec((0..40u128, 0..6u64, 0..5u64, 0..5u64, 0..9u8), 0..120),
            (exact, enabled) in (any::<bool>(), any::<bool>()),
            min_prompts in 1..5u32,
        ) {
            let options = Options { exact, constant_answer: ConstantAnswer { enabled, min_prompts, min_chars: 0 } };
            let mut keys = Keys::default();
            let expected = |keys: &Keys| keys.decide(&options).into_iter().map(|fate| match fate {
                exact::Fate::Keep => Fate::Keep,
                exact::Fate::Duplicate { of } => Fate::Exact { of, kept: of },
                exact::Fate::Constant { prompts } => Fate::Constant { prompts },
            }).collect::<Vec<_>>();
            let found = in_scratch(|scratch| {
                let what = (Kind::Preference, rows.len());
                let mut disk = ExactRows::new(scratch, &options, what, WithPrompts::Yes, (0, 2));
                for &(row, prompt, a, b, chance) in &rows {
                    let row = (row << 64 | row, prompt, [a, b].map(std::num::NonZeroU64::new));
                    keys.push(row.0, row.1, row.2);
                    if chance == 0 {
                        keys.set_last_aside();
                    }
                    disk.push(row, chance == 0)?;
                }
                let mut fates = Fates::new(scratch, rows.len(), 0)?;
                let prompts = disk.decide(&mut fates)?;
                assert!(prompts.is_some());
                (0..rows.len() as u32).map(|row| fates.get(row)).collect::<Result<Vec<_>>>()
            });
            prop_assert_eq!(found.unwrap(), expected(&keys));
        }
    }
}
