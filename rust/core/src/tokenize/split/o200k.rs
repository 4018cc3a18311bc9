//! The regex of OpenAI's o200k, which begins a new piece where a capital follows a small letter, and Mistral's tekken, which
//! is the same with single digits and without contractions. With U = `[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]`,
//! W = `[\p{Ll}\p{Lm}\p{Lo}\p{M}]` and C = `(?i:'s|'t|'re|'ve|'m|'ll|'d)?` it is
//! `[^\r\n\p{L}\p{N}]?U*W+C|[^\r\n\p{L}\p{N}]?U+W*C|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+`.

use super::classes::{CASELESS, END, LETTERS, LOWER, MARK, NEWLINE, NUMBER, OTHERS, UPPER, is_in};
use super::scan::Scan;

/// End of the piece that begins at `at`, which is inside of the text.
#[inline(always)]
pub(super) fn end<const DIGITS: usize, const CONTRACTIONS: bool>(scan: Scan<'_>, at: usize) -> usize {
    const { assert!(DIGITS > 0) };
    let (class, length) = scan.class(at);
    if class == NUMBER {
        return scan.run_of(at + length, 1 << NUMBER, DIGITS - 1);
    }
    if class == NEWLINE {
        return scan.spaces_or_lines(at);
    }
    // `[^\r\n\p{L}\p{N}]?` takes what is no letter, and a mark is none.
    let from = if is_in(class, LETTERS) { at } else { at + length };
    let word = word(scan, from).or((class == MARK).then_some(from)).or_else(|| capitals(scan, from));
    if let Some(end) = word {
        if CONTRACTIONS && scan.text.get(end) == Some(&b'\'') {
            return scan.any_case_contraction(end).unwrap_or(end);
        }
        return end;
    }
    if is_in(class, OTHERS) {
        return others(scan, at + length);
    }
    let (next, width) = scan.class(at + length);
    if scan.text[at] == b' ' && is_in(next, OTHERS) { others(scan, at + 1 + width) } else { scan.spaces_or_lines(at) }
}

/// `U*W+`. `U*` first takes all it can. If a small letter stands behind, that begins `W+`; if not, `U*` gives back up to
/// the last letter without case or mark, which is in W, too.
#[inline(always)]
fn word(scan: Scan<'_>, from: usize) -> Option<usize> {
    let (mut at, mut caseless) = (from, None);
    loop {
        let (class, length) = scan.class(at);
        match class {
            LOWER => return Some(scan.lower(at + length, 1 << LOWER | 1 << CASELESS | 1 << MARK)),
            UPPER => at += length,
            CASELESS | MARK => {
                at += length;
                caseless = Some(at);
            }
            _ => return caseless,
        }
    }
}

/// `U+W*` where `U*W+` is not: capitals, and no small letter behind them.
fn capitals(scan: Scan<'_>, from: usize) -> Option<usize> {
    let end = scan.run(from, 1 << UPPER);
    (end > from).then_some(end)
}

/// What follows the first of `[^\s\p{L}\p{N}]+[\r\n/]*`.
fn others(scan: Scan<'_>, at: usize) -> usize {
    let mut at = scan.run(at, OTHERS);
    while let Some(b'\r' | b'\n' | b'/') = scan.text.get(at) {
        at += 1;
    }
    debug_assert!(at == scan.text.len() || scan.class(at).0 != END);
    at
}
