//! A text's sketch: 128 least values, folded into one number for each band of them.
//!
//! Two rows whose sets have the Jaccard index J share a slot with probability J, a band of r slots with J^r, and at least one
//! of b bands with 1 - (1 - J^r)^b: the S-curve. Rows that share a band are candidates and are compared in full.

use super::hash::{Roll, SHINGLE_WORDS, for_each_word, mix, multiply_fold};
use super::permute::{EMPTY, PERMUTATIONS, Slots, lower, tagged};
use super::words::fold;
use crate::error::{Error, Result};
use crate::simd::{self, Path};

/// How many bands of how many rows of slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bands {
    bands: usize,
    rows: usize,
}

impl Default for Bands {
    fn default() -> Self {
        Bands { bands: 20, rows: 6 }
    }
}

impl Bands {
    /// `bands` bands of `rows` slots each, of which there are 128.
    pub fn new(bands: usize, rows: usize) -> Result<Bands> {
        if bands == 0 || rows == 0 || bands.saturating_mul(rows) > PERMUTATIONS {
            return Err(Error::Config {
                key: "dedup.bands".into(),
                message: format!(
                    "`dedup.bands` times `dedup.rows` must be from 1 to {PERMUTATIONS}, found: {bands} x {rows}"
                ),
                hint: "20 bands of 6 find 99.98 % of the pairs from 0.8 on".into(),
            });
        }
        Ok(Bands { bands, rows })
    }

    /// Number of bands.
    pub fn count(self) -> usize {
        self.bands
    }

    /// The probability that two rows of this Jaccard index become candidates.
    pub fn chance(self, jaccard: f64) -> f64 {
        1.0 - (1.0 - jaccard.powf(self.rows as f64)).powf(self.bands as f64)
    }

    /// The mean of [`Bands::chance`] over all Jaccard indices from `threshold` to 1.
    pub fn recall(self, threshold: f64) -> f64 {
        const STEPS: u32 = 1000;
        let at = |step: u32| threshold + (1.0 - threshold) * (f64::from(step) + 0.5) / f64::from(STEPS);
        (0..STEPS).map(|step| self.chance(at(step))).sum::<f64>() / f64::from(STEPS)
    }
}

/// Makes sketches; keeps its buffers from one text to the next.
pub struct Sketcher {
    path: Path,
    bands: Bands,
    folded: Vec<u8>,
    hashes: Vec<u32>,
}

impl Sketcher {
    /// Sketches for these bands.
    pub fn new(bands: Bands) -> Sketcher {
        Sketcher::with_path(bands, simd::chosen())
    }

    /// As [`Sketcher::new`], for one instruction set.
    pub(super) fn with_path(bands: Bands, path: Path) -> Sketcher {
        Sketcher { path, bands, folded: Vec::new(), hashes: Vec::new() }
    }

    /// One number for each band of a row that is compared in these parts, in place of what `keys` held; none for a row
    /// without a word in one of its parts, which is no near-duplicate of any other.
    ///
    /// Equal shingles of different parts count as different.
    pub fn keys(&mut self, parts: &[&str], keys: &mut Vec<u64>) {
        keys.clear();
        let mut slots = EMPTY;
        for (number, part) in parts.iter().enumerate() {
            if !self.part(part, number, &mut slots) {
                return;
            }
        }
        keys.extend(slots.chunks_exact(self.bands.rows).take(self.bands.bands).enumerate().map(|(band, slots)| {
            let start = mix(band as u64 + 1);
            slots.iter().fold(start, |hash, &slot| multiply_fold(hash ^ u64::from(slot), 0x9E37_79B9_7F4A_7C15))
        }));
    }

    /// Whether there is a word.
    fn part(&mut self, text: &str, number: usize, slots: &mut Slots) -> bool {
        self.folded.clear();
        fold(text, &mut self.folded);
        self.hashes.clear();
        let (hashes, mut roll) = (&mut self.hashes, Roll::default());
        for_each_word(&self.folded, |word, _| {
            roll.push(word);
            if roll.words() >= SHINGLE_WORDS {
                hashes.push(tagged(roll.shingle(), number));
            }
        });
        if hashes.is_empty() && roll.words() > 0 {
            hashes.push(tagged(roll.shingle(), number));
        }
        lower(self.path, hashes, slots);
        !hashes.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(parts: &[&str]) -> Vec<u64> {
        let mut keys = vec![7];
        Sketcher::new(Bands::new(20, 6).unwrap()).keys(parts, &mut keys);
        keys
    }

    #[test]
    fn the_curve_is_that_of_the_choice() {
        let bands = Bands::new(20, 6).unwrap();
        assert!((bands.chance(0.8) - 0.99771).abs() < 1e-5);
        assert!(bands.recall(0.8) > 0.9997);
        assert!(Bands::new(9, 13).unwrap().recall(0.8) < 0.90);
        assert!(bands.chance(0.3) < 0.015);
    }

    #[test]
    fn bands_must_fit_the_slots() {
        for (bands, rows) in [(0, 6), (20, 0), (20, 7), (usize::MAX, 2)] {
            let message = Bands::new(bands, rows).unwrap_err().to_string();
            let expected = format!(
                "`dedup.bands` times `dedup.rows` must be from 1 to 128, found: {bands} x {rows}\n\
                 hint: 20 bands of 6 find 99.98 % of the pairs from 0.8 on"
            );
            assert_eq!(message, expected);
        }
        Bands::new(128, 1).unwrap();
    }

    #[test]
    fn keys_follow_the_words_and_the_part_alone() {
        let text = "The quick brown fox jumps over the lazy dog";
        assert_eq!(keys(&[text]), keys(&["the QUICK brown: fox jumps -- over the lazy dog!"]));
        assert_eq!(keys(&[text]).len(), 20);
        assert_ne!(keys(&[text, "a"]), keys(&["a", text]));
        assert_eq!(keys(&["one two"]), keys(&["One, two."]));
        assert_ne!(keys(&["one two"]), keys(&["two"]));
        assert!(keys(&["…"]).is_empty());
        assert!(keys(&[text, "🙂"]).is_empty());
    }
}
