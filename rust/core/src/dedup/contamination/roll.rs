//! The running number of the last words of a text, however many they are.
//!
//! It is a sum of the words' numbers, each times an odd power; they are spread over all 64 bits, and so is the sum.

use super::MAX_NGRAM;

const K: u64 = 0x9E37_79B9_7F4A_7C15;

/// Numbers of runs of words: equal runs have equal numbers.
pub(super) struct Roll {
    ngram: usize,
    /// What the oldest word of a run is multiplied by once it falls out.
    oldest: u64,
    window: [u64; MAX_NGRAM],
    sum: u64,
    words: usize,
}

impl Roll {
    /// For runs of `ngram` words.
    pub(super) fn new(ngram: usize) -> Roll {
        let oldest = (0..ngram).fold(1, |power: u64, _| power.wrapping_mul(K));
        Roll { ngram, oldest, window: [0; MAX_NGRAM], sum: 0, words: 0 }
    }

    /// Begins a new text.
    pub(super) fn clear(&mut self) {
        self.window = [0; MAX_NGRAM];
        (self.sum, self.words) = (0, 0);
    }

    /// Adds a word; the number of the run that ends with it, if there are enough words.
    #[inline]
    pub(super) fn push(&mut self, word: u64) -> Option<u64> {
        let gone = self.window[self.words.wrapping_sub(self.ngram) % MAX_NGRAM];
        self.window[self.words % MAX_NGRAM] = word;
        self.sum = self.sum.wrapping_mul(K).wrapping_add(word).wrapping_sub(gone.wrapping_mul(self.oldest));
        self.words += 1;
        (self.words >= self.ngram).then_some(self.sum)
    }

    /// Words so far.
    #[inline]
    pub(super) fn words(&self) -> usize {
        self.words
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_depends_on_its_words_alone() {
        for ngram in [2, 5, 8, 31, MAX_NGRAM] {
            let mut roll = Roll::new(ngram);
            let mut last = |words: &mut dyn Iterator<Item = u64>| {
                roll.clear();
                words.map(|word| roll.push(word)).last().flatten()
            };
            let run = last(&mut (100..100 + ngram as u64));
            assert!(run.is_some());
            assert_eq!(last(&mut (3..100 + ngram as u64)), run);
            assert_ne!(last(&mut (101..101 + ngram as u64)), run);
            assert_eq!(last(&mut (0..ngram as u64 - 1)), None);
        }
    }
}
