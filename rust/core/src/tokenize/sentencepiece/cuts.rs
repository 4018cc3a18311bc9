//! Borders that BPE never crosses: between two characters that no merge brings together.
//!
//! A token of several characters is the result of a merge, its halves are characters or results of merges themselves. So two
//! neighbours within a token are the last character of the left half and the first of the right half of some merge. Where
//! no merge has these two there, no token can hold them, and BPE of the text is BPE of what stands on both sides. That is a
//! statement about the list of merges alone: it holds for every text, whatever the ranks.

//!
//! Of neighbours beyond ASCII are kept bits of hashes. Two that share a bit make a border seem crossed that is not, and then
//! a unit is longer than it need be, with the same tokens.

use super::SPACE;

/// Which neighbours may share a token.
#[derive(Debug)]
pub(super) struct Cuts {
    /// By left and right byte: what to do between them.
    bytes: Vec<u8>,
    /// Neighbours of which one is not ASCII: bits of their hashes.
    wide: Vec<u64>,
}

/// Bits for [`Cuts::wide`]: 16 KiB, of which Mistral's vocabulary sets one in a hundred.
const BITS: u32 = 17;

/// Where the bit of two neighbours lies: its word, and it alone.
#[inline]
fn place(left: &[u8], right: &[u8]) -> (usize, u64) {
    let packed = |bytes: &[u8]| bytes.iter().fold(0, |all, byte| all << 8 | u64::from(*byte));
    let key = packed(left) << 32 | packed(right);
    let hash = (key ^ key >> 29).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> (64 - BITS);
    ((hash >> 6) as usize, 1 << (hash & 63))
}

/// They may share a token, or they are bytes of one character.
const STAY: u8 = 0;
/// They never do.
const CUT: u8 = 1;
/// One of them belongs to a character that is not ASCII.
const LOOK: u8 = 2;

/// A byte that does not begin a character.
fn is_inner(byte: usize) -> bool {
    byte & 0xC0 == 0x80
}

impl Cuts {
    /// No two characters share a token.
    pub(super) fn none() -> Cuts {
        let mut bytes = vec![CUT; 1 << 16];
        for left in 0..256 {
            for right in 0..256 {
                if is_inner(right) {
                    bytes[left << 8 | right] = STAY;
                } else if left >= 0x80 || right >= 0x80 {
                    bytes[left << 8 | right] = LOOK;
                }
            }
        }
        Cuts { bytes, wide: vec![0; 1 << (BITS - 6)] }
    }

    /// These two may share a token. A space is written as `▁` in tokens; in texts both are met.
    pub(super) fn join(&mut self, left: char, right: char) {
        let both = |character: char| if character == SPACE { vec![SPACE, ' '] } else { vec![character] };
        for left in both(left) {
            for right in both(right) {
                if left.is_ascii() && right.is_ascii() {
                    self.bytes[(left as usize) << 8 | right as usize] = STAY;
                } else {
                    let mut buffers = [[0; 4]; 2];
                    let [first, second] = &mut buffers;
                    let (word, bit) = place(left.encode_utf8(first).as_bytes(), right.encode_utf8(second).as_bytes());
                    self.wide[word] |= bit;
                }
            }
        }
    }

    /// Appends the ends of the units of `text`.
    pub(super) fn split(&self, text: &str, ends: &mut Vec<u32>) {
        let bytes = text.as_bytes();
        // Twice as many places as are used at first; each is written, few stay.
        let mut count = ends.len();
        ends.resize(count + bytes.len(), 0);
        for (at, pair) in bytes.windows(2).enumerate() {
            let what = self.bytes[usize::from(pair[0]) << 8 | usize::from(pair[1])];
            let cut = if what == LOOK { self.is_cut(bytes, at + 1) } else { what == CUT };
            ends[count] = at as u32 + 1;
            count += usize::from(cut);
        }
        ends.truncate(count);
        if !bytes.is_empty() {
            ends.push(bytes.len() as u32);
        }
    }

    /// Whether there is a border between these two.
    pub(super) fn between(&self, left: char, right: char) -> bool {
        let mut buffer = [0; 8];
        let length = left.encode_utf8(&mut buffer).len();
        let end = length + right.encode_utf8(&mut buffer[length..]).len();
        let text = std::str::from_utf8(&buffer[..end]).unwrap_or_default();
        let mut ends = Vec::with_capacity(end);
        self.split(text, &mut ends);
        ends.len() == 2
    }

    /// Whether there is a border at `at`, the start of a character of `text` but not of its first.
    #[cold]
    fn is_cut(&self, text: &[u8], at: usize) -> bool {
        let start = text[..at].iter().rposition(|byte| !is_inner(usize::from(*byte))).unwrap_or(0);
        let inner = text[at + 1..].iter().take_while(|byte| is_inner(usize::from(**byte))).count();
        let (word, bit) = place(&text[start..at], &text[at..=at + inner]);
        self.wide[word] & bit == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cuts_lie_between_characters_that_no_merge_joins() {
        let mut cuts = Cuts::none();
        for (left, right) in [('a', 'b'), ('▁', 'a'), ('▁', '▁'), ('é', 'b')] {
            cuts.join(left, right);
        }
        let units = |text: &str| {
            let mut ends = Vec::new();
            cuts.split(text, &mut ends);
            let mut from = 0;
            let unit = |end: &u32| {
                let unit = text[from..*end as usize].to_string();
                from = *end as usize;
                unit
            };
            ends.iter().map(unit).collect::<Vec<_>>()
        };
        assert_eq!(units("abc  ab▁ a😀éb"), ["ab", "c", "  ab", "▁ a", "😀", "éb"]);
        assert_eq!(units("ba"), ["b", "a"]);
        assert!(units("").is_empty());
        assert!(
            cuts.between('b', 'a') && !cuts.between('a', 'b') && !cuts.between(' ', ' ') && !cuts.between('é', 'b')
        );
        assert!(cuts.between('b', 'é') && cuts.between('😀', 'é'));
    }
}
