//! Where a text can be cut without a piece being another one: what composing a chat from its parts needs to know.

use super::Pattern;
use super::classes::{Classes, LETTERS, NEWLINE, NUMBER, SPACES, is_in};

impl Pattern {
    /// Whether every text with `left` right before `right` has the pieces of its two halves, cut between them.
    ///
    /// A piece never depends on what stands before it, so two things must hold: there is a border whatever stands around
    /// the two characters, and the left half has the same pieces where it is all there is. The second fails for white
    /// space, which is cut differently at the end of a text; not so up to a line end in the regexes with `\s*[\r\n]+`.
    pub(crate) fn border_is_exact(self, classes: &Classes, left: char, right: char) -> bool {
        let mut buffer = [0; 4];
        let right = right.encode_utf8(&mut buffer).as_bytes();
        let (after, _) = classes.at(right, 0);
        let mut buffer = [0; 4];
        let (before, _) = classes.at(left.encode_utf8(&mut buffer).as_bytes(), 0);
        // NFC must not join them either.
        if classes.composes(right, 0).0 {
            return false;
        }
        // No letter or digit shares a piece with white space behind it.
        if is_in(before, LETTERS | 1 << NUMBER) {
            return is_in(after, SPACES);
        }
        let lines = match self {
            Pattern::Gpt2 => false,
            Pattern::Cl100k | Pattern::Qwen2 | Pattern::Qwen35 => true,
            // `[\r\n/]*` goes on over both.
            Pattern::O200k | Pattern::Tekken => right != b"/",
        };
        before == NEWLINE && lines && !is_in(after, SPACES)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{CLASSES, ORACLES, texts};
    use super::*;
    use proptest::prelude::*;

    fn cut(pattern: Pattern, text: &str) -> Vec<u32> {
        let mut ends = Vec::new();
        pattern.split(&CLASSES, text, &mut ends);
        ends
    }

    #[test]
    fn line_ends_and_words_are_borders() {
        let exact = |pattern: Pattern, left, right| pattern.border_is_exact(&CLASSES, left, right);
        assert!(exact(Pattern::Qwen2, '\n', 'a') && exact(Pattern::Qwen2, 'a', '\n'));
        assert!(!exact(Pattern::Qwen2, '\n', ' ') && !exact(Pattern::Qwen2, '\n', '\u{301}'));
        assert!(exact(Pattern::Qwen2, '\n', '/') && !exact(Pattern::Tekken, '\n', '/'));
        assert!(!exact(Pattern::Gpt2, '\n', 'a') && exact(Pattern::Gpt2, '7', '\n'));
        assert!(!exact(Pattern::Qwen2, '!', '\n') && !exact(Pattern::Qwen2, 'a', 'b'));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn halves_have_the_pieces_of_the_whole(left in texts(), right in texts()) {
            let (Some(last), Some(first)) = (left.chars().next_back(), right.chars().next()) else { return Ok(()) };
            for oracle in ORACLES.iter() {
                if oracle.pattern.border_is_exact(&CLASSES, last, first) {
                    let mut halves = cut(oracle.pattern, &left);
                    halves.extend(cut(oracle.pattern, &right).iter().map(|end| end + left.len() as u32));
                    prop_assert_eq!(cut(oracle.pattern, &format!("{left}{right}")), halves);
                }
            }
        }
    }
}
