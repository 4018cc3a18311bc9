//! What a text is when case, white space, Unicode form and the shape of its punctuation do not matter.
//!
//! ```
//! use zephyr_data_core::text::key::canonical;
//!
//! let mut text = String::new();
//! canonical("  It’s “GREAT” \n— really!!! ", &mut text);
//! assert_eq!(text, "it's \"great\" - really");
//! ```
//!
//! The rule, in order:
//!
//! 1. Invisible characters that only say where a line may break go: U+00AD, U+200B, U+2060, U+FEFF.
//! 2. Each character becomes lower case by its own mapping, and a final sigma a sigma; all is brought to NFC.
//! 3. Quotation marks, dashes, the ellipsis and the full-width `，．！？：；（）` and `。` become their ASCII forms.
//! 4. A run of white space becomes one space; none stays at either end.
//! 5. After a word, which is two letters or more in a row, a run of one mark out of `.!?` before white space becomes one mark.
//! 6. At the end of the text, the marks out of `.!?` after a word go; after a digit the marks out of `.?` go.
//!
//! No other character is dropped or joined to another, so "1.5" and "15", "C" and "C++", "a-b" and "ab", "x<y" and "x>y",
//! "5!" and "5", "a ?? b" and "a ? b" stay different.

use unicode_normalization::UnicodeNormalization;
use xxhash_rust::xxh3::{Xxh3, xxh3_64_with_seed};

/// Writes the canonical form of a text into `out`, in place of what it held.
///
/// Applied to its own result it changes nothing.
pub fn canonical(text: &str, out: &mut String) {
    let mut bytes = std::mem::take(out).into_bytes();
    bytes.clear();
    bytes.reserve(text.len() + 8);
    let mut rest = text;
    while !rest.is_empty() {
        let ascii = ascii_prefix(rest.as_bytes());
        // A letter may carry the mark that follows it, so the last one goes with what is not ASCII.
        let plain = if ascii == rest.len() { ascii } else { ascii.saturating_sub(1) };
        append_ascii(&rest.as_bytes()[..plain], &mut bytes);
        let length = rest[ascii..].bytes().position(|byte| byte.is_ascii()).unwrap_or(rest.len() - ascii);
        append_unicode(&rest[plain..ascii + length], &mut bytes);
        rest = &rest[ascii + length..];
    }
    finish(&mut bytes);
    *out = String::from_utf8(bytes).expect("whole characters were appended and whole ASCII marks removed");
}

/// The 128-bit key of a sequence of tagged texts, for instance of roles and what they say: XXH3 over the canonical texts.
///
/// Two sequences have the same key if their tags are the same and their texts have the same canonical form, one by one; where
/// one text ends and the next begins counts: ("ab", "c") is not ("a", "bc").
pub fn key128<'a>(parts: impl Iterator<Item = (&'a str, &'a str)>) -> u128 {
    let (mut hasher, mut buffer) = (Xxh3::new(), String::new());
    for (tag, text) in parts {
        canonical(text, &mut buffer);
        // With its length before it, no string can be taken for the end of another or the beginning of the next.
        for field in [tag, &buffer] {
            hasher.update(&(field.len() as u64).to_le_bytes());
            hasher.update(field.as_bytes());
        }
    }
    hasher.digest128()
}

/// A 64-bit key of one canonical text, another one for every seed: it decides on which side of the train/test split a row
/// falls, so that rows with the same prompt fall on the same side.
pub fn key64(text: &str, seed: u64) -> u64 {
    let mut buffer = String::new();
    canonical(text, &mut buffer);
    xxh3_64_with_seed(buffer.as_bytes(), seed)
}

/// How many bytes from the beginning are ASCII.
fn ascii_prefix(bytes: &[u8]) -> usize {
    // In blocks first: for a block the question is a few instructions.
    let blocks: usize = bytes.chunks(64).take_while(|block| block.is_ascii()).map(<[u8]>::len).sum();
    blocks + bytes[blocks..].iter().take_while(|byte| byte.is_ascii()).count()
}

/// How many bytes are looked at together: those of one word of the processor.
const BLOCK: usize = 8;
/// One bit in each byte of a block.
const HIGH: u64 = u64::from_ne_bytes([0x80; BLOCK]);

/// Appends ASCII text: eight bytes at a time where all stay, byte by byte in the few blocks where one may go.
fn append_ascii(text: &[u8], out: &mut Vec<u8>) {
    let head = text.len().min(2);
    append_each(&text[..head], out);
    let mut at = head;
    while at + BLOCK <= text.len() {
        let bytes = block(&text[at..]);
        if stays(bytes, block(&text[at - 1..]), block(&text[at - 2..])) {
            // An upper case letter lacks the bit 0x20.
            let upper = at_least(bytes, b'A') & !at_least(bytes, b'Z' + 1);
            out.extend_from_slice(&(bytes | (upper >> 2)).to_ne_bytes());
        } else {
            append_each(&text[at..at + BLOCK], out);
        }
        at += BLOCK;
    }
    append_each(&text[at..], out);
}

/// Whether the bytes of a block stay as they are, but for case: whether none is white space other than a space, or a space
/// after white space or after a repeated mark. `before` and `mark` are the blocks that begin one and two bytes earlier.
fn stays(bytes: u64, before: u64, mark: u64) -> bool {
    let repeated = is_any_of(before, b'.', b'!', b'?') & is(before ^ mark, 0);
    let space = is(bytes, b' ') & (is(before, b' ') | is_control_space(before) | repeated);
    space | is_control_space(bytes) == 0
}

fn block(text: &[u8]) -> u64 {
    text.first_chunk().map_or(0, |bytes| u64::from_ne_bytes(*bytes))
}

/// The high bit of every byte that is at least `least`. No sum reaches the next byte, since the bytes are ASCII.
fn at_least(bytes: u64, least: u8) -> u64 {
    (bytes + u64::from_ne_bytes([0x80 - least; BLOCK])) & HIGH
}

/// The high bit of every byte that is `wanted`.
fn is(bytes: u64, wanted: u8) -> u64 {
    !at_least(bytes ^ u64::from_ne_bytes([wanted; BLOCK]), 1) & HIGH
}

fn is_any_of(bytes: u64, first: u8, second: u8, third: u8) -> u64 {
    is(bytes, first) | is(bytes, second) | is(bytes, third)
}

fn is_control_space(bytes: u64) -> u64 {
    at_least(bytes, b'\t') & !at_least(bytes, b'\r' + 1)
}

fn append_each(text: &[u8], out: &mut Vec<u8>) {
    for byte in text {
        if is_space(*byte) {
            match out.last() {
                None | Some(b' ') => continue,
                Some(last) if is_mark(*last) => out.truncate(without_repeated_mark(out)),
                Some(_) => {}
            }
        }
        out.push(lower_ascii(*byte));
    }
}

/// The white space of ASCII; unlike `is_ascii_whitespace` with the vertical tab, as `char::is_whitespace` has it.
fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t'..=b'\r')
}

fn is_mark(byte: u8) -> bool {
    matches!(byte, b'.' | b'!' | b'?')
}

fn lower_ascii(byte: u8) -> u8 {
    if is_space(byte) { b' ' } else { byte.to_ascii_lowercase() }
}

/// Appends text of which the first character may be ASCII, and all others are not.
fn append_unicode(text: &str, out: &mut Vec<u8>) {
    if text.chars().all(is_plain) {
        text.chars().for_each(|char| append_folded(lower(char).next().unwrap_or(char), out));
    } else {
        let visible = text.chars().filter(|char| !matches!(char, '\u{AD}' | '\u{200B}' | '\u{2060}' | '\u{FEFF}'));
        // Lower case after NFC and NFC after lower case: each can undo the other ("T" with a diaeresis has no composed
        // form, "t" has one).
        visible.nfc().flat_map(lower).nfc().for_each(|char| append_folded(char, out));
    }
}

/// Whether the character is in NFC wherever it stands among its like, visible, and one character in lower case: most of what
/// is written in Latin, Cyrillic, Chinese and Japanese, and typographic marks.
fn is_plain(char: char) -> bool {
    matches!(char, '\0'..='\u{AC}' | '\u{AE}'..='\u{12F}' | '\u{131}'..='\u{24F}' | '\u{400}'..='\u{47F}' | '\u{2010}'..='\u{2027}'
        | '\u{3041}'..='\u{3096}' | '\u{30A1}'..='\u{30FA}' | '\u{3000}'..='\u{3029}' | '\u{4E00}'..='\u{9FFF}' | '\u{FF01}'..='\u{FF5E}')
}

/// The character in lower case, by itself and not by its place in the word.
fn lower(char: char) -> impl Iterator<Item = char> {
    char.to_lowercase().map(|char| if char == 'ς' { 'σ' } else { char })
}

/// Appends one character in its ASCII form, if it has one.
fn append_folded(char: char, out: &mut Vec<u8>) {
    let ascii: &[u8] = match char {
        '‘' | '’' | '‚' | '‛' | '′' | '´' | '‹' | '›' => b"'",
        '“' | '”' | '„' | '‟' | '″' | '«' | '»' => b"\"",
        '‐' | '‑' | '‒' | '–' | '—' | '―' | '−' => b"-",
        '…' => b"...",
        '，' => b",",
        '。' | '．' => b".",
        '！' => b"!",
        '？' => b"?",
        '：' => b":",
        '；' => b";",
        '（' => b"(",
        '）' => b")",
        char if char.is_whitespace() => b" ",
        char => {
            let mut buffer = [0; 4];
            let encoded = char.encode_utf8(&mut buffer).as_bytes();
            if encoded.len() > 1 {
                out.extend_from_slice(encoded);
                return;
            }
            return append_ascii(encoded, out);
        }
    };
    append_ascii(ascii, out);
}

/// The length without the copies of the mark at the end, if it repeats and a word stands before it.
fn without_repeated_mark(out: &[u8]) -> usize {
    let Some(mark) = out.last() else { return out.len() };
    let word = out.iter().rposition(|byte| byte != mark).map_or(0, |at| at + 1);
    if word + 1 < out.len() && ends_with_word(&out[..word]) { word + 1 } else { out.len() }
}

/// Removes the space and the marks at the end of the text.
fn finish(out: &mut Vec<u8>) {
    if out.last() == Some(&b' ') {
        out.pop();
    }
    let marks = |allowed: &[u8]| out.iter().rposition(|byte| !allowed.contains(byte)).map_or(0, |at| at + 1);
    let (after_word, after_digit) = (marks(b".!?"), marks(b".?"));
    if ends_with_word(&out[..after_word]) {
        out.truncate(after_word);
    } else if out[..after_digit].last().is_some_and(u8::is_ascii_digit) {
        out.truncate(after_digit);
    }
}

/// Whether the last two characters are letters.
fn ends_with_word(bytes: &[u8]) -> bool {
    let mut end = bytes.len();
    (0..2).all(|_| {
        let start = bytes[..end].iter().rposition(|byte| byte & 0xC0 != 0x80).unwrap_or(end);
        let char = std::str::from_utf8(&bytes[start..end]).ok().and_then(|char| char.chars().next());
        end = start;
        char.is_some_and(char::is_alphabetic)
    })
}

#[cfg(test)]
mod tests {
    use super::{append_folded, append_unicode, canonical, finish, key64, key128, lower};
    use proptest::prelude::*;
    use unicode_normalization::UnicodeNormalization;

    fn key(text: &str) -> String {
        let mut out = "left over".to_owned();
        canonical(text, &mut out);
        out
    }

    /// The rule without any shortcut.
    fn slow(text: &str) -> String {
        let visible = text.chars().filter(|char| !matches!(char, '\u{AD}' | '\u{200B}' | '\u{2060}' | '\u{FEFF}'));
        let mut out = Vec::new();
        visible.nfc().flat_map(lower).nfc().for_each(|char| append_folded(char, &mut out));
        finish(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn case_white_space_and_form_are_folded() {
        assert_eq!(key("  Hello,\r\n\tWORLD  "), "hello, world");
        assert_eq!(key("a\u{A0}\u{3000}b\u{B}c"), "a b c");
        assert_eq!(key("E\u{301}te\u{301}"), key("ÉTÉ"));
        assert_eq!(key("T\u{308}"), key("\u{1E97}"));
        assert_eq!(key("ΟΔΟΣ"), key("οδος"));
        assert_eq!(key("\u{212B}"), "å");
        assert_eq!(key("zero\u{200B}width\u{FEFF}"), "zerowidth");
        assert_eq!(key("e\u{200B}\u{301}"), "é");
    }

    #[test]
    fn punctuation_is_folded() {
        assert_eq!(key("‘a’ “b” «c» d–e—f g…h"), "'a' \"b\" \"c\" d-e-f g...h");
        assert_eq!(key("Wow!!! So good... is it??"), "wow! so good. is it");
        assert_eq!(key("What is AI?"), key("what is ai"));
        assert_eq!(key("是什么？"), key("是什么?"));
        assert_eq!(key("What is 2+2?"), key("What is 2+2"));
        assert_eq!(key("It is so. "), "it is so");
    }

    #[test]
    fn meaning_is_not_folded() {
        for (left, right) in [
            ("1.5", "15"),
            ("C", "C++"),
            ("C", "C#"),
            ("C++", "C#"),
            ("a-b", "ab"),
            ("x<y", "x>y"),
            ("5!", "5"),
            ("n!", "n"),
            ("a ?? b", "a ? b"),
            ("1..10", "1.10"),
            ("--flag", "-flag"),
            ("it's", "its"),
            ("a, b", "a b"),
            ("f(x)", "f x"),
            ("x = ?", "x ="),
            ("cd ..", "cd ."),
            ("a\u{200D}b", "ab"),
            ("$5", "5"),
            ("50%", "50"),
            ("résumé", "resume"),
            ("5!!", "5!"),
            ("Yes! No", "Yes. No"),
            ("¬a", "a"),
            ("½", "1/2"),
            ("x²", "x2"),
        ] {
            assert_ne!(key(left), key(right), "{left} {right}");
        }
    }

    #[test]
    fn parts_are_told_apart() {
        let key = |parts: &[(&str, &str)]| key128(parts.iter().copied());
        assert_ne!(key(&[("user", "ab"), ("user", "c")]), key(&[("user", "a"), ("user", "bc")]));
        assert_ne!(key(&[("user", "ab")]), key(&[("user", "a"), ("user", "b")]));
        assert_ne!(key(&[("user", "a")]), key(&[("assistant", "a")]));
        assert_ne!(key(&[("usera", "b")]), key(&[("user", "ab")]));
        assert_ne!(key(&[]), key(&[("", "")]));
        assert_eq!(key(&[("user", "Hi,  THERE")]), key(&[("user", "hi, there!")]));
    }

    #[test]
    fn keys_do_not_change_between_versions() {
        assert_eq!(key128([("user", "Hello"), ("assistant", "Hi there!")].into_iter()), PINNED_128);
        assert_eq!(key64("Hello", 0), PINNED_64);
        assert_ne!(key64("Hello", 0), key64("Hello", 1));
        assert_eq!(key64("Hello", 7), key64(" hello. ", 7));
    }

    const PINNED_128: u128 = 0xE5A6_BA9C_5DB9_892E_8A2A_DD8F_D64D_3F1A;
    const PINNED_64: u64 = 0x9555_E855_5C62_DCFD;

    /// Text that is rich in what the rule looks at.
    fn rich() -> impl Strategy<Value = String> {
        let piece = prop::sample::select(vec![
            "a",
            "B",
            "no",
            "é",
            "E",
            "\u{301}",
            "\u{308}",
            "\u{345}",
            "Σ",
            "ς",
            "İ",
            "是",
            "か\u{3099}",
            "한",
            "\u{1112}\u{1161}",
            "\u{11AB}",
            "5",
            " ",
            "\n",
            "\u{A0}",
            "\u{200B}",
            "\u{AD}",
            ".",
            "..",
            "!",
            "?",
            "…",
            "。",
            "？",
            "’",
            "“",
            "—",
            "-",
            "<",
            "\u{338}",
            "=",
            "K",
            "Å",
            "ß",
            "ẞ",
            "ﬁ",
        ]);
        prop::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn twice_is_once(text in prop_oneof![rich(), any::<String>()]) {
            let once = key(&text);
            prop_assert_eq!(key(&once), once);
        }

        #[test]
        fn shortcuts_change_nothing(text in prop_oneof![rich(), any::<String>(), "[ -~\\s]{0,64}"]) {
            prop_assert_eq!(key(&text), slow(&text));
        }

        #[test]
        fn ascii_alone_is_as_in_other_company(text in "[ -~\\s]{0,64}") {
            let mut out = Vec::new();
            append_unicode(&text, &mut out);
            finish(&mut out);
            prop_assert_eq!(key(&text), String::from_utf8(out).unwrap());
        }

        #[test]
        fn the_unicode_form_does_not_matter(text in prop_oneof![rich(), any::<String>()]) {
            prop_assert_eq!(key(&text.nfd().collect::<String>()), key(&text.nfc().collect::<String>()));
        }
    }
}
