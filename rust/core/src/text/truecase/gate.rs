//! The decisions that are taken once for a whole message, or once for both answers of a preference.
//!
//! A text in deliberate lowercase, a poem, code without fences or German prose is left alone as a whole. What counts is
//! gathered as [`Evidence`], which adds up: two answers that are judged together get the same rule, or else casing would
//! become a preference signal.

use super::{language::Counts, protect::Protected};

/// Above this many letters a text with hardly any capital is in lowercase on purpose.
const LONG: u32 = 200;

/// The longest line of a poem, in characters; a longer one is a paragraph.
const VERSE: u32 = 90;

/// What the gates look at, outside protected stretches.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Evidence {
    letters: u32,
    uppercase: u32,
    words: u32,
    /// Words with a capital after a lowercase letter.
    mixed: u32,
    /// Capitals that begin a word of two letters or more.
    proper: u32,
    /// Lines that begin with a lowercase letter and are short enough for verse; lines that begin with an uppercase letter.
    lines: [u32; 2],
    /// Sentences that begin with a lowercase and with an uppercase letter.
    starts: [u32; 2],
    languages: Counts,
}

/// What may be repaired in a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Decision {
    /// First letters of turns, paragraphs and sentences.
    pub(super) starts: bool,
    /// The lone `i`.
    pub(super) pronoun: bool,
}

impl Evidence {
    /// Reads one message.
    pub(super) fn gather(text: &str, protected: &Protected) -> Self {
        let mut found = Evidence::default();
        let mut from = 0;
        for &(start, end) in protected.spans().iter().chain([&(text.len(), text.len())]) {
            found.prose(&text[from..start], from == 0 || text.as_bytes()[from - 1] == b'\n');
            from = end;
        }
        found
    }

    /// Reads a stretch of prose; `line_start` says whether it opens a line.
    fn prose(&mut self, text: &str, line_start: bool) {
        let (mut line, mut sentence, mut after_mark) = (line_start, line_start, false);
        let (mut opener, mut length) = (None, 0); // the current line: whether it begins with a capital, how long it is
        let mut word = String::new();
        let mut low = false; // the letter before is lowercase
        let mut capital = false; // the current word's first letter is one
        let mut mixed = false; // it has another one after a lowercase letter
        for letter in text.chars().chain(['\n']) {
            if letter.is_alphabetic() || (matches!(letter, '\'' | '’') && !word.is_empty()) {
                if word.is_empty() {
                    capital = letter.is_uppercase();
                    mixed = false;
                    if line {
                        opener = Some(capital);
                    }
                    if sentence {
                        self.starts[usize::from(capital)] += 1;
                    }
                } else if capital && word.chars().nth(1).is_none() && letter.is_lowercase() {
                    self.proper += 1;
                }
                mixed |= letter.is_uppercase() && low;
                low = letter.is_lowercase();
                self.letters += u32::from(letter.is_alphabetic());
                self.uppercase += u32::from(letter.is_uppercase());
                self.languages.letter(letter);
                word.extend(if letter == '’' { '\'' } else { letter }.to_lowercase());
                (line, sentence, after_mark) = (false, false, false);
                length += 1;
                continue;
            }
            if !word.is_empty() {
                self.languages.word(&word);
                self.words += 1;
                self.mixed += u32::from(mixed);
                (mixed, low) = (false, false);
                word.clear();
            }
            length += 1;
            match letter {
                '\n' => {
                    match opener.take() {
                        Some(true) => self.lines[1] += 1,
                        Some(false) if length <= VERSE => self.lines[0] += 1,
                        _ => {}
                    }
                    (line, sentence, after_mark, length) = (true, true, false, 0);
                }
                '.' | '!' | '?' => after_mark = true,
                _ if letter.is_whitespace() => sentence |= after_mark,
                _ => (line, sentence, after_mark) = (false, false, false),
            }
        }
    }

    /// Adds another message that must be judged by the same rule.
    pub(super) fn add(&mut self, other: &Evidence) {
        self.letters += other.letters;
        self.uppercase += other.uppercase;
        self.words += other.words;
        self.mixed += other.mixed;
        self.proper += other.proper;
        for which in 0..2 {
            self.lines[which] += other.lines[which];
            self.starts[which] += other.starts[which];
        }
        self.languages.add(&other.languages);
    }

    /// What may be repaired.
    pub(super) fn decide(&self) -> Decision {
        let [low_lines, high_lines] = self.lines;
        let [low_starts, high_starts] = self.starts;
        let lowercase_style = self.letters > LONG
            && (self.uppercase * 1000 < 3 * self.letters
                || (low_starts >= 4 && high_starts == 0 && self.uppercase * 100 < self.letters));
        let mocking = self.mixed * 4 > self.words;
        let verse = low_lines >= 4 && low_lines >= high_lines;
        let cased = self.proper >= 1 || (low_starts >= 2 && low_starts >= high_starts);
        let starts = cased && !lowercase_style && !mocking && !verse && !self.languages.has_other_casing();
        Decision { starts, pronoun: starts && self.languages.is_english() }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::protect::protected, *};

    fn decide(text: &str) -> Decision {
        Evidence::gather(text, &protected(text)).decide()
    }

    const BOTH: Decision = Decision { starts: true, pronoun: true };
    const NONE: Decision = Decision { starts: false, pronoun: false };

    #[test]
    fn guard_4_languages_with_other_casing() {
        assert_eq!(decide("Das ist gut. und wie geht es dir?"), NONE);
        assert_eq!(decide("Het is goed. en hoe gaat het met je?"), NONE);
        assert_eq!(decide("Merhaba. nasılsın?"), NONE);
        assert_eq!(decide("Tai yra gerai. kaip sekasi?"), NONE);
        assert_eq!(decide("Qué tal. muy bien, la casa es grande"), Decision { starts: true, pronoun: false });
    }

    #[test]
    fn guard_5_lowercase_style() {
        let long = "we walked along the river. it was cold and i had no coat. nobody spoke. ".repeat(8);
        assert_eq!(decide(&long), NONE);
        assert_eq!(decide(&format!("Yes. {long}")), NONE, "one capital in 450 letters");
        assert_eq!(decide(&format!("{long} (Paris)")), NONE, "no sentence begins with a capital");
    }

    #[test]
    fn guard_5_mocking_case() {
        assert_eq!(decide("a LaRgE dOg bLoCkS tHe RoAd. He is so big."), NONE);
    }

    #[test]
    fn guard_5_verse() {
        assert_eq!(decide("The rose is red,\nthe sky is blue.\nthe sea is wide,\nas wide as you.\nso are we"), NONE);
        assert_eq!(decide("The rose is red.\nIt is. so is this"), BOTH);
    }

    #[test]
    fn guard_8_a_capital_elsewhere_or_many_defects() {
        assert_eq!(decide("it is positive"), NONE);
        assert_eq!(decide("hello. how are you?"), BOTH);
        assert_eq!(decide("it is in Paris"), BOTH);
        assert_eq!(decide("this is `In Code`"), NONE, "capitals in code do not count");
    }

    #[test]
    fn guard_5_two_answers_are_one_case() {
        let low = "we walked along the river and it was cold, so we went home early. ".repeat(5);
        let high = "We walked along the river. It was cold. We went home. ".repeat(4);
        let gather = |text: &str| Evidence::gather(text, &protected(text));
        let mut both = gather(&low);
        both.add(&gather(&high));
        assert_eq!((gather(&low).decide(), both.decide()), (NONE, BOTH));
    }
}
