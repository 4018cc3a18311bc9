//! The whole repair: what it does to messages and records, and the properties that hold for any text. The guards of each part are tested
//! in its file; here stands one test for each group that needs several parts.

use proptest::prelude::*;

use super::*;
use crate::record::{Chat, Preference};

fn repaired(text: &str) -> String {
    let mut text = text.to_owned();
    repair_text(&mut text, &mut Vec::new());
    text
}

fn unchanged(texts: &[&str]) {
    for text in texts {
        assert_eq!(repaired(text), *text);
    }
}

#[test]
fn repairs_each_rule() {
    let mut text = String::from("hello, Ann. how are you?\n\nit is what i think you know. élan!");
    let mut changes = Vec::new();
    repair_text(&mut text, &mut changes);
    assert_eq!(text, "Hello, Ann. How are you?\n\nIt is what I think you know. Élan!");
    let wanted = [
        (0, 'h', 'H', Rule::TurnStart),
        (12, 'h', 'H', Rule::SentenceStart),
        (26, 'i', 'I', Rule::ParagraphStart),
        (37, 'i', 'I', Rule::PronounI),
        (55, 'é', 'É', Rule::SentenceStart),
    ];
    assert_eq!(changes, wanted);
    let names: Vec<_> = Rule::ALL.into_iter().map(Rule::as_str).collect();
    assert_eq!(names, ["turn_start", "paragraph_start", "sentence_start", "pronoun_i"]);
}

#[test]
fn guard_1_protected_stretches() {
    unchanged(&[
        "Run it.\n```\nAll done. now go.\n```\nThen `stop. go` and $a. b$.",
        "See <b title=\"Yes. no\">it</b> and\n| Yes. no | b |\n    Code. here\n{\"a\": \"B. c\"}\nkey: It is. so",
        "<|user|>\nuser: Hi. there you are",
        "Ask Ann. @bob knows. #tags help. bob@mail.com too. https://a.b/c. www.a.b. src/main.rs. main.py is.",
    ]);
}

#[test]
fn guard_2_tokens_with_case_or_signs() {
    unchanged(&["Yes. iPhone and eBay. node.js runs. pH is 7. f(x) is 3. snake_case stays. x1 too. myVar. i'x"]);
}

#[test]
fn guard_3_marks_that_end_nothing() {
    unchanged(&[
        "The U.S. presidents met Meta, Inc. on Monday, John Jr. and others, e.g. the avg. monthly vs. yearly, etc. and so on.",
        "So... and then? \"Really?\" she said. (It is right!) to go. Yahoo! is one. 1. one\n2. two\n- three\n- four",
    ]);
}

#[test]
fn guard_4_scripts_and_languages() {
    assert_eq!(repaired("Это так. да, я знаю."), "Это так. Да, я знаю.");
    unchanged(&[
        "Das ist gut. und wie geht es dir?",
        "Het is goed. ijs is lekker, en jij?",
        "Bu çok iyi. istanbul için geldim.",
        "Tai yra gerai. ir labai.",
        "Η Αθήνα. είναι όμορφη.",
        "Yes. ǆungla is big. 好。how are you. これは本。it is",
    ]);
}

#[test]
fn guard_5_deliberate_lowercase() {
    let verse = "my heart is low,\nthe wind is cold.\nthe snow lies so,\nthe year is old.\nand so are we, Ann.";
    let style = "we walked along the river. it was cold and i had no coat. nobody spoke. ".repeat(8);
    unchanged(&[verse, &style, "a LaRgE dOg bLoCkS tHe RoAd. he is sO biG. He barks."]);
}

#[test]
fn guard_6_the_lone_i() {
    assert_eq!(repaired("Yes, i think it's what i've said."), "Yes, I think it's what I've said.");
    unchanged(&[
        "This is a list.\ni. one\nii. two\ni) three",
        "Loop for i in range, where i is the index and i = 1.",
        "This is it, i.e. that. The unit i can be squared.",
        "Pan i pani Nowak są w domu, nie ma ich na dworze i can to.",
        "El Joan i la Maria són amics. Il gatto e i cani sono qui.",
    ]);
}

#[test]
fn guard_7_reports_every_letter_and_is_idempotent() {
    let before = "hello. so i am Ann. it is so.";
    let (mut text, mut changes) = (before.to_owned(), Vec::new());
    repair_text(&mut text, &mut changes);
    assert_eq!(text, "Hello. So I am Ann. It is so.");
    let differ: Vec<usize> = (0..before.len()).filter(|&at| before.as_bytes()[at] != text.as_bytes()[at]).collect();
    assert_eq!(changes.iter().map(|change| change.0).collect::<Vec<_>>(), differ);
    changes.clear();
    repair_text(&mut text, &mut changes);
    assert_eq!(changes, []);
}

#[test]
fn guard_8_a_capital_or_many_defects() {
    assert_eq!(repaired("hello. how are you?"), "Hello. How are you?");
    assert_eq!(repaired("hello. how are you? i am fine."), "Hello. How are you? I am fine.");
    assert_eq!(repaired("this is in Paris, you know."), "This is in Paris, you know.");
    unchanged(&["positive", "it is what it is.", "red, green, blue."]);
}

#[test]
fn a_long_line_of_candidates_takes_no_quadratic_time() {
    let mut text = String::from("Ann is here. ")
        + &"it is so, and you know i think so. ".repeat(10_000)
        + &"It is what we have. ".repeat(10_000);
    let mut changes = Vec::new();
    repair_text(&mut text, &mut changes);
    assert_eq!(changes.len(), 20_000);
    let hostile = format!("Ann. {}", "x. y! (z? `a $b <c \\( ".repeat(10_000));
    assert_eq!(repaired(&hostile), hostile);
}

fn chat(turns: &[(Role, &str)]) -> Record {
    Record::Chat(Chat { messages: turns.iter().map(|&(role, content)| Message::new(role, content)).collect() })
}

fn contents(record: &Record) -> Vec<&str> {
    record.messages().map(|message| message.content.as_str()).collect()
}

#[test]
fn repairs_the_chosen_roles_only() {
    let turns = [(Role::User, "Hi. how is it?"), (Role::Assistant, "Fine. and you?"), (Role::User, "Ok. bye then.")];
    let mut record = chat(&turns);
    let mut changes = Vec::new();
    repair(&mut record, &TruecaseOptions::default(), &mut changes);
    assert_eq!(contents(&record), ["Hi. how is it?", "Fine. And you?", "Ok. bye then."]);
    assert_eq!(changes, [Change { turn: 1, byte_offset: 6, before: 'a', after: 'A', rule: Rule::SentenceStart }]);

    let mut record = chat(&turns);
    repair(&mut record, &TruecaseOptions { roles: vec![Role::User], ..TruecaseOptions::default() }, &mut Vec::new());
    assert_eq!(contents(&record), ["Hi. How is it?", "Fine. and you?", "Ok. Bye then."]);

    let mut record = chat(&turns);
    repair(&mut record, &TruecaseOptions { enabled: false, ..TruecaseOptions::default() }, &mut Vec::new());
    assert_eq!(record, chat(&turns));
}

fn preference(chosen: &str, rejected: &str) -> Record {
    Record::Preference(Preference {
        prompt: vec![Message::new(Role::User, "Hi. how is it?")],
        chosen: vec![Message::new(Role::Assistant, chosen)],
        rejected: vec![Message::new(Role::Assistant, rejected)],
        score_chosen: None,
        score_rejected: None,
    })
}

#[test]
fn guard_5_both_answers_of_a_preference_get_one_rule() {
    let defect = "This is Ann. she is here, and so are you.";
    let german = "Das ist nicht gut und ich bin nicht zu Hause. sie ist bei mir, aber wir werden auch nicht mit dem Auto fahren.";
    assert_ne!(repaired(defect), defect, "alone it is repaired");
    for mut record in [preference(defect, german), preference(german, defect)] {
        let before = record.clone();
        repair(&mut record, &TruecaseOptions::default(), &mut Vec::new());
        assert_eq!(record, before);
    }

    let low = "this is it. so you know, and it is what you have.";
    let mut record = preference(defect, low);
    let mut changes = Vec::new();
    repair(&mut record, &TruecaseOptions::default(), &mut changes);
    let wanted = [
        "Hi. how is it?",
        "This is Ann. She is here, and so are you.",
        "This is it. So you know, and it is what you have.",
    ];
    assert_eq!(contents(&record), wanted);
    assert_eq!(
        changes.iter().map(|change| (change.turn, change.byte_offset)).collect::<Vec<_>>(),
        [(1, 13), (2, 0), (2, 12)]
    );
}

/// Texts made of the pieces that the guards look at.
fn texts() -> impl Strategy<Value = String> {
    let pieces = prop::sample::select(vec![
        "the", "cat", "is", "so", "i", "i'm", "think", "Ann", "Paris", "é", "élan", "да", "Это", "λ", "ß", "ı", "ǆ",
        "ĳ", "日本", "ﬁne", "U.S.", "etc.", "e.g.", "Yahoo!", "yes.", "no?", "go!", "it...", "`", "```", "$", "$$",
        "<b>", "\\(", "\\)", "{", "(", ")", "\"", "’", "“", "#", "- ", "1.", "|", "=", ":", ".", "!", "?", " ", " ",
        " ", "  ", "\n", "\n\n", "\r\n", "\t", "\u{a0}", "x1", "f(x)", "und", "der", "het", "a",
    ]);
    prop::collection::vec(pieces, 0..60)
        .prop_map(|pieces| pieces.chunks(2).map(<[&str]>::concat).collect::<Vec<_>>().join(" "))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn only_the_reported_letters_differ(text in prop_oneof![4 => texts(), 1 => ".*"]) {
        let (mut after, mut changes) = (text.clone(), Vec::new());
        repair_text(&mut after, &mut changes);
        let mut wanted = text.clone();
        for &(at, small, capital, _) in &changes {
            prop_assert!(text[at..].starts_with(small) && letter::capital(small) == Some(capital));
            prop_assert!(small.is_lowercase() && capital.is_uppercase() && small.len_utf8() == capital.len_utf8());
            wanted.replace_range(at..at + small.len_utf8(), &capital.to_string());
        }
        prop_assert!(changes.windows(2).all(|pair| pair[0].0 < pair[1].0));
        prop_assert_eq!(&after, &wanted);
        prop_assert_eq!(after.len(), text.len());
    }

    #[test]
    fn a_second_repair_finds_nothing(text in texts()) {
        let once = repaired(&text);
        prop_assert_eq!(repaired(&once), once);
    }

    #[test]
    fn a_second_repair_of_a_preference_finds_nothing(chosen in texts(), rejected in texts()) {
        let mut record = preference(&chosen, &rejected);
        repair(&mut record, &TruecaseOptions::default(), &mut Vec::new());
        let once = record.clone();
        let mut changes = Vec::new();
        repair(&mut record, &TruecaseOptions::default(), &mut changes);
        prop_assert_eq!(record, once);
        prop_assert!(changes.is_empty());
    }
}
