//! A row's shingles as sets, and the exact Jaccard index of two rows.
//!
//! The sets hold where each shingle lies in the text. Two shingles are equal if their words are: their numbers decide only
//! in which order they are compared.

use std::cmp::Ordering;

use super::hash::{Roll, SHINGLE_WORDS, Span, for_each_word, mix};
use super::words::fold;

/// Most parts of a row: prompt, chosen, rejected.
pub const MAX_PARTS: usize = 3;

/// What is between two parts of a row's words.
const PART: u8 = b'\n';

/// Appends the words of a row's parts as [`Document::new`] reads them: in lower case, with a space behind each word and a
/// line feed behind each part.
pub fn normalize(parts: &[&str], out: &mut Vec<u8>) {
    out.reserve(parts.iter().map(|part| part.len() + 2).sum());
    for part in parts {
        let start = out.len();
        fold(part, out);
        // Of spaces side by side, and of those in front, one and none stay. Without branches: words are short.
        let (mut end, mut before) = (start, b' ');
        for at in start..out.len() {
            let byte = out[at];
            out[end] = byte;
            end += usize::from(byte != b' ' || before != b' ');
            before = byte;
        }
        out.truncate(end);
        out.push(PART);
    }
}

/// One shingle of a set.
#[derive(Clone, Copy, Debug)]
struct Item {
    hash: u64,
    span: Span,
}

/// A row's sets, one for each of its parts.
#[derive(Clone, Debug)]
pub struct Document {
    text: Vec<u8>,
    /// By part, then by number, then by words; no two equal ones in a part.
    items: Vec<Item>,
    /// Where the parts end in `items`.
    ends: [usize; MAX_PARTS],
    parts: usize,
}

impl Document {
    /// The sets of a row, from the text that [`normalize`] made.
    pub fn new(text: Vec<u8>) -> Document {
        let (mut items, mut ends, mut parts, mut start) = (Vec::new(), [0; MAX_PARTS], 0, 0);
        for end in memchr::memchr_iter(PART, &text).take(MAX_PARTS) {
            let first = items.len();
            shingles(&text, start, end, &mut items);
            let kept = first + sort_and_dedup(&text, &mut items[first..]);
            items.truncate(kept);
            ends[parts] = items.len();
            parts += 1;
            start = end + 1;
        }
        Document { text, items, ends, parts }
    }

    /// Number of different shingles, of all parts together.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Bytes that it takes in memory, about.
    pub(super) fn bytes(&self) -> usize {
        size_of::<Document>() + self.text.capacity() + size_of::<Item>() * self.items.capacity()
    }

    /// The parts' numbers as another order of them would have: `[0, 2, 1]` swaps the two answers of a preference.
    #[must_use]
    pub fn reordered(&self, order: &[usize]) -> Document {
        let mut text = Vec::with_capacity(self.text.len());
        let parts: Vec<&[u8]> = self.text.split_inclusive(|&byte| byte == PART).collect();
        for &part in order {
            text.extend_from_slice(parts.get(part).copied().unwrap_or_default());
        }
        Document::new(text)
    }

    /// One number for each shingle, the same for equal shingles of the same part.
    pub(super) fn numbers(&self) -> impl Iterator<Item = u64> {
        (0..self.parts).flat_map(|part| {
            self.part(part).iter().map(move |item| if part == 0 { item.hash } else { mix(item.hash ^ part as u64) })
        })
    }

    fn part(&self, part: usize) -> &[Item] {
        let start = if part == 0 { 0 } else { self.ends[part - 1] };
        &self.items[start..self.ends[part]]
    }

    /// The exact Jaccard index: of the part in which the rows differ most. Where a part of either has no words it is 0.
    pub fn similarity(&self, other: &Document) -> f64 {
        if self.parts != other.parts || self.parts == 0 {
            return 0.0;
        }
        let indices = (0..self.parts).map(|part| self.jaccard(part, other, part));
        indices.fold(1.0, f64::min)
    }

    /// [`Document::similarity`], if it reaches the threshold.
    pub(super) fn similar(&self, other: &Document, threshold: f64) -> Option<f64> {
        // By numbers alone first: most rows that meet are not similar, and the words have no say in that.
        let may_be = |part: usize| may_reach(self.part(part), other.part(part), threshold);
        if self.parts != other.parts || !(0..self.parts).all(may_be) {
            return None;
        }
        Some(self.similarity(other)).filter(|&similarity| similarity >= threshold)
    }

    /// The exact Jaccard index of a part of this row and one of another, or of this one; 0 where either has no words.
    pub fn jaccard(&self, part: usize, other: &Document, other_part: usize) -> f64 {
        let (left, right) = (self.part(part), other.part(other_part));
        if left.is_empty() || right.is_empty() {
            return 0.0;
        }
        let (mut i, mut j, mut common) = (0, 0, 0usize);
        while i < left.len() && j < right.len() {
            match compare((&self.text, &left[i]), (&other.text, &right[j])) {
                Ordering::Less => i += 1,
                Ordering::Greater => j += 1,
                Ordering::Equal => {
                    common += 1;
                    i += 1;
                    j += 1;
                }
            }
        }
        common as f64 / (left.len() + right.len() - common) as f64
    }
}

/// Whether the Jaccard index of two sets may reach the threshold: it does not if it would not even if all shingles of equal
/// numbers were equal, and a set has as many of a number as the other one has at least.
fn may_reach(left: &[Item], right: &[Item], threshold: f64) -> bool {
    const STEPS: usize = 32;
    let (mut i, mut j, mut common) = (0, 0, 0);
    loop {
        let most = common + (left.len() - i).min(right.len() - j);
        if (most as f64 / (left.len() + right.len() - most).max(1) as f64) < threshold {
            return false;
        }
        if i == left.len() || j == right.len() {
            return true;
        }
        for _ in 0..STEPS {
            let (Some(a), Some(b)) = (left.get(i), right.get(j)) else { break };
            // Without branches, as none could be foreseen.
            common += usize::from(a.hash == b.hash);
            i += usize::from(a.hash <= b.hash);
            j += usize::from(b.hash <= a.hash);
        }
    }
}

/// The shingles of `text[start..end]`, which holds words with a space behind each.
fn shingles(text: &[u8], start: usize, end: usize, items: &mut Vec<Item>) {
    items.reserve((end - start) / 5);
    let (mut roll, mut first_words) = (Roll::default(), [0; SHINGLE_WORDS]);
    let base = start as u32;
    let mut last = Span::default();
    for_each_word(&text[start..end], |word, span| {
        roll.push(word);
        first_words[roll.words() % SHINGLE_WORDS] = span.start + base;
        last = Span { start: first_words[(roll.words() + 1) % SHINGLE_WORDS], end: span.end + base };
        if roll.words() >= SHINGLE_WORDS {
            items.push(Item { hash: roll.shingle(), span: last });
        }
    });
    if (1..SHINGLE_WORDS).contains(&roll.words()) {
        items.push(Item { hash: roll.shingle(), span: Span { start: base, end: last.end } });
    }
}

fn compare(a: (&[u8], &Item), b: (&[u8], &Item)) -> Ordering {
    a.1.hash.cmp(&b.1.hash).then_with(|| a.1.span.of(a.0).cmp(b.1.span.of(b.0)))
}

/// Sorts by number. Numbers are as good as random, so a few hundred of them are put in about the right place first.
fn sort_by_number(items: &mut [Item]) {
    const PLACES: usize = 256;
    const MOST_IN_A_PLACE: u32 = 24;
    let place = |item: &Item| (item.hash >> 56) as usize;
    let mut ends = [0u32; PLACES];
    if (32..=4 * PLACES).contains(&items.len()) {
        for item in &*items {
            ends[place(item)] += 1;
        }
        if ends.iter().all(|&count| count <= MOST_IN_A_PLACE) {
            let mut end = 0;
            for count in &mut ends {
                end += *count;
                *count = end - *count;
            }
            for item in &items.to_vec() {
                let at = &mut ends[place(item)];
                items[*at as usize] = *item;
                *at += 1;
            }
            for at in 1..items.len() {
                let (item, mut to) = (items[at], at);
                while to > 0 && items[to - 1].hash > item.hash {
                    items[to] = items[to - 1];
                    to -= 1;
                }
                items[to] = item;
            }
            return;
        }
    }
    items.sort_unstable_by_key(|item| item.hash);
}

/// Sorts the items and moves one of each kind to the front; gives the number of those.
fn sort_and_dedup(text: &[u8], items: &mut [Item]) -> usize {
    // By number first, without a look at the words: for most texts that is all.
    sort_by_number(items);
    for same in items.chunk_by_mut(|a, b| a.hash == b.hash).filter(|same| same.len() > 1) {
        same.sort_unstable_by(|a, b| compare((text, a), (text, b)));
    }
    let mut kept = 0;
    for at in 0..items.len() {
        if kept == 0 || compare((text, &items[kept - 1]), (text, &items[at])) != Ordering::Equal {
            items[kept] = items[at];
            kept += 1;
        }
    }
    kept
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "the same quotient of the same counts is the same number")]
mod tests {
    use super::*;
    use crate::dedup::near::words;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn document(parts: &[&str]) -> Document {
        let mut text = Vec::new();
        normalize(parts, &mut text);
        Document::new(text)
    }

    /// The sets as anyone would make them.
    fn set(text: &str) -> BTreeSet<Vec<String>> {
        let words = words(text);
        if words.is_empty() {
            return BTreeSet::new();
        }
        words.windows(SHINGLE_WORDS.min(words.len())).map(<[String]>::to_vec).collect()
    }

    fn plain(a: &str, b: &str) -> f64 {
        let (a, b) = (set(a), set(b));
        if a.is_empty() || b.is_empty() {
            return 0.0;
        }
        a.intersection(&b).count() as f64 / a.union(&b).count() as f64
    }

    #[test]
    fn short_texts_are_one_shingle_and_empty_ones_none() {
        assert_eq!(document(&["Thanks!"]).similarity(&document(&["thanks"])), 1.0);
        assert_eq!(document(&["a b c"]).similarity(&document(&["a b"])), 0.0);
        assert_eq!(document(&["a b c d"]).similarity(&document(&["a b c d e"])), 0.0);
        assert_eq!(document(&["🙂"]).similarity(&document(&["🙂"])), 0.0);
        assert!(document(&["🙂"]).is_empty());
        assert_eq!(document(&["x x x x x x x x"]).len(), 1);
    }

    #[test]
    fn of_several_parts_the_worst_counts() {
        let (p, a, b) = ("a long prompt of six words", "yes it is so indeed", "no it is not so");
        assert_eq!(document(&[p, a, b]).similarity(&document(&[p, a, b])), 1.0);
        assert_eq!(document(&[p, a, b]).similarity(&document(&[p, b, a])), 0.0);
        assert_eq!(document(&[p, a, b]).reordered(&[0, 2, 1]).similarity(&document(&[p, b, a])), 1.0);
        assert_eq!(document(&[p, a, "…"]).similarity(&document(&[p, a, "…"])), 0.0);
        assert_eq!(document(&[p, a, a]).jaccard(1, &document(&[p, b, a]), 2), 1.0);
        let numbers = |document: &Document| document.numbers().collect::<BTreeSet<u64>>().len();
        assert_eq!(numbers(&document(&[a, a])), 2);
    }

    proptest! {
        #[test]
        fn the_index_is_that_of_plain_sets(a in "([ab]{1,2} ){0,14}", b in "([abB]{1,2}[ ,]){0,14}") {
            prop_assert_eq!(document(&[&a]).similarity(&document(&[&b])), plain(&a, &b));
            prop_assert_eq!(document(&[&a]).len(), set(&a).len());
        }

        #[test]
        fn a_pair_is_similar_if_its_index_reaches_the_threshold(
            mut words in prop::collection::vec(0..400u32, 5..600),
            edits in prop::collection::vec((0..600usize, 400..500u32), 0..12),
            threshold in prop::sample::select(vec![0.1, 0.5, 0.8, 0.9, 1.0]),
        ) {
            let text = |words: &[u32]| words.iter().map(|word| format!("w{word}")).collect::<Vec<_>>().join(" ");
            let first = text(&words);
            for (at, word) in edits {
                let at = at % words.len();
                words[at] = word;
            }
            let second = text(&words);
            let similarity = plain(&first, &second);
            let (a, b) = (document(&[&first]), document(&[&second]));
            prop_assert_eq!(a.similar(&b, threshold), (similarity >= threshold).then_some(similarity));
            // In parts the worst counts.
            let (a, b) = (document(&[&first, &first]), document(&[&first, &second]));
            prop_assert_eq!(a.similar(&b, threshold), (similarity >= threshold).then_some(similarity));
        }

        #[test]
        fn numbers_are_sorted_however_they_lie(
            numbers in prop::collection::vec(any::<u64>(), 0..1500),
            equal_bits in prop::sample::select(vec![0, 4, 8, 64]),
        ) {
            let cut = |number: u64| number.checked_shr(equal_bits).unwrap_or(0);
            let mut items: Vec<Item> =
                numbers.iter().map(|&number| Item { hash: cut(number), span: Span::default() }).collect();
            sort_by_number(&mut items);
            prop_assert!(items.is_sorted_by_key(|item| item.hash));
            let mut expected: Vec<u64> = numbers.into_iter().map(cut).collect();
            expected.sort_unstable();
            prop_assert_eq!(items.iter().map(|item| item.hash).collect::<Vec<_>>(), expected);
        }
    }
}
