//! Borders within a piece that BPE never crosses: a long piece becomes short ones, whose tokens are found sooner.
//!
//! A sentence of Chinese is one piece for the regexes, and new nearly always. The argument is the one of
//! [`super::super::sentencepiece::cuts`]: whatever joins two neighbours is a merge whose left half ends and whose right half
//! begins at the border. Here tokens are bytes and may hold part of a character, so of each merge are kept the end of its
//! left half, up to the last character or the part of it that the half holds, and likewise the beginning of its right half.
//! A border between characters that agree with none of these is never crossed.
//!
//! What is joined is kept as bits of hashes. Two that share a bit make a border seem crossed that is not, and then a unit is
//! longer than it need be, with the same tokens.

/// Bytes of the longest character.
const LONGEST: usize = 4;

/// The ends and beginnings that merges join.
#[derive(Debug)]
pub(super) struct Units {
    /// By the bytes before and behind a border: of which lengths there are ends and beginnings, a bit for each pair of lengths.
    lengths: Vec<u16>,
    /// Bits of the hashes of their bytes.
    joined: Vec<u64>,
}

/// Bits for [`Units::joined`]: 256 KiB, of which the merges of a large vocabulary set one in thirty.
const BITS: u32 = 21;

/// Where the bit of an end and a beginning lies: its word, and it alone.
fn place(before: &[u8], behind: &[u8], lengths: usize) -> (usize, u64) {
    let key = (packed(before) << 32 | packed(behind)).wrapping_add((lengths as u64) << 59 | lengths as u64);
    let hash = (key ^ key >> 29).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> (64 - BITS);
    ((hash >> 6) as usize, 1 << (hash & 63))
}

/// A byte that does not begin a character.
fn is_inner(byte: u8) -> bool {
    byte & 0xC0 == 0x80
}

fn packed(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |all, byte| all << 8 | u64::from(*byte))
}

/// The last character of `token`, or the part of one that it is.
fn tail(token: &[u8]) -> &[u8] {
    let inner = token.iter().rev().take(LONGEST - 1).take_while(|byte| is_inner(**byte)).count();
    &token[token.len() - (inner + 1).min(token.len())..]
}

/// The first character of `token`, or the part of one that it is.
fn head(token: &[u8]) -> &[u8] {
    let inner = token[1..].iter().take(LONGEST - 1).take_while(|byte| is_inner(**byte)).count();
    &token[..=inner]
}

impl Units {
    /// No merge joins anything.
    pub(super) fn new() -> Units {
        Units { lengths: vec![0; 1 << 16], joined: vec![0; 1 << (BITS - 6)] }
    }

    /// A merge joins these two tokens.
    pub(super) fn join(&mut self, left: &[u8], right: &[u8]) {
        let (Some(last), Some(first)) = (left.last(), right.first()) else { return };
        if is_inner(*first) {
            return; // Within a character there are no borders.
        }
        let (tail, head) = (tail(left), head(right));
        let lengths = (tail.len() - 1) * LONGEST + head.len() - 1;
        self.lengths[usize::from(*last) << 8 | usize::from(*first)] |= 1 << lengths;
        let (word, bit) = place(tail, head, lengths);
        self.joined[word] |= bit;
    }

    /// Visits the units of a piece, which is UTF-8, one after the other.
    pub(super) fn visit<'a>(&self, piece: &'a [u8], mut visit: impl FnMut(&'a [u8])) {
        let mut start = 0;
        for at in 1..piece.len() {
            if !is_inner(piece[at]) && !self.may_join(piece, at) {
                visit(&piece[start..at]);
                start = at;
            }
        }
        visit(&piece[start..]);
    }

    /// Whether a merge may join what stands before and behind `at`, the start of a character.
    fn may_join(&self, piece: &[u8], at: usize) -> bool {
        let mut lengths = self.lengths[usize::from(piece[at - 1]) << 8 | usize::from(piece[at])];
        while lengths != 0 {
            let both = lengths.trailing_zeros() as usize;
            let (before, behind) = (both / LONGEST + 1, both % LONGEST + 1);
            if at >= before && at + behind <= piece.len() {
                let (word, bit) = place(&piece[at - before..at], &piece[at..at + behind], both);
                if self.joined[word] & bit != 0 {
                    return true;
                }
            }
            lengths &= lengths - 1;
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn units(joins: &[(&[u8], &[u8])], text: &str) -> Vec<String> {
        let mut all = Units::new();
        for (left, right) in joins {
            all.join(left, right);
        }
        let mut found = Vec::new();
        all.visit(text.as_bytes(), |unit| found.push(String::from_utf8(unit.to_vec()).unwrap()));
        found
    }

    #[test]
    fn what_no_merge_joins_is_cut() {
        assert_eq!(units(&[], "a文😀é"), ["a", "文", "😀", "é"]);
        assert_eq!(units(&[(b"xa", b"b")], "aabab"), ["a", "ab", "ab"]);
        assert_eq!(units(&[("一文".as_bytes(), "字二".as_bytes())], "文字字文文字"), ["文字", "字", "文", "文字"]);
    }

    #[test]
    fn parts_of_characters_join_all_that_they_may_be_of() {
        // 文 is E6 96 87, 字 is E5 AD 97, 空 is E7 A9 BA, 都 is E9 83 BD.
        assert_eq!(units(&[(&[0x87], &[0xE5])], "文字都文空"), ["文字", "都", "文", "空"]);
        assert_eq!(units(&[(&[0x96, 0x87], "字".as_bytes())], "文字文空"), ["文字", "文", "空"]);
        assert_eq!(units(&[("文".as_bytes(), &[0xE7, 0xA9])], "文空文字"), ["文空", "文", "字"]);
        // Within a character nothing is cut, whatever joins.
        assert_eq!(units(&[(&[0xE6], &[0x96, 0x87])], "文文"), ["文", "文"]);
    }
}
