//! The class of every character, exactly as the regex engine of the `tokenizers` crate sees it.
//!
//! The regexes of byte-level tokenizers only ask which of eight classes a character is in. What is in them depends on the
//! Unicode version of the engine and on its own ideas of `\s`, so `table.rs` was asked of the engine itself, character by
//! character (`examples/unicode_classes.rs`), and a test asks it again.

use super::table::RUNS;

/// The class of a character, or [`END`].
pub(crate) type Class = u8;

/// In no class below: punctuation, symbols, controls, unassigned.
pub(crate) const OTHER: Class = 0;
/// `\p{Ll}`
pub(crate) const LOWER: Class = 1;
/// `[\p{Lu}\p{Lt}]`
pub(crate) const UPPER: Class = 2;
/// `[\p{Lm}\p{Lo}]`: letters that count as both cases.
pub(crate) const CASELESS: Class = 3;
/// `\p{M}`
pub(crate) const MARK: Class = 4;
/// `\p{N}`
pub(crate) const NUMBER: Class = 5;
/// `\s` but for the next two.
pub(crate) const WHITE: Class = 6;
/// `[\r\n]`
pub(crate) const NEWLINE: Class = 7;
/// Not a character: the end of the text.
pub(crate) const END: Class = 8;

/// Set of classes as bits, for [`is_in`].
pub(crate) type Set = u16;
pub(crate) const LETTERS: Set = 1 << LOWER | 1 << UPPER | 1 << CASELESS;
pub(crate) const SPACES: Set = 1 << WHITE | 1 << NEWLINE;
pub(crate) const OTHERS: Set = 1 << OTHER | 1 << MARK;

/// Whether `class` is in `set`.
#[inline(always)]
pub(crate) fn is_in(class: Class, set: Set) -> bool {
    set >> class & 1 != 0
}

/// Bit of a table entry: NFC may change a text that holds the character.
const COMPOSES: u8 = 1 << 4;
/// The bits of an entry that are the class.
const CLASS: u8 = COMPOSES - 1;
/// In the place of a class: the characters have several. It is in no [`Set`].
const SEVERAL: Class = CLASS;
const BLOCK: usize = 128;
/// So many characters of three bytes begin with the same two.
const ROW: usize = 64;

/// A table in two steps: blocks of 128 characters, equal ones kept once.
#[derive(Debug)]
pub(crate) struct Classes {
    blocks: Vec<u16>,
    entries: Vec<u8>,
    /// The classes of the first 128 characters once more, so that ASCII needs one step.
    ascii: [Class; 128],
    /// By the first two bytes of characters of three what their entries share: the class, or [`SEVERAL`], and whether any composes.
    /// Most Chinese and Korean characters need no more than this, which is small enough to stay at hand.
    rows: [u8; 16 * ROW],
}

impl Classes {
    /// Unfolds the table.
    pub(crate) fn new() -> Classes {
        let mut all = Vec::with_capacity(0x0011_0000);
        let mut length = 0;
        for byte in RUNS.bytes() {
            if byte.is_ascii_digit() {
                length = length * 10 + usize::from(byte - b'0');
                continue;
            }
            let class = match byte.to_ascii_lowercase() {
                b'l' => LOWER,
                b'u' => UPPER,
                b'b' => CASELESS,
                b'm' => MARK,
                b'n' => NUMBER,
                b'w' => WHITE,
                b'r' => NEWLINE,
                _ => OTHER,
            };
            let entry = if byte.is_ascii_uppercase() { class | COMPOSES } else { class };
            all.resize(all.len() + length.max(1), entry);
            length = 0;
        }
        let mut blocks = Vec::with_capacity(all.len() / BLOCK);
        let mut entries: Vec<u8> = Vec::new();
        for block in all.chunks(BLOCK) {
            let place = entries.chunks(BLOCK).position(|known| known == block).unwrap_or_else(|| {
                entries.extend_from_slice(block);
                entries.len() / BLOCK - 1
            });
            blocks.push(place as u16);
        }
        let mut ascii = [OTHER; 128];
        ascii.copy_from_slice(&all[..128]);
        let mut rows = [0; 16 * ROW];
        for (row, entries) in rows.iter_mut().zip(all.chunks(ROW)) {
            let class =
                if entries.iter().all(|entry| (entry ^ entries[0]) & CLASS == 0) { entries[0] } else { SEVERAL };
            *row = entries.iter().fold(class, |row, entry| row | entry & COMPOSES);
        }
        Classes { blocks, entries, ascii, rows }
    }

    /// What characters of three bytes that begin with these two share; [`SEVERAL`] if they do not begin one.
    #[inline(always)]
    fn row(&self, first: u8, second: u8) -> u8 {
        if first & 0xF0 == 0xE0 {
            self.rows[usize::from(first & 0x0F) * ROW + usize::from(second & 0x3F)]
        } else {
            SEVERAL
        }
    }

    /// End of the characters of three bytes from `at` on of which their first two bytes say that they are in `set`.
    #[inline(always)]
    pub(super) fn run_of_three(&self, text: &[u8], mut at: usize, set: Set) -> usize {
        while let Some([first, second, _]) = text.get(at..).and_then(<[u8]>::first_chunk)
            && is_in(self.row(*first, *second) & CLASS, set)
        {
            at += 3;
        }
        at
    }

    #[inline(always)]
    fn entry(&self, point: usize) -> u8 {
        self.entries[usize::from(self.blocks[point / BLOCK]) * BLOCK + point % BLOCK]
    }

    /// Class and length in bytes of the character that begins at `at`; ([`END`], 0) behind the text.
    #[inline(always)]
    pub(crate) fn at(&self, text: &[u8], at: usize) -> (Class, usize) {
        match text.get(at) {
            Some(&byte) if byte < 128 => (self.ascii[usize::from(byte)], 1),
            Some(_) => self.beyond_ascii(text, at),
            None => (END, 0),
        }
    }

    #[inline]
    fn beyond_ascii(&self, text: &[u8], at: usize) -> (Class, usize) {
        let shared = self.row(text[at], text[at + 1]) & CLASS;
        if shared != SEVERAL {
            return (shared, 3);
        }
        let (point, length) = decode(&text[at..]);
        (self.entry(point) & CLASS, length)
    }

    /// Whether NFC may change a text that holds the character that begins at `at`: it is a combining mark, or has another
    /// normal form, or joins the character before it. A text without such characters is in NFC.
    #[inline(always)]
    pub(crate) fn composes(&self, text: &[u8], at: usize) -> (bool, usize) {
        if let Some([first @ 0xE0..0xF0, second, _]) = text[at..].first_chunk()
            && self.row(*first, *second) & COMPOSES == 0
        {
            return (false, 3);
        }
        let (point, length) = decode(&text[at..]);
        (self.entry(point) & COMPOSES != 0, length)
    }
}

/// The character that begins `text`, and its length. Only lengths are checked: the bytes are those of a `str`.
#[inline(always)]
pub(crate) fn decode(text: &[u8]) -> (usize, usize) {
    let low = |at: usize| usize::from(text[at] & 0x3F);
    match text[0] {
        first @ 0..0x80 => (usize::from(first), 1),
        first @ 0x80..0xE0 => (usize::from(first & 0x1F) << 6 | low(1), 2),
        first @ 0xE0..0xF0 => (usize::from(first & 0x0F) << 12 | low(1) << 6 | low(2), 3),
        first => (usize::from(first & 0x07) << 18 | low(1) << 12 | low(2) << 6 | low(3), 4),
    }
}

#[cfg(test)]
mod tests {
    use tokenizers::utils::SysRegex;
    use unicode_normalization_alignments::char::canonical_combining_class;
    use unicode_normalization_alignments::{IsNormalized, is_nfc_quick};

    use super::*;

    #[test]
    fn classes_are_those_of_the_regex_engine() {
        let all: String = ('\0'..=char::MAX).collect();
        let mut expected = vec![OTHER; all.len()];
        for (set, regex) in [
            (WHITE, r"\s+"),
            (NEWLINE, r"[\r\n]+"),
            (LOWER, r"\p{Ll}+"),
            (UPPER, r"[\p{Lu}\p{Lt}]+"),
            (CASELESS, r"[\p{Lm}\p{Lo}]+"),
            (MARK, r"\p{M}+"),
            (NUMBER, r"\p{N}+"),
        ] {
            for (start, end) in SysRegex::new(regex).unwrap().find_iter(&all) {
                expected[start..end].fill(set);
            }
        }
        let classes = Classes::new();
        for (at, character) in all.char_indices() {
            assert_eq!(classes.at(all.as_bytes(), at), (expected[at], character.len_utf8()), "{character:?}");
        }
        assert_eq!(classes.at(all.as_bytes(), all.len()), (END, 0));
        // The union that the regexes ask for, too: `\p{L}` is what the three kinds of letters are together.
        let letters: usize = SysRegex::new(r"\p{L}+").unwrap().find_iter(&all).map(|(start, end)| end - start).sum();
        let ours: usize =
            all.char_indices().filter(|(at, _)| is_in(expected[*at], LETTERS)).map(|(_, c)| c.len_utf8()).sum();
        assert_eq!(letters, ours);
    }

    #[test]
    fn what_composes_is_what_the_normalizer_may_touch() {
        let classes = Classes::new();
        let mut buffer = [0; 4];
        for character in '\0'..=char::MAX {
            let text = character.encode_utf8(&mut buffer);
            let plain = canonical_combining_class(character) == 0
                && is_nfc_quick(std::iter::once(character)) == IsNormalized::Yes;
            assert_eq!(classes.composes(text.as_bytes(), 0), (!plain, character.len_utf8()), "{character:?}");
        }
    }
}
