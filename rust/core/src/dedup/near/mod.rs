//! Near-duplicates: rows whose texts share most of their runs of five words.
//!
//! How alike two rows are is the Jaccard index of their sets of word 5-grams: what both have over what either has. Words are
//! `\w+` of the lower-cased text; a text of one to four words is one shingle; a text without words is like no other.
//!
//! [`sketch`] finds candidates by `MinHash`, [`block`] joins what they connect, [`join`] compares the rows of a block exactly:
//! a pair is never missed within a block and never taken for similar by a collision. What can be missed is a pair that
//! shares no band ([`Bands::recall`]); with 20 bands of 6 that is one in 5,000 from 0.8 on.
//!
//! ```
//! use zephyr_data_core::dedup::near::{Keep, Options, duplicates};
//!
//! let texts = [
//!     "The quick brown fox jumps over the lazy dog near the old stone bridge every single morning in early spring",
//!     "An entirely different sentence about something else",
//!     "the QUICK brown fox jumps over the lazy dog near the old stone bridge every single morning in early spring!",
//! ];
//! let found = duplicates(&texts, Keep::First, &[], &Options::default()).unwrap();
//! assert_eq!((found[0].row, found[0].other, found[0].similarity), (2, 0, 1.0));
//! ```

use std::cmp::Reverse;

use serde::Serialize;

use crate::error::Result;

pub mod block;
pub mod document;
pub(super) mod hash;
mod index;
pub mod join;
mod permute;
pub mod sketch;
mod word_table;
pub(super) mod words;

pub use hash::SHINGLE_WORDS;
pub use join::Match;
pub use permute::PERMUTATIONS;
pub use sketch::Bands;
pub use words::{is_word, words};

use block::Blocks;
use document::{Document, normalize};
use join::Join;
use sketch::Sketcher;

/// Which rows go for the sake of one that stays.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Policy {
    /// A row goes only if it is itself similar to the row that stays.
    #[default]
    Direct,
    /// Of all rows that are connected by similar ones, one stays.
    Component,
}

/// Which of several similar rows would rather stay.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Keep {
    /// The first.
    #[default]
    First,
    /// That with most bytes of text, then the first.
    Longest,
    /// That with the highest score, then the first; one without a score comes last.
    BestScore,
}

/// What near-duplicates are.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Options {
    /// From which Jaccard index on: above 0, up to 1.
    pub threshold: f64,
    /// Which rows go.
    pub policy: Policy,
    /// Where rows meet.
    pub bands: Bands,
}

impl Default for Options {
    fn default() -> Self {
        Options { threshold: 0.8, policy: Policy::Direct, bands: Bands::default() }
    }
}

/// Bytes that the comparison of one block may take when all texts are in memory anyway.
const BUDGET: usize = 1 << 28;

/// The texts that are near-duplicates of one that stays, in input order: each with that one and their Jaccard index.
///
/// `scores` holds one score a text for [`Keep::BestScore`]; other choices do not read it.
pub fn duplicates<T: AsRef<str>>(
    texts: &[T],
    keep: Keep,
    scores: &[Option<f64>],
    options: &Options,
) -> Result<Vec<Match>> {
    let mut found = Vec::new();
    for_each_block(texts, options, |block| {
        let by_length = |row: &u32| Reverse(texts[*row as usize].as_ref().len());
        match keep {
            Keep::First => {}
            Keep::Longest => block.sort_by_key(by_length),
            Keep::BestScore => block.sort_by(|&a, &b| by_score(scores, a, b)),
        }
        let mut join = join_of(texts, options, block);
        match options.policy {
            Policy::Direct => join.direct(&mut |duplicate| found.push(duplicate)),
            Policy::Component => join.component(&mut |duplicate| found.push(duplicate)),
        }
    })?;
    found.sort_unstable_by_key(|duplicate| duplicate.row);
    Ok(found)
}

/// All pairs of texts that are similar, ordered by the later one, then the earlier one.
pub fn pairs<T: AsRef<str>>(texts: &[T], options: &Options) -> Result<Vec<Match>> {
    let mut found = Vec::new();
    for_each_block(texts, options, |block| join_of(texts, options, block).pairs(&mut |pair| found.push(pair)))?;
    found.sort_unstable_by_key(|pair| (pair.row, pair.other));
    Ok(found)
}

/// A score; what is no number, or is not there, is as low as it gets.
pub fn number_or_least(score: Option<f64>) -> f64 {
    score.filter(|score| !score.is_nan()).unwrap_or(f64::NEG_INFINITY)
}

/// Which of two rows has the higher score.
pub fn by_score(scores: &[Option<f64>], a: u32, b: u32) -> std::cmp::Ordering {
    let score = |row: u32| number_or_least(scores.get(row as usize).copied().flatten());
    score(b).total_cmp(&score(a)).then(a.cmp(&b))
}

fn for_each_block<T: AsRef<str>>(
    texts: &[T],
    options: &Options,
    mut work: impl FnMut(&mut [u32]) -> Result<()>,
) -> Result<()> {
    let (mut sketcher, mut keys) = (Sketcher::new(options.bands), Vec::new());
    let mut entries: Vec<(u64, u32)> = Vec::with_capacity(texts.len() * options.bands.count());
    for (row, text) in (0..).zip(texts) {
        sketcher.keys(&[text.as_ref()], &mut keys);
        entries.extend(keys.iter().map(|&key| (key, row)));
    }
    entries.sort_unstable();
    let mut blocks = Blocks::new(texts.len());
    for same in entries.chunk_by(|a, b| a.0 == b.0) {
        same[1..].iter().for_each(|&(_, row)| blocks.join(same[0].1, row));
    }
    drop(entries);
    let (mut members, ends) = blocks.members();
    let mut start = 0;
    for end in ends {
        work(&mut members[start..end])?;
        start = end;
    }
    Ok(())
}

fn join_of<'a, T: AsRef<str>>(
    texts: &'a [T],
    options: &Options,
    rows: &'a [u32],
) -> Join<'a, impl FnMut(u32) -> Result<Document>> {
    let load = |row: u32| {
        let mut text = Vec::new();
        normalize(&[texts[row as usize].as_ref()], &mut text);
        Ok(Document::new(text))
    };
    Join { threshold: options.threshold, budget: BUDGET, rows, load }
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "the same quotient of the same counts is the same number")]
mod tests {
    use super::*;
    use crate::error::Error;

    /// Rows of words out of a small vocabulary, some of them edited copies of others.
    fn corpus(rows: usize) -> Vec<String> {
        let mut state = 7u64;
        let mut random = move |below: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) as usize % below
        };
        let mut texts: Vec<Vec<String>> = Vec::new();
        for row in 0..rows {
            if row % 3 == 0 || texts.is_empty() {
                let length = 5 + random(120);
                texts.push((0..length).map(|_| format!("w{}", random(3000))).collect());
            } else {
                let mut copy = texts[random(texts.len())].clone();
                for _ in 0..=random(copy.len()) / 40 {
                    let at = random(copy.len());
                    copy[at] = format!("w{}", random(3000));
                }
                texts.push(copy);
            }
        }
        texts.into_iter().map(|words| words.join(" ")).collect()
    }

    #[test]
    fn nearly_all_pairs_are_found_and_no_wrong_one() {
        let texts = corpus(600);
        let documents: Vec<Document> = texts.iter().map(|text| document_of(text)).collect();
        let found = pairs(&texts, &Options::default()).unwrap();
        let mut all = 0;
        for row in 0..600u32 {
            for other in 0..row {
                let similarity = documents[row as usize].similarity(&documents[other as usize]);
                all += usize::from(similarity >= 0.8);
                let listed = found.binary_search_by_key(&(row, other), |pair| (pair.row, pair.other));
                match listed {
                    Ok(at) => assert_eq!(found[at].similarity, similarity),
                    Err(_) => assert!(similarity < 0.85, "missed a pair of {similarity}"),
                }
            }
        }
        assert!(all > 200 && found.len() * 1000 >= all * 995, "{} of {all}", found.len());
    }

    fn document_of(text: &str) -> Document {
        let mut words = Vec::new();
        normalize(&[text], &mut words);
        Document::new(words)
    }

    #[test]
    fn the_policy_and_the_wish_decide_who_stays() {
        let words: Vec<String> = (0..100).map(|word| format!("w{word}")).collect();
        let edited = |from: usize| {
            let mut copy = words.clone();
            copy[from..from + 6].fill("other".into());
            copy.join(" ")
        };
        // 0.88 and 0.79 between neighbours of the chain, 0.70 between its ends.
        let texts = [edited(0), words.join(" "), edited(90) + " longest of all"];
        let found = |keep, policy, scores: &[Option<f64>]| -> Vec<(u32, u32)> {
            let options = Options { policy, threshold: 0.75, ..Options::default() };
            duplicates(&texts, keep, scores, &options).unwrap().iter().map(|found| (found.row, found.other)).collect()
        };
        assert_eq!(found(Keep::First, Policy::Direct, &[]), [(1, 0)]);
        assert_eq!(found(Keep::First, Policy::Component, &[]), [(1, 0), (2, 0)]);
        assert_eq!(found(Keep::Longest, Policy::Component, &[]), [(0, 2), (1, 2)]);
        assert_eq!(found(Keep::BestScore, Policy::Direct, &[None, Some(2.0), Some(1.0)]), [(0, 1), (2, 1)]);
        assert_eq!(found(Keep::BestScore, Policy::Direct, &[]), [(1, 0)]);
    }

    #[test]
    fn hostile_text_is_text() {
        let mut texts = vec!["Thanks for the answer, it was of great help to me.".to_string(); 5000];
        texts.extend([
            "word ".repeat(200_000),
            "word ".repeat(100_000),
            "x".repeat(1 << 20),
            "X".repeat(1 << 20),
            "…".repeat(1000),
            "…".repeat(1000),
            String::new(),
            "e\u{301}".repeat(100_000),
        ]);
        let found = duplicates(&texts, Keep::First, &[], &Options::default()).unwrap();
        assert_eq!(found.len(), 4999 + 2);
        assert!(found[..4999].iter().all(|duplicate| (duplicate.other, duplicate.similarity) == (0, 1.0)));
        let tail: Vec<(u32, u32)> = found[4999..].iter().map(|found| (found.row, found.other)).collect();
        assert_eq!(tail, [(5001, 5000), (5003, 5002)]);
    }

    #[test]
    fn a_shared_boilerplate_is_compared_in_no_square() {
        // Rows that meet in bands, as all share seven tenths of their words, and are no near-duplicates.
        let boilerplate = (0..140).map(|word| format!("same{word}")).collect::<Vec<_>>().join(" ");
        let own = |row: usize| (0..55).map(|word| format!(" own{row}x{word}")).collect::<Vec<_>>().concat();
        let texts: Vec<String> = (0..1500).map(|row| boilerplate.clone() + &own(row)).collect();
        assert!(duplicates(&texts, Keep::First, &[], &Options::default()).unwrap().is_empty());
    }

    #[test]
    fn a_failure_is_passed_on() {
        let texts = ["a b c d e f", "a b c d e f"];
        let stopped = for_each_block(&texts, &Options::default(), |_| Err(Error::Interrupted));
        assert!(matches!(stopped, Err(Error::Interrupted)));
    }
}
