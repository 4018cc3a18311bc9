//! Which language a message is in, as far as the guards must know: by its commonest words.
//!
//! In some languages raising a sentence's first letter alone is wrong or half right (German nouns, Turkish and Azeri `i`,
//! Lithuanian accents, Dutch `ij`): messages in these are left alone. The pronoun `i` is repaired only where English leads,
//! because `i` is "and" in Polish, Catalan and Croatian and an article in Italian.

/// The languages that the guards tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Language {
    English,
    German,
    Dutch,
    Turkish,
    Lithuanian,
    /// A language where `i` is an ordinary word, and the Romance and Nordic neighbours that share words with those.
    Other,
}

const ENGLISH: &str = "the and of to is you that it for with this are how what not have be on as can i'm i've i'll i'd don't \
    it's your my was but they from or which who an at by we will would there their has if so";
const GERMAN: &str = "der und das ist nicht ein eine einen mit für auf den dem von zu sich ich sie wie auch aber oder wir bei \
    werden sind zum zur geht gut danke hallo";
const DUTCH: &str =
    "het een van en niet ik je dat zijn voor met op aan te ook maar hoe wat deze bij naar goed dank hallo";
const TURKISH: &str =
    "bir ve için bu ile çok ne nasıl değil olarak daha gibi və üçün çox nə necə deyil merhaba salam ama evet";
const LITHUANIAN: &str = "ir yra kad su iš tai kaip bet labai ar aš jūs apie taip labas ačiū nėra";
const OTHER: &str = "que los las por para una con del el la le les des et est une dans pour qui di il che per non sono della gli \
    nie się jest na do że za od jak su nije kao amb els és dels uma não os och att det som på är ett og ikke på";

/// How often each language's words occur.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts([u32; 6]);

impl Counts {
    /// Counts one word, given in lowercase.
    pub(super) fn word(&mut self, word: &str) {
        if let Some(languages) = TABLE.get(word) {
            for &language in languages {
                self.0[language as usize] += 1;
            }
        }
    }

    /// Counts a letter that only one of the languages has.
    pub(super) fn letter(&mut self, letter: char) {
        match letter {
            'ß' => self.0[Language::German as usize] += 1,
            'ı' | 'ğ' | 'İ' | 'ə' => self.0[Language::Turkish as usize] += 1,
            'ė' | 'į' | 'ų' => self.0[Language::Lithuanian as usize] += 1,
            _ => {}
        }
    }

    /// Adds what was counted elsewhere.
    pub(super) fn add(&mut self, other: &Counts) {
        for (sum, count) in self.0.iter_mut().zip(other.0) {
            *sum += count;
        }
    }

    /// Whether another language with rules of its own for capitals leads.
    pub(super) fn has_other_casing(&self) -> bool {
        let english = self.0[Language::English as usize];
        let gated = [Language::German, Language::Dutch, Language::Turkish, Language::Lithuanian];
        gated.into_iter().any(|language| self.0[language as usize] > english)
    }

    /// Whether English leads clearly: a lone `i` is then the pronoun, if its neighbours agree.
    pub(super) fn is_english(&self) -> bool {
        self.0[1..].iter().all(|&count| self.0[0] > 3 * count)
    }
}

static TABLE: std::sync::LazyLock<std::collections::HashMap<&'static str, Vec<Language>>> =
    std::sync::LazyLock::new(|| {
        let mut table: std::collections::HashMap<_, Vec<_>> = std::collections::HashMap::new();
        for (language, words) in [
            (Language::English, ENGLISH),
            (Language::German, GERMAN),
            (Language::Dutch, DUTCH),
            (Language::Turkish, TURKISH),
            (Language::Lithuanian, LITHUANIAN),
            (Language::Other, OTHER),
        ] {
            for word in words.split_whitespace() {
                table.entry(word).or_default().push(language);
            }
        }
        table
    });

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(text: &str) -> Counts {
        let mut counts = Counts::default();
        text.split(' ').for_each(|word| counts.word(word));
        text.chars().for_each(|letter| counts.letter(letter));
        counts
    }

    #[test]
    fn tells_the_languages_apart() {
        for text in
            ["das ist gut und wie geht es dir", "straße", "hoe gaat het met je", "merhaba nasıl sın", "tai yra labai"]
        {
            assert!(counts(text).has_other_casing(), "{text}");
            assert!(!counts(text).is_english(), "{text}");
        }
        for text in ["que tal está la gente", "il gatto e i cani", "jak się masz", "zażółć", ""] {
            assert!(!counts(text).has_other_casing() && !counts(text).is_english(), "{text}");
        }
        assert!(counts("this is what you have").is_english());
        assert!(!counts("this is the word et in la phrase").is_english());
    }
}
