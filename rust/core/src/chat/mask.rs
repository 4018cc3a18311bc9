//! Which tokens carry the loss: spans of the rendered text, carried over to tokens.
//!
//! ```
//! use zephyr_data_core::chat::assistant_mask;
//!
//! let text = "<|assistant|>\nHi</s>\n";
//! let offsets = [(0, 13), (13, 14), (14, 16), (16, 20), (20, 21)];
//! let mut mask = Vec::new();
//! let lost = assistant_mask(text, &[14..20], &offsets, &mut mask);
//! assert_eq!(mask, [0, 0, 1, 1, 0]);
//! assert_eq!(lost, 0);
//! ```

use std::ops::Range;

/// Writes one entry a token into `mask`: 1 where the token carries the loss, 0 elsewhere.
///
/// This is what transformers does for `return_assistant_tokens_mask=True`, its oddities included, because the masks
/// must be equal: a span begins at the first token that holds its first character and ends with the first token that
/// holds its last character. Where no token holds the last character (or only the very first token does), the span runs
/// to the end of the text. Where none holds the first character, this span *and all later ones* stay without loss. Both
/// happen only where the tokenizer leaves characters out of its offsets, as a byte-level post-processor with
/// `trim_offsets` does with white space.
///
/// Returns how many spans were left without loss for that reason, so that the caller can tell the user.
pub fn assistant_mask(text: &str, spans: &[Range<usize>], offsets: &[(u32, u32)], mask: &mut Vec<u8>) -> usize {
    mask.clear();
    mask.resize(offsets.len(), 0);
    // Offsets grow from token to token and spans from turn to turn: no look-up has to go back before the last span's
    // start.
    let mut from = 0;
    for (done, span) in spans.iter().enumerate() {
        let Some(first) = token_at(offsets, from, span.start) else { return spans.len() - done };
        let last = if span.end == 0 { None } else { token_at(offsets, 0, last_char(text, span.end)) };
        let end = match last {
            Some(last) if last > 0 => last + 1,
            _ => offsets.len(),
        };
        if first < end {
            mask[first..end].fill(1);
        }
        from = first;
    }
    0
}

/// The first token from `from` on whose offsets hold the byte `at`.
fn token_at(offsets: &[(u32, u32)], from: usize, at: usize) -> Option<usize> {
    let held = |&(start, end): &(u32, u32)| start as usize <= at && at < end as usize;
    offsets[from..].iter().position(held).map(|index| from + index)
}

/// Where the last character before `end` begins.
fn last_char(text: &str, end: usize) -> usize {
    let mut at = end - 1;
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

#[cfg(test)]
#[expect(clippy::single_range_in_vec_init, reason = "one span is a list of spans")]
mod tests {
    use super::*;

    fn mask(text: &str, spans: &[Range<usize>], offsets: &[(u32, u32)]) -> (Vec<u8>, usize) {
        let mut out = vec![7; 3];
        let lost = assistant_mask(text, spans, offsets, &mut out);
        (out, lost)
    }

    #[test]
    fn a_token_over_the_border_counts_as_assistant() {
        assert_eq!(mask("abcdef", &[1..3], &[(0, 2), (2, 4), (4, 6)]), (vec![1, 1, 0], 0));
    }

    #[test]
    fn tokens_that_share_a_character() {
        // Byte fallback gives each of an emoji's four tokens the whole character's offsets; transformers looks for the
        // last character and takes the first token that holds it.
        let offsets = [(0, 1), (1, 5), (1, 5), (1, 5), (1, 5), (5, 6)];
        assert_eq!(mask("a\u{1f600}b", &[1..6], &offsets), (vec![0, 1, 1, 1, 1, 1], 0));
        assert_eq!(mask("a\u{1f600}b", &[1..5], &offsets), (vec![0, 1, 0, 0, 0, 0], 0));
    }

    #[test]
    fn a_lost_start_stops_and_a_lost_end_runs_on() {
        // The token " b" leaves its space out of its offsets, as `trim_offsets` does.
        let offsets = [(0, 1), (2, 3), (3, 4), (4, 5)];
        assert_eq!(mask("a bcd", &[0..1, 1..3, 3..5], &offsets), (vec![1, 1, 1, 1], 2));
        assert_eq!(mask("a bcd", &[2..3, 1..3, 3..5], &offsets), (vec![0, 1, 0, 0], 2));
        assert_eq!(mask("ab cd", &[1..3], &[(0, 1), (1, 2), (3, 4), (4, 5)]), (vec![0, 1, 1, 1], 0));
    }

    #[test]
    fn nothing_to_mark() {
        assert_eq!(mask("", &[], &[]), (vec![], 0));
        assert_eq!(mask("ab", &[1..1], &[(0, 1), (1, 2)]), (vec![0, 1], 0));
    }
}
