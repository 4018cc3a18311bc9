//! How many near-duplicates the chosen bands find among the user's own rows: copies are edited, and looked for.
//!
//! The copies are in memory only, one at a time: nothing is written, and no result of a run depends on them. Each copy is
//! held against its row alone, by the very sketches and comparisons that the stage uses. Among all rows more are found, since
//! a third row can bring two together; so what is said here is the least.

use std::path::Path;

use serde::Serialize;

use super::dedup::{DedupOptions, view};
use super::near::compare;
use super::{Observer, Progress, Ticker, holds_rows, previous, verify};
use crate::dedup::near::document::{Document, normalize};
use crate::dedup::near::join::Join;
use crate::dedup::near::sketch::Sketcher;
use crate::dedup::near::{Bands, SHINGLE_WORDS, words};
use crate::error::{Error, Result};
use crate::shard::PartReader;

/// Rows that are copied at most, evenly spaced: at least half of it, if there are that many.
const ROWS: u64 = 2000;
/// Copies of each.
const COPIES: u64 = 8;
/// A longer row is left out: it would take the time of many.
const MOST_WORDS: usize = 20_000;
/// Buckets between 0 and 1.
const BUCKETS: u32 = 20;
/// Bytes that the comparison of a pair may take.
const BUDGET: usize = 1 << 28;

/// The copies whose Jaccard index with their row is within bounds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Bucket {
    /// From this index on.
    pub from: f64,
    /// To this one: without it, but with 1.
    pub to: f64,
    /// Copies.
    pub pairs: u64,
    /// Those that are found.
    pub found: u64,
    /// How many of them the S-curve of the bands promises: the mean over the copies, 0 to 1.
    pub expected: f64,
}

/// Edits copies of rows of `DIR/clean` and looks for them with these options.
pub fn measure_recall(dir: &Path, options: &DedupOptions, observer: Observer<'_>) -> Result<Vec<Bucket>> {
    let near = &options.near;
    if !near.enabled {
        return Err(Error::Config {
            key: "dedup.near".into(),
            message: "there is no recall to measure with `dedup.near`, found: `false`".into(),
            hint: "set it to true, or leave out `--measure-recall`".into(),
        });
    }
    let mut ticker = Ticker::new(observer);
    let (clean, _, paths) = previous(dir, "clean")?;
    let kind = clean.kind();
    let total: u64 = clean.files.iter().filter(|file| holds_rows(file)).filter_map(|file| file.rows).sum();
    near.check(kind, total, 0)?;
    let bands = near.bands()?;
    verify(dir, "clean", &clean, &mut || ticker.tick(Progress { stage: "recall", done: 0, total, rows: 0 }))?;
    let step = total.div_ceil(ROWS).max(1);
    let mut buckets = buckets(near.threshold);
    let mut search = Search::new(near.threshold, bands);
    let mut first = 0;
    for batch in PartReader::new(paths) {
        let batch = batch?.read()?;
        let rows = view(&batch, kind)?;
        for index in (0..rows.len()).filter(|&index| (first + index as u64).is_multiple_of(step)) {
            let row = first + index as u64;
            ticker.tick(Progress { stage: "recall", done: row, total, rows: row })?;
            let parts = compare::parts(&rows, index, kind, near.compare);
            let parts: Vec<Vec<String>> = parts.iter().map(|part| words(part)).collect();
            let words: usize = parts.iter().map(Vec::len).sum();
            if parts.iter().any(Vec::is_empty) || words > MOST_WORDS {
                continue;
            }
            for copy in 0..COPIES {
                let mut random = Random(options.seed ^ (row * COPIES + copy).wrapping_mul(0x9E37_79B9_7F4A_7C15));
                let rate = rate(near.threshold + (1.0 - near.threshold) * random.share());
                let edited: Vec<Vec<String>> = parts.iter().map(|part| random.edit(part, rate)).collect();
                let look = search.look(&parts, &edited)?;
                if let Some(bucket) = buckets.iter_mut().rev().find(|bucket| bucket.from <= look.similarity) {
                    bucket.pairs += 1;
                    bucket.found += u64::from(look.is_found);
                    bucket.expected += bands.chance(look.together);
                }
            }
        }
        first += rows.len() as u64;
    }
    for bucket in &mut buckets {
        bucket.expected /= bucket.pairs.max(1) as f64;
    }
    Ok(buckets)
}

/// The buckets from a threshold to 1, whose bounds are twentieths but for the threshold.
fn buckets(threshold: f64) -> Vec<Bucket> {
    let mut bounds = vec![threshold];
    let inner = (1..BUCKETS).map(|step| f64::from(step) / f64::from(BUCKETS));
    bounds.extend(inner.filter(|&bound| bound > threshold));
    bounds.push(1.0);
    let bucket = |pair: &[f64]| Bucket { from: pair[0], to: pair[1], pairs: 0, found: 0, expected: 0.0 };
    bounds.windows(2).map(bucket).collect()
}

/// The share of words to edit for about this Jaccard index: an edit takes away up to five runs of five words, and brings as
/// many new ones.
fn rate(jaccard: f64) -> f64 {
    (1.0 - jaccard) / (1.0 + jaccard) / SHINGLE_WORDS as f64
}

/// A copy beside its row.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Look {
    /// The Jaccard index that decides: of the part in which the two differ most.
    similarity: f64,
    /// That of all parts together, by which they meet.
    together: f64,
    is_found: bool,
}

/// Looks for one copy at a time.
struct Search {
    threshold: f64,
    sketcher: Sketcher,
    keys: [Vec<u64>; 2],
}

impl Search {
    fn new(threshold: f64, bands: Bands) -> Search {
        Search { threshold, sketcher: Sketcher::new(bands), keys: [Vec::new(), Vec::new()] }
    }

    fn look(&mut self, row: &[Vec<String>], copy: &[Vec<String>]) -> Result<Look> {
        let texts = [row, copy].map(|parts| parts.iter().map(|words| words.join(" ")).collect::<Vec<_>>());
        let [row, copy] = [0, 1].map(|at| {
            let parts: Vec<&str> = texts[at].iter().map(String::as_str).collect();
            self.sketcher.keys(&parts, &mut self.keys[at]);
            document(&parts)
        });
        let (mut common, mut either) = (0.0, 0.0);
        for (part, other) in texts[0].iter().zip(&texts[1]) {
            let (part, other) = (document(&[part]), document(&[other]));
            let (index, both) = (part.similarity(&other), (part.len() + other.len()) as f64);
            common += index * both / (1.0 + index);
            either += both / (1.0 + index);
        }
        let (similarity, mut is_found) = (row.similarity(&copy), false);
        if self.keys[0].iter().any(|key| self.keys[1].contains(key)) {
            let load = |place: u32| Ok(if place == 0 { row.clone() } else { copy.clone() });
            let mut join = Join { threshold: self.threshold, budget: BUDGET, rows: &[0, 1], load };
            join.direct(&mut |_| is_found = true)?;
        }
        Ok(Look { similarity, together: common / either, is_found })
    }
}

fn document(parts: &[&str]) -> Document {
    let mut words = Vec::new();
    normalize(parts, &mut words);
    Document::new(words)
}

/// `SplitMix64`: the same edits for the same seed everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut x = self.0;
        x = (x ^ x >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        x = (x ^ x >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        x ^ x >> 31
    }

    /// From 0 to below 1.
    fn share(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    /// A copy in which this share of the words, and at least one, was replaced, taken out, doubled, or swapped with the next.
    fn edit(&mut self, words: &[String], rate: f64) -> Vec<String> {
        let mut copy = words.to_vec();
        #[expect(clippy::cast_sign_loss, reason = "a rate is not negative")]
        let edits = ((rate * words.len() as f64).round() as usize).max(1);
        for _ in 0..edits {
            let at = self.below(copy.len());
            match self.below(4) {
                // Of a text of one word something must be left.
                1 if copy.len() > 1 => drop(copy.remove(at)),
                2 => copy.insert(at, copy[at].clone()),
                3 if at + 1 < copy.len() => copy.swap(at, at + 1),
                _ => copy[at] = format!("edited{}", self.below(1_000_000)),
            }
        }
        copy
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_end_at_multiples_and_at_one() {
        let bounds = |threshold| buckets(threshold).iter().map(|bucket| (bucket.from, bucket.to)).collect::<Vec<_>>();
        assert_eq!(bounds(0.88), [(0.88, 0.9), (0.9, 0.95), (0.95, 1.0)]);
        assert_eq!(bounds(0.9), [(0.9, 0.95), (0.95, 1.0)]);
        assert_eq!(bounds(1.0), [(1.0, 1.0)]);
    }

    #[test]
    fn a_copy_is_found_if_it_is_similar_and_shares_a_band() {
        let row = vec![(0..60).map(|word| format!("w{word}")).collect::<Vec<_>>()];
        let mut copy = row.clone();
        copy[0][0] = "x".into();
        let search = |bands: (usize, usize), threshold, copy: &[Vec<String>]| {
            Search::new(threshold, Bands::new(bands.0, bands.1).unwrap()).look(&row, copy).unwrap()
        };
        let look = search((20, 6), 0.8, &copy);
        assert!((look.similarity - 55.0 / 57.0).abs() < 1e-9 && look.is_found);
        assert!((look.together - look.similarity).abs() < 1e-9, "there is one part");
        assert!(!search((20, 6), 0.99, &copy).is_found, "not similar enough");
        let far = search((1, 128), 0.1, &[Random(1).edit(&row[0], 0.04)]);
        assert!(far.similarity > 0.1 && !far.is_found, "a band of 128 slots is shared by equal texts alone");
    }

    #[test]
    fn rows_of_several_parts_meet_by_all_of_them() {
        let words = |start: usize| (start..start + 54).map(|word| format!("w{word}")).collect::<Vec<_>>();
        let row = vec![words(0), words(100)];
        let mut copy = row.clone();
        copy[1][20] = "x".into();
        let look = Search::new(0.8, Bands::default()).look(&row, &copy).unwrap();
        assert!((look.similarity - 45.0 / 55.0).abs() < 1e-9);
        assert!((look.together - 95.0 / 105.0).abs() < 1e-9);
    }

    #[test]
    fn edits_come_out_where_they_should() {
        let words: Vec<String> = (0..1000).map(|word| format!("w{word}")).collect();
        let mut search = Search::new(0.5, Bands::default());
        for jaccard in [0.8, 0.9, 0.98] {
            let copy = Random(3).edit(&words, rate(jaccard));
            let Look { similarity, .. } = search.look(std::slice::from_ref(&words), &[copy]).unwrap();
            assert!((similarity - jaccard).abs() < 0.04, "{similarity} for {jaccard}");
        }
    }
}
