//! Numbers for words and for runs of five of them: how a text is cut into shingles, once for sketches and once for sets.
//!
//! Equal words have equal numbers. Unequal ones may not, which costs a sketch a candidate more or less; the sets in
//! [`super::document`] compare the words themselves.

/// Words of a shingle; a text of fewer words is one shingle of all its words.
pub const SHINGLE_WORDS: usize = 5;

const K0: u64 = 0x9E37_79B9_7F4A_7C15;
const K1: u64 = 0xD6E8_FEB8_6659_FD93;
const K2: u64 = 0xA076_1D64_78BD_642F;

/// Both halves of the product: every bit of the result depends on every bit of both factors.
#[inline]
pub(super) fn multiply_fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    (product >> 64) as u64 ^ product as u64
}

/// Scrambles the bits; a bijection.
#[inline]
pub(super) fn mix(mut x: u64) -> u64 {
    x ^= x >> 32;
    x = x.wrapping_mul(K1);
    x ^= x >> 29;
    x = x.wrapping_mul(K0);
    x ^ (x >> 32)
}

/// Where a word lies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::dedup) struct Span {
    pub(super) start: u32,
    pub(super) end: u32,
}

impl Span {
    pub(in crate::dedup) fn of(self, text: &[u8]) -> &[u8] {
        &text[self.start as usize..self.end as usize]
    }
}

/// Calls `found` with the number and the place of every word of folded text, which ends with a space.
#[inline]
pub(in crate::dedup) fn for_each_word(folded: &[u8], mut found: impl FnMut(u64, Span)) {
    let mut start = 0;
    let mut block = 0;
    while block < folded.len() {
        let mut spaces = space_mask(folded, block);
        while spaces != 0 {
            let end = block + spaces.trailing_zeros() as usize;
            spaces &= spaces - 1;
            if end > start {
                found(word_hash(folded, start, end), Span { start: start as u32, end: end as u32 });
            }
            start = end + 1;
        }
        block += 64;
    }
}

/// One bit for each of the next 64 bytes that is a space.
#[inline]
fn space_mask(folded: &[u8], block: usize) -> u64 {
    let Some(bytes) = folded[block..].first_chunk::<64>() else {
        let tail = folded[block..].iter().enumerate();
        return tail.fold(0, |mask, (at, &byte)| mask | u64::from(byte == b' ') << at);
    };
    let mut mask = 0;
    let (words, _) = bytes.as_chunks::<8>();
    for (at, word) in words.iter().enumerate() {
        const LOW: u64 = 0x7F7F_7F7F_7F7F_7F7F;
        let x = u64::from_le_bytes(*word) ^ 0x2020_2020_2020_2020;
        // The high bit of every byte that is zero; no sum reaches the next byte.
        let zero = !(((x & LOW) + LOW) | x | LOW);
        // Gathers the eight high bits in the top byte.
        mask |= ((zero >> 7).wrapping_mul(0x0102_0408_1020_4080) >> 56) << (8 * at);
    }
    mask
}

/// Eight bytes at a time; the last ones are masked, and no word holds a zero byte that the mask could be taken for.
#[inline]
fn word_hash(folded: &[u8], start: usize, end: usize) -> u64 {
    let mut hash = K2;
    let mut at = start;
    while end - at > 8 {
        hash = multiply_fold(hash ^ load(folded, at), K0);
        at += 8;
    }
    let last = load(folded, at) & (!0 >> (64 - 8 * (end - at)));
    multiply_fold(hash ^ last, K0)
}

/// Eight bytes from `at`, as many as there are.
#[inline]
fn load(bytes: &[u8], at: usize) -> u64 {
    if let Some(eight) = bytes[at..].first_chunk::<8>() {
        return u64::from_le_bytes(*eight);
    }
    bytes[at..].iter().enumerate().fold(0, |sum, (place, &byte)| sum | u64::from(byte) << (8 * place))
}

/// The running number of the last five words.
#[derive(Default)]
pub(super) struct Roll {
    window: [u64; SHINGLE_WORDS],
    sum: u64,
    words: usize,
}

impl Roll {
    /// Adds a word.
    #[inline]
    pub(super) fn push(&mut self, word: u64) {
        const K0_4: u64 = K0.wrapping_mul(K0).wrapping_mul(K0).wrapping_mul(K0);
        let oldest = &mut self.window[self.words % SHINGLE_WORDS];
        self.sum = self.sum.wrapping_sub(oldest.wrapping_mul(K0_4)).wrapping_mul(K0).wrapping_add(word);
        *oldest = word;
        self.words += 1;
    }

    /// Words so far.
    #[inline]
    pub(super) fn words(&self) -> usize {
        self.words
    }

    /// The number of the shingle that ends with the last word: all words there are if they are fewer than five.
    #[inline]
    pub(super) fn shingle(&self) -> u64 {
        // The number of words of a short shingle goes in: two words are not the last two of three.
        mix(self.sum ^ (self.words.min(SHINGLE_WORDS) as u64).wrapping_mul(K2))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(folded: &str) -> Vec<(u64, String)> {
        let mut found = Vec::new();
        for_each_word(folded.as_bytes(), |hash, span| {
            found.push((hash, folded[span.start as usize..span.end as usize].to_string()));
        });
        found
    }

    #[test]
    fn every_word_is_found_wherever_it_lies() {
        for before in 0..70 {
            for length in [1, 7, 8, 9, 16, 17, 63, 64, 65, 130] {
                let word = "x".repeat(length - 1) + "é";
                let found = of(&format!("{}{word}  ab ", " ".repeat(before)));
                assert_eq!(found.len(), 2);
                assert_eq!((&*found[0].1, &*found[1].1), (&*word, "ab"));
                assert_eq!(found[0].0, of(&format!("{word} "))[0].0);
            }
        }
    }

    #[test]
    fn a_shingle_depends_on_its_five_words_and_their_order_alone() {
        let last = |text: &str| {
            let mut roll = Roll::default();
            for (hash, _) in of(text) {
                roll.push(hash);
            }
            roll.shingle()
        };
        assert_eq!(last("a b c d e f g "), last("x y c d e f g "));
        assert_ne!(last("a b c d e f g "), last("a b c d e g f "));
        assert_ne!(last("a b c d e f g "), last("a b z d e f g ").wrapping_add(1));
        assert_ne!(last("b c "), last("a b c "));
        assert_eq!(last("b c "), last("b  c "));
    }
}
