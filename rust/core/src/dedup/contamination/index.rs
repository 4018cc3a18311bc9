//! The runs of words of all texts of the benchmarks, and a text held against them.
//!
//! A message costs a look into a bitmap for each of its words; only what is there is looked up, and compared word by word.

use std::collections::HashMap;

use super::common::{Common, normalize};
use super::roll::Roll;
use super::{Options, SHARED};
use crate::dedup::near::hash::{Span, for_each_word};
use crate::dedup::near::words::fold;

/// Bits of the bitmap for each run, so that few words of a text are looked up in vain.
const BITS_OF_A_RUN: usize = 16;

/// One place where a run stands in the benchmarks.
#[derive(Clone, Copy)]
struct Place {
    hash: u64,
    text: u32,
    /// Where it begins in the words of all texts.
    start: u32,
    end: u32,
}

/// Collects the texts of benchmarks.
pub struct Builder {
    options: Options,
    /// The words of all different texts, a space behind each.
    words: Vec<u8>,
    places: Vec<Place>,
    /// Numbers of texts by their words.
    known: HashMap<Vec<u8>, u32>,
    /// Words of each text.
    lengths: Vec<u32>,
    /// Bytes of words that it can hold.
    most: usize,
}

/// A collection of texts that can hold no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

impl Builder {
    /// An empty collection. It can hold four gigabytes, since places in the words are numbers of 32 bits.
    pub fn new(options: Options) -> Builder {
        Builder::of_size(options, u32::MAX as usize)
    }

    fn of_size(options: Options, most: usize) -> Builder {
        let (words, places, known, lengths) = (Vec::new(), Vec::new(), HashMap::new(), Vec::new());
        Builder { options, words, places, known, lengths, most }
    }

    /// Adds a text; its number, which is that of an earlier text with the same words. `None` if it has no run of words.
    ///
    /// # Errors
    /// There is no room for it; nothing is added.
    pub fn add(&mut self, text: &str) -> Result<Option<u32>, Full> {
        // Lower case and a space behind each word make a text longer, but never twice as long.
        if text.len().saturating_mul(2) > self.most.saturating_sub(self.words.len()) {
            return Err(Full);
        }
        let words = normalize(text);
        let ends: Vec<u32> = memchr::memchr_iter(b' ', &words).map(|end| end as u32 + 1).collect();
        if ends.len() < self.options.ngram {
            return Ok(None);
        }
        if let Some(&known) = self.known.get(&words) {
            return Ok(Some(known));
        }
        let (ngram, base) = (self.options.ngram, self.words.len() as u32);
        let mut roll = Roll::new(ngram);
        for_each_word(&words, |word, _| {
            if let Some(hash) = roll.push(word) {
                let last = roll.words() - 1;
                let start = if last < ngram { 0 } else { ends[last - ngram] };
                let text = self.lengths.len() as u32;
                let place = Place { hash, text, start: base + start, end: base + ends[last] };
                self.places.push(place);
            }
        });
        self.words.extend_from_slice(&words);
        let number = self.lengths.len() as u32;
        self.known.insert(words, number);
        self.lengths.push(ends.len() as u32);
        Ok(Some(number))
    }

    /// Bytes that it takes in memory, about.
    pub fn bytes(&self) -> usize {
        2 * self.words.len() + size_of::<Place>() * self.places.len() + 64 * self.known.len()
    }

    /// The index of the texts so far.
    pub fn finish(self) -> Index {
        let Builder { options, words, mut places, known, lengths, .. } = self;
        drop(known);
        let of = |place: &Place| &words[place.start as usize..place.end as usize];
        // Runs of one number are the same but for a collision, and then in the order of their words.
        places.sort_unstable_by(|a, b| (a.hash, of(a), a.text, a.start).cmp(&(b.hash, of(b), b.text, b.start)));
        let common = Common::new(options.ngram);
        let mut runs: Vec<Run> = Vec::new();
        let mut texts_of_runs: Vec<u32> = Vec::new();
        let mut counted = vec![0u32; lengths.len()];
        for same in places.chunk_by(|a, b| a.hash == b.hash && of(a) == of(b)) {
            let different = same.chunk_by(|a, b| a.text == b.text);
            if different.clone().count() >= SHARED || common.holds(of(&same[0])) {
                continue;
            }
            let (start, end) = (same[0].start, same[0].end);
            runs.push(Run { hash: same[0].hash, start, end, first: texts_of_runs.len() as u32 });
            for one in different {
                counted[one[0].text as usize] += 1;
                texts_of_runs.push(one[0].text);
            }
        }
        drop(places);
        Index::new(options, words, runs, texts_of_runs, Texts { lengths, counted })
    }
}

/// What is known of each text.
struct Texts {
    /// Its words.
    lengths: Vec<u32>,
    /// How many different runs of it count; where there are none it is not looked for.
    counted: Vec<u32>,
}

/// A run that counts.
struct Run {
    hash: u64,
    start: u32,
    end: u32,
    /// Where its texts begin in the list of them.
    first: u32,
}

/// The runs of all texts that are looked for.
pub struct Index {
    options: Options,
    words: Vec<u8>,
    /// Bits for the numbers of the runs.
    bits: Vec<u64>,
    /// Places in `runs`, by the runs' numbers, from 1; 0 is free.
    table: Vec<u32>,
    runs: Vec<Run>,
    texts_of_runs: Vec<u32>,
    texts: Texts,
}

impl Index {
    fn new(options: Options, words: Vec<u8>, runs: Vec<Run>, texts_of_runs: Vec<u32>, texts: Texts) -> Index {
        let bits = (BITS_OF_A_RUN * runs.len()).next_power_of_two().max(1 << 12);
        let slots = (2 * runs.len()).next_power_of_two().max(2);
        let (bits, table) = (vec![0; bits / 64], vec![0; slots]);
        let mut index = Index { options, words, bits, table, runs, texts_of_runs, texts };
        for at in 0..index.runs.len() {
            let hash = index.runs[at].hash;
            let (word, bit) = index.bit(hash);
            index.bits[word] |= bit;
            let mut slot = index.slot(hash);
            while index.table[slot] != 0 {
                slot = (slot + 1) & (index.table.len() - 1);
            }
            index.table[slot] = at as u32 + 1;
        }
        index
    }

    /// A word of the bitmap, and the two bits of it that a number sets.
    #[inline]
    fn bit(&self, hash: u64) -> (usize, u64) {
        let word = (hash >> 12) as usize & (self.bits.len() - 1);
        (word, 1 << (hash & 63) | 1 << (hash >> 6 & 63))
    }

    fn slot(&self, hash: u64) -> usize {
        (hash >> 32) as usize & (self.table.len() - 1)
    }

    /// Whether the text of this number is looked for: some are not, since none of their runs counts.
    pub fn looks_for(&self, text: u32) -> bool {
        self.counted(text) > 0
    }

    /// How many different runs of a text count.
    pub fn counted(&self, text: u32) -> u32 {
        self.texts.counted[text as usize]
    }

    /// Bytes that it takes in memory, about.
    pub fn bytes(&self) -> usize {
        self.words.len()
            + 8 * self.bits.len()
            + 4 * (self.table.len() + self.texts_of_runs.len() + 2 * self.texts.counted.len())
            + size_of::<Run>() * self.runs.len()
    }

    /// Something that holds texts against the index; it keeps its buffers from one text to the next.
    pub fn checker(&self) -> Checker<'_> {
        let roll = Roll::new(self.options.ngram);
        Checker {
            index: self,
            roll,
            folded: Vec::new(),
            spans: Vec::new(),
            seen: Vec::new(),
            found: Vec::new(),
            texts: Vec::new(),
        }
    }

    /// The runs with this number: more than one only after a collision.
    fn runs_of(&self, hash: u64) -> impl Iterator<Item = usize> {
        let start = self.slot(hash);
        let slots = (0..).map(move |step| self.table[(start + step) & (self.table.len() - 1)]);
        let taken = slots.map_while(|slot| (slot as usize).checked_sub(1));
        taken.filter(move |&at| self.runs[at].hash == hash)
    }

    /// The run with this number and these words.
    fn find(&self, hash: u64, folded: &[u8], spans: &[Span]) -> Option<usize> {
        self.runs_of(hash).find(|&at| {
            let run = &self.runs[at];
            let words = self.words[run.start as usize..run.end as usize].split(|&byte| byte == b' ');
            spans.iter().map(|span| span.of(folded)).eq(words.take(spans.len()))
        })
    }

    /// What a message of so many words holds of a text; `found` says where its runs begin.
    fn hit(&self, text: u32, runs: &[(u32, u32)], found: &[(u32, u32)], words: usize) -> Hit {
        let Options { ngram, coverage: enough, min_words } = self.options;
        let (matched, counted) = (runs.len() as u32, self.counted(text));
        let coverage = f64::from(matched) / f64::from(counted);
        let places = runs.iter().flat_map(|&(_, run)| {
            let places = &found[found.partition_point(|&(other, _)| other < run)..];
            places.iter().take_while(move |&&(other, _)| other == run).map(|&(_, word)| word)
        });
        let (from, to) = longest(places.collect(), ngram as u32);
        let is_whole = matched == counted && words == self.texts.lengths[text as usize] as usize;
        let is_enough = coverage >= enough && (is_whole || (to - from) as usize >= min_words);
        Hit { text, matched, coverage, is_enough, from, to }
    }

    fn texts_of(&self, run: usize) -> &[u32] {
        let end = self.runs.get(run + 1).map_or(self.texts_of_runs.len(), |next| next.first as usize);
        &self.texts_of_runs[self.runs[run].first as usize..end]
    }
}

/// The text of a benchmark of which a message holds the most.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Hit {
    /// Its number.
    pub text: u32,
    /// How many of its runs are there.
    pub matched: u32,
    /// The share of its runs that are there.
    pub coverage: f64,
    /// Whether that is enough: see [`Options`].
    pub is_enough: bool,
    /// First word of the longest stretch of the message that is in the text.
    pub from: u32,
    /// The word behind it.
    pub to: u32,
}

impl Hit {
    /// Whether this one says more about a row than another.
    pub fn is_more_than(&self, other: &Hit) -> bool {
        (self.is_enough, self.coverage) > (other.is_enough, other.coverage)
    }
}

/// Holds texts against an index.
pub struct Checker<'i> {
    index: &'i Index,
    roll: Roll,
    folded: Vec<u8>,
    /// The last words.
    spans: Vec<Span>,
    /// Runs whose bits are set, with their first word.
    seen: Vec<(u64, u32)>,
    /// Runs that are there, with their first word.
    found: Vec<(u32, u32)>,
    /// Texts, with their runs that are there.
    texts: Vec<(u32, u32)>,
}

impl Checker<'_> {
    /// What the message holds most of, if it holds a run of any text: one that is enough, then of the greatest coverage,
    /// then the first text.
    pub fn check(&mut self, message: &str) -> Option<Hit> {
        self.look(message);
        let Checker { index, folded, spans, seen, found, texts, .. } = self;
        seen.retain(|&(hash, _)| index.runs_of(hash).next().is_some());
        if seen.is_empty() {
            return None;
        }
        spans.clear();
        for_each_word(folded, |_, span| spans.push(span));
        found.clear();
        found.extend(seen.iter().filter_map(|&(hash, word)| {
            let run = &spans[word as usize..word as usize + index.options.ngram];
            Some((index.find(hash, folded, run)? as u32, word))
        }));
        found.sort_unstable();
        texts.clear();
        for same in found.chunk_by(|a, b| a.0 == b.0) {
            let run = same[0].0;
            texts.extend(index.texts_of(run as usize).iter().map(|&text| (text, run)));
        }
        texts.sort_unstable();
        let hits = texts.chunk_by(|a, b| a.0 == b.0).map(|runs| index.hit(runs[0].0, runs, found, spans.len()));
        // Of equal ones the first.
        hits.reduce(|best, hit| if hit.is_more_than(&best) { hit } else { best })
    }

    /// The runs of the message that may be in the index.
    fn look(&mut self, message: &str) {
        let Checker { index, roll, folded, seen, .. } = self;
        folded.clear();
        seen.clear();
        fold(message, folded);
        roll.clear();
        let mut word = 0u32.wrapping_sub(index.options.ngram as u32 - 1);
        for_each_word(folded, |hash, _| {
            if let Some(hash) = roll.push(hash) {
                let (at, bit) = index.bit(hash);
                if index.bits[at] & bit == bit {
                    seen.push((hash, word));
                }
            }
            word = word.wrapping_add(1);
        });
    }
}

/// The longest stretch that runs of `ngram` words make which begin at these words and touch each other.
fn longest(mut words: Vec<u32>, ngram: u32) -> (u32, u32) {
    words.sort_unstable();
    let stretches = words.chunk_by(|a, b| b - a <= ngram).map(|run| (run[0], run[run.len() - 1] + ngram));
    // Of equally long ones the first.
    stretches.rev().max_by_key(|(from, to)| to - from).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DUCKS: &str =
        "Janet's ducks lay 16 eggs per day. She eats three for breakfast every morning and bakes muffins.";
    const TRAVEL: &str = "Compose an engaging travel blog post about a recent trip to Hawaii, highlighting culture.";

    fn index(texts: &[&str]) -> Index {
        let mut builder = Builder::new(Options::default());
        for text in texts {
            builder.add(text).unwrap();
        }
        builder.finish()
    }

    #[test]
    fn the_coverage_is_the_share_of_the_runs() {
        let index = index(&[TRAVEL, DUCKS]);
        let mut checker = index.checker();
        assert_eq!(index.counted(1), 11);
        let whole = checker.check(&format!("Please: {DUCKS} Thanks")).unwrap();
        assert_eq!((whole.text, whole.matched, whole.from, whole.to), (1, 11, 1, 19));
        assert!((whole.coverage - 1.0).abs() < 1e-9);
        let half = checker.check("ducks lay 16 eggs per day, she eats THREE for breakfast at noon, twice").unwrap();
        assert_eq!((half.text, half.matched, half.from, half.to), (1, 4, 0, 11));
        assert_eq!(checker.check("ducks lay 16 eggs per day, she ate three for breakfast"), None);
        // Said twice it is no more.
        assert_eq!(checker.check(&format!("{DUCKS} {DUCKS}")).unwrap().matched, 11);
    }

    #[test]
    fn of_several_texts_the_one_with_the_greatest_coverage_counts() {
        let index = index(&[TRAVEL, DUCKS]);
        let half = "engaging travel blog post about a recent trip to Maui";
        let hit = index.checker().check(&format!("{half} {DUCKS}")).unwrap();
        assert_eq!(hit.text, 1);
        assert_eq!(index.checker().check(half).unwrap().text, 0);
    }

    #[test]
    fn a_short_stretch_is_enough_if_it_is_all_of_both() {
        let short = "Who invented the telescope before Galileo pointed it?";
        let index = index(&[short, DUCKS]);
        let is_enough = |text: &str| index.checker().check(text).unwrap().is_enough;
        assert!(is_enough(&short.to_uppercase()));
        assert!(!is_enough(&format!("Tell me: {short}")));
        assert!(is_enough("a b ducks lay 16 eggs per day. She eats three for breakfast every morning"));
        assert!(!is_enough("a b ducks lay 16 eggs per day. She eats three for breakfast, a b"));
    }

    #[test]
    fn equal_texts_are_one_and_short_ones_none() {
        let mut builder = Builder::new(Options::default());
        assert_eq!(builder.add(DUCKS), Ok(Some(0)));
        assert_eq!(builder.add("Thanks, that helps a lot!"), Ok(None));
        assert_eq!(builder.add(&DUCKS.to_uppercase()), Ok(Some(0)));
        assert_eq!(builder.add(TRAVEL), Ok(Some(1)));
    }

    #[test]
    fn what_has_no_room_is_refused_and_the_rest_is_found() {
        let mut builder = Builder::of_size(Options::default(), 4 * DUCKS.len());
        assert_eq!(builder.add(DUCKS), Ok(Some(0)));
        assert_eq!(builder.add(DUCKS), Ok(Some(0)));
        assert_eq!(builder.add(&TRAVEL.repeat(2)), Err(Full));
        assert_eq!(builder.add("x".repeat(4 * DUCKS.len()).as_str()), Err(Full));
        assert!(builder.words.len() <= DUCKS.len() + 1);
        assert_eq!(builder.finish().checker().check(DUCKS).map(|hit| hit.text), Some(0));
    }

    #[test]
    fn normalized_words_are_never_twice_as_long_as_the_text() {
        for text in ["a", "a b", "Ⱥ,Ⱥ,Ⱥ", "İ", "İİ", "ΑΣ", "ﬁ", "𝔘.𝔘", "日本", "ẞ-ẞ"] {
            assert!(normalize(text).len() <= 2 * text.len(), "{text}");
        }
    }

    #[test]
    fn what_many_texts_share_does_not_count() {
        let frame =
            "Read the passage carefully, then select whichever statement contradicts the author's central claim";
        let texts: Vec<String> = (0..SHARED).map(|n| format!("{frame}: {DUCKS} question{n} topic{n}")).collect();
        let index = index(&texts.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!(index.checker().check(frame), None);
        let own = format!("{frame}: {DUCKS} question3 topic3");
        assert!(index.checker().check(&own).is_some_and(|hit| hit.is_enough && hit.text == 3));
    }

    #[test]
    fn a_text_of_which_only_the_frame_is_left_is_not_looked_for() {
        let index = index(&["What is the difference between the two and how do you use them in the code?"]);
        assert!(!index.looks_for(0));
        assert_eq!(
            index.checker().check("What is the difference between the two and how do you use them in the code?"),
            None
        );
    }
}
