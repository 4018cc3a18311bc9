//! One bit a row: all that is kept in memory of every row once it has been seen.

/// Rows of which something is true.
#[derive(Clone, Debug, Default)]
pub(super) struct Bits {
    words: Vec<u64>,
}

impl Bits {
    /// True of none of `rows` rows.
    pub(super) fn new(rows: usize) -> Bits {
        Bits { words: vec![0; rows.div_ceil(64)] }
    }

    pub(super) fn get(&self, row: u32) -> bool {
        self.words[row as usize / 64] >> (row % 64) & 1 == 1
    }

    pub(super) fn set(&mut self, row: u32, is_true: bool) {
        let (word, bit) = (&mut self.words[row as usize / 64], 1 << (row % 64));
        if is_true { *word |= bit } else { *word &= !bit }
    }

    /// The rows, in order.
    pub(super) fn rows(&self) -> impl Iterator<Item = u32> {
        (0..).zip(&self.words).flat_map(|(at, &word)| {
            let mut left: u64 = word;
            std::iter::from_fn(move || {
                let bit = left.trailing_zeros();
                left &= left.checked_sub(1)?;
                Some(64 * at + bit)
            })
        })
    }

    /// Numbers the rows from 0.
    pub(super) fn numbered(self) -> Numbered {
        let mut count = 0;
        let before = self.words.chunks(8).map(|words| {
            let start = count;
            count += words.iter().map(|word| word.count_ones()).sum::<u32>();
            start
        });
        Numbered { before: before.collect(), count, bits: self }
    }
}

/// Rows with a number each, in their order: half a bit a row on top.
pub(super) struct Numbered {
    bits: Bits,
    /// How many come before each eighth word.
    before: Vec<u32>,
    count: u32,
}

impl Numbered {
    /// How many there are.
    pub(super) fn count(&self) -> u32 {
        self.count
    }

    /// The number of a row, if it has one.
    pub(super) fn number(&self, row: u32) -> Option<u32> {
        let (word, start) = (row as usize / 64, row as usize / 512);
        let whole: u32 = self.bits.words[8 * start..word].iter().map(|word| word.count_ones()).sum();
        let last = (self.bits.words[word] & ((1 << (row % 64)) - 1)).count_ones();
        self.bits.get(row).then(|| self.before[start] + whole + last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_set_unset_listed_and_numbered() {
        let mut bits = Bits::new(3000);
        let rows: Vec<u32> = (0..3000).filter(|row| row % 7 == 3 || row % 64 == 0 || *row == 2999).collect();
        for &row in &rows {
            bits.set(row, true);
        }
        bits.set(5, true);
        bits.set(5, false);
        assert_eq!(bits.rows().collect::<Vec<_>>(), rows);
        assert!(bits.get(2999) && !bits.get(2998));
        let numbered = bits.numbered();
        assert_eq!(numbered.count() as usize, rows.len());
        for row in 0..3000 {
            assert_eq!(numbered.number(row), rows.binary_search(&row).ok().map(|at| at as u32));
        }
        assert_eq!(Bits::new(0).numbered().count(), 0);
    }
}
