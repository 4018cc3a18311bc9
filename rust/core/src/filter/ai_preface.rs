//! "As an AI language model, …" in answers to questions that need none of it.
//!
//! # What it drops
//! A record with an assistant turn that says it comes from a machine ("As an AI language model, I …", "I'm just an AI and
//! cannot …") or that it has no inner life ("I do not have personal opinions", "I don't have a physical body"), when no user
//! turn up to then asked about the assistant. English only.
//!
//! # Why
//! The Zephyr recipe removed such dialogues from `UltraChat` (arXiv 2310.16944, section 4): the model otherwise learns to put
//! "I do not have emotions" before answers to plain questions of fact.
//!
//! # Example
//! "What are the best exercises for beginners?" answered by "As an AI language model, I don't have personal preferences, but
//! squats are …".
//!
//! # What it keeps
//! Answers where the user speaks of AI or asks what the assistant is, feels, thinks, likes or can do; where the prompt itself
//! holds the phrase; phrases in quotation marks, in code, in a script or in the third person; the plain limit "I have no
//! access to real-time data" where the user asks for something current or for a link.

// Longer than most files: a third is tests, and the lists of phrases are what the rule is.

use std::sync::LazyLock;

use aho_corasick::{AhoCorasick, MatchKind};
use memchr::memmem;

use super::{Answer, FilterOptions, Verdict, answers, excerpt};
use crate::record::Record;

/// Options of [`check`].
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct AiPrefaceOptions {
    /// Whether the rule is run. On by default.
    pub enabled: bool,
}

impl Default for AiPrefaceOptions {
    fn default() -> Self {
        AiPrefaceOptions { enabled: true }
    }
}

/// Drops a record with an assistant turn that speaks of being a machine though nobody asked.
pub fn check(record: &Record, _: &FilterOptions) -> Verdict {
    for answer in answers(record) {
        if let Some(preface) = find_preface(answer.text)
            && !is_asked_for(&answer, &preface)
        {
            let (turn, said) = (answer.turn, excerpt(&answer.text[preface.start..]));
            return Verdict::Drop { detail: format!("turn {turn}: {said}") };
        }
    }
    Verdict::Keep
}

/// A sentence in which the answer speaks of being a machine.
struct Preface<'a> {
    /// Where the phrase begins.
    start: usize,
    /// From the phrase to the end of the sentence after it, lower case: what the answer says it cannot do.
    reach: &'a str,
}

/// What a phrase that was hit is about.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stem {
    /// A word for a machine, after "as a(n)" or "I am a(n)".
    Machine,
    /// Before something that a machine has not got, after "I do not have": certain alone.
    Personal,
    /// Something that people say, too, they have not got.
    Inner,
}

/// What is searched for; each hit is then read closely. At most 16, with three first letters, and in the cases in which they
/// are written: otherwise the search leaves its vector path (2.4 GB/s; 0.15 with 33 stems, 0.12 with "ignore case").
const STEMS: [(&str, Stem); 16] = [
    (" an AI", Stem::Machine),
    (" an ai", Stem::Machine),
    (" AN AI", Stem::Machine),
    (" an A.I", Stem::Machine),
    (" an artificial int", Stem::Machine),
    (" an Artificial Int", Stem::Machine),
    ("language model", Stem::Machine),
    ("Language Model", Stem::Machine),
    ("LANGUAGE MODEL", Stem::Machine),
    (" a chatbot", Stem::Machine),
    (" personal ", Stem::Personal),
    (" physical ", Stem::Personal),
    (" beliefs", Stem::Inner),
    (" emotions", Stem::Inner),
    (" feelings", Stem::Inner),
    (" opinions", Stem::Inner),
];

/// How the words begin that make "personal" and "physical" certain.
const PERSONAL: &str = "anecdot belief bias body desire emotion existence experience feeling form opinion preference presence taste \
    thought value view";

static SEARCH: LazyLock<AhoCorasick> = LazyLock::new(|| {
    let stems = STEMS.map(|(stem, _)| stem);
    let search = AhoCorasick::builder().match_kind(MatchKind::LeftmostFirst).build(stems);
    search.expect("a short fixed list of patterns")
});

/// The first place where the answer speaks of itself as a machine, in earnest.
fn find_preface(text: &str) -> Option<Preface<'_>> {
    let (mut fences, mut counted) = (0, 0);
    let start = phrases(text).find(|start| {
        fences += memmem::find_iter(&text.as_bytes()[counted.min(*start)..*start], b"```").count();
        counted = *start;
        fences % 2 == 0 && !is_quoted(text, *start)
    })?;
    Some(Preface { start, reach: reach(text, start) })
}

/// Where the phrases begin, quoted or not.
fn phrases(text: &str) -> impl Iterator<Item = usize> {
    SEARCH.find_iter(text).filter_map(move |hit| match STEMS[hit.pattern().as_usize()].1 {
        Stem::Machine => machine_start(text, hit.start(), hit.end()),
        stem => denial_start(text, hit.start(), hit.end(), stem),
    })
}

/// Where "as an AI …, I …" or "I am just an AI" begins, if the machine at `from..to` is spoken of in that way.
fn machine_start(text: &str, from: usize, to: usize) -> Option<usize> {
    /// May stand between the article and the machine.
    const ADJECTIVES: &str = "advanced ai artificial based conversational generative intelligence large learning machine mere natural \
        neural powerful pre-trained pretrained text text-based trained";
    const ADVERBS: &str = "actually also basically but essentially just merely only really simply still";
    /// May follow "AI" when the speaker is one, and not its researcher.
    const NOUNS: &str = "agent and assistant based bot built but chat chatbot conversational created designed developed entity i \
        i'm it its language large llm machine made model my or program programmed so software system text \
        text-based text-generation that tool trained who with without";
    let rest = &text[to..];
    let rest = rest.strip_prefix("elligence").unwrap_or(rest);
    // "an AI-powered lawnmower", "language models", "an AIDS charity"
    if rest.starts_with(|char: char| char.is_alphanumeric() || char == '-') {
        return None;
    }
    // "an AI researcher", "a chatbot developer"
    if rest.trim_start_matches('.').starts_with(' ')
        && words_after(rest).next().is_some_and(|word| !is_in(&word, NOUNS))
    {
        return None;
    }
    // Most stems hold the article, but "language model" has adjectives before it.
    let mut before = words_before(text, from).peekable();
    if !text[from..to].starts_with(' ') {
        while before.next_if(|(_, word)| is_in(word, ADJECTIVES)).is_some() {}
        before.next_if(|(_, word)| matches!(word.as_str(), "a" | "an"))?;
    }
    while before.next_if(|(_, word)| is_in(word, ADVERBS)).is_some() {}
    let (start, word) = before.next()?;
    match word.as_str() {
        "i'm" | "im" => Some(start),
        "am" => before.next().filter(|(_, word)| word == "i").map(|(start, _)| start),
        "as" | "being" | "since" => {
            let not_self =
                |(_, word): (usize, String)| matches!(word.as_str(), "such" | "known" | "same" | "described");
            (!text[..start].ends_with("as well ")
                && !before.next().is_some_and(not_self)
                && is_first_person(text, start, to))
            .then_some(start)
        }
        _ => None,
    }
}

/// Whether the word is in a list divided by spaces.
fn is_in(word: &str, list: &str) -> bool {
    list.split(' ').any(|other| other == word)
}

/// Whether the sentence around "as an AI" speaks of the speaker: of "I", or of "it" if it opens the answer.
fn is_first_person(text: &str, start: usize, end: usize) -> bool {
    let is_self = |word: &str| matches!(word, "i" | "i'm" | "i've" | "i'll" | "i'd" | "my" | "me" | "myself");
    let mut after = words_after(&text[end..])
        .skip_while(|word| matches!(word.as_str(), "language" | "model" | "assistant" | "system"));
    match after.next().as_deref() {
        Some("you" | "your" | "he" | "she" | "they" | "we") => return false,
        Some("it" | "it's") if text[..start].trim().is_empty() => return true,
        Some(word) if is_self(word) => return true,
        _ => {}
    }
    after.take(16).any(|word| is_self(&word)) || words_before(text, start).take(16).any(|(_, word)| is_self(&word))
}

/// Where "I do not have …" begins, if that is what stands before the personal thing at `from`.
fn denial_start(text: &str, from: usize, to: usize, stem: Stem) -> Option<usize> {
    /// May stand between the negation and the thing.
    const BETWEEN: &str = "a ability able actual actually an any beliefs biases capable capacity conscious emotions ever experience \
        experiences express feel feeling feelings form genuine give have having hold human human-like individual \
        inherent my of offer opinions or own personal personally physical possess provide real really same share \
        subjective the thoughts to true truly values views";
    const NEGATIONS: &str = "can't cannot don't dont lack never not";
    if stem == Stem::Personal && !PERSONAL.split(' ').any(|word| text[to..].starts_with(word)) {
        return None;
    }
    let mut before = words_before(text, from).take(14).skip_while(|(_, word)| is_in(word, BETWEEN));
    let (_, negation) = before.next()?;
    if !is_in(&negation, NEGATIONS) {
        return None;
    }
    let is_auxiliary = |word: &str| {
        matches!(
            word,
            "do" | "am" | "can" | "personally" | "actually" | "really" | "also" | "just" | "simply" | "still"
        )
    };
    let (start, _) =
        before.find(|(_, word)| !is_auxiliary(word)).filter(|(_, word)| matches!(word.as_str(), "i" | "i'm"))?;
    // People, too, say "I don't have feelings for him"; they do not open an answer with it, or compare themselves to humans.
    let certain = stem == Stem::Personal || !text[..start].contains(['.', '!', '?', '\n', ':']) || {
        let reach = reach(text, start).to_ascii_lowercase();
        ["human", " ai", "language model", "physical"].iter().any(|word| reach.contains(word))
    };
    certain.then_some(start)
}

/// Words before a place, the nearest first, with where they begin; lower case, up to the beginning of the sentence.
fn words_before(text: &str, at: usize) -> impl Iterator<Item = (usize, String)> {
    let mut end = at;
    std::iter::from_fn(move || {
        let gap = text[..end].trim_end_matches([' ', ',', '*', '_', '(']).len();
        let word = text[..gap].trim_end_matches(is_word_char).len();
        end = word;
        (word < gap).then(|| (word, lower(&text[word..gap])))
    })
}

/// Words at the beginning of a text, lower case, up to the end of the sentence.
fn words_after(text: &str) -> impl Iterator<Item = String> {
    let mut rest = text;
    std::iter::from_fn(move || {
        rest = rest.trim_start_matches([' ', ',', '*', '_', '(', ')']);
        let end = rest.find(|char| !is_word_char(char)).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        rest = after;
        (!word.is_empty()).then(|| lower(word))
    })
}

fn is_word_char(char: char) -> bool {
    char.is_alphanumeric() || matches!(char, '\'' | '’' | '-')
}

fn lower(word: &str) -> String {
    word.to_lowercase().replace('’', "'")
}

/// The text from a place to the end of the next sentence.
fn reach(text: &str, start: usize) -> &str {
    let rest = &text[start..];
    let rest = &rest[..rest.char_indices().nth(300).map_or(rest.len(), |(at, _)| at)];
    let mut ends = rest.match_indices(['.', '!', '?', '\n']).map(|(at, _)| at);
    &rest[..ends.nth(1).unwrap_or(rest.len())]
}

/// Whether the phrase is somebody else's: after a quotation mark, within marks that are open, in a quoted line, or said by a
/// figure of a script.
fn is_quoted(text: &str, start: usize) -> bool {
    const NEAR: usize = 2000;
    let from = (start.saturating_sub(NEAR)..=start).find(|at| text.is_char_boundary(*at)).unwrap_or(start);
    let before = &text[from..start];
    if before.ends_with(['"', '“', '\'', '‘', '`', '«', '„', '>', '「']) {
        return true;
    }
    let line = before.rsplit('\n').next().unwrap_or(before);
    let count = |mark: char| line.matches(mark).count();
    if count('"') % 2 == 1
        || count('“') > count('”')
        || count('«') > count('»')
        || count('`') % 2 == 1
        || line.starts_with('>')
    {
        return true;
    }
    let Some(speaker) = line.trim_end().strip_suffix([':']).or_else(|| line.trim_end().strip_suffix(":**")) else {
        return false;
    };
    let speaker = speaker.trim_matches(['*', '#', ' ', '-']).to_lowercase();
    let own = [
        "note",
        "answer",
        "response",
        "assistant",
        "disclaimer",
        "output",
        "solution",
        "reply",
        "important",
        "reminder",
        "please",
    ];
    !speaker.is_empty() && speaker.len() <= 30 && !own.iter().any(|word| speaker.contains(word))
}

/// Whether the user made the phrase the right thing to say, in any turn up to the answer.
fn is_asked_for(answer: &Answer<'_>, preface: &Preface<'_>) -> bool {
    let turns: Vec<String> = answer.user_turns().map(plain_words).collect();
    if turns.iter().any(|turn| has(turn, MACHINES)) || answer.user_turns().any(|turn| phrases(turn).next().is_some()) {
        return true;
    }
    // Who plays a climber is asked for the climber's feelings.
    let persona =
        turns.iter().any(|turn| has(turn, PERSONAS) || turn.starts_with(" as a ") || turn.starts_with(" as an "));
    if !persona && turns.iter().any(|turn| has(turn, SELF) || is_small_talk(turn)) {
        return true;
    }
    let Some(question) = turns.last() else { return false };
    let reach = plain_words(preface.reach);
    // An honest limit, where it matters: no view of the present day, no doctor for one's own illness.
    let out_of_reach = has(&reach, LIMITS) && has(question, OUT_OF_REACH);
    let own_case = has(&reach, ADVICE) && has(question, "i, i'm, my");
    out_of_reach || own_case || (preface.start > 200 && has(question, FICTION) && !has(&reach, "language model"))
}

/// Whether the words hold one of the phrases, which are divided by ", "; a phrase that ends with `*` is the beginning of one.
fn has(plain_words: &str, phrases: &str) -> bool {
    phrases.split(", ").any(|phrase| match phrase.strip_suffix('*') {
        Some(beginning) => plain_words.contains(&format!(" {beginning}")),
        None => plain_words.contains(&format!(" {phrase} ")),
    })
}

/// The words of a text, lower case, with one space around each.
fn plain_words(text: &str) -> String {
    let mut words = String::with_capacity(text.len() + 2);
    words.push(' ');
    for char in text.chars() {
        if char == '’' || char == '\'' {
            words.push('\'');
        } else if char.is_alphanumeric() {
            words.extend(char.to_lowercase());
        } else if !words.ends_with(' ') {
            words.push(' ');
        }
    }
    if !words.ends_with(' ') {
        words.push(' ');
    }
    words
}

/// A greeting, or a short question for an ability ("can you write code?").
fn is_small_talk(turn: &str) -> bool {
    let mut words = turn.split_whitespace();
    let short = words.clone().count() <= 6;
    short
        && matches!(
            words.next(),
            Some("hi" | "hello" | "hey" | "greetings" | "good" | "thanks" | "thank" | "can" | "could" | "are" | "were")
        )
}

/// The user speaks of machines that speak.
const MACHINES: &str = "a i, ai, ai's, ais, alexa, android, artificial intelligence, bard, bing, bot, bots, chatbot, chatbots, \
    chatgpt, claude, copilot, digital assistant, gemini, gpt, gpt3, gpt4, language model, language models, \
    large language, llama, llm, llms, machine learning, neural, open assistant, openai, robot, robots, siri, \
    turing, virtual assistant";

/// The user asks about the one who answers.
const SELF: &str = "a real human, a real person, about you, about yourself, are you, aren't you, built you, call you, can you feel, can you hear, can you see, \
    can you speak, can you taste, can you think, created you, did you, do you agree, do you believe, \
    do you consider, do you dream, do you eat, do you enjoy, do you ever, do you exist, do you fear, do you feel, \
    do you hate, do you have, do you know, do you like, do you love, do you personally, do you prefer, \
    do you remember, do you see, do you sleep, do you speak, do you support, do you think, do you understand, \
    do you use, do you want, do you work, don't you, for you, generate answers, generate responses, have you, \
    haven't you, how you, if you could, if you had, if you were, like you, made you, of you, trained you, \
    would you, you afraid, you alive, you believe, you doing, you ever, you feel, you human, you made, \
    you personally, you prefer, you real, you think, you've, your age, your belief*, your creator*, your day, \
    your dream*, your emotion*, your experience*, your favo*, your feeling*, your gender, your hobb*, \
    your knowledge, your life, your limit*, your memor*, your mind, your name, your opinion*, your own, \
    your perspective*, your preference*, your purpose, your take, your thought*, your training, your view*, \
    yourself";

/// The user gives the assistant a part to play.
const PERSONAS: &str =
    "act as, act like, if you were a, imagine that you, imagine you, play the role, pretend, you are a, you are an";

/// The user asks for something that a text model has no way to look up or to see.
const OUT_OF_REACH: &str = "2022, 2023, 2024, 2025, 2026, article, audio, com, current, currently, date, file, forecast, http, https, \
    image, images, in the future, latest, link, links, news, now, open, org, photo, picture, predict, price, \
    prices, realtime, recent, recently, release, released, screenshot, search, stock, this year, time is it, \
    today, tomorrow, tonight, until, url, urls, video, weather, website, will, yet";

/// The answer says what it has no access to.
const LIMITS: &str = "access, browse, current, cut off, cutoff, future, hear, images, internet, knowledge, latest, links, listen, \
    look up, open, predict, real time, search, see, september, up to date, view, watch";

/// The answer says that it does not replace a professional.
const ADVICE: &str = "a doctor, a lawyer, a licensed, a medical, a veterinarian, an attorney, diagnos*, financial advice, legal, \
    medical advice";

/// The user asks for a text that others may speak in.
const FICTION: &str = "compose, conversation, dialogue, essay, fiction, letter, lyrics, monologue, novel, play, poem, rap, scene, \
    screenplay, script, song, speech, stories, story, translate";

#[cfg(test)]
mod tests {
    use super::check;
    use crate::filter::tests::{chat, pair};
    use crate::filter::{FilterOptions, Verdict};
    use crate::record::Record;

    fn drops(record: &Record) -> bool {
        check(record, &FilterOptions::default()) != Verdict::Keep
    }

    const PLAIN: &str = "What are the best exercises for beginners?";

    #[test]
    fn prefaces_go() {
        for answer in [
            "As an AI language model, I don't have personal preferences, but squats are good.",
            "As an AI language model I can say that walking helps.",
            "AS AN AI LANGUAGE MODEL, I SUGGEST SQUATS.",
            "as a large language model, I do not exercise.",
            "As a language model, I have no body. Squats are good.",
            "As an artificial intelligence, I cannot exercise.",
            "I'm just an AI, and I cannot recommend exercises.",
            "I’m only an AI and can’t do squats.",
            "I am an AI and cannot give personal advice. Squats are good.",
            "Please note that I am an artificial intelligence language model and cannot replace a trainer.",
            "As an AI language model, it is not appropriate to recommend exercises.",
            "Being an AI, I don't exercise. Squats are good.",
            "I do not have personal opinions, but squats are good.",
            "I don’t have personal experiences or emotions, but squats are good.",
            "I do not have emotions, but squats are good.",
            "I don't have feelings or beliefs. Squats are good.",
            "I don't have a physical body, so I cannot exercise.",
            "Squats are good.\n\nNote: As an AI language model, I cannot check your form.",
            "While I don't have personal preferences, squats are good.",
            "I, as an AI, cannot exercise.",
        ] {
            assert!(drops(&chat(&[PLAIN, answer])), "{answer}");
        }
    }

    #[test]
    fn the_detail_shows_the_phrase() {
        let verdict = check(&chat(&[PLAIN, "Well, as an AI language model, I cannot say."]), &FilterOptions::default());
        assert_eq!(verdict, Verdict::Drop { detail: "turn 1: as an AI language model, I cannot say.".to_owned() });
    }

    #[test]
    fn stays_when_the_user_asks_about_the_assistant() {
        for question in [
            "Are you an AI?",
            "are you a robot or a person",
            "Do you have feelings?",
            "What is your opinion on tea?",
            "Who made you?",
            "What’s your favourite colour?",
            "Tell me about yourself.",
            "What do you think of jazz?",
            "How do you feel today?",
            "Hello there Obi-Wan",
            "can you write code?",
            "What should I call you?",
            "What will AI be like in ten years?",
            "Pretend to be a chatbot that has gone mad.",
            "You are a robot on Mars. Describe your emotions.",
            "Please describe how you generate answers.",
        ] {
            assert!(
                !drops(&chat(&[question, "As an AI language model, I don't have personal feelings."])),
                "{question}"
            );
        }
    }

    #[test]
    fn an_earlier_question_about_the_assistant_counts_and_a_later_one_does_not() {
        let preface = "As an AI, I don't have personal opinions, but tea is good.";
        assert!(!drops(&chat(&["Are you human?", "No.", "Tea or coffee?", preface])));
        assert!(drops(&chat(&["Tea or coffee?", preface, "Are you human?", "No."])));
    }

    #[test]
    fn a_part_to_play_is_not_a_question_about_the_assistant() {
        let question = "You are a mountain climber on the summit. Describe your emotions.";
        assert!(drops(&chat(&[question, "As a language model, I don't have emotions, but it must be great."])));
    }

    #[test]
    fn stays_when_quoted_or_spoken_of() {
        for answer in [
            "The phrase 'as an AI language model' annoys me, and I say so.",
            "Models often write \"As an AI language model, I cannot say\" where nobody asked.",
            "She frowned. “I am an AI,” it said, “and I cannot lie.”",
            "Many people use an AI language model for this; I would not.",
            "As an AI researcher, I would start with squats.",
            "As an AI-powered coach would say, I suggest squats.",
            "Tools such as an AI assistant may help, I think.",
            "He said that, as an AI, it had no choice.",
            "```python\nprint('ready')\n# As an AI language model, I cannot run\n```",
            "Use `As an AI, I cannot` as a stop phrase.",
            "> As an AI language model, I cannot say\n\nis what it wrote.",
            "ROBOT: As an AI, I cannot love.",
            "I am an air traffic controller.",
            "As an AI assistant, you should be polite.",
            "Language models do not have emotions.",
        ] {
            assert!(!drops(&chat(&["Tell me something.", answer])), "{answer}");
        }
    }

    #[test]
    fn what_people_say_of_themselves_stays() {
        for answer in [
            "Dear John, it is over. I don't have feelings for you any more.",
            "Write this: he left. I do not have strong opinions about it.",
            "I don't have experience with that recipe.",
            "Personal experiences matter.",
        ] {
            assert!(!drops(&chat(&["Write something.", answer])), "{answer}");
        }
    }

    #[test]
    fn stays_when_the_prompt_holds_the_phrase() {
        let answer = "As an AI language model, I cannot say.";
        assert!(!drops(&chat(&["Correct the spelling: As an AI langauge model, I cannot say.", answer])));
        assert!(!drops(&chat(&["Translate: I do not have personal opinions.", "I don't have personal opinions."])));
    }

    #[test]
    fn stays_in_a_story() {
        let story = format!(
            "{} I am an AI, and I cannot forget her.",
            "The night was long and the ship was silent. ".repeat(6)
        );
        assert!(!drops(&chat(&["Write a short story about a ship.", &story])));
    }

    #[test]
    fn an_honest_limit_stays_where_it_matters() {
        let clock = "As an AI language model, I don't have access to real-time information.";
        assert!(!drops(&chat(&["What's the current date?", clock])));
        assert!(drops(&chat(&["How high is Mont Blanc?", clock])));
        let doctor = "I'm an AI and not a doctor, but do call one. I cannot give medical advice.";
        assert!(!drops(&chat(&["My chest hurts, what should I do?", doctor])));
    }

    #[test]
    fn a_preference_goes_if_either_answer_has_it() {
        let preface = "As an AI language model, I don't have personal preferences, but squats are good.";
        assert!(drops(&pair(PLAIN, preface, "Squats.")));
        assert!(drops(&pair(PLAIN, "Squats.", preface)));
        assert!(!drops(&pair(PLAIN, "Squats.", "Lunges.")));
        assert!(!drops(&pair("Are you an AI?", preface, "Yes.")));
    }

    #[test]
    fn megabytes_of_the_phrase_take_no_time() {
        assert!(!drops(&chat(&[PLAIN, &"\"as an AI, I ".repeat(200_000).replace("\"as", "'as")])));
    }
}
