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
use crate::simd::{self, Path};
use crate::tokenize::vector::{Pairs, STEP, find};

/// Which neighbours may share a token.
#[derive(Debug)]
pub(super) struct Cuts {
    /// How the borders of a text are looked for.
    path: Path,
    /// Neighbours, both ASCII, that never share a token, for vector instructions.
    apart: Box<Pairs>,
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
        Cuts { path: simd::chosen(), apart: Box::new([[[0xFF; STEP]; 2]; 16]), bytes, wide: vec![0; 1 << (BITS - 6)] }
    }

    /// These two may share a token. A space is written as `▁` in tokens; in texts both are met.
    pub(super) fn join(&mut self, left: char, right: char) {
        let both = |character: char| if character == SPACE { vec![SPACE, ' '] } else { vec![character] };
        for left in both(left) {
            for right in both(right) {
                if left.is_ascii() && right.is_ascii() {
                    let (left, right) = (left as usize, right as usize);
                    self.bytes[left << 8 | right] = STAY;
                    self.apart[right / 8][left / STEP][left % STEP] &= !(1 << (right % 8));
                } else {
                    let mut buffers = [[0; 4]; 2];
                    let [first, second] = &mut buffers;
                    let (word, bit) = place(left.encode_utf8(first).as_bytes(), right.encode_utf8(second).as_bytes());
                    self.wide[word] |= bit;
                }
            }
        }
    }

    /// The ends of the units of `text`, in a buffer that is longer and grows as need be.
    pub(super) fn split<'ends>(&self, text: &str, buffer: &'ends mut Vec<u32>) -> &'ends mut [u32] {
        let bytes = text.as_bytes();
        // Many more places than are used: some are written and not kept.
        if buffer.len() < bytes.len() + STEP {
            buffer.resize(bytes.len() + STEP, 0);
        }
        let found = find(self.path, &self.apart, bytes, buffer, |at| self.is_cut(bytes, at));
        let mut count = found.unwrap_or_else(|| self.find_one_by_one(bytes, buffer));
        if !bytes.is_empty() {
            buffer[count] = bytes.len() as u32;
            count += 1;
        }
        &mut buffer[..count]
    }

    /// The borders within `text`, and their number: what [`find`] does, by looks into one table.
    fn find_one_by_one(&self, text: &[u8], places: &mut [u32]) -> usize {
        let mut count = 0;
        for (at, pair) in text.windows(2).enumerate() {
            let what = self.bytes[usize::from(pair[0]) << 8 | usize::from(pair[1])];
            let cut = if what == LOOK { self.is_cut(text, at + 1) } else { what == CUT };
            places[count] = at as u32 + 1;
            count += usize::from(cut);
        }
        count
    }

    /// Whether there is a border between these two.
    pub(super) fn between(&self, left: char, right: char) -> bool {
        let mut buffer = [0; 8];
        let length = left.encode_utf8(&mut buffer).len();
        let end = length + right.encode_utf8(&mut buffer[length..]).len();
        self.find_one_by_one(&buffer[..end], &mut [0; 8]) == 1
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
            let mut buffer = Vec::new();
            let mut from = 0;
            let unit = |end: &u32| {
                let unit = text[from..*end as usize].to_string();
                from = *end as usize;
                unit
            };
            cuts.split(text, &mut buffer).iter().map(unit).collect::<Vec<_>>()
        };
        assert_eq!(units("abc  ab▁ a😀éb"), ["ab", "c", "  ab", "▁ a", "😀", "éb"]);
        assert_eq!(units("ba"), ["b", "a"]);
        assert!(units("").is_empty());
        assert!(
            cuts.between('b', 'a') && !cuts.between('a', 'b') && !cuts.between(' ', ' ') && !cuts.between('é', 'b')
        );
        assert!(cuts.between('b', 'é') && cuts.between('😀', 'é'));
    }

    /// Neighbours that join, spread over all rows and columns of the table.
    fn some() -> Cuts {
        let mut cuts = Cuts::none();
        for number in 0..128u8 {
            for step in [1, 7, 13, 31, 64] {
                cuts.join(char::from(number), char::from(number.wrapping_mul(5).wrapping_add(step) % 128));
            }
        }
        for (left, right) in [('é', 'é'), ('a', 'é'), ('é', 'a'), ('中', '文'), ('😀', ' '), ('▁', 'a')] {
            cuts.join(left, right);
        }
        cuts
    }

    fn check(cuts: &mut Cuts, text: &str) {
        let mut expected = vec![0; text.len()];
        let count = cuts.find_one_by_one(text.as_bytes(), &mut expected);
        expected.truncate(count);
        expected.extend((!text.is_empty()).then_some(text.len() as u32));
        for path in Path::available() {
            cuts.path = path;
            // A buffer that holds what is left of another text.
            let mut buffer = vec![7; 100];
            assert_eq!(cuts.split(text, &mut buffer), expected, "{path:?} {text:?}");
        }
    }

    #[test]
    fn every_path_finds_every_pair_at_every_place() {
        let mut cuts = some();
        for left in 0..128u8 {
            let pairs: String = (0..128u8).flat_map(|right| [char::from(left), char::from(right)]).collect();
            check(&mut cuts, &pairs);
            check(&mut cuts, &pairs[usize::from(left % 65)..]);
        }
        // All lengths around one and two steps, and wide characters across their borders.
        for character in ["a", "é", "中", "😀", "\n"] {
            for length in 0..140 {
                check(&mut cuts, &format!("{}{character}文 é", &"ab".repeat(70)[..length]));
                check(&mut cuts, &"a".repeat(length));
                check(&mut cuts, &character.repeat(length));
            }
        }
    }

    proptest::proptest! {
        #[test]
        fn every_path_finds_the_borders_of_random_texts(text in "[ -~]{0,200}|[ab ▁é中文😀\n]{0,150}|\\PC{0,150}|.{0,80}") {
            check(&mut some(), &text);
        }
    }
}
