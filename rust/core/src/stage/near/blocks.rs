//! The blocks of rows that share numbers, from sorted runs to portions of rows for the threads.

use super::runs::{Keys, Merge, Pair, RunWriter, Sorted, Sorter, Wide, items_of};
use super::scratch::Scratch;
use crate::dedup::near::block::Blocks;
use crate::error::Result;
use crate::stage::bits::Bits;

/// A thread takes up blocks of about so many rows at a time.
const ROWS_AT_A_TIME: usize = 256;

/// All rows of all blocks: by block, in it by wish, then by number.
pub(super) struct Members {
    /// First row of the block, wish, row.
    rows: Sorted<Wide>,
}

/// How blocks are made.
pub(super) struct Making<'a> {
    pub(super) scratch: &'a Scratch,
    pub(super) name: &'static str,
    /// Number of all rows.
    pub(super) rows: usize,
    /// Bytes of memory for the members.
    pub(super) bytes: usize,
    pub(super) workers: usize,
}

impl Making<'_> {
    /// The blocks of the rows that share keys, `counts` being true of them, and which rows are in one. `wishes` holds a
    /// wish of every row: the less, the earlier it comes in its block.
    pub(super) fn blocks(
        &self,
        keys: &Sorted<Pair>,
        counts: impl Fn(u32) -> bool,
        wishes: Option<RunWriter>,
    ) -> Result<(Members, Bits)> {
        let mut blocks = Blocks::new(self.rows);
        let (mut before, mut items): (Option<Pair>, _) = (None, keys.items()?);
        while let Some((key, row)) = items.next()? {
            if counts(row) {
                match before {
                    Some((same, first)) if same == key => blocks.join(first, row),
                    _ => before = Some((key, row)),
                }
            }
        }
        drop(items);
        let mut is_member = Bits::new(self.rows);
        for row in 0..self.rows as u32 {
            let first = blocks.first(row);
            if first != row {
                is_member.set(first, true);
                is_member.set(row, true);
            }
        }
        let wishes = wishes.map(RunWriter::finish::<Pair>).transpose()?;
        let mut wishes = wishes.as_ref().map(items_of::<Pair>).transpose()?;
        let mut rows = Sorter::new(self.scratch, (self.name, Keys::Any), self.rows, self.bytes, self.workers);
        for row in 0..self.rows as u32 {
            let wish = wishes.as_mut().map_or(Ok(None), Merge::next)?.map_or(0, |(wish, _)| wish);
            if is_member.get(row) {
                rows.push((blocks.first(row).into(), wish, row))?;
            }
        }
        Ok((Members { rows: rows.finish()? }, is_member))
    }
}

/// Whole blocks: their rows, and where each block ends.
#[derive(Default)]
pub(super) struct Portion {
    pub(super) rows: Vec<u32>,
    pub(super) ends: Vec<usize>,
}

impl Members {
    /// The blocks in portions, in the order of their first rows.
    pub(super) fn portions(&self) -> Result<Portions<'_>> {
        Ok(Portions { items: self.rows.items()?, next: None })
    }
}

/// Goes through the blocks.
pub(super) struct Portions<'a> {
    items: Merge<'a, Wide>,
    next: Option<Wide>,
}

impl Portions<'_> {
    fn portion(&mut self) -> Result<Option<Portion>> {
        let mut portion = Portion::default();
        let mut block = None;
        while let Some((first, wish, row)) =
            self.next.take().map_or_else(|| self.items.next(), |next| Ok(Some(next)))?
        {
            if block != Some(first) {
                if block.is_some() {
                    portion.ends.push(portion.rows.len());
                }
                if portion.rows.len() >= ROWS_AT_A_TIME {
                    self.next = Some((first, wish, row));
                    return Ok(Some(portion));
                }
                block = Some(first);
            }
            portion.rows.push(row);
        }
        portion.ends.extend(block.map(|_| portion.rows.len()));
        Ok(block.map(|_| portion))
    }
}

impl Iterator for Portions<'_> {
    type Item = Result<Portion>;

    fn next(&mut self) -> Option<Result<Portion>> {
        self.portion().transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::super::scratch::in_scratch;
    use super::*;

    #[test]
    fn blocks_come_whole_in_portions_and_in_the_order_of_the_wishes() {
        in_scratch(|scratch| {
            // Blocks of one to twelve rows that lie apart, and one of a thousand.
            let rows = 6000u32;
            let key = |row: u32| if row >= 5000 { 9999 } else { u64::from(row % 700) };
            let mut keys = Sorter::new(scratch, ("bands", Keys::Any), usize::MAX, 0, 2);
            let mut wishes = RunWriter::create(scratch, "wishes")?;
            for row in 0..rows {
                wishes.push((u64::from(row) * 7919 % 5, row))?;
                if row % 10 != 3 {
                    keys.push((key(row), row))?;
                }
            }
            let making = Making { scratch, name: "members", rows: rows as usize, bytes: 0, workers: 1 };
            let (members, is_member) = making.blocks(&keys.finish()?, |row| row % 10 != 4, Some(wishes))?;
            let counts = |row: u32| row % 10 != 3 && row % 10 != 4;
            let mut expected: Vec<Vec<u32>> = Vec::new();
            for number in 0..=700 {
                let of = if number == 700 { 9999 } else { number };
                let mut block: Vec<u32> = (0..rows).filter(|&row| counts(row) && key(row) == of).collect();
                block.sort_by_key(|&row| (u64::from(row) * 7919 % 5, row));
                expected.push(block);
            }
            expected.retain(|block| block.len() > 1);
            expected.sort_by_key(|block| block.iter().min().copied());
            let mut found = Vec::new();
            for portion in members.portions()? {
                let portion = portion?;
                let mut start = 0;
                for &end in &portion.ends {
                    found.push(portion.rows[start..end].to_vec());
                    start = end;
                }
                assert!(start == portion.rows.len() && start < ROWS_AT_A_TIME + 1000);
            }
            assert_eq!(found, expected);
            let all: Vec<u32> = found.concat();
            assert_eq!(is_member.rows().count(), all.len());
            assert!(all.iter().all(|&row| is_member.get(row)));
            Ok(())
        })
        .unwrap();
    }
}
