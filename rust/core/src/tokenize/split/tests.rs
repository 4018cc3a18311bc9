//! The hand-written splitters against the regex engine of the `tokenizers` crate itself.

use std::sync::LazyLock;

use proptest::prelude::*;
use tokenizers::utils::SysRegex;

use super::{Classes, Pattern, REGEXES};

pub(crate) static CLASSES: LazyLock<Classes> = LazyLock::new(Classes::new);
pub(super) static ORACLES: LazyLock<Vec<Oracle>> = LazyLock::new(|| {
    let new = |(pattern, text): &(Pattern, &str)| Oracle { pattern: *pattern, regex: SysRegex::new(text).unwrap() };
    REGEXES.iter().map(new).collect()
});

pub(super) struct Oracle {
    pub(super) pattern: Pattern,
    regex: SysRegex,
}

impl Oracle {
    fn ours(&self, text: &str) -> Vec<u32> {
        let mut ends = Vec::new();
        self.pattern.split(&CLASSES, text, &mut ends);
        ends
    }

    /// The engine's matches; what lies between two of them would be a piece, too, so the borders are all that counts.
    fn theirs(&self, text: &str) -> Vec<u32> {
        let mut ends = Vec::new();
        for (start, end) in self.regex.find_iter(text) {
            assert_eq!(ends.last().copied().unwrap_or(0), start as u32, "a gap before a match");
            ends.push(end as u32);
        }
        assert_eq!(ends.last().copied().unwrap_or(0), text.len() as u32, "a gap at the end");
        ends
    }

    fn check(&self, text: &str) {
        assert_eq!(self.ours(text), self.theirs(text), "{:?}: {text:?}", self.pattern);
    }
}

#[test]
fn only_exact_regexes_are_recognised() {
    for (pattern, regex) in REGEXES {
        assert_eq!(Pattern::from_regex(regex), Some(pattern));
        assert_eq!(Pattern::from_regex(&format!("{regex} ")), None);
        assert_eq!(Pattern::from_regex(&regex.replace(r"\p{N}", r"\d")), None);
    }
}

#[test]
fn the_built_in_regex_is_gpt2s() {
    use tokenizers::pre_tokenizers::byte_level::ByteLevel;
    use tokenizers::{OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer};
    let oracle = &ORACLES[0];
    for text in ["I'm 20 years!!  old\n\n it's\t12ⅷ 'S ſ'ſ\u{301}", "  ", "x  ", "日本語 です"] {
        let mut parts = PreTokenizedString::from(text);
        ByteLevel::new(false, true, true).pre_tokenize(&mut parts).unwrap();
        let ends: Vec<u32> = parts
            .get_splits(OffsetReferential::Original, OffsetType::Byte)
            .iter()
            .map(|(_, offsets, _)| offsets.1 as u32)
            .collect();
        assert_eq!(oracle.ours(text), ends);
    }
}

/// Every sequence of up to four from characters that each stand for a class or have a rule of their own.
#[test]
fn all_short_texts_are_cut_alike() {
    const SOME: [char; 14] = ['a', 'B', '\u{1c5}', '文', '\u{301}', '7', 'Ⅷ', ' ', '\t', '\n', '\r', '!', '/', '\''];
    for length in 1..=4 {
        for mut number in 0..SOME.len().pow(length) {
            let text: String = (0..length)
                .map(|_| {
                    let one = SOME[number % SOME.len()];
                    number /= SOME.len();
                    one
                })
                .collect();
            for oracle in ORACLES.iter() {
                oracle.check(&text);
            }
        }
    }
}

/// Every character there is, in places where its case, its class or its folding could matter.
#[test]
fn every_character_is_cut_alike() {
    let mut text = String::new();
    for character in '\0'..=char::MAX {
        for (before, after) in [("'", "e"), ("'l", "x"), ("a", "B"), (" ", "1"), ("A", " "), ("!", "\n")] {
            text.push_str(before);
            text.push(character);
            text.push_str(after);
        }
        if character as u32 % 4096 == 4095 {
            for oracle in ORACLES.iter() {
                oracle.check(&text);
            }
            text.clear();
        }
    }
}

/// What people write, what breaks things, and runs long enough for every loop.
pub(crate) fn texts() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        any::<char>().prop_map(String::from),
        "[a-zA-Z]{1,20}",
        "[ \t\r\n\u{a0}\u{85}\u{2028}\u{3000}\u{b}\u{c}\u{1c}\u{200b}]{1,4}",
        "[0-9٣Ⅷ½]{1,5}",
        "['’](s|S|ſ|t|T|re|RE|rE|ve|vE|m|M|ll|LL|lL|d|D|K|x)?",
        "[!-/:-@\\[-`{-~]{1,4}",
        "[\u{300}-\u{304}\u{345}\u{903}\u{20e3}\u{fe0f}]{1,3}",
        "[ǅǈʰª文字あアßéÅΩя]{1,6}",
        "[😀👩🏽\u{200d}💻🇩🇪]{1,4}",
    ];
    proptest::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    #[test]
    fn random_texts_are_cut_alike(text in texts()) {
        for oracle in ORACLES.iter() {
            oracle.check(&text);
        }
    }
}

#[test]
fn very_long_runs_are_cut_alike() {
    for unit in ["a", "A", " ", "\n", " \n", "!", "7", "文", "\u{301}", "aB", "é", "'s", "!\n/", "\u{a0}"] {
        let long = unit.repeat(100_000 / unit.len());
        for text in [long.clone(), format!("{long}x"), format!(" {long} ")] {
            for oracle in ORACLES.iter() {
                oracle.check(&text);
            }
        }
    }
}
