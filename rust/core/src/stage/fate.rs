//! What the dedup stage does with a row.

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

/// Bytes of a fate on the disk.
pub(super) const FATE_BYTES: usize = 16;

impl Fate {
    /// Which fate, two numbers of four bytes, or one of four and one of eight; zeros for a row that stays.
    pub(super) fn to_bytes(self) -> [u8; FATE_BYTES] {
        let (tag, first, rest): (u32, u32, u64) = match self {
            Fate::Keep => (0, 0, 0),
            Fate::Contaminated { finding } => (1, finding, 0),
            Fate::Exact { of, kept } => (2, of, kept.into()),
            Fate::Constant { prompts } => (3, prompts, 0),
            Fate::NoSignal { similarity } => (4, 0, similarity.to_bits()),
            Fate::Near { kept, similarity } => (5, kept, similarity.to_bits()),
            Fate::Contradiction { other, similarity } => (6, other, similarity.to_bits()),
        };
        let mut bytes = [0; FATE_BYTES];
        bytes[..4].copy_from_slice(&tag.to_le_bytes());
        bytes[4..8].copy_from_slice(&first.to_le_bytes());
        bytes[8..].copy_from_slice(&rest.to_le_bytes());
        bytes
    }

    /// The fate of these bytes.
    pub(super) fn from_bytes(bytes: &[u8]) -> Fate {
        let number = |at: usize| bytes[at..].first_chunk().map_or(0, |four| u32::from_le_bytes(*four));
        let rest = bytes[8..].first_chunk().map_or(0, |eight| u64::from_le_bytes(*eight));
        let (first, similarity) = (number(4), f64::from_bits(rest));
        match number(0) {
            1 => Fate::Contaminated { finding: first },
            2 => Fate::Exact { of: first, kept: rest as u32 },
            3 => Fate::Constant { prompts: first },
            4 => Fate::NoSignal { similarity },
            5 => Fate::Near { kept: first, similarity },
            6 => Fate::Contradiction { other: first, similarity },
            _ => Fate::Keep,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fate_comes_back_from_its_bytes() {
        let (similarity, far) = (0.812_345_678_9, u32::MAX);
        for fate in [
            Fate::Keep,
            Fate::Contaminated { finding: 7 },
            Fate::Exact { of: 3, kept: far },
            Fate::Constant { prompts: far },
            Fate::NoSignal { similarity },
            Fate::Near { kept: far, similarity },
            Fate::Contradiction { other: 1, similarity },
        ] {
            assert_eq!(Fate::from_bytes(&fate.to_bytes()), fate);
        }
        assert_eq!(Fate::Keep.to_bytes(), [0; FATE_BYTES]);
    }
}
