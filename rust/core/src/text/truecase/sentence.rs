//! Does a sentence start here? Looks at the words on both sides of one candidate.

use std::collections::{HashMap, HashSet};

use super::{
    letter::{Script, script},
    protect::Protected,
    scan::{Candidate, Kind},
    words::{
        ABBREVIATIONS, AFTER_NAMES, COMMANDS, EXCLAMATIONS, NAMES_WITH_A_MARK, NEVER_FIRST, NEVER_LAST, SPEECH,
        TWO_LETTERS, listed,
    },
};

/// What the message itself teaches: its abbreviations and the names it uses in code.
#[derive(Debug, Default)]
pub(super) struct Learned<'text> {
    abbreviations: HashSet<&'text str>,
    identifiers: HashSet<&'text str>,
}

/// The longest word that is learned as an abbreviation.
const SHORT: usize = 6;

impl<'text> Learned<'text> {
    /// Reads the message. A short word is an abbreviation if a lowercase letter follows its dot twice and it never stands without the
    /// dot; a word is an identifier if inline code holds it or a bracket follows it directly.
    pub(super) fn from(text: &'text str, candidates: &[Candidate], protected: &Protected) -> Self {
        let mut dotted: HashMap<&str, u32> = HashMap::new();
        for candidate in candidates {
            if let Kind::Sentence { end } = candidate.kind {
                let word = letters_before(text, end);
                if (1..=SHORT).contains(&word.len()) {
                    *dotted.entry(word).or_default() += 1;
                }
            }
        }
        dotted.retain(|_, count| *count >= 2);
        let mut identifiers = HashSet::new();
        for (start, word) in words(text) {
            let after = text.as_bytes().get(start + word.len());
            if after != Some(&b'.') {
                dotted.remove(word);
            }
            if after == Some(&b'(') || (word.len() > 1 && in_inline_code(text, start, protected)) {
                identifiers.insert(word);
            }
        }
        Learned { abbreviations: dotted.into_keys().collect(), identifiers }
    }
}

/// Whether a sentence starts at `candidate`, by its neighbours alone. Comes first because it rules out nearly all candidates.
pub(super) fn starts(text: &str, candidate: Candidate) -> bool {
    let Candidate { at, kind } = candidate;
    let begins = match kind {
        Kind::Turn => is_prose_line(text, at) && is_whole(text, at),
        Kind::Paragraph => paragraph_end(text, at).is_some() && is_prose_line(text, at),
        Kind::Sentence { end } => {
            ends_sentence(text, end, at) && (!text[end..at].contains('\n') || is_prose_line(text, at))
        }
        Kind::Pronoun => false,
    };
    begins && is_plain_word(text, at)
}

/// Whether the whole message agrees: neither the mark before `candidate` nor its word belongs to code.
pub(super) fn agrees(text: &str, candidate: Candidate, learned: &Learned, protected: &Protected) -> bool {
    let Candidate { at, kind } = candidate;
    let end = match kind {
        Kind::Turn | Kind::Pronoun => None,
        Kind::Paragraph => paragraph_end(text, at),
        Kind::Sentence { end } => Some(end),
    };
    let ends =
        end.is_none_or(|end| !protected.covers(end) && !learned.abbreviations.contains(letters_before(text, end)));
    ends && !learned.identifiers.contains(letters_at(text, at))
}

/// Guard 3: the mark at `end` ends a sentence of the script that goes on at `at`.
fn ends_sentence(text: &str, end: usize, at: usize) -> bool {
    let mark = text.as_bytes()[end];
    let before = text[..end].trim_end_matches(['.', '!', '?', '…']);
    let marks = &text[before.len()..=end];
    if marks.len() > 1 && marks.contains(['.', '…']) {
        return false; // an ellipsis
    }
    let run = last_run(before);
    let word = run.trim_matches(|letter: char| !letter.is_alphanumeric());
    let start = before.len() - run.len();
    let last = run.chars().rev().find(|letter| letter.is_alphanumeric());
    if word.is_empty() || run.len() > 100 || is_label(text, start, run) {
        return false;
    }
    if run.ends_with(['"', '“', '‘', '(', '[', '<', '>', '=', '/', '+', '&', '|', '^', '~', '#']) {
        return false;
    }
    let next = script(text[at..].chars().next().unwrap_or_default());
    match last.and_then(script) {
        Some(script) if Some(script) == next => {}
        None if last.is_some_and(|digit| digit.is_ascii_digit()) => return ends_number(text, start, run, mark),
        _ => return false,
    }
    let lower = word.to_lowercase();
    if letters_at(text, at) == "of" && !text[at..].starts_with("of course") {
        return false; // "the no. of", "Univ. of"
    }
    if mark == b'.' {
        !is_abbreviation(text, start, word, &lower)
    } else {
        ends_call(text, start, word, &lower, letters_at(text, at), mark)
    }
}

/// Whether the dot belongs to the word.
fn is_abbreviation(text: &str, start: usize, word: &str, lower: &str) -> bool {
    let last = lower.rsplit(|letter: char| !letter.is_alphanumeric()).next().unwrap_or(lower);
    let mut letters = word.chars();
    let single = letters.next().is_some() && letters.next().is_none();
    let unit = last.len() <= 3 && last_run(text[..start].trim_end()).ends_with(|letter: char| letter.is_ascii_digit());
    single
        || unit
        || last.chars().nth(1).is_none()
        || word.contains(['.', '@', '/', '\\', '_'])
        || listed(ABBREVIATIONS, lower)
        || listed(ABBREVIATIONS, last)
        || (last.len() <= 5 && last.bytes().all(|byte| byte.is_ascii_alphabetic() && !b"aeiouy".contains(&byte)))
        || (word.chars().count() <= 4 && is_in_bracket(text, start))
}

/// Guard 3 for `!` and `?`: not a name that ends in the mark ("Yahoo! is"), not a question that goes on ("red? blue?").
fn ends_call(text: &str, start: usize, word: &str, lower: &str, following: &str, mark: u8) -> bool {
    let named = word.chars().next().is_some_and(char::is_uppercase) && word.len() > 1;
    let opens = opens_sentence(text, start);
    !(listed(EXCLAMATIONS, lower)
        || listed(NAMES_WITH_A_MARK, lower)
        || (named && (!opens || listed(AFTER_NAMES, following)))
        || listed(SPEECH, following)
        || listed(NEVER_LAST, lower)
        || (mark == b'!' && matches!(following, "and" | "for"))
        || is_in_bracket(text, start))
}

/// A number ends a sentence if it is no label: two digits or more, and for fewer than four no name before it ("Chapter 12.").
fn ends_number(text: &str, start: usize, run: &str, mark: u8) -> bool {
    let digits = run.bytes().filter(u8::is_ascii_digit).count();
    let before = last_run(text[..start].trim_end());
    let named = before.chars().find(|letter| letter.is_alphanumeric()).is_none_or(char::is_uppercase);
    let plain = run.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b',' | b'$' | b'%' | b')'));
    mark == b'.' && plain && digits >= 2 && (digits == 4 || !named) && !before.ends_with('.')
}

/// A label at the start of a line: `1.`, `iv.`, `- a.`, `(b).`
fn is_label(text: &str, start: usize, run: &str) -> bool {
    let bare = text[..start].trim_end_matches([' ', '\t', '-', '*', '+', '>', '(', '_', '#']);
    let first = bare.is_empty() || bare.ends_with('\n');
    let label = run.trim_matches(|letter: char| !letter.is_alphanumeric());
    let letters = label.chars().count() < 2 || (label.len() == 2 && !listed(TWO_LETTERS, &label.to_lowercase()));
    first && (letters || label.bytes().any(|byte| byte.is_ascii_digit()) || is_roman(label))
}

fn is_roman(label: &str) -> bool {
    label.len() <= 5 && label.bytes().all(|byte| b"ivxIVX".contains(&byte))
}

/// Whether the word at `start` is the first of its sentence.
fn opens_sentence(text: &str, start: usize) -> bool {
    let before = text[..start].trim_end_matches([' ', '"', '“', '\'', '‘', '*', '_', '(', '-']);
    before.is_empty() || before.ends_with(['.', '!', '?', ':', '\n', '…'])
}

/// Whether a bracket that was opened on this line is still open at `at`.
fn is_in_bracket(text: &str, at: usize) -> bool {
    let mut from = at.saturating_sub(200);
    while !text.is_char_boundary(from) {
        from += 1;
    }
    let end = at + text[at..].chars().next().map_or(0, char::len_utf8);
    let line = text[from..end].rsplit('\n').next().unwrap_or_default();
    line.rfind(['(', '[']).is_some_and(|open| !line[open..].contains([')', ']']))
}

/// Where the paragraph before the blank line above `at` ends: at its mark, perhaps inside quotes or emphasis, or as a heading.
fn paragraph_end(text: &str, at: usize) -> Option<usize> {
    let before = text[..at].trim_end();
    let line = before.rsplit('\n').next().unwrap_or_default();
    if line.starts_with('#') {
        // Headings are protected, their last byte is not asked: the line break stands for the end.
        return line.trim_start_matches('#').starts_with(' ').then_some(before.len());
    }
    let bare = before.trim_end_matches(['"', '”', '’', ')', ']', '*', '_']);
    let body = bare.strip_suffix(['.', '!', '?'])?;
    let run = last_run(body);
    let ends = !body.ends_with(['.', '!', '?', ' ', '\n'])
        && !run.is_empty()
        && !is_label(before, body.len() - run.len(), run);
    ends.then_some(body.len())
}

/// Whether the turn is a sentence of its own: not the second half of one that the person began, unless it asks.
fn is_whole(text: &str, at: usize) -> bool {
    let question = text[at..].find(['.', '!', '?']).is_some_and(|mark| text.as_bytes()[at + mark] == b'?');
    question || !listed(NEVER_FIRST, letters_at(text, at))
}

/// Whether the line at `at` reads as a sentence: four words or more and a mark or colon at its end.
fn is_prose_line(text: &str, at: usize) -> bool {
    let line = text[at..].split('\n').next().unwrap_or_default().trim_end();
    let bare = line.trim_end_matches([')', '*', '_']);
    let words = line.split(' ').filter(|word| word.bytes().any(|byte| byte.is_ascii_alphabetic() || !byte.is_ascii()));
    bare.ends_with(['.', '!', '?', ':']) && !line.ends_with("):") && words.take(4).count() == 4
}

/// Guards 1 and 2: the token at `at` is an ordinary lowercase word: no case, digit or sign inside, no file, command or variable.
fn is_plain_word(text: &str, at: usize) -> bool {
    let token = text[at..].split(char::is_whitespace).next().unwrap_or_default();
    let word = letters_at(text, at);
    let rest = &token[word.len()..];
    let bare = rest.trim_end_matches(['.', ',', '!', '?', ';', ':', ')', '"', '”', '’', '*', '…', '—', '–']);
    let after = text[at + token.len()..].trim_start_matches(' ');
    let sign = |sign: char| sign.is_ascii_digit() || sign.is_uppercase() || "(=/\\[{@_+<>|~^$#&".contains(sign);
    let foreign = rest.starts_with(':')
        || rest.contains(sign)
        || bare.contains(['.', ':'])
        || after.starts_with(['=', '<', '>', '|', '^', '~'])
        || (word == "a" && !rest.is_empty())
        || (rest.starts_with('.') && listed(ABBREVIATIONS, word))
        || (rest.starts_with(['.', ')']) && is_roman(word));
    !foreign && is_ordinary(word) && !listed(COMMANDS, word)
}

/// Whether the word may start a sentence: all lowercase, and in Latin letters no single letter but `a`, no pair but a known word.
fn is_ordinary(word: &str) -> bool {
    let mut letters = word.chars();
    let (Some(first), second) = (letters.next(), letters.next()) else { return false };
    let lower = word.chars().all(|letter| letter.is_lowercase() || matches!(letter, '\'' | '’' | '-'));
    let known = script(first) != Some(Script::Latin)
        || match word.chars().count() {
            1 => word == "a",
            2 => listed(TWO_LETTERS, word),
            _ => second != Some('-') && !(first == 'i' && matches!(second, Some('\'' | '’'))), // t-test; the pronoun has its own rule
        };
    lower && known && word.len() <= 60
}

/// The last run of non-white characters.
fn last_run(text: &str) -> &str {
    text.rsplit(char::is_whitespace).next().unwrap_or_default()
}

/// The letters directly before `end`.
fn letters_before(text: &str, end: usize) -> &str {
    let before = &text[..end];
    &before[before.trim_end_matches(char::is_alphabetic).len()..]
}

/// The word at `at`: letters with apostrophes and hyphens inside.
fn letters_at(text: &str, at: usize) -> &str {
    let rest = &text[at..];
    let word = &rest[..rest
        .find(|letter: char| !letter.is_alphabetic() && !matches!(letter, '\'' | '’' | '-'))
        .unwrap_or(rest.len())];
    word.trim_end_matches(['\'', '’', '-'])
}

/// All words with their offsets.
fn words(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut at = 0;
    std::iter::from_fn(move || {
        at += text[at..].find(char::is_alphabetic)?;
        let start = at;
        at += text[at..].find(|letter: char| !letter.is_alphabetic()).unwrap_or(text.len() - at);
        Some((start, &text[start..at]))
    })
}

/// Whether the word at `start` opens or lies in a stretch of inline code.
fn in_inline_code(text: &str, start: usize, protected: &Protected) -> bool {
    text.as_bytes()[..start].last() == Some(&b'`') && protected.covers(start)
}

#[cfg(test)]
mod tests {
    use super::{
        super::{protect::protected, scan::candidates},
        *,
    };

    /// Offsets at which a sentence starts in lowercase.
    fn found(text: &str) -> Vec<usize> {
        let (spans, candidates) = (protected(text), candidates(text));
        let learned = Learned::from(text, &candidates, &spans);
        candidates
            .into_iter()
            .filter(|&candidate| {
                !spans.covers(candidate.at) && starts(text, candidate) && agrees(text, candidate, &learned, &spans)
            })
            .map(|candidate| candidate.at)
            .collect()
    }

    fn none(cases: &[&str]) {
        for text in cases {
            assert!(found(text).is_empty(), "{text}");
        }
    }

    #[test]
    fn finds_starts() {
        assert_eq!(found("Hello. how are you?"), [7]);
        assert_eq!(found("hello. how are you?"), [0, 7]);
        assert_eq!(found("Hi. how are you? Ok. bye then."), [4, 21]);
        assert_eq!(found("Really?! she is. the cat sat."), [9, 17]);
        assert_eq!(found("It was in 1999. the year after, 12 came."), [16]);
        assert_eq!(found("See it (above). then go.\nnow the next line is here."), [16, 25]);
        assert_eq!(found("It ends.\n\nthe next one is here.\n\n# Title\n\nand here is more."), [10, 42]);
        assert_eq!(found("Это так. да, я знаю."), [15]);
        assert_eq!(found("Es la casa. él vive aquí."), [12]);
    }

    #[test]
    fn guard_2_words_that_carry_signs() {
        none(&[
            "Hi. iPhone is",
            "Hi. eBay is",
            "Hi. node.js is",
            "Hi. pH is",
            "Hi. f(x) is",
            "Hi. x1 is",
            "Hi. snake_case is",
        ]);
        none(&[
            "Hi. main.py is",
            "Hi. foo@bar.com is",
            "Hi. www.a.b is",
            "Hi. https://a.b is",
            "Hi. src/main is",
            "Hi. x = 3",
        ]);
        none(&[
            "Hi. git push",
            "Use `print` here. print is",
            "Call go() now. go is",
            "Hi. x is",
            "Hi. t-test is",
            "Hi. key: value",
        ]);
    }

    #[test]
    fn guard_3_abbreviations() {
        none(&[
            "the U.S. presidents",
            "Meta, Inc. on",
            "John Jr. and",
            "avg. monthly",
            "e.g. this",
            "i.e. that",
            "J. smith",
            "v. Admins",
        ]);
        none(&[
            "var. botrytis",
            "1 tbsp. sugar",
            "vs. class",
            "amaro (pl. amarie)",
            "elda (sing. eldar)",
            "ok (to. it)",
            "a 12 in. pan",
            "the no. of cats",
        ]);
        none(&["ein qix. a, ein qix. b"]);
        assert_eq!(
            found("I like it. you like it too. they like it. so"),
            [11, 28, 42],
            "a word that also stands without its dot"
        );
    }

    #[test]
    fn guard_3_list_labels() {
        none(&[
            "1. one",
            "- a. one",
            "iv. four",
            "(b). two",
            "12. extricate\n13. restrict",
            "Step 1. open",
            "Chapter 12. the",
        ]);
    }

    #[test]
    fn guard_3_ellipsis_quotes_and_names() {
        none(&[
            "Well... and",
            "Well…. and",
            "Well?.. and",
            "\"Really?\" she said",
            "(right!) to",
            "on Yahoo! is",
            "Yahoo! is",
            "See [this.] and",
        ]);
        none(&["Oh! what a day", "git add . git commit", "the show Jeopardy! hosted", "\"Why? asked Ann"]);
    }

    #[test]
    fn guard_3_list_items_and_lines_that_are_no_sentence() {
        none(&[
            "Here.\n- one thing\n* another thing",
            "So.\n\nred apple",
            "So.\n\nx, y and z",
            "Take it:\n\nthe first one is this.",
            "news",
        ]);
    }

    #[test]
    fn guard_4_the_same_script_on_both_sides() {
        none(&["Это так. the cat", "The cat. это так", "これは本。the cat", "α. the cat", "ok ლა. the"]);
    }
}
