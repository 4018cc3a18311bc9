//! Answers that are stuck in a loop.
//!
//! # What it drops
//! A record with an assistant turn in which the same stretch of text follows itself at least `min_repeats` times over at
//! least `min_bytes` bytes; or in which one line, apart from the number before it, stands `min_repeats` times
//! and makes up at least `min_share_percent` of the turn.
//!
//! # Why
//! Models that decode greedily fall into loops and go on until they are cut. A model that is trained on such answers learns
//! the loop, and never to end its turn.
//!
//! # Example
//! "The cat sat on the mat. The cat sat on the mat. The cat sat on the mat. …", forty times.
//!
//! # What it keeps
//! Songs with refrains, poems, tables, code, lists, drawings made of characters, rows of digits, counting: their lines
//! differ, hold no letters, or stand in a fenced block, where far more is needed. What the user asked to be repeated.

use memchr::{memchr_iter, memmem};
use xxhash_rust::xxh3::xxh3_64;

use super::{Answer, FilterOptions, Verdict, answers, excerpt};
use crate::record::Record;

/// Options of [`check`].
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct RepetitionOptions {
    /// Whether the rule is run. On by default.
    pub enabled: bool,
    /// How often a stretch of text must stand in the turn; 8 by default.
    pub min_repeats: usize,
    /// How many bytes the repeats must fill; 640 by default.
    pub min_bytes: usize,
    /// How much of the turn, in percent, the copies of a line must fill that do not follow each other exactly; 60 by default.
    pub min_share_percent: usize,
}

impl Default for RepetitionOptions {
    fn default() -> Self {
        RepetitionOptions { enabled: true, min_repeats: 8, min_bytes: 640, min_share_percent: 60 }
    }
}

/// Drops a record with an assistant turn that goes round in circles.
pub fn check(record: &Record, options: &FilterOptions) -> Verdict {
    let options = &options.repetition;
    for answer in answers(record) {
        // Most answers are shorter than the shortest loop.
        if answer.text.len() < options.min_bytes {
            continue;
        }
        let Some(found) = find_loop(answer.text, options).or_else(|| find_repeated_line(answer.text, options)) else {
            continue;
        };
        if found.repeats < patience(&answer, options.min_repeats) {
            continue;
        }
        let (turn, repeats, unit) = (answer.turn, found.repeats, excerpt(found.unit));
        return Verdict::Drop { detail: format!("turn {turn} repeats {repeats} times: {unit}") };
    }
    Verdict::Keep
}

/// Text that repeats.
struct Repeated<'a> {
    unit: &'a str,
    repeats: usize,
}

/// The longest period that is looked for: a loop of whole paragraphs.
const MAX_PERIOD: usize = 2048;
/// At most so many bytes apart one asks whether the text that begins here comes again.
const MAX_STRIDE: usize = 512;
/// How much text must come again.
const PROBE: usize = 16;
/// How many distances to that text are tried: a unit may itself hold something twice.
const TRIES: usize = 16;
/// How many times more repeats and bytes are asked of code, tables, text without letters, and where a refrain was asked for.
const STRICT: usize = 5;

/// A stretch of text that follows itself, byte for byte.
///
/// Every `stride` bytes the next [`PROBE`] bytes are searched in the [`MAX_PERIOD`] bytes that follow; the distance to what
/// is found is the only period that is tried. The search runs at the speed of memmem, and what was found to be a loop is
/// skipped, so the time is linear on any text.
fn find_loop<'a>(text: &'a str, options: &RepetitionOptions) -> Option<Repeated<'a>> {
    let (min_repeats, min_bytes) = (options.min_repeats.max(2), options.min_bytes);
    // A loop of `min_repeats` periods and of `min_bytes` then holds a probe with one period and one probe after it.
    let stride = min_bytes.saturating_sub(min_bytes / min_repeats + PROBE).clamp(1, MAX_STRIDE);
    let bytes = text.as_bytes();
    // Fences are counted onwards from loop to loop: a text can be full of loops that are allowed.
    let (mut start, mut fences, mut counted) = (0, 0, 0);
    while start + PROBE < bytes.len() {
        let window = &bytes[start + 1..bytes.len().min(start + MAX_PERIOD + PROBE)];
        let periods = memmem::find_iter(window, &bytes[start..start + PROBE]).map(|at| at + 1).take(TRIES);
        let runs = periods.map(|period| {
            let onwards = period + equal_bytes(&bytes[start..], &bytes[start + period..]);
            let before =
                (1..=stride.min(start)).take_while(|at| bytes[start - at] == bytes[start - at + period]).count();
            (period, before, onwards)
        });
        let is_long = |(period, before, onwards): &(usize, usize, usize)| {
            let run = before + onwards;
            run / period >= min_repeats && run >= min_bytes
        };
        let Some((period, before, onwards)) = runs.into_iter().find(is_long) else {
            start += stride;
            continue;
        };
        let (unit, run) = (unit(text, start, period), before + onwards);
        fences += memmem::find_iter(&bytes[counted..start], b"```").count();
        counted = start;
        let strict = fences % 2 == 1 || is_markup(unit) || !has_letters(bytes, start, period);
        let factor = if strict { STRICT } else { 1 };
        let repeats = run / period;
        if repeats >= factor * min_repeats && run >= factor * min_bytes {
            return Some(Repeated { unit, repeats });
        }
        start += onwards;
    }
    None
}

/// The period that begins at a byte or, if a word begins within it, at that word; never inside a character.
fn unit(text: &str, start: usize, period: usize) -> &str {
    let bytes = &text.as_bytes()[start..start + period];
    let start = bytes.windows(2).position(|pair| pair[0] <= b' ' && pair[1] > b' ').map_or(start, |at| start + at + 1);
    let on_border = |at: &usize| text.is_char_boundary(*at);
    let from = (start..=text.len()).find(on_border).unwrap_or(text.len());
    let to = (start + period..=text.len()).find(on_border).unwrap_or(text.len());
    &text[from..to]
}

/// Whether two letters stand side by side in the loop: "0x00, " has none that do, nor have drawings and digits.
fn has_letters(bytes: &[u8], start: usize, period: usize) -> bool {
    let two_periods = &bytes[start..bytes.len().min(start + 2 * period.max(2))];
    two_periods.windows(2).any(|pair| pair.iter().all(u8::is_ascii_alphabetic))
        || String::from_utf8_lossy(two_periods).chars().any(|char| !char.is_ascii() && char.is_alphabetic())
}

/// How many bytes from the beginning are the same in both.
fn equal_bytes(left: &[u8], right: &[u8]) -> usize {
    // In blocks first: the comparison of blocks is one instruction for many bytes.
    const BLOCK: usize = 64;
    let blocks = left.chunks_exact(BLOCK).zip(right.chunks_exact(BLOCK)).take_while(|(l, r)| l == r).count() * BLOCK;
    blocks + left[blocks..].iter().zip(&right[blocks..]).take_while(|(l, r)| l == r).count()
}

/// Whether a line is code, a table's row or HTML.
fn is_markup(text: &str) -> bool {
    text.contains(['|', '<', '{', '}', ';', '=', '\\', '│', '┃', '═'])
}

/// The shortest line that is counted, in bytes.
const MIN_LINE: usize = 20;

/// A line that stands in the turn again and again, though not always in a row or not always with the same
/// number before it.
fn find_repeated_line<'a>(text: &'a str, options: &RepetitionOptions) -> Option<Repeated<'a>> {
    if !has_repeated_endings(text, options.min_repeats) {
        return None;
    }
    let mut lines: Vec<(u64, &str)> = Vec::new();
    let mut fenced = false;
    for line in lines_of(text) {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        }
        let line = line.trim_start_matches(|char: char| !char.is_alphabetic());
        if !fenced && line.len() >= MIN_LINE && line.contains(' ') && !is_markup(line) {
            lines.push((xxh3_64(line.as_bytes()), line));
        }
    }
    // By hash alone, and stable: the copy that is shown is the first.
    lines.sort_by_key(|(hash, _)| *hash);
    let groups = lines.chunk_by(|(left, _), (right, _)| left == right);
    let most = groups.max_by_key(|copies| copies.len() * copies[0].1.len())?;
    let (repeats, unit) = (most.len(), most[0].1);
    let enough = repeats >= options.min_repeats && repeats * unit.len() * 100 >= text.len() * options.min_share_percent;
    enough.then_some(Repeated { unit, repeats })
}

/// The lines of a text.
fn lines_of(text: &str) -> impl Iterator<Item = &str> {
    let mut start = 0;
    memchr_iter(b'\n', text.as_bytes()).chain([text.len()]).map(move |end| {
        let line = &text[start..end];
        start = (end + 1).min(text.len());
        line
    })
}

/// Whether so many lines may be the same: whether so many end with the same eight bytes, by a table of counts. Few texts pass,
/// and only they are worth the full count.
fn has_repeated_endings(text: &str, min_repeats: usize) -> bool {
    const BITS: u32 = 9;
    let mut counts = [0_u32; 1 << BITS];
    lines_of(text).any(|line| {
        let Some((_, ending)) = line.as_bytes().split_last_chunk::<8>().filter(|_| line.len() >= MIN_LINE) else {
            return false;
        };
        let slot = u64::from_le_bytes(*ending).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> (u64::BITS - BITS);
        counts[slot as usize] += 1;
        counts[slot as usize] as usize >= min_repeats
    })
}

/// Beginnings of words that ask for the same again.
const ASKS_AGAIN: &[&str] =
    &["repeat", "repet", "repit", "ripet", "répét", "wiederhol", "повтор", "endless", "infinite"];
/// The same, where words are not divided by spaces or are several.
const ASKS_AGAIN_INSIDE: &[&str] = &["重复", "反复", "重複", "繰り返", "over and over", "again and again"];
/// What has a refrain.
const REFRAINS: &[&str] = &[
    "ascii", "chant", "chorus", "litany", "lyric", "lyrics", "mantra", "poem", "prayer", "rap", "refrain", "song",
    "songs", "verse", "verses",
];

/// How many repeats are too many, seen from the question that the answer answers.
fn patience(answer: &Answer<'_>, min_repeats: usize) -> usize {
    let Some(question) = answer.user_turns().last().map(str::to_lowercase) else { return min_repeats };
    if ASKS_AGAIN_INSIDE.iter().any(|phrase| question.contains(phrase)) {
        return usize::MAX;
    }
    let (mut after_number, mut refrain) = (false, false);
    for word in question.split(|char: char| !char.is_alphanumeric()).filter(|word| !word.is_empty()) {
        // "500 times", "a hundred lines"
        let counted = after_number && matches!(word, "times" | "lines" | "copies" | "x");
        if counted || ASKS_AGAIN.iter().any(|beginning| word.starts_with(beginning)) {
            return usize::MAX;
        }
        after_number = word.bytes().all(|byte| byte.is_ascii_digit())
            || matches!(word, "ten" | "twenty" | "fifty" | "hundred" | "thousand" | "million" | "many" | "several");
        refrain |= REFRAINS.contains(&word);
    }
    if refrain { STRICT * min_repeats } else { min_repeats }
}

#[cfg(test)]
mod tests {
    use super::check;
    use crate::filter::tests::{chat, pair};
    use crate::filter::{FilterOptions, Verdict};
    use std::fmt::Write;

    fn detail(question: &str, answer: &str) -> Option<String> {
        match check(&chat(&[question, answer]), &FilterOptions::default()) {
            Verdict::Keep => None,
            Verdict::Drop { detail } => Some(detail),
        }
    }

    /// A text of `count` lines that differ.
    fn lines(count: usize, line: impl Fn(usize) -> String) -> String {
        (0..count).fold(String::new(), |mut text, number| {
            writeln!(text, "{}", line(number)).expect("a String can be written to");
            text
        })
    }

    #[test]
    fn the_same_sentence_goes() {
        let found = detail("A story?", &"The cat sat on the mat. ".repeat(40)).expect("a loop");
        assert!(
            found.starts_with("turn 1 repeats 39 times: ") || found.starts_with("turn 1 repeats 40 times: "),
            "{found}"
        );
        assert!(found.contains("cat sat on"), "{found}");
    }

    #[test]
    fn loops_of_every_period_are_found_at_every_place() {
        let mut state = 1_u64;
        let mut letter = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            char::from(b'a' + (state >> 59) as u8 % 26)
        };
        let prose: String = (0..3000).map(|_| letter()).collect();
        for period in [1, 2, 3, 7, 57, 60, 64, 77, 78, 79, 100, 333, 1000, 2048] {
            let unit = &prose[800..800 + period];
            for before in [0, 1, 255, 300, 511, 700] {
                let copies = 8.max(640_usize.div_ceil(period));
                let text = format!("{}{}{}", &prose[..before], unit.repeat(copies), "And then it went on as usual.");
                assert!(detail("q", &text).is_some(), "period {period} after {before} bytes");
            }
        }
    }

    #[test]
    fn a_numbered_list_of_one_item_goes() {
        let text = lines(20, |number| format!("{number}. The Lord of the Rings by Tolkien"));
        assert_eq!(
            detail("Fantasy books?", &text).as_deref(),
            Some("turn 1 repeats 20 times: The Lord of the Rings by Tolkien")
        );
    }

    #[test]
    fn songs_with_refrains_stay() {
        let verse = |number| {
            format!(
                "It is {number} miles to the harbour,\nand {number} more to the bay,\nthe {number} ships that I counted\n"
            )
        };
        let song = lines(8, |number| {
            verse(number) + "Hey, hey, come home with me tonight\nHey, hey, come home with me tonight"
        });
        assert!(song.len() > 640);
        assert_eq!(detail("Write a song.", &song), None);
        assert_eq!(detail("Something to sing?", &song), None);
    }

    #[test]
    fn a_short_refrain_in_a_row_stays_where_it_was_asked_for() {
        let song = "Na na na na, hey Jude, oh ".repeat(30);
        assert!(detail("q", &song).is_some());
        assert_eq!(detail("The lyrics, please.", &song), None);
    }

    #[test]
    fn a_stuck_song_goes_after_all() {
        assert!(detail("Write a song.", &"I know, I know, ".repeat(500)).is_some());
    }

    #[test]
    fn tables_stay() {
        let table = lines(60, |number| format!("| {number} | yes | no | yes |"));
        assert_eq!(detail("q", &table), None);
        assert_eq!(detail("q", &"| yes | no | yes |\n".repeat(38)), None);
        assert_eq!(detail("q", &format!("|{}|\n{}", "---|".repeat(200), "| a ".repeat(100))), None);
    }

    #[test]
    fn code_stays() {
        let code = format!("```python\n{}```", "print('hello, world, it is me')\n".repeat(30));
        assert_eq!(detail("q", &code), None);
        assert_eq!(detail("q", &"    <td></td>\n".repeat(100)), None);
        assert_eq!(detail("q", &"0x00, ".repeat(200)), None, "digits: the x stands alone");
    }

    #[test]
    fn lists_stay() {
        let list = lines(50, |number| format!("- Item {number}: a thing of size {}", number * 13));
        assert_eq!(detail("q", &list), None);
    }

    #[test]
    fn drawings_stay() {
        let drawing = lines(30, |row| format!("{}*{}*", " ".repeat(30 - row), "-".repeat(2 * row)));
        assert_eq!(detail("q", &drawing), None);
        assert_eq!(detail("q", &"=".repeat(2000)), None);
    }

    #[test]
    fn poems_stay() {
        let poem = lines(24, |number| {
            format!("And still the sea, line {number}, {}", ["comes in", "goes out", "is grey", "sings"][number % 4])
        });
        assert_eq!(detail("q", &poem), None);
    }

    #[test]
    fn counting_stays() {
        assert_eq!(detail("q", &lines(2000, |number| number.to_string())), None);
        assert_eq!(detail("q", &lines(300, |number| format!("{number} sheep"))), None);
    }

    #[test]
    fn what_the_user_asked_to_be_repeated_stays() {
        let text = "I must not talk in class. ".repeat(100);
        assert!(detail("What did Bart write?", &text).is_some());
        for question in [
            "Repeat 'I must not talk in class.'",
            "Write it 100 times.",
            "Say it over and over",
            "重复一百遍",
            "a hundred lines, please",
        ] {
            assert_eq!(detail(question, &text), None, "{question}");
        }
    }

    #[test]
    fn the_new_york_times_is_no_wish_for_repeats() {
        assert!(detail("What does the New York Times say?", &"So it goes on and on. ".repeat(100)).is_some());
    }

    #[test]
    fn short_answers_stay() {
        assert_eq!(detail("q", &"ha".repeat(300)), None);
    }

    #[test]
    fn a_loop_does_not_split_characters() {
        let found = detail("q", &format!("x{}", "日本語".repeat(500))).expect("a loop");
        assert!(["日本語", "本語日", "語日本"].iter().any(|unit| found.contains(unit)), "{found}");
    }

    #[test]
    fn megabytes_without_a_space_take_no_time() {
        let (mut noise, mut state) = (String::new(), 1_u64);
        while noise.len() < 10_000_000 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            noise.push(char::from(b'a' + (state >> 59) as u8 % 26));
        }
        assert_eq!(detail("q", &noise), None);
        assert!(detail("q", &"a".repeat(10_000_000)).is_some());
        // Full of loops that are each allowed, in and between fences.
        let allowed = format!("```{}```{}", "=".repeat(700), "-".repeat(700));
        assert_eq!(detail("q", &lines(7000, |number| format!("{allowed}{number}"))), None);
    }

    #[test]
    fn any_turn_and_either_answer_counts() {
        let stuck = "The cat sat on the mat. ".repeat(40);
        assert_ne!(check(&chat(&["q", &stuck, "q", "ok"]), &FilterOptions::default()), Verdict::Keep);
        assert_ne!(check(&pair("q", &stuck, "b"), &FilterOptions::default()), Verdict::Keep);
        assert_ne!(check(&pair("q", "a", &stuck), &FilterOptions::default()), Verdict::Keep);
        assert_eq!(check(&chat(&[&stuck, "ok"]), &FilterOptions::default()), Verdict::Keep);
    }
}
