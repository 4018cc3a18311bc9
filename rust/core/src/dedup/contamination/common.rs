//! Runs of words that say nothing about where a text comes from: they stand in too many texts that have nothing to do with
//! each other.
//!
//! Two lists decide, exactly. `stock.txt` has licences and other texts that are quoted everywhere: a run that stands in one
//! of them does not count. `plain.txt` has the words of which phrases and the frame of a program are made ("what is the
//! difference between the two", `for i in range(len(x))`): a run counts only if enough of its different words are others.
//! Numbers and single letters are plain words, too.

use std::collections::HashSet;

use crate::dedup::near::hash::for_each_word;
use crate::dedup::near::words::fold;

const STOCK: &str = include_str!("stock.txt");
const PLAIN: &str = include_str!("plain.txt");

/// One of so many words of a run must be no plain word; of runs of eight that is two of them.
const WORDS_OF_A_TELLING_ONE: usize = 4;

/// The runs of words that do not count.
pub(super) struct Common {
    ngram: usize,
    stock: HashSet<Vec<u8>>,
    plain: HashSet<&'static [u8]>,
}

impl Common {
    /// For runs of `ngram` words.
    pub(super) fn new(ngram: usize) -> Common {
        let mut stock = HashSet::new();
        for text in STOCK.split("\n\n") {
            let words = normalize(text);
            let ends: Vec<usize> = memchr::memchr_iter(b' ', &words).map(|end| end + 1).collect();
            for (at, &end) in ends.iter().enumerate().skip(ngram - 1) {
                let start = if at == ngram - 1 { 0 } else { ends[at - ngram] };
                stock.insert(words[start..end].to_vec());
            }
        }
        Common { ngram, stock, plain: PLAIN.split_ascii_whitespace().map(str::as_bytes).collect() }
    }

    /// Whether a run, its words with a space behind each, does not count.
    pub(super) fn holds(&self, run: &[u8]) -> bool {
        let mut telling: Vec<&[u8]> = run
            .split(|&byte| byte == b' ')
            .filter(|word| word.len() > 1 && !word.iter().all(u8::is_ascii_digit) && !self.plain.contains(word))
            .collect();
        telling.sort_unstable();
        telling.dedup();
        telling.len() < self.ngram.div_ceil(WORDS_OF_A_TELLING_ONE) || self.stock.contains(run)
    }
}

/// The words of a text, in lower case with a space behind each.
pub(super) fn normalize(text: &str) -> Vec<u8> {
    let (mut folded, mut words) = (Vec::new(), Vec::new());
    fold(text, &mut folded);
    for_each_word(&folded, |_, span| {
        words.extend_from_slice(span.of(&folded));
        words.push(b' ');
    });
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_common(text: &str) -> bool {
        Common::new(8).holds(&normalize(text))
    }

    #[test]
    fn phrases_code_and_licences_are_common() {
        for text in [
            "What is the difference between the two and",
            "if __name__ == \"__main__\": main() import sys, os",
            "#include <iostream> using namespace std; int main() {",
            "for (int i = 0; i < n; i++) {",
            "1, 2, 3, 4, 5, 6, 7, 8",
            "FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN",
            "# Unless required by applicable law or agreed to",
            "the same banana and the same banana again",
        ] {
            assert!(is_common(text), "{text}");
        }
    }

    #[test]
    fn what_tells_a_text_is_not() {
        for text in [
            "Janet's ducks lay 16 eggs per day. She",
            "Compose an engaging travel blog post about a",
            "def has_close_elements(numbers: List[float], threshold: float) -> bool",
            "Permission is hereby granted to the visitors of",
        ] {
            assert!(!is_common(text), "{text}");
        }
    }
}
