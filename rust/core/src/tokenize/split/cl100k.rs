//! The regex of OpenAI's cl100k and what came from it. With three digits (Llama-3) it is
//! `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`,
//! with one digit it is that of Qwen-2 and 3, and with one digit and `[\p{L}\p{M}]` for `\p{L}` that of Qwen-3.5.

use super::classes::{LETTERS, MARK, NEWLINE, NUMBER, OTHERS, Set, is_in};
use super::scan::Scan;

/// End of the piece that begins at `at`, which is inside of the text.
///
/// `MARKS`: marks are taken as letters. Where the mark itself is the optional character before the letters, that gives the
/// same piece as where it is the first of them.
#[inline(always)]
pub(super) fn end<const DIGITS: usize, const MARKS: bool>(scan: Scan<'_>, at: usize) -> usize {
    const { assert!(DIGITS > 0) };
    let word: Set = if MARKS { LETTERS | 1 << MARK } else { LETTERS };
    let others = OTHERS & !word;
    let (class, length) = scan.class(at);
    if is_in(class, word) {
        return scan.letters(at + length, word);
    }
    if class == NUMBER {
        return scan.run_of(at + length, 1 << NUMBER, DIGITS - 1);
    }
    if class == NEWLINE {
        return scan.spaces_or_lines(at);
    }
    let byte = scan.text[at];
    if byte == b'\''
        && let Some(end) = scan.any_case_contraction(at)
    {
        return end;
    }
    let (next, width) = scan.class(at + length);
    if is_in(next, word) {
        scan.letters(at + length + width, word)
    } else if is_in(class, others) {
        scan.run(scan.run(at + length, others), 1 << NEWLINE)
    } else if byte == b' ' && is_in(next, others) {
        scan.run(scan.run(at + 1 + width, others), 1 << NEWLINE)
    } else {
        scan.spaces_or_lines(at)
    }
}
