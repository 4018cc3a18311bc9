//! What the regexes of all families have in common: runs of a class, white space, contractions.

use super::classes::{Class, Classes, NEWLINE, SPACES, Set, is_in};

/// A text and what its characters are.
#[derive(Clone, Copy)]
pub(super) struct Scan<'a> {
    pub(super) text: &'a [u8],
    pub(super) classes: &'a Classes,
}

const LANES: u64 = 0x0101_0101_0101_0101;
const TOPS: u64 = 0x80 * LANES;

/// The top bit of each byte of `word` that is in `first..=last` (both ASCII).
#[inline(always)]
fn between(word: u64, first: u8, last: u8) -> u64 {
    // Seven bits plus at most 0x7F: no carry leaves its byte.
    let low = word & !TOPS;
    let reaches = low + u64::from(0x80 - first) * LANES;
    let exceeds = low + u64::from(0x7F - last) * LANES;
    reaches & !exceeds & !word & TOPS
}

impl Scan<'_> {
    /// Class and length of the character at `at`.
    #[inline(always)]
    pub(super) fn class(self, at: usize) -> (Class, usize) {
        self.classes.at(self.text, at)
    }

    /// End of the run of characters in `set` that begins at `at`.
    #[inline(always)]
    pub(super) fn run(self, mut at: usize, set: Set) -> usize {
        loop {
            let (class, length) = self.class(at);
            if !is_in(class, set) {
                return at;
            }
            at += length;
        }
    }

    /// As [`Scan::run`] for a `set` with all letters: eight bytes at a time, so that the end of a word of up to seven
    /// letters costs no branch of its own.
    #[inline(always)]
    pub(super) fn letters(self, at: usize, set: Set) -> usize {
        self.fast_run(at, set, |word| between(word | (0x20 * LANES), b'a', b'z'))
    }

    /// As [`Scan::run`] for a `set` with all lower-case letters, of ASCII only these.
    #[inline(always)]
    pub(super) fn lower(self, at: usize, set: Set) -> usize {
        self.fast_run(at, set, |word| between(word, b'a', b'z'))
    }

    #[inline(always)]
    fn fast_run(self, mut at: usize, set: Set, inside: impl Fn(u64) -> u64) -> usize {
        loop {
            while let Some(chunk) = self.text.get(at..).and_then(|rest| rest.first_chunk::<8>()) {
                let outside = !inside(u64::from_le_bytes(*chunk)) & TOPS;
                if outside != 0 {
                    at += outside.trailing_zeros() as usize / 8;
                    if chunk[outside.trailing_zeros() as usize / 8] < 128 {
                        return at;
                    }
                    break;
                }
                at += 8;
            }
            // A character beyond ASCII, which seldom comes alone, or the last seven bytes.
            at = self.classes.run_of_three(self.text, at, set);
            let (class, length) = self.class(at);
            if !is_in(class, set) {
                return at;
            }
            at += length;
        }
    }

    /// Up to `most` characters of `set` from `at`.
    #[inline(always)]
    pub(super) fn run_of(self, mut at: usize, set: Set, most: usize) -> usize {
        for _ in 0..most {
            let (class, length) = self.class(at);
            if !is_in(class, set) {
                break;
            }
            at += length;
        }
        at
    }

    /// `\s+(?!\S)|\s+` at white space: all of it at the end of the text, else all but the last character, else that one.
    pub(super) fn spaces(self, start: usize) -> usize {
        let (mut at, mut last) = (start, start);
        loop {
            let (class, length) = self.class(at);
            if !is_in(class, SPACES) {
                break;
            }
            last = at;
            at += length;
        }
        if at == self.text.len() || last == start { at } else { last }
    }

    /// `\s*[\r\n]+|\s+(?!\S)|\s+` at white space: up to the last line end, else as [`Scan::spaces`].
    pub(super) fn spaces_or_lines(self, start: usize) -> usize {
        let (mut at, mut last, mut line) = (start, start, None);
        loop {
            let (class, length) = self.class(at);
            if !is_in(class, SPACES) {
                break;
            }
            last = at;
            at += length;
            if class == NEWLINE {
                line = Some(at);
            }
        }
        match line {
            Some(end) => end,
            None if at == self.text.len() || last == start => at,
            None => last,
        }
    }

    /// End of `'s|'t|'re|'ve|'m|'ll|'d` at `at`, where an apostrophe stands.
    #[inline(always)]
    pub(super) fn contraction(self, at: usize) -> Option<usize> {
        match (self.text.get(at + 1)?, self.text.get(at + 2)) {
            (b's' | b't' | b'm' | b'd', _) => Some(at + 2),
            (b'r' | b'v', Some(b'e')) | (b'l', Some(b'l')) => Some(at + 3),
            _ => None,
        }
    }

    /// End of `(?i:'s|'t|'re|'ve|'m|'ll|'d)` at `at`, where an apostrophe stands. Of all other characters only `ſ`, the
    /// long s, is one of these letters in another case.
    #[inline(always)]
    pub(super) fn any_case_contraction(self, at: usize) -> Option<usize> {
        const LONG_S: [u8; 2] = [0xC5, 0xBF];
        match (self.text.get(at + 1)? | 0x20, self.text.get(at + 2).map(|byte| byte | 0x20)) {
            (b's' | b't' | b'm' | b'd', _) => Some(at + 2),
            (b'r' | b'v', Some(b'e')) | (b'l', Some(b'l')) => Some(at + 3),
            _ if self.text[at + 1..].starts_with(&LONG_S) => Some(at + 3),
            _ => None,
        }
    }
}
