//! Finds the places worth a closer look, fast: nearly every message has none, and then nothing else of the module runs.

use memchr::{memchr_iter, memchr3_iter, memmem};

/// Why a lowercase letter might have to be a capital.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// The first letter of the message.
    Turn,
    /// The first letter after a blank line.
    Paragraph,
    /// After `.`, `!` or `?` at byte `end` and a space or a line break.
    Sentence {
        /// Offset of the mark.
        end: usize,
    },
    /// A lone `i`.
    Pronoun,
}

/// A lowercase letter and why it was noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Candidate {
    /// Byte offset of the letter.
    pub(super) at: usize,
    /// Why it was noticed.
    pub(super) kind: Kind,
}

/// All candidates in the order of their offsets, at most one of each kind at one offset.
pub(super) fn candidates(text: &str) -> Vec<Candidate> {
    let bytes = text.as_bytes();
    let mut found = Vec::new();
    let first = text.len() - text.trim_start().len();
    if is_lower(text, first) {
        found.push(Candidate { at: first, kind: Kind::Turn });
        if is_lone_i(bytes, first) {
            found.push(Candidate { at: first, kind: Kind::Pronoun });
        }
    }
    for end in memchr3_iter(b'.', b'!', b'?', bytes) {
        if let Some(at) = after_mark(bytes, end + 1)
            && is_lower(text, at)
        {
            found.push(Candidate { at, kind: Kind::Sentence { end } });
        }
    }
    for newline in memchr_iter(b'\n', bytes) {
        let at = newline + 1;
        if is_lower(text, at) && at > first {
            if follows_blank_line(bytes, newline) {
                found.push(Candidate { at, kind: Kind::Paragraph });
            }
            if is_lone_i(bytes, at) {
                found.push(Candidate { at, kind: Kind::Pronoun });
            }
        }
    }
    for space in memmem::find_iter(bytes, b" i") {
        if is_lone_i(bytes, space + 1) && space + 1 > first {
            found.push(Candidate { at: space + 1, kind: Kind::Pronoun });
        }
    }
    found.sort_unstable();
    found
}

/// Where the next sentence's first letter would stand: one or two spaces further, or on the next line.
fn after_mark(bytes: &[u8], mut at: usize) -> Option<usize> {
    let begin = at;
    while bytes.get(at) == Some(&b' ') {
        at += 1;
    }
    if matches!(bytes.get(at), Some(b'\r' | b'\n')) {
        at += usize::from(bytes[at] == b'\r' && bytes.get(at + 1) == Some(&b'\n')) + 1;
        let line = at;
        while bytes.get(at) == Some(&b' ') {
            at += 1;
        }
        return (at - line <= 3).then_some(at); // deeper lines are code or belong to a list
    }
    matches!(at - begin, 1 | 2).then_some(at)
}

/// Whether a lowercase letter starts at `at`.
fn is_lower(text: &str, at: usize) -> bool {
    match text.as_bytes().get(at) {
        Some(byte) if byte.is_ascii() => byte.is_ascii_lowercase(),
        Some(_) => text[at..].chars().next().is_some_and(char::is_lowercase),
        None => false,
    }
}

/// Whether the line before the one that `newline` opens is blank.
fn follows_blank_line(bytes: &[u8], newline: usize) -> bool {
    bytes[..newline].iter().rev().find(|byte| !matches!(byte, b' ' | b'\t' | b'\r')) == Some(&b'\n')
}

/// An `i` that is a word by itself or carries one of the pronoun's contractions; the byte before it is white.
fn is_lone_i(bytes: &[u8], at: usize) -> bool {
    bytes[at] == b'i'
        && match bytes.get(at + 1) {
            Some(b' ' | b'\'' | b',' | b'\n') => true,
            Some(0xe2) => bytes[at + 2..].starts_with(&[0x80, 0x99]), // ’
            _ => false,
        }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(text: &str) -> Vec<(usize, Kind)> {
        candidates(text).into_iter().map(|candidate| (candidate.at, candidate.kind)).collect()
    }

    #[test]
    fn finds_each_kind() {
        assert_eq!(places("hello. how"), [(0, Kind::Turn), (7, Kind::Sentence { end: 5 })]);
        assert_eq!(places("A\n\nb i c"), [(3, Kind::Paragraph), (5, Kind::Pronoun)]);
        assert_eq!(places("Oh.\nso"), [(4, Kind::Sentence { end: 2 })]);
        assert_eq!(places("Oh! élan"), [(4, Kind::Sentence { end: 2 })]);
        assert_eq!(places("So i’m"), [(3, Kind::Pronoun)]);
    }

    #[test]
    fn finds_nothing_in_clean_text() {
        for text in
            ["", " ", "Hello. How are you? 3.5 is v1.2.\n\nI am.", "你好。how", "It is in it.\n    code", "A.   b"]
        {
            assert_eq!(places(text), [], "{text}");
        }
    }
}
