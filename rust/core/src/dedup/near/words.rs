//! What a word is: a run of `\w` of the lower-cased text, exactly as Python's `re` and `str.lower` have it.
//!
//! That is letters, numbers and the underscore. Combining marks are not among them, so a mark that is no character of its
//! own splits a word, in Python as here. Two characters need more than a table: `İ` becomes `i` and a combining dot, which
//! ends the word; and a capital sigma becomes `ς` at the end of a word and `σ` elsewhere, by the whole text around it and
//! the standard library's Unicode. The characters are those of Unicode 14; a later one is in no word.

use super::word_table::WORD_RANGES;

/// Word characters below 0x10000, one bit each.
static WORD_BITS: [u64; 1024] = word_bits();

const fn word_bits() -> [u64; 1024] {
    let (mut bits, mut at) = ([0; 1024], 0);
    while at < WORD_RANGES.len() {
        let (mut code, high) = WORD_RANGES[at];
        while code <= high && code < 0x1_0000 {
            bits[(code / 64) as usize] |= 1 << (code % 64);
            code += 1;
        }
        at += 1;
    }
    bits
}

/// Whether Python's `\w` matches the character.
pub fn is_word(char: char) -> bool {
    let code = char as u32;
    if code < 0x1_0000 {
        return WORD_BITS[(code / 64) as usize] >> (code % 64) & 1 == 1;
    }
    let after = WORD_RANGES.partition_point(|&(low, _)| low <= code);
    after > 0 && code <= WORD_RANGES[after - 1].1
}

/// Appends the lower-cased text with a space in place of each character that is in no word, and one more at the end.
pub(in crate::dedup) fn fold(text: &str, out: &mut Vec<u8>) {
    let start = out.len();
    out.reserve(text.len() + 1);
    if text.contains('Σ') {
        fold_sigma(text, out);
    } else {
        let mut rest = text;
        while !rest.is_empty() {
            let ascii = ascii_prefix(rest.as_bytes());
            out.extend(rest.as_bytes()[..ascii].iter().map(|&byte| fold_ascii(byte)));
            rest = &rest[ascii..];
            while let Some(char) = rest.chars().next().filter(|char| !char.is_ascii()) {
                fold_char(char, out);
                rest = &rest[char.len_utf8()..];
            }
        }
    }
    debug_assert!(out.len() - start <= 2 * text.len(), "no character grows to more than twice its length");
    out.push(b' ');
}

/// How many bytes from the beginning are ASCII.
fn ascii_prefix(bytes: &[u8]) -> usize {
    // In blocks first: for a block the question is a few instructions.
    let blocks: usize = bytes.chunks(32).take_while(|block| block.is_ascii()).map(<[u8]>::len).sum();
    blocks + bytes[blocks..].iter().take_while(|byte| byte.is_ascii()).count()
}

/// Without branches, so that the compiler folds many bytes at once.
#[inline]
fn fold_ascii(byte: u8) -> u8 {
    let lower = byte | 0x20;
    let letter = lower.wrapping_sub(b'a') < 26;
    let digit = byte.wrapping_sub(b'0') < 10;
    let other = if digit || byte == b'_' { byte } else { b' ' };
    if letter { lower } else { other }
}

fn fold_char(char: char, out: &mut Vec<u8>) {
    if !is_word(char) {
        out.push(b' ');
    } else if char == 'İ' {
        out.extend(b"i "); // the dot above, U+0307, is no word character
    } else {
        let mut buffer = [0; 4];
        for lower in char.to_lowercase() {
            out.extend(lower.encode_utf8(&mut buffer).as_bytes());
        }
    }
}

/// Text with a capital sigma: what becomes of each, the standard library knows; it asks for the whole text.
fn fold_sigma(text: &str, out: &mut Vec<u8>) {
    let lowered = text.to_lowercase();
    let mut lower = lowered.chars();
    for char in text.chars() {
        let first = lower.next().unwrap_or(char);
        if char == 'İ' {
            lower.next();
        }
        fold_char(if char == 'Σ' { first } else { char }, out);
    }
}

/// The words of a text, in lower case.
///
/// ```
/// use zephyr_data_core::dedup::near::words;
///
/// assert_eq!(words("Don't STOP, café_2!"), ["don", "t", "stop", "café_2"]);
/// ```
pub fn words(text: &str) -> Vec<String> {
    let mut folded = Vec::new();
    fold(text, &mut folded);
    let words = folded.split(|&byte| byte == b' ').filter(|word| !word.is_empty());
    words.map(|word| String::from_utf8_lossy(word).into_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn words_are_those_of_python() {
        // Each right side is `re.findall(r"\w+", text.lower())` of Python 3.11.
        let cases: [(&str, &[&str]); 12] = [
            ("", &[]),
            ("…!", &[]),
            ("Hello, World_2 x", &["hello", "world_2", "x"]),
            ("Straße ÉCOLE naïve", &["straße", "école", "naïve"]),
            ("cafe\u{301} x", &["cafe", "x"]),
            ("İstanbul", &["i", "stanbul"]),
            ("ΟΔΟΣ ΣΟΦΟΣ.", &["οδος", "σοφος"]),
            ("ΑΣ.Α ΑΣ", &["ασ", "α", "ας"]),
            ("हिन्दी", &["ह", "न", "द"]),
            ("½ Ⅷ ² Ⓐ", &["½", "ⅷ", "²"]),
            ("日本語 テスト", &["日本語", "テスト"]),
            ("𝐀𝟎 😀x", &["𝐀𝟎", "x"]),
        ];
        for (text, expected) in cases {
            assert_eq!(words(text), expected, "{text}");
        }
    }

    #[test]
    fn long_ascii_text_is_folded_in_blocks_as_byte_by_byte() {
        let text: String = (0..1000u32).filter_map(|n| char::from_u32(n * 37 % 128)).collect();
        let mut folded = Vec::new();
        fold(&text, &mut folded);
        let expected: Vec<u8> =
            text.chars().map(|c| if is_word(c) { c.to_ascii_lowercase() as u8 } else { b' ' }).chain([b' ']).collect();
        assert_eq!(folded, expected);
    }

    proptest! {
        #[test]
        fn the_fast_way_is_the_slow_way(text in "(?s:[a-zA-Z0-9_ .,'éÉßİıſσςΑ\u{301}…“”日ⅷⒶ𝐀😀]|.){0,200}") {
            let mut slow = Vec::new();
            fold_sigma(&text, &mut slow);
            slow.push(b' ');
            let mut fast = Vec::new();
            fold(&text, &mut fast);
            prop_assert_eq!(fast, slow);
        }
    }
}
