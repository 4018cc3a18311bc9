//! What the dedup stage does with each row, and which reason wins where there are several.

use crate::dedup::exact;

/// What happens to a row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Fate {
    /// It stays.
    Keep,
    /// It holds the text of a benchmark.
    Contaminated {
        /// Number of the finding that says so.
        finding: u32,
    },
    /// It says the same as another row.
    Exact {
        /// That row.
        of: u32,
        /// The row that stays: `of`, or the one that stays for it.
        kept: u32,
    },
    /// Its answer is given to many prompts.
    Constant {
        /// To how many.
        prompts: u32,
    },
    /// A preference whose two answers are near-duplicates of each other.
    NoSignal {
        /// Their Jaccard index.
        similarity: f64,
    },
    /// It is a near-duplicate of a row that stays.
    Near {
        /// That row.
        kept: u32,
        /// Their Jaccard index.
        similarity: f64,
    },
    /// A preference that another one contradicts.
    Contradiction {
        /// The other one.
        other: u32,
        /// The Jaccard index of the two, once the answers of one are swapped.
        similarity: f64,
    },
}

impl From<exact::Fate> for Fate {
    fn from(fate: exact::Fate) -> Self {
        match fate {
            exact::Fate::Keep => Fate::Keep,
            exact::Fate::Duplicate { of } => Fate::Exact { of, kept: of },
            exact::Fate::Constant { prompts } => Fate::Constant { prompts },
        }
    }
}

/// Brings the fates of rows in line that go for the sake of a row that goes, too: where that one has somebody who stays for
/// it, it stands for both; where it goes for itself, both go for the same reason.
pub(super) fn settle(fates: &mut [Fate]) {
    for at in 0..fates.len() {
        if let Fate::Near { kept, .. } = fates[at]
            && fates[kept as usize] != Fate::Keep
        {
            fates[at] = fates[kept as usize];
        }
    }
    for at in 0..fates.len() {
        if let Fate::Exact { of, .. } = fates[at] {
            match fates[of as usize] {
                Fate::Keep | Fate::Exact { .. } => {}
                Fate::Near { kept, .. } => fates[at] = Fate::Exact { of, kept },
                alone => fates[at] = alone,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_goes_for_a_row_that_goes_follows_it() {
        let opposite = Fate::Contradiction { other: 3, similarity: 0.9 };
        let near = |kept| Fate::Near { kept, similarity: 0.9 };
        let exact = |of| Fate::Exact { of, kept: of };
        let mut fates = [Fate::Keep, near(0), exact(1), opposite, near(3), exact(3), exact(0), exact(4)];
        settle(&mut fates);
        let chained = Fate::Exact { of: 1, kept: 0 };
        assert_eq!(fates, [Fate::Keep, near(0), chained, opposite, opposite, opposite, exact(0), opposite]);
    }
}
