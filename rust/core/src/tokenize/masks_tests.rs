//! What the engines' own tests share: masks from marks against masks from offsets, which must be equal to the token where the
//! marks are said to be known; and the first ids of a text against all of them.

use std::ops::Range;

use super::{Encoded, NOWHERE, Scratch, Tokenizer};

/// The rule of transformers, word for word: from the first token that holds a span's first character to the first that holds
/// its last; nothing from the first span on whose first character is in no token. None where the last is in none, or in the
/// very first: what happens then is no mark's business.
fn by_offsets(text: &str, spans: &[Range<usize>], offsets: &[(u32, u32)]) -> Option<Vec<u32>> {
    let mut mask = vec![0; offsets.len()];
    let token = |at: usize| offsets.iter().position(|&(start, end)| (start as usize..end as usize).contains(&at));
    for span in spans {
        let Some(first) = token(span.start) else { break };
        let (last, _) = text[..span.end].char_indices().next_back()?;
        let last = token(last).filter(|token| *token > 0)?;
        mask[first..=last].fill(1);
    }
    Some(mask)
}

/// Whether the mask was known from marks; it is compared with that of offsets.
pub(super) fn compare(tokenizer: &Tokenizer, text: &str, spans: &[Range<usize>]) -> bool {
    let (mut ids, mut at, mut scratch) = (Vec::new(), Vec::new(), Scratch::default());
    let marks: Vec<usize> = spans.iter().flat_map(|span| [span.start, span.end]).collect();
    let told = spans.iter().all(|span| span.start > 0 && tokenizer.offsets_tell(text, span));
    if !told || !tokenizer.encode_marked(text, &marks, &mut scratch, &mut ids, &mut at).unwrap() {
        return false;
    }
    let spans_of = at.chunks_exact(2).take_while(|two| two[0] != NOWHERE);
    if spans_of.clone().any(|two| two[1] < 2 || two[0] >= two[1]) {
        return false;
    }
    let mut mask = vec![0; ids.len()];
    spans_of.for_each(|two| mask[two[0] as usize..two[1] as usize].fill(1));
    let mut expected = Encoded::default();
    tokenizer.encode(text, &mut expected).unwrap();
    assert_eq!(ids, expected.ids, "{text:?}");
    assert_eq!(Some(mask), by_offsets(text, spans, &expected.offsets), "{text:?} {spans:?} {:?}", expected.offsets);
    true
}

/// Spans of a text that is made of `pieces`: every other piece, the second first.
pub(super) fn every_other(pieces: &[String]) -> (String, Vec<Range<usize>>) {
    let (mut text, mut spans) = (String::new(), Vec::new());
    for (number, piece) in pieces.iter().enumerate() {
        let start = text.len();
        text.push_str(piece);
        if number % 2 == 1 {
            spans.push(start..text.len());
        }
    }
    spans.retain(|span| !span.is_empty());
    (text, spans)
}

/// The first ids of a text are those of the whole, whatever their number.
pub(super) fn check_first(tokenizer: &Tokenizer, text: &str) {
    let (mut all, mut scratch) = (Vec::new(), Scratch::default());
    tokenizer.encode_ids(text, &mut scratch, &mut all).unwrap();
    for limit in [0, 1, 2, 3, 7, all.len() / 2, all.len().saturating_sub(1), all.len(), all.len() + 1, usize::MAX] {
        let mut first = Vec::new();
        tokenizer.encode_first(text, limit, &mut scratch, &mut first).unwrap();
        assert_eq!(first, all[..limit.min(all.len())], "{limit} of {text:?}");
    }
}
