//! Contamination: rows that hold the text of a benchmark.
//!
//! A text of a benchmark is known by its runs of `ngram` words (8 by default; words are those of [`super::near`]). Its
//! coverage by a message is the share of its different runs that stand in the message; from [`Options::coverage`] on the
//! row is contaminated, if they make a stretch of at least [`Options::min_words`] words, or if the message is the whole
//! text and nothing else. Runs that say nothing (`common`) do not count, nor do those that many texts of the
//! benchmarks share ([`SHARED`]).
//!
//! ```
//! use zephyr_data_core::dedup::contamination::{Builder, Options};
//!
//! let mut benchmarks = Builder::new(Options::default());
//! benchmarks.add("Janet's ducks lay 16 eggs per day. She eats three for breakfast every morning.").unwrap();
//! let index = benchmarks.finish();
//! let hit = index.checker().check("Solve: janet's ducks lay 16 EGGS per day; she eats three for breakfast every morning?");
//! assert_eq!(hit.map(|hit| (hit.text, hit.matched)), Some((0, 8)));
//! assert!(index.checker().check("My ducks lay 16 eggs per day.").is_none());
//! ```

use serde::Serialize;

use crate::dedup::near::words::is_word;
use crate::error::{Error, Result};

mod common;
mod index;
mod roll;

pub use index::{Builder, Checker, Full, Hit, Index};

/// A run of words that stands in so many different texts of the benchmarks is part of how they ask, not of what: it does
/// not count. Above the number of versions in which one question goes round (its own, and those with other numbers).
pub const SHARED: usize = 20;

/// Longest run.
pub(crate) const MAX_NGRAM: usize = 32;

/// When a row is contaminated.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Options {
    /// Words of a run.
    pub ngram: usize,
    /// From which coverage on.
    pub coverage: f64,
    /// Shorter stretches are phrases, unless they are all of a message and all of a text.
    pub min_words: usize,
}

impl Default for Options {
    fn default() -> Self {
        Options { ngram: 8, coverage: 0.5, min_words: 13 }
    }
}

impl Options {
    /// Whether the options can be honoured.
    pub fn check(&self) -> Result<()> {
        let config = |name: &str, message: String, hint: &str| {
            Err(Error::Config { key: format!("dedup.contamination.{name}"), message, hint: hint.into() })
        };
        if !(2..=MAX_NGRAM).contains(&self.ngram) {
            let message = format!("`dedup.contamination.ngram` must be from 2 to {MAX_NGRAM}, found: {}", self.ngram);
            return config("ngram", message, "8 is usual");
        }
        if !(self.coverage > 0.0 && self.coverage <= 1.0) {
            let message =
                format!("`dedup.contamination.coverage` must be above 0 and at most 1, found: {}", self.coverage);
            return config("coverage", message, "0.5 takes a text of which half is there");
        }
        Ok(())
    }
}

/// Words `from` to `to` (without it) of a text, as they stand there.
pub fn stretch(text: &str, from: u32, to: u32) -> &str {
    let (mut words, mut within, mut bounds) = (0, false, (text.len(), text.len()));
    for (at, char) in text.char_indices() {
        if is_word(char) {
            if !within {
                if words == from {
                    bounds.0 = at;
                }
                words += 1;
            }
            if words == to {
                bounds.1 = at + char.len_utf8();
            }
            within = char != 'İ'; // which becomes two characters, of which the second is in no word
        } else {
            within = false;
            if words == to {
                break;
            }
        }
    }
    text.get(bounds.0..bounds.1).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stretch_is_the_words_as_they_stand() {
        let text = "¡Hola, Señor!  don't İstanbul Stop_1.";
        assert_eq!(stretch(text, 0, 2), "Hola, Señor");
        assert_eq!(stretch(text, 1, 4), "Señor!  don't");
        assert_eq!(super::super::near::words("İstanbul x"), ["i", "stanbul", "x"]);
        assert_eq!(stretch(text, 4, 6), "İstanbul");
        assert_eq!(stretch(text, 6, 7), "Stop_1");
        assert_eq!(stretch(text, 9, 12), "");
    }

    #[test]
    fn options_that_cannot_be_honoured_say_the_way_out() {
        let default = Options::default();
        let message = |options: Options| options.check().unwrap_err().to_string();
        assert_eq!(
            message(Options { ngram: 1, ..default }),
            "`dedup.contamination.ngram` must be from 2 to 32, found: 1\nhint: 8 is usual"
        );
        assert_eq!(
            message(Options { coverage: 0.0, ..default }),
            "`dedup.contamination.coverage` must be above 0 and at most 1, found: 0\nhint: 0.5 takes a text of which half is there"
        );
    }
}
