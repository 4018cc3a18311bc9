//! Which letters may be raised: those with one uppercase letter of the same length, in a script whose sentences begin with one.

/// A script in which sentences start with a capital and this module trusts itself. Greek is left to its own rules
/// (accents, `;` as question mark), Georgian has capitals but no sentence case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Script {
    /// `a`–`z`, with accents and the extensions up to U+024F, and the Vietnamese letters.
    Latin,
    /// Russian, Ukrainian, Bulgarian, Serbian, …
    Cyrillic,
}

/// The letter's script, if sentences in it may be repaired.
pub(super) fn script(letter: char) -> Option<Script> {
    match letter {
        '\u{d7}' | '\u{f7}' => None, // × and ÷ stand among the letters
        'a'..='z' | 'A'..='Z' | '\u{c0}'..='\u{24f}' | '\u{1e00}'..='\u{1eff}' => Some(Script::Latin),
        '\u{400}'..='\u{52f}' => Some(Script::Cyrillic),
        _ => None,
    }
}

/// The capital of a lowercase letter: `None` if the pair is not 1:1, would change the number of bytes (`ı`, `ſ`), or if the
/// letter is a digraph whose word-initial form is titlecase (`ǆ`) or follows a rule of its own (`ĳ`).
pub(super) fn capital(letter: char) -> Option<char> {
    if letter.is_ascii() {
        return letter.is_ascii_lowercase().then(|| letter.to_ascii_uppercase());
    }
    if script(letter).is_none() || matches!(letter, '\u{133}' | '\u{1c4}'..='\u{1cc}' | '\u{1f1}'..='\u{1f3}') {
        return None;
    }
    let mut upper = letter.to_uppercase();
    let (Some(capital), None) = (upper.next(), upper.next()) else { return None };
    let mut back = capital.to_lowercase();
    let one_to_one = back.next() == Some(letter) && back.next().is_none();
    (capital != letter && one_to_one && capital.len_utf8() == letter.len_utf8()).then_some(capital)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guard_4_only_letters_with_one_capital_of_the_same_length() {
        for (letter, wanted) in [('a', 'A'), ('é', 'É'), ('ø', 'Ø'), ('ж', 'Ж'), ('ё', 'Ё'), ('ế', 'Ế')] {
            assert_eq!(capital(letter), Some(wanted));
        }
        for letter in ['ß', 'ı', 'ſ', 'ŉ', 'ǆ', 'ǳ', 'ĳ', 'ﬁ', 'λ', 'ა', '1', '÷', 'A', 'ª', 'µ', 'ⅰ', 'ⓐ']
        {
            assert_eq!(capital(letter), None, "{letter}");
        }
    }

    #[test]
    fn every_pair_is_one_to_one() {
        for letter in (0..0x11_0000).filter_map(char::from_u32) {
            if let Some(upper) = capital(letter) {
                assert!(letter.is_lowercase() && upper.is_uppercase() && script(letter) == script(upper), "{letter}");
                assert_eq!(
                    (upper.to_lowercase().to_string(), upper.len_utf8()),
                    (letter.to_string(), letter.len_utf8())
                );
            }
        }
    }
}
