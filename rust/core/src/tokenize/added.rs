//! Added tokens: what a text is made of before anything else happens to it.
//!
//! They are looked for leftmost first and of those the longest, as the `tokenizers` crate does it; what lies between them are
//! stretches of text. Where contents must not be read as special tokens, the search knows which places are only text.

use std::collections::HashSet;
use std::ops::Range;

use aho_corasick::{AhoCorasick, Input, MatchKind};
use tokenizers::normalizer::Range as Referential;
use tokenizers::{AddedToken, NormalizedString, Token};

use super::fallback::failed;
use crate::error::Result;

/// What a text is made of: added tokens and the stretches between them.
pub(super) enum Part<'a> {
    /// Text, not empty.
    Stretch(&'a str),
    /// An added token, and where it stands.
    Token(u32, Range<usize>),
}

/// Added tokens and the automaton that finds them: leftmost first, of those the longest.
#[derive(Debug)]
pub(super) struct Added {
    pub(super) tokens: Vec<(u32, AddedToken)>,
    pub(super) finder: AhoCorasick,
    borders: Borders,
}

/// Which borders between characters a token may lie over. Texts have many borders and vocabularies thousands of added tokens, so
/// the tokens are read once.
#[derive(Debug)]
struct Borders {
    /// One takes white space beside it, so that any border may be its own.
    strip: bool,
    /// All contents are ASCII.
    ascii: bool,
    /// The characters that stand side by side in a content.
    inside: HashSet<(char, char)>,
}

impl Borders {
    fn new(tokens: &[(u32, AddedToken)]) -> Borders {
        let pairs = |content: &str| content.chars().zip(content.chars().skip(1)).collect::<Vec<_>>();
        Borders {
            strip: tokens.iter().any(|(_, token)| token.lstrip || token.rstrip),
            ascii: tokens.iter().all(|(_, token)| token.content.is_ascii()),
            inside: tokens.iter().flat_map(|(_, token)| pairs(&token.content)).collect(),
        }
    }
}

/// How a match lies to the spans that hold only text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Touch {
    /// Outside of them: the template wrote it.
    No,
    /// Within one of them: a person wrote it.
    Within,
    /// Over a border, which is at this byte: no one wrote it as a whole.
    Across(usize),
}

/// How `range` lies to the ascending spans `literal`.
pub(super) fn touches(literal: &[Range<usize>], range: &Range<usize>) -> Touch {
    let from = literal.partition_point(|span| span.end <= range.start);
    let Some(span) = literal[from..].iter().find(|span| !span.is_empty()) else { return Touch::No };
    if span.start >= range.end {
        Touch::No
    } else if span.start > range.start {
        Touch::Across(span.start)
    } else if span.end < range.end {
        Touch::Across(span.end)
    } else {
        Touch::Within
    }
}

/// Where a token that was found at `hit` stands with the white space that it takes, from `done` on.
fn with_space(token: &AddedToken, text: &str, hit: Range<usize>, done: usize) -> Range<usize> {
    let Range { mut start, mut end } = hit;
    if token.lstrip {
        start = text[..start].trim_end().len().max(done);
    }
    if token.rstrip {
        end += text[end..].len() - text[end..].trim_start().len();
    }
    start..end
}

impl Added {
    /// The tokens and what they look like in the text that is searched.
    pub(super) fn new(tokens: Vec<(u32, AddedToken)>, pattern: impl Fn(&str) -> Result<String>) -> Result<Added> {
        let patterns = tokens.iter().map(|(_, token)| pattern(&token.content)).collect::<Result<Vec<_>>>()?;
        let patterns: Vec<&str> = patterns.iter().map(String::as_str).collect();
        Ok(Added { finder: automaton(&patterns)?, borders: Borders::new(&tokens), tokens })
    }

    /// Whether one of them may lie over a border between `left` and `right`, or eat up white space there.
    pub(super) fn may_cross(&self, left: char, right: char) -> bool {
        #[cfg(test)]
        looks::COUNT.with(|count| count.set(count.get() + 1));
        self.may_cross_all() || self.borders.inside.contains(&(left, right))
    }

    /// Whether [`Added::may_cross`] says yes to all borders.
    pub(super) fn may_cross_all(&self) -> bool {
        self.borders.strip
    }

    /// The same for tokens that are looked for in normalized text: what stands beside the border may be another character
    /// there, and so may what the token's content says. Only between ASCII and for tokens of ASCII are both what they seem.
    pub(super) fn may_cross_normalized(&self, left: char, right: char) -> bool {
        !self.is_empty()
            && (self.may_cross_all_normalized() || !left.is_ascii() || !right.is_ascii() || self.may_cross(left, right))
    }

    /// Whether [`Added::may_cross_normalized`] says yes to all borders.
    pub(super) fn may_cross_all_normalized(&self) -> bool {
        self.may_cross_all() || !self.borders.ascii
    }

    /// Whether there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }

    /// Whether one of them stands in `text`.
    pub(super) fn is_in(&self, text: &str) -> bool {
        !self.is_empty() && self.finder.is_match(text)
    }

    /// Whether the last of what `text` is made of is one of them.
    pub(super) fn ends_with_one(&self, text: &str) -> bool {
        let mut last = false;
        self.parts(text, |part| last = matches!(part, Part::Token(..)));
        last
    }

    /// Visits added tokens and the stretches between them, in their order.
    pub(super) fn parts<'a>(&self, text: &'a str, mut visit: impl FnMut(Part<'a>)) {
        let mut done = 0;
        if !self.tokens.is_empty() {
            for hit in self.finder.find_iter(text) {
                let (id, token) = &self.tokens[hit.pattern().as_usize()];
                let Range { start, end } = with_space(token, text, hit.range(), done);
                if done < start {
                    visit(Part::Stretch(&text[done..start]));
                }
                visit(Part::Token(*id, start..end));
                done = end;
            }
        }
        if done < text.len() {
            visit(Part::Stretch(&text[done..]));
        }
    }

    /// Cuts `part` at its added tokens, except for special ones that are only text.
    pub(super) fn split(
        &self,
        part: &NormalizedString,
        literal: &[Range<usize>],
    ) -> tokenizers::Result<Vec<(NormalizedString, Option<Vec<Token>>)>> {
        let cut = |id: Option<u32>, range: Range<usize>| {
            // None where a token before has taken more than this one's white space: there the crate panics with these words.
            let slice = part.slice(Referential::Normalized(range)).ok_or("AddedVocabulary bad split")?;
            let tokens = id.map(|id| vec![Token::new(id, slice.get().to_owned(), (0, slice.len()))]);
            tokenizers::Result::Ok((slice, tokens))
        };
        let text = part.get();
        let mut parts = Vec::new();
        let mut done = 0;
        let (mut at, mut limit) = (0, text.len());
        loop {
            let Some(hit) = self.finder.find(Input::new(text).span(at..limit)) else {
                if limit == text.len() {
                    break;
                }
                (at, limit) = (limit, text.len());
                continue;
            };
            let (id, token) = &self.tokens[hit.pattern().as_usize()];
            if token.special {
                match place(part, hit.start()..hit.end()).map_or(Touch::No, |place| touches(literal, &place)) {
                    Touch::No => {}
                    Touch::Within => {
                        at = hit.end();
                        continue;
                    }
                    // What the template wrote before the border may still hold a token of its own.
                    Touch::Across(border) => {
                        let before = border.saturating_sub(part.offsets_original().0);
                        let same = text.len() == part.offsets_original().1 - part.offsets_original().0;
                        if same && (hit.start() + 1..hit.end()).contains(&before) {
                            (at, limit) = (hit.start(), before);
                        } else {
                            at = hit.end();
                        }
                        continue;
                    }
                }
            }
            at = hit.end();
            let Range { start, end } = with_space(token, text, hit.range(), done);
            if done < start {
                parts.push(cut(None, done..start)?);
            }
            parts.push(cut(Some(*id), start..end)?);
            done = end;
        }
        if done != text.len() {
            parts.push(cut(None, done..text.len())?);
        }
        Ok(parts)
    }
}

/// Where a piece of a part stands in the whole text.
fn place(part: &NormalizedString, range: Range<usize>) -> Option<Range<usize>> {
    let start = part.offsets_original().0;
    let range = part.convert_offsets(Referential::Normalized(range))?;
    Some(start + range.start..start + range.end)
}

pub(super) fn automaton(patterns: &[&str]) -> Result<AhoCorasick> {
    AhoCorasick::builder().match_kind(MatchKind::LeftmostLongest).build(patterns).map_err(|error| failed(&error))
}

/// How many borders were looked up on this thread.
#[cfg(test)]
pub(super) mod looks {
    use std::cell::Cell;

    thread_local! {
        pub(in crate::tokenize) static COUNT: Cell<usize> = const { Cell::new(0) };
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn added(contents: &[(String, bool, bool)]) -> Added {
        let token = |(content, lstrip, rstrip): &(String, bool, bool)| {
            AddedToken::from(content.as_str(), true).lstrip(*lstrip).rstrip(*rstrip)
        };
        let tokens = (0..).zip(contents.iter().map(token)).collect();
        Added::new(tokens, |content| Ok(content.to_string())).unwrap()
    }

    /// The definition: every token is searched for the two characters.
    fn by_definition(added: &Added, left: char, right: char, normalized: bool) -> bool {
        let both = String::from_iter([left, right]);
        let crosses = |token: &AddedToken| token.lstrip || token.rstrip || token.content.contains(&both);
        let plain = both.is_ascii() && added.tokens.iter().all(|(_, token)| token.content.is_ascii());
        let any = added.tokens.iter().any(|(_, token)| crosses(token));
        if normalized { !added.tokens.is_empty() && (!plain || any) } else { any }
    }

    /// A token that strips is rare, so that most sets have none.
    fn contents() -> impl Strategy<Value = Vec<(String, bool, bool)>> {
        let flag = || proptest::bool::weighted(0.05);
        let content = prop_oneof![4 => "[ab<>]{1,4}", 1 => "[abé文]{1,4}"];
        proptest::collection::vec((content, flag(), flag()), 0..5)
    }

    proptest! {
        #[test]
        fn borders_are_those_of_the_definition(contents in contents()) {
            let added = added(&contents);
            let (mut all, mut all_normalized) = (true, true);
            for left in "ab<>é文 ".chars() {
                for right in "ab<>é文 ".chars() {
                    let expected = [false, true].map(|normalized| by_definition(&added, left, right, normalized));
                    prop_assert_eq!([added.may_cross(left, right), added.may_cross_normalized(left, right)], expected);
                    all &= expected[0];
                    all_normalized &= expected[1];
                }
            }
            // No content has a space, so only what crosses everything crosses these all.
            prop_assert_eq!([added.may_cross_all(), added.may_cross_all_normalized()], [all, all_normalized]);
        }
    }
}
