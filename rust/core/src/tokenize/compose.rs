//! NFC as the `tokenizers` crate does it, for texts that nearly always are in NFC already.
//!
//! Most characters neither change nor join what stands before them, in the Unicode version of the crate that normalizes for
//! `tokenizers` ([`Classes::composes`] says which do not). A border before such a character is one that NFC cannot cross.
//! So only the rest, with the one character before it, is given to that crate, and not even copied if it stays as it is.

use unicode_normalization_alignments::{IsNormalized, UnicodeNormalization, is_nfc_quick};

use super::split::Classes;

/// `text` in NFC, if it is not: written to `buffer`, whose contents are lost.
pub(super) fn compose<'a>(classes: &Classes, text: &'a str, buffer: &'a mut String) -> &'a str {
    let bytes = text.as_bytes();
    buffer.clear();
    // What stands before `done` is in `buffer`, if anything is.
    let (mut at, mut done, mut before) = (0, 0, 0);
    loop {
        // Where characters beyond that come in words, what stands between two words is a space.
        if bytes.get(at).is_some_and(|byte| *byte < FIRST) {
            at += 1;
        }
        if bytes.get(at).is_none_or(|byte| *byte < FIRST) {
            at = skip(bytes, at);
        }
        if at == bytes.len() {
            break;
        }
        let (composes, length) = classes.composes(bytes, at);
        if !composes {
            before = at;
            at += length;
            continue;
        }
        // The character before may lie in what was skipped.
        let mut start = before.max(at.saturating_sub(1));
        while !text.is_char_boundary(start) {
            start -= 1;
        }
        let start = start.max(done);
        let mut end = at + length;
        while end < bytes.len() {
            let (composes, length) = classes.composes(bytes, end);
            if !composes {
                break;
            }
            end += length;
        }
        let part = &text[start..end];
        if is_nfc_quick(part.chars()) != IsNormalized::Yes {
            buffer.push_str(&text[done..start]);
            buffer.extend(part.nfc().map(|(character, _)| character));
            done = end;
        }
        (at, before) = (end, end);
    }
    if done == 0 {
        return text;
    }
    buffer.push_str(&text[done..]);
    buffer
}

/// Bytes from this on begin characters from U+0300 on.
const FIRST: u8 = 0xCC;

/// Place of the next byte that may begin a character from U+0300 on; there is nothing before it that NFC changes.
fn skip(bytes: &[u8], mut at: usize) -> usize {
    while let Some(chunk) = bytes[at..].first_chunk::<32>() {
        if chunk.iter().fold(0, |most, byte| most.max(*byte)) >= FIRST {
            break;
        }
        at += 32;
    }
    bytes[at..].iter().position(|byte| *byte >= FIRST).map_or(bytes.len(), |more| at + more)
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use proptest::prelude::*;
    use tokenizers::{NormalizedString, Normalizer};

    use super::*;

    static CLASSES: LazyLock<Classes> = LazyLock::new(Classes::new);

    fn check(text: &str) {
        let mut buffer = "left over".to_string();
        let mut theirs = NormalizedString::from(text);
        tokenizers::normalizers::NFC.normalize(&mut theirs).unwrap();
        assert_eq!(compose(&CLASSES, text, &mut buffer), theirs.get(), "{text:?}");
    }

    #[test]
    fn a_text_in_nfc_is_not_copied() {
        let text = "déjà vu 文字 हिन्दी 한글 😀";
        assert!(std::ptr::eq(compose(&CLASSES, text, &mut String::new()), text));
    }

    /// Every character: after a letter, after itself, and before a mark that it may join.
    #[test]
    fn every_character_is_composed_alike() {
        let mut text = String::new();
        for character in '\0'..=char::MAX {
            for piece in ["a", "", "\u{301}\u{323}", "x", "e\u{301}", "\u{5b8}", " "] {
                text.push_str(piece);
                text.push(character);
            }
            if character as u32 % 1024 == 1023 {
                check(&text);
                text.clear();
            }
        }
        check(&text);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn random_texts_are_composed_alike(
            pieces in proptest::collection::vec(
                prop_oneof![
                    "[a-zéÅΩΩKÅ]{1,40}",
                    "[\u{300}-\u{345}\u{323}\u{5b0}-\u{5bc}\u{64b}-\u{652}\u{93c}\u{94d}\u{9be}\u{3099}]{1,4}",
                    "[\u{1100}-\u{1112}\u{1161}-\u{1175}\u{11a8}-\u{11c2}가-각]{1,4}",
                    "[か-ごक-हक़য়\u{9c7}\u{1e9b}\u{212b}\u{fb1d}-\u{fb4e}]{1,4}",
                    any::<char>().prop_map(String::from),
                ],
                0..12,
            )
        ) {
            check(&pieces.concat());
        }
    }
}
