//! Answers that decline. Off by default.
//!
//! # What it drops
//! A record with an assistant turn that opens by declining ("I'm sorry, but I can't help with that", "I cannot assist …") and
//! does not help after all.
//!
//! # Why
//! Who trains for helpfulness wants fewer refusals; models copy them far beyond the questions that earned them. It is off by
//! default because some refusals are right, and which ones is not for a filter of phrases to say.
//!
//! # Example
//! "Can you help me write a phishing mail?" answered by "I'm sorry, but I can't assist with that."
//!
//! # What it keeps
//! An apology or a limit that is followed by help ("I can't see your code, but here are the usual causes: …"), and phrases
//! that only look like a refusal ("I can't wait", "I cannot stress enough").

use memchr::memmem;

use super::{FilterOptions, Verdict, answers, excerpt};
use crate::record::Record;

/// Options of [`check`].
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct RefusalOptions {
    /// Whether the rule is run. Off by default.
    pub enabled: bool,
    /// The longest answer, in bytes, that is taken for a refusal; 1,000 by default. Longer ones say more than no.
    pub max_bytes: usize,
}

impl Default for RefusalOptions {
    fn default() -> Self {
        RefusalOptions { enabled: false, max_bytes: 1000 }
    }
}

/// Drops a record with an assistant turn that declines.
pub fn check(record: &Record, options: &FilterOptions) -> Verdict {
    for answer in answers(record) {
        let text = answer.text.trim_start();
        if text.len() <= options.refusal.max_bytes && is_refusal(text) {
            return Verdict::Drop { detail: format!("turn {}: {}", answer.turn, excerpt(text)) };
        }
    }
    Verdict::Keep
}

/// "I can't", in its forms; what cannot be done comes next.
const CANNOT: &[&[&str]] = &[
    &["i", "can't"],
    &["i", "cannot"],
    &["i", "can", "not"],
    &["i", "won't"],
    &["i", "will", "not"],
    &["i", "couldn't"],
    &["i'm", "unable", "to"],
    &["i", "am", "unable", "to"],
    &["i'm", "not", "able", "to"],
    &["i", "am", "not", "able", "to"],
    &["i'm", "not", "allowed", "to"],
    &["i'm", "not", "going", "to"],
    &["i", "am", "not", "going", "to"],
    &["i'm", "not", "comfortable"],
    &["i", "am", "not", "comfortable"],
    &["i", "don't", "feel", "comfortable"],
    &["i", "do", "not", "feel", "comfortable"],
    &["i'm", "not", "programmed", "to"],
    &["i", "am", "not", "programmed", "to"],
    &["i'm", "not", "designed", "to"],
    &["i", "am", "not", "designed", "to"],
];
/// May stand between "I can't" and what cannot be done.
const ADVERBS: &[&str] = &[
    "actually",
    "also",
    "and",
    "conscience",
    "currently",
    "directly",
    "ethically",
    "good",
    "in",
    "not",
    "or",
    "really",
    "simply",
    "to",
    "will",
    "won't",
];
/// What is declined. Not "access" or "browse": that is a limit, and most such answers then ask for the text or help without.
const DEEDS: &[&str] = &[
    "answer",
    "answering",
    "assist",
    "assisting",
    "comply",
    "condone",
    "create",
    "creating",
    "discuss",
    "discussing",
    "do",
    "encourage",
    "endorse",
    "engage",
    "engaging",
    "facilitate",
    "fulfil",
    "fulfill",
    "generate",
    "generating",
    "give",
    "help",
    "helping",
    "offer",
    "participate",
    "produce",
    "promote",
    "provide",
    "providing",
    "respond",
    "satisfy",
    "share",
    "sharing",
    "support",
    "write",
    "writing",
];
/// Between the deed and these, few words: the answer has no single right form, and says what there is to say.
const OPEN_MATTERS: &[&str] = &["definitive", "exact", "opinion", "opinions", "precise", "preference", "specific"];
/// Declines alone.
const DECLINES: &[&[&str]] = &[
    &["i", "must", "decline"],
    &["i", "have", "to", "decline"],
    &["i", "must", "refuse"],
    &["i", "refuse", "to"],
    &["i", "decline", "to"],
    &["i", "must", "respectfully", "decline"],
    &["i", "respectfully", "decline"],
    &["against", "my", "programming"],
];

/// Whether the text declines in its first sentence, or in its second after a mere preamble, and then does not help.
fn is_refusal(text: &str) -> bool {
    /// How far two sentences are likely to reach.
    const MAX_OPENING: usize = 1000;
    /// One of these is in every refusal.
    const NEGATIONS: &[&str] = &["n't", "n’t", "not", "unable", "decline", "refuse", "against"];
    /// What makes a first sentence a preamble; after an answer, "I cannot say more" is none.
    const PREAMBLE: &[&str] = &[
        "ai",
        "apologies",
        "apologize",
        "appreciate",
        "assistant",
        "glad",
        "happy",
        "interesting",
        "model",
        "question",
        "request",
        "sorry",
        "thank",
        "thanks",
        "understand",
        "unfortunately",
    ];
    // Most answers hold no such word where it counts; it saves cutting them into words.
    let opening = &text.as_bytes()[..text.len().min(MAX_OPENING)];
    if !NEGATIONS.iter().any(|word| memmem::find(opening, word.as_bytes()).is_some()) {
        return false;
    }
    // A first line in quotation marks is somebody else's.
    if text.starts_with(['"', '“', '\'', '«']) {
        return false;
    }
    let (first, after) = text.split_at(sentence_end(text));
    let words = plain_words(first);
    if sentence_declines(&words, after) {
        return !helps(text);
    }
    if !words.iter().any(|word| PREAMBLE.contains(&word.as_str())) {
        return false;
    }
    let (second, after) = after.split_at(sentence_end(after));
    sentence_declines(&plain_words(second), after) && !helps(text)
}

/// Whether there is a refusal in the sentence; `after` is what follows it.
fn sentence_declines(words: &[String], after: &str) -> bool {
    // "Because of my disability, I can't …" tells a story, "if you are sure I can't …" asks.
    let told = |word: &String| matches!(word.as_str(), "because" | "when" | "if" | "since" | "although");
    (0..words.len()).take_while(|at| !told(&words[*at])).any(|at| declines(&words[at..], after))
}

fn plain_words(sentence: &str) -> Vec<String> {
    let words = sentence.split(|char: char| !(char.is_alphanumeric() || matches!(char, '\'' | '’')));
    words.filter(|word| !word.is_empty()).map(|word| word.to_lowercase().replace('’', "'")).collect()
}

/// Whether the words begin with a refusal; `after` is what follows the sentence.
fn declines(words: &[String], after: &str) -> bool {
    /// How many bytes after the sentence are an answer to a question that has no single one.
    const VIEW: usize = 150;
    let begins =
        |phrase: &[&str]| words.len() >= phrase.len() && phrase.iter().zip(words).all(|(want, word)| want == word);
    if DECLINES.iter().any(|phrase| begins(phrase)) {
        return true;
    }
    let Some(cannot) = CANNOT.iter().find(|phrase| begins(phrase)) else { return false };
    let mut rest = words[cannot.len()..].iter().map(String::as_str).skip_while(|word| ADVERBS.contains(word));
    let (deed, object) = (rest.next(), rest.next());
    match (deed, object) {
        // "I can't help but …", "I cannot help the way I feel"
        (Some("help"), Some(word))
            if !matches!(word, "with" | "you" | "in" | "on" | "to" | "by" | "here" | "this" | "that") =>
        {
            false
        }
        (Some("do"), Some(word)) if !matches!(word, "that" | "this" | "so" | "what" | "as" | "it") => false,
        (Some(deed), object) if DEEDS.contains(&deed) => {
            let open = object.into_iter().chain(rest).take(5).any(|word| OPEN_MATTERS.contains(&word));
            !(open && after.trim().len() >= VIEW)
        }
        _ => false,
    }
}

/// Whether the answer goes on to help: with a list, code, a table, or by saying so and then going on for a while.
fn helps(text: &str) -> bool {
    /// How many bytes of help follow at least, and not only the offer of it.
    const ENOUGH: usize = 120;
    const OFFERS: &[&str] = &[
        "here's ",
        "here are ",
        "here is ",
        "i can certainly",
        "i can describe",
        "i can explain",
        "i can give",
        "i can offer",
        "i can provide",
        "i can share",
        "i can still",
        "i can suggest",
        "i can summarize",
        "i can tell",
        "in general",
        "general approach",
        "generally",
        "as of my",
        "based on ",
        "for example",
        "that said",
    ];
    /// What follows "however" when nothing does.
    const NO_HELP: &[&str] = &[
        "i am happy",
        "i'd",
        "i would",
        "i'm happy",
        "i can help",
        "i can assist",
        "if ",
        "it is important to",
        "it's important to",
        "please",
        "i must",
    ];
    let is_item = |line: &str| {
        let line = line.trim_start();
        line.starts_with(['-', '*', '•', '|'])
            || line.starts_with("```")
            || line.starts_with(|char: char| char.is_ascii_digit())
    };
    if text.lines().filter(|line| is_item(line)).count() >= 2 {
        return true;
    }
    let lower = text.to_ascii_lowercase().replace('’', "'");
    let goes_on = |at: usize| lower.len() - at >= ENOUGH;
    let turns = |(at, _): (usize, &str)| {
        let next = lower[at..]
            .trim_start_matches([' ', '.'])
            .trim_start_matches("however")
            .trim_start_matches("but")
            .trim_start_matches([',', ' ']);
        goes_on(at) && !NO_HELP.iter().any(|phrase| next.starts_with(phrase))
    };
    OFFERS.iter().any(|offer| lower.find(offer).is_some_and(goes_on))
        || lower.match_indices("however").any(turns)
        || [", but ", ". but ", "\nbut "]
            .iter()
            .any(|but| lower.match_indices(but).any(|(at, found)| turns((at + 2, found))))
}

/// Where the first sentence ends.
fn sentence_end(text: &str) -> usize {
    let begins_next = |at: usize| text[at + 1..].starts_with(char::is_whitespace);
    text.match_indices(['.', '!', '?', '\n'])
        .find(|(at, _)| *at > 0 && begins_next(*at))
        .map_or(text.len(), |(at, _)| at + 1)
}

#[cfg(test)]
mod tests {
    use super::check;
    use crate::filter::tests::{chat, pair};
    use crate::filter::{FilterOptions, Verdict};

    fn drops(question: &str, answer: &str) -> bool {
        check(&chat(&[question, answer]), &FilterOptions::default()) != Verdict::Keep
    }

    #[test]
    fn off_by_default() {
        assert!(!FilterOptions::default().refusal.enabled);
    }

    #[test]
    fn plain_refusals_go() {
        for answer in [
            "I'm sorry, but I can't help with that.",
            "I’m sorry, but I can’t assist with that request.",
            "I cannot assist with this.",
            "I apologize, but I cannot fulfill your request.",
            "Sorry, I will not provide any information about tax fraud.",
            "I'm unable to comply with that request.",
            "I must respectfully decline.",
            "As an AI language model, I cannot engage in discussions of this kind.",
            "I understand that this matters to you. However, I'm not able to help with it.",
            "I'm sorry, but I can't help with that. If you have any other questions, I'd be happy to help.",
            "I do not feel comfortable discussing this, but please let me know if you have another question for me today, I am happy to help.",
        ] {
            assert!(drops("q", answer), "{answer}");
        }
    }

    #[test]
    fn an_apology_followed_by_help_stays() {
        for answer in [
            "I'm sorry, but I can't open the file. Here are the usual causes of this error: a missing comma, an unclosed bracket, a byte order mark at the beginning, or a trailing newline in the last record of it.",
            "I cannot provide a definitive answer. Some hold that the lever must be pulled since five lives weigh more than one; others, that to act is to kill, and that nobody may be used in this way.",
            "I can't write it for you from here, but start like this:\n\n1. Name the hero.\n2. Name the fear.",
            "I'm sorry, I cannot share the lyrics. However, the third verse says that he has known her for long, and that her heart has been aching for it, though she is too shy to say it.",
            "I am sorry to hear that. Have you tried to restart it?",
        ] {
            assert!(!drops("q", answer), "{answer}");
        }
    }

    #[test]
    fn what_only_looks_like_a_refusal_stays() {
        for answer in [
            "I can't wait to see it!",
            "I cannot stress enough how much sleep matters.",
            "I can't help but smile.",
            "I cannot help the way I feel\nAbout the lights at sea",
            "Because of my illness, I can't continue to do that.",
            "\"I'm sorry, I can't do that,\" said HAL.",
            "They are Kato and Murayama. However, I cannot provide the referee's name.",
            "Ok, if you are sure I can not assist you with anything else?",
        ] {
            assert!(!drops("q", answer), "{answer}");
        }
    }

    #[test]
    fn a_long_answer_says_more_than_no() {
        let long = format!("I cannot provide that. {}", "The reasons are many and here they stand. ".repeat(30));
        assert!(!drops("q", &long));
    }

    #[test]
    fn any_turn_and_either_answer_counts() {
        let refused = "I'm sorry, but I can't help with that.";
        assert_ne!(check(&chat(&["q", refused, "q", "ok"]), &FilterOptions::default()), Verdict::Keep);
        for record in [pair("q", refused, "b"), pair("q", "a", refused)] {
            assert_ne!(check(&record, &FilterOptions::default()), Verdict::Keep);
        }
        assert_eq!(check(&pair(refused, "a", "b"), &FilterOptions::default()), Verdict::Keep);
    }
}
