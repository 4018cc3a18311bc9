//! The regex of GPT-2, which `ByteLevel` has built in:
//! `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`.

use super::classes::{CASELESS, LETTERS, LOWER, MARK, NEWLINE, NUMBER, OTHER, OTHERS, UPPER};
use super::scan::Scan;

/// End of the piece that begins at `at`, which is inside of the text.
#[inline(always)]
pub(super) fn end(scan: Scan<'_>, at: usize) -> usize {
    let (class, length) = scan.class(at);
    let (first, behind) = match class {
        OTHER if scan.text[at] == b'\'' => match scan.contraction(at) {
            Some(end) => return end,
            None => (class, at + length),
        },
        // ` ?`: the space goes to what follows; what follows is no white space, or it would not be taken.
        _ if scan.text[at] == b' ' => {
            let (next, width) = scan.class(at + 1);
            (next, at + 1 + width)
        }
        _ => (class, at + length),
    };
    match first {
        LOWER | UPPER | CASELESS => scan.letters(behind, LETTERS),
        NUMBER => scan.run(behind, 1 << NUMBER),
        OTHER | MARK => scan.run(behind, OTHERS),
        // White space, also [`NEWLINE`], or nothing behind a space.
        _ => {
            debug_assert!(class > NUMBER && class <= NEWLINE);
            scan.spaces(at)
        }
    }
}
