//! Byte-level tokenizers cut a text by a regex before BPE. Here the regexes of the families that people use are written out
//! by hand, because the regex engine is most of what encoding costs.
//!
//! A regex is recognised by its exact text, never by what it seems to do; anything else is left to the `tokenizers` crate.
//! Every character is in one piece: the regexes have an alternative for each class of characters. What a piece is never
//! depends on what stands before it, so each family is one function from the place where a piece begins to its end.
#![expect(clippy::inline_always, reason = "left to itself, the compiler calls `Classes::at` for each character")]

mod border;
mod cl100k;
mod classes;
mod gpt2;
mod o200k;
mod scan;
mod table;
#[cfg(test)]
pub(crate) mod tests;

pub(crate) use classes::{Classes, decode};
use scan::Scan;

/// The families, by what was first to use the regex.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pattern {
    /// GPT-2, `RoBERTa` and others, built into `ByteLevel`.
    Gpt2,
    /// OpenAI's cl100k, Llama-3.
    Cl100k,
    /// Qwen-2, Qwen-2.5, Qwen-3.
    Qwen2,
    /// Qwen-3.5.
    Qwen35,
    /// OpenAI's o200k.
    O200k,
    /// Mistral's tekken.
    Tekken,
}

/// The exact texts. What `ByteLevel` has built in can also stand in a `Split`.
const REGEXES: [(Pattern, &str); 6] = [
    (Pattern::Gpt2, r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"),
    (
        Pattern::Cl100k,
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    ),
    (
        Pattern::Qwen2,
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    ),
    (
        Pattern::Qwen35,
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    ),
    (
        Pattern::O200k,
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    ),
    (
        Pattern::Tekken,
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    ),
];

impl Pattern {
    /// The exact text of the family's regex.
    #[cfg(test)]
    pub(crate) fn regex(self) -> &'static str {
        REGEXES.iter().find(|(pattern, _)| *pattern == self).map_or("", |(_, text)| text)
    }

    /// The family with this very regex.
    pub(crate) fn from_regex(regex: &str) -> Option<Pattern> {
        REGEXES.iter().find(|(_, text)| *text == regex).map(|(pattern, _)| *pattern)
    }

    /// Appends the end of each piece of `text`, in bytes; the first begins at 0. Texts have less than 4 GiB.
    pub(crate) fn split(self, classes: &Classes, text: &str, ends: &mut Vec<u32>) {
        let scan = Scan { text: text.as_bytes(), classes };
        match self {
            Pattern::Gpt2 => all(scan, ends, gpt2::end),
            Pattern::Cl100k => all(scan, ends, cl100k::end::<3, false>),
            Pattern::Qwen2 => all(scan, ends, cl100k::end::<1, false>),
            Pattern::Qwen35 => all(scan, ends, cl100k::end::<1, true>),
            Pattern::O200k => all(scan, ends, o200k::end::<3, true>),
            Pattern::Tekken => all(scan, ends, o200k::end::<1, false>),
        }
    }
}

/// One piece after the other; written for each family anew, so that `end` is inlined.
#[inline(always)]
fn all<'a>(scan: Scan<'a>, ends: &mut Vec<u32>, end: impl Fn(Scan<'a>, usize) -> usize) {
    // More pieces than this are rare, and then the buffer grows.
    ends.reserve(scan.text.len() / 4 + 16);
    let mut at = 0;
    while at < scan.text.len() {
        at = end(scan, at);
        ends.push(at as u32);
    }
}
