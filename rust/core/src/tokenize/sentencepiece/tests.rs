//! Held against the crate on a small vocabulary that crosses most borders, and on random texts.

use proptest::prelude::*;
use serde_json::{Value, json};

use crate::tokenize::bytelevel::MOST_IDS;
use crate::tokenize::masks_tests::{check_first, compare, every_other};
use crate::tokenize::{Encoded, Scratch, Tokenizer};

/// A vocabulary with spaces within and before tokens, merges of several ranks for one text, and characters that it lacks.
fn definition(normalizer: &Value, pre_tokenizer: &Value) -> String {
    let merges = [
        "▁ ▁",
        "▁▁ ▁▁",
        "a b",
        "b a",
        "▁ a",
        "ab a",
        "ba b",
        "▁a b",
        "c ▁",
        "é a",
        "1 2",
        "a a",
        "aa aa",
        "aaaa aaaa",
        ". .",
    ];
    let mut tokens: Vec<String> = ["<unk>", "<s>", "</s>"].map(String::from).to_vec();
    tokens.extend((0..256).map(|byte| format!("<0x{byte:02X}>")));
    tokens.extend("▁abcé12.\n".chars().map(String::from));
    tokens.extend(merges.iter().map(|merge| merge.replace(' ', "")));
    let vocab: serde_json::Map<String, Value> =
        tokens.iter().zip(0..).map(|(token, id)| (token.clone(), json!(id))).collect();
    let added: Vec<Value> = (0..3)
        .map(|id| {
            json!({"id": id, "content": tokens[id], "special": true, "single_word": false, "lstrip": false, "rstrip": false,
                "normalized": false})
        })
        .collect();
    json!({"version": "1.0", "truncation": null, "padding": null, "added_tokens": added, "normalizer": normalizer,
        "pre_tokenizer": pre_tokenizer, "post_processor": null, "decoder": null,
        "model": {"type": "BPE", "dropout": null, "unk_token": "<unk>", "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": true, "byte_fallback": true, "ignore_merges": false, "vocab": vocab,
            "merges": merges}})
    .to_string()
}

/// The forms in which these tokenizers write their spaces.
fn forms() -> Vec<Tokenizer> {
    let legacy = json!({"type": "Sequence", "normalizers": [
        {"type": "Prepend", "prepend": "▁"}, {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]});
    let bare = json!({"type": "Replace", "pattern": {"String": " "}, "content": "▁"});
    let metaspace =
        |scheme: &str| json!({"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": false});
    let none = Value::Null;
    let mut all = vec![definition(&legacy, &none), definition(&bare, &none)];
    all.extend(["always", "first", "never"].map(|scheme| definition(&none, &metaspace(scheme))));
    all.iter().map(|json| Tokenizer::from_json(json).unwrap()).collect()
}

fn check(tokenizer: &Tokenizer, text: &str, scratch: &mut Scratch) {
    let (mut expected, mut ids) = (Encoded::default(), Vec::new());
    tokenizer.encode(text, &mut expected).unwrap();
    tokenizer.encode_ids(text, scratch, &mut ids).unwrap();
    assert_eq!(ids, expected.ids, "{text:?}");
}

#[test]
fn all_forms_are_recognised() {
    for tokenizer in forms() {
        assert_eq!(tokenizer.engine_name(), "exact-fast");
    }
    let split = json!({"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": true});
    let other = Tokenizer::from_json(&definition(&Value::Null, &split)).unwrap();
    assert_eq!(other.engine_name(), "tokenizers");
    let lower = json!({"type": "Lowercase"});
    assert_eq!(Tokenizer::from_json(&definition(&lower, &Value::Null)).unwrap().engine_name(), "tokenizers");
    for (id, name) in [(MOST_IDS - 1, "exact-fast"), (MOST_IDS, "tokenizers")] {
        let bare = json!({"type": "Replace", "pattern": {"String": " "}, "content": "▁"});
        let mut large: Value = serde_json::from_str(&definition(&bare, &Value::Null)).unwrap();
        large["model"]["vocab"]["z"] = json!(id);
        assert_eq!(Tokenizer::from_json(&large.to_string()).unwrap().engine_name(), name);
    }
}

#[test]
fn marks_are_numbers_of_tokens_or_unknown() {
    let tokenizer = &forms()[0];
    let text = "ab\n</s>c<s></s>\nba";
    // Starts and ends in turn; a start right behind a special token is not known, since a space is put there.
    let marks: Vec<usize> =
        ["ab", "ab\n", "ab\n</s>c", "ab\n</s>c<s></s>", "ab\n</s>c<s></s>\n", text].map(str::len).to_vec();
    let (mut ids, mut at) = (Vec::new(), Vec::new());
    assert!(tokenizer.encode_marked(text, &marks, &mut Scratch::default(), &mut ids, &mut at).unwrap());
    // ▁a b \n </s> ▁ c <s> </s> ▁ \n ba
    assert_eq!(at, [2, 3, 6, 8, 10, 11]);
    assert_eq!(ids.len(), 11);
    for inside in [0, 1, 5, "ab\n</s>".len()] {
        let (mut ids, mut at) = (Vec::new(), Vec::new());
        assert!(!tokenizer.encode_marked(text, &[inside], &mut Scratch::default(), &mut ids, &mut at).unwrap());
    }
}

#[test]
fn the_rest_of_a_long_text_is_not_encoded() {
    let tokenizer = &forms()[0];
    let (mut scratch, mut out) = (Scratch::default(), Vec::new());
    let text = "ab 12\n".repeat(100_000);
    tokenizer.encode_first(&text, 10, &mut scratch, &mut out).unwrap();
    assert!(out.len() == 10 && scratch.sentence_piece.pieces_seen() < 200);
}

#[test]
fn a_continuation_is_encoded_by_itself_where_nothing_joins() {
    for tokenizer in forms() {
        let behind = |left: &str, right: &str| {
            let mut out = Vec::new();
            tokenizer.encode_behind(&format!("{left}{right}"), left.len(), &mut Scratch::default(), &mut out).unwrap()
        };
        assert!(behind("ab\n", " ab") && behind("c</s>", "ab") && behind("c", "</s>") && behind("ab", ""));
        assert!(!behind("a", "b") && !behind("ab<", "/s>") && !behind("é", "a"));
    }
}

#[test]
fn answers_that_begin_with_white_space_or_end_a_stretch_have_masks() {
    let masks = |number: usize, pieces: &[&str]| {
        let (text, spans) = every_other(&pieces.iter().map(ToString::to_string).collect::<Vec<_>>());
        compare(&forms()[number], &text, &spans)
    };
    for form in 0..forms().len() {
        for answer in [" ab</s>", "\n\nab</s>", "\n ab", "é</s>", "😀 c\n", "ab \n\n</s>"] {
            assert!(masks(form, &["c\n", answer, "\nab\n", answer]), "{form} {answer:?}");
        }
        // The last of several tokens of one character is not where the span ends.
        assert!(!masks(form, &["c\n", "ab😀", "\n"]));
        assert!(!masks(form, &["c a", "b</s>"]), "within a token");
    }
    // Here `▁` and `c` both have the offsets of `c`.
    assert!(!masks(0, &["ab", "</s>c", "\nab"]));
    assert!(masks(1, &["ab", "</s>c", "\nab"]), "nothing is put before");
}

/// A `Ġ` in a vocabulary of this kind is a letter of Maltese, but what trims offsets takes it for a space.
#[test]
fn answers_that_begin_with_a_trimmed_letter_are_left_to_offsets() {
    for (trims, name) in [(false, "ByteLevel"), (true, "ByteLevel"), (true, "RobertaProcessing")] {
        let bare = json!({"type": "Replace", "pattern": {"String": " "}, "content": "▁"});
        let mut definition: Value = serde_json::from_str(&definition(&bare, &Value::Null)).unwrap();
        definition["model"]["vocab"]["Ġ"] = json!(1000);
        definition["post_processor"] = json!({"type": name, "add_prefix_space": false, "trim_offsets": trims,
            "sep": ["</s>", 2], "cls": ["<s>", 1]});
        let tokenizer = Tokenizer::from_json(&definition.to_string()).unwrap();
        assert!(tokenizer.is_fast());
        for (answer, known) in [("Ġab", !trims), ("aĠb", true), ("ab", true)] {
            let (text, spans) = every_other(&["c\n", answer, "</s>"].map(String::from));
            assert_eq!(compare(&tokenizer, &text, &spans), known, "{name} {answer}");
        }
    }
}

#[test]
fn long_texts_are_not_quadratic() {
    let mut scratch = Scratch::default();
    for tokenizer in forms() {
        for text in ["a".repeat(300_000), " ".repeat(300_000), "ab".repeat(100_000), "aé".repeat(50_000)] {
            let mut ids = Vec::new();
            tokenizer.encode_ids(&text, &mut scratch, &mut ids).unwrap();
            assert!(!ids.is_empty());
        }
    }
}

proptest! {
    #[test]
    fn random_texts_have_the_crates_ids(texts in proptest::collection::vec("[ab ▁cé12.\n😀\u{0}ß]{0,40}|(a|aa| |ab){0,80}|.{0,30}", 1..6)) {
        thread_local! {
            static FORMS: Vec<Tokenizer> = forms();
        }
        FORMS.with(|forms| {
            for tokenizer in forms {
                let mut scratch = Scratch::default();
                for text in &texts {
                    check(tokenizer, text, &mut scratch);
                }
                check(tokenizer, &texts.join("</s>"), &mut scratch);
            }
        });
    }

    #[test]
    fn marks_are_where_the_crate_has_borders(left in "[ab ▁cé12.\n]{0,12}", right in "[ab ▁cé12.\n]{0,12}") {
        let tokenizer = &forms()[0];
        let text = format!("{left}{right}");
        let (mut ids, mut at, mut expected) = (Vec::new(), Vec::new(), Encoded::default());
        if tokenizer.encode_marked(&text, &[left.len(), text.len()], &mut Scratch::default(), &mut ids, &mut at).unwrap() {
            tokenizer.encode(&text, &mut expected).unwrap();
            prop_assert_eq!(&ids, &expected.ids);
            let before = expected.offsets.iter().filter(|(_, end)| *end as usize <= left.len()).count();
            prop_assert_eq!(at, [before as u32, ids.len() as u32]);
        }
    }

    #[test]
    fn random_first_ids_are_those_of_the_whole(text in "([ab ▁cé12.\n😀ß]|</s>|<s>|ab ab){0,80}") {
        thread_local! {
            static FORMS: Vec<Tokenizer> = forms();
        }
        FORMS.with(|forms| forms.iter().for_each(|tokenizer| check_first(tokenizer, &text)));
    }

    #[test]
    fn random_continuations_have_the_ids_of_the_whole(
        left in "([ab ▁cé12.\n😀ß]|</s>|<s>){1,8}", right in "([ab ▁cé12.\n😀ß]|</s>|<s>){1,8}"
    ) {
        thread_local! {
            static FORMS: Vec<Tokenizer> = forms();
        }
        let text = format!("{left}{right}");
        FORMS.with(|forms| {
            for tokenizer in forms {
                let (mut expected, mut ids, mut scratch) = (Encoded::default(), Vec::new(), Scratch::default());
                tokenizer.encode_ids(&left, &mut scratch, &mut ids).unwrap();
                if tokenizer.encode_behind(&text, left.len(), &mut scratch, &mut ids).unwrap() {
                    tokenizer.encode(&text, &mut expected).unwrap();
                    assert_eq!(ids, expected.ids, "{left:?} {right:?}");
                }
            }
        });
    }

    #[test]
    fn random_masks_are_those_of_offsets(pieces in proptest::collection::vec("([ab ▁cé12.\n😀ß]|</s>|<s>){0,6}", 1..7)) {
        thread_local! {
            static FORMS: Vec<Tokenizer> = forms();
        }
        let (text, spans) = every_other(&pieces);
        FORMS.with(|forms| forms.iter().for_each(|tokenizer| _ = compare(tokenizer, &text, &spans)));
    }
}
