//! Is a lone `i` the English pronoun? Only its neighbours can tell: `i` is also a variable, a label, the imaginary unit
//! and a word in a dozen languages.

use super::words::listed;

/// What the pronoun's contractions end in.
const CONTRACTIONS: &[&str] = &["d", "ll", "m", "ve"];

/// Words that follow the pronoun and hardly ever anything else spelled `i`; "is", "in", "to" and "equals" are left out on purpose.
const FOLLOWERS: &[&str] = &[
    "absolutely",
    "actually",
    "agree",
    "already",
    "also",
    "always",
    "am",
    "apologise",
    "apologize",
    "appreciate",
    "aren't",
    "asked",
    "assume",
    "ate",
    "began",
    "believe",
    "bought",
    "called",
    "came",
    "can",
    "can't",
    "cannot",
    "completely",
    "could",
    "couldn't",
    "decided",
    "definitely",
    "did",
    "didn't",
    "do",
    "don't",
    "doubt",
    "enjoy",
    "enjoyed",
    "even",
    "ever",
    "feel",
    "felt",
    "finally",
    "found",
    "gave",
    "get",
    "go",
    "got",
    "guess",
    "had",
    "hadn't",
    "hate",
    "have",
    "haven't",
    "hear",
    "heard",
    "hope",
    "hoped",
    "just",
    "knew",
    "know",
    "lack",
    "learned",
    "learnt",
    "left",
    "like",
    "liked",
    "live",
    "lived",
    "look",
    "looked",
    "love",
    "loved",
    "made",
    "may",
    "mean",
    "meant",
    "might",
    "miss",
    "must",
    "need",
    "needed",
    "never",
    "often",
    "once",
    "only",
    "prefer",
    "promise",
    "really",
    "recommend",
    "remember",
    "said",
    "sat",
    "saw",
    "say",
    "see",
    "shall",
    "should",
    "shouldn't",
    "simply",
    "sincerely",
    "sometimes",
    "started",
    "still",
    "strive",
    "strongly",
    "struggle",
    "suggest",
    "suppose",
    "take",
    "talk",
    "tell",
    "think",
    "thought",
    "told",
    "took",
    "tried",
    "truly",
    "try",
    "understand",
    "use",
    "used",
    "usually",
    "walk",
    "walked",
    "want",
    "wanted",
    "was",
    "wasn't",
    "watched",
    "went",
    "will",
    "wish",
    "won't",
    "wonder",
    "wondered",
    "work",
    "worked",
    "would",
    "wouldn't",
    "write",
    "wrote",
];

/// Words before a variable or an index.
const INDEX_WORDS: &[&str] = &[
    "and/or", "element", "every", "for", "foreach", "in", "index", "int", "item", "let", "letter", "of", "part", "row",
    "step", "sum", "the", "to", "type", "unit", "value", "var", "variable", "vitamin", "where", "while",
];

/// Whether the `i` at `at` is the pronoun; the message was found to be English.
pub(super) fn is_pronoun(text: &str, at: usize) -> bool {
    let rest = &text[at + 1..];
    if let Some(tail) = rest.strip_prefix(['\'', '’']) {
        let end = tail.find(|letter: char| !letter.is_alphanumeric()).unwrap_or(tail.len());
        return listed(CONTRACTIONS, &tail[..end]) && !tail[end..].starts_with(['\'', '’', '_', '(', '=']);
    }
    let Some(rest) = rest.strip_prefix(' ') else { return false };
    let next = rest.split(char::is_whitespace).next().unwrap_or_default();
    let next = next.trim_end_matches(['.', ',', '!', '?', ';', ':']).replace('’', "'");
    let line = text[..at].trim_end_matches([' ', '\t']);
    let before = line.rsplit(char::is_whitespace).next().unwrap_or_default(); // empty at the start of a line
    let open = before.trim_start_matches(['"', '“', '(', '*', '_']);
    let word = open.trim_end_matches(|letter: char| letter.is_ascii_punctuation());
    let plain = before.is_empty()
        || word.chars().next().is_some_and(char::is_alphabetic)
            && !open.ends_with(['=', '+', '-', '/', '\\', '<', '>', '(', '[', '*', '^']);
    plain && listed(FOLLOWERS, &next) && !listed(INDEX_WORDS, &word.to_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Vec<usize> {
        text.match_indices('i')
            .map(|(at, _)| at)
            .filter(|&at| text[..at].ends_with([' ', '\n']) || at == 0)
            .filter(|&at| text[at + 1..].starts_with([' ', '\'', '’', ',']) && is_pronoun(text, at))
            .collect()
    }

    #[test]
    fn finds_the_pronoun() {
        assert_eq!(found("i think i'm late, so i’ll go and i can't stay"), [0, 8, 21, 35]);
        assert_eq!(found("Yes,\ni was. however, i am not"), [5, 21]);
    }

    #[test]
    fn guard_6_labels_indices_and_units() {
        for text in [
            "i. one",
            "i) one",
            "for i in range",
            "i.e. this",
            "i = 1",
            "where i is",
            "3 + i will",
            "the index i can be",
            "sum of i must",
            "i, j and k",
            "x * i am",
            "i 'quote'",
            "i'm_x",
            "i'x",
            "the variable i should be",
            "let i go",
        ] {
            assert!(found(text).is_empty(), "{text}");
        }
    }

    #[test]
    fn lists_are_sorted() {
        for list in [CONTRACTIONS, FOLLOWERS, INDEX_WORDS] {
            let wrong: Vec<_> = list.windows(2).filter(|pair| pair[0] >= pair[1]).collect();
            assert!(wrong.is_empty(), "{wrong:?}");
        }
    }
}
