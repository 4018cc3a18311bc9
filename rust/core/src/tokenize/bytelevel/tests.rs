//! The engine against the `tokenizers` crate, with a small vocabulary that is learnt here in the shape of every family.

use std::sync::LazyLock;

use proptest::prelude::*;
use serde_json::{Value, json};
use tokenizers::Tokenizer as Backend;
use tokenizers::models::TrainerWrapper;
use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::pre_tokenizers::byte_level::ByteLevel as Crate;

use super::super::Tokenizer;
use super::super::masks_tests::{check_first, compare, every_other};
use super::super::split::Pattern;
use super::super::split::tests::texts;
use super::*;

/// What the vocabulary is learnt from.
const TEXT: &str = "Hello there! I'm sure you'll like it, they've said so; don't we'd? IT'S HERE, CamelCaseWords and snake_case.\n\
    fn main() {\n    let x = 3.1415;\n\treturn x // 2\n}\n\n  <div class=\"a\">https://example.org/path?q=1&r=22</div>\r\n\
    Café déjà vu naïve Straße, Привет мир, привет всем, 你好世界,你好吗?こんにちは 日本語です。안녕하세요 세계 हिन्दी नमस्ते \
    مرحبا بالعالم ไทย 😀👩🏽‍💻🇩🇪 ½ ² Ⅷ 123 4567 89012 the the the then these those there their them and and an ana banana \
    aaaa aaaaaaaa ---- ---- ==== **bold** ... ... !!! ??? \u{a0}\u{2003}\u{3000}x    y        z\n\n\n\u{301}\u{301}e\u{301}";

/// A BPE of 700 tokens, as `tokenizer.json` has it.
static MODEL: LazyLock<Value> = LazyLock::new(|| {
    let mut backend = Backend::new(BPE::default());
    backend.with_pre_tokenizer(Some(Crate::new(false, true, true)));
    let alphabet = Crate::alphabet().into_iter().collect();
    let trainer = BpeTrainer::builder().show_progress(false).vocab_size(700).initial_alphabet(alphabet).build();
    backend.train(&mut TrainerWrapper::from(trainer), std::iter::once(TEXT)).unwrap();
    serde_json::from_str::<Value>(&backend.to_string(false).unwrap()).unwrap()["model"].take()
});

fn definition(pre_tokenizer: &Value, normalizer: &Value, ignore_merges: bool) -> Value {
    let mut model = MODEL.clone();
    model["ignore_merges"] = ignore_merges.into();
    json!({"version": "1.0", "truncation": null, "padding": null, "added_tokens": added(), "normalizer": normalizer,
        "pre_tokenizer": pre_tokenizer, "post_processor": null, "decoder": null, "model": model})
}

/// Added tokens of every kind that the engine takes.
fn added() -> Value {
    let token = |id: u32, content: &str, normalized: bool, (lstrip, rstrip): (bool, bool)| {
        json!({"id": id, "content": content, "special": !normalized, "single_word": false, "lstrip": lstrip, "rstrip": rstrip,
            "normalized": normalized})
    };
    json!([
        token(1000, "<|im_start|>", false, (false, false)),
        token(1001, "<s>", false, (true, false)),
        token(1002, "</s>", false, (false, true)),
        // In NFC these are one character shorter, and only then found.
        token(1003, "<e\u{301}>", true, (false, false)),
        token(1004, "the<", true, (true, true)),
    ])
}

fn byte_level(prefix: bool, regex: bool) -> Value {
    json!({"type": "ByteLevel", "add_prefix_space": prefix, "trim_offsets": true, "use_regex": regex})
}

fn split(pattern: Pattern) -> Value {
    json!({"type": "Sequence", "pretokenizers": [
        {"type": "Split", "pattern": {"Regex": pattern.regex()}, "behavior": "Isolated", "invert": false},
        byte_level(false, false),
    ]})
}

/// Every family as its models are published.
fn families() -> Vec<Value> {
    let (none, nfc) = (Value::Null, json!({"type": "NFC"}));
    vec![
        definition(&byte_level(false, true), &none, false),
        definition(&byte_level(true, true), &none, false),
        definition(&split(Pattern::Cl100k), &none, true),
        definition(&split(Pattern::Qwen2), &nfc, false),
        definition(&split(Pattern::Qwen35), &nfc, false),
        definition(&split(Pattern::O200k), &none, false),
        definition(&split(Pattern::Tekken), &none, true),
    ]
}

struct Pair {
    ours: Tokenizer,
    truth: Backend,
}

static PAIRS: LazyLock<Vec<Pair>> = LazyLock::new(|| families().iter().map(Pair::new).collect());

/// The same with what leaves spaces out of offsets: as Llama-3 has it, and as `RoBERTa` does.
static TRIMMING: LazyLock<Vec<Pair>> = LazyLock::new(|| {
    let template = json!({"type": "TemplateProcessing", "single": [{"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}], "special_tokens": {}});
    let both = |mut definition: Value| {
        let mut other = definition.clone();
        definition["post_processor"] = json!({"type": "Sequence", "processors": [byte_level(true, true), template]});
        other["post_processor"] = byte_level(false, true);
        [definition, other]
    };
    families().into_iter().flat_map(both).map(|definition| Pair::new(&definition)).collect()
});

impl Pair {
    fn new(definition: &Value) -> Pair {
        let json = definition.to_string();
        let ours = Tokenizer::from_json(&json).unwrap();
        assert!(ours.is_fast());
        Pair { ours, truth: json.parse().unwrap() }
    }

    fn check(&self, text: &str, scratch: &mut super::super::Scratch) {
        let mut out = vec![9];
        self.ours.encode_ids(text, scratch, &mut out).unwrap();
        let expected = self.truth.encode_fast(text, false).unwrap();
        assert_eq!(&out[1..], expected.get_ids(), "{:?}: {text:?}", self.ours.engine);
    }
}

#[test]
fn what_was_learnt_from_is_encoded_alike() {
    for pair in PAIRS.iter() {
        let mut scratch = super::super::Scratch::default();
        for round in 0..2 {
            pair.check(TEXT, &mut scratch);
            TEXT.split_inclusive(' ').for_each(|piece| pair.check(piece, &mut scratch));
            assert!(
                round == 0 || scratch.byte_level.pieces.memo.seen[1] < scratch.byte_level.pieces.memo.seen[0] / 2,
                "the memo is of no use"
            );
        }
    }
}

#[test]
fn long_texts_are_encoded_alike() {
    for unit in ["a", " ", "ab", "the", "文", "😀", "=", "\n", "\u{301}", "x y", "0", "banana"] {
        let text = unit.repeat(20_000 / unit.len());
        PAIRS.iter().for_each(|pair| pair.check(&text, &mut super::super::Scratch::default()));
    }
}

/// Texts with added tokens, also such that only NFC makes.
fn marked() -> impl Strategy<Value = String> {
    let mark = prop_oneof![
        Just("<|im_start|>"),
        Just(" <s> "),
        Just(" </s>\n "),
        Just("<e\u{301}>"),
        Just("<\u{e9}>"),
        Just(" the< "),
        Just("<|im_"),
        Just(""),
    ];
    proptest::collection::vec((texts(), mark), 0..4)
        .prop_map(|parts| parts.into_iter().map(|(text, mark)| text + mark).collect())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn random_texts_are_encoded_alike(texts in proptest::collection::vec(marked(), 1..4)) {
        for pair in PAIRS.iter() {
            let mut scratch = super::super::Scratch::default();
            texts.iter().filter(|text| !text.is_empty()).for_each(|text| pair.check(text, &mut scratch));
        }
    }
}

/// What a chat looks like, and what the engine must leave to offsets.
#[test]
fn masks_of_answers() {
    let chat = |answer: &str| {
        ["<|im_start|>user\nHi<|im_start|>\n<|im_start|>assistant\n", answer, "<|im_start|>\n", "a"].map(String::from)
    };
    let trims = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true});
    for (post_processor, blank) in [(&Value::Null, true), (&trims, false)] {
        let mut definition = definition(&split(Pattern::Qwen2), &json!({"type": "NFC"}), false);
        definition["added_tokens"] = json!([added()[0]]);
        definition["post_processor"] = post_processor.clone();
        let pair = Pair::new(&definition);
        let known = |answer: &str| {
            let (text, spans) = every_other(&chat(answer));
            compare(&pair.ours, &text, &spans)
        };
        for answer in ["Hello there.", "你好, world", "1", "e\u{301}t\u{e9}. "].map(str::trim_end) {
            assert_eq!(known(answer), !answer.starts_with('e'), "{answer:?}: NFC changes it, or not");
        }
        for answer in ["  so", " so", "\n- one", "\n\n \n so"] {
            assert!(known(answer), "{answer:?}");
        }
        assert_eq!(known("so "), blank);
        assert!(!known("你好"), "the end is a character of several tokens");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn random_first_ids_are_those_of_the_whole(texts in proptest::collection::vec(marked(), 0..6)) {
        PAIRS.iter().for_each(|pair| check_first(&pair.ours, &texts.concat()));
    }

    #[test]
    fn random_continuations_have_the_ids_of_the_whole(left in marked(), right in marked()) {
        let text = format!("{left}{right}");
        for pair in PAIRS.iter().filter(|_| !left.is_empty() && !right.is_empty()) {
            let (mut out, mut scratch) = (Vec::new(), super::super::Scratch::default());
            pair.ours.encode_ids(&left, &mut scratch, &mut out).unwrap();
            if pair.ours.encode_behind(&text, left.len(), &mut scratch, &mut out).unwrap() {
                let expected = pair.truth.encode_fast(text.as_str(), false).unwrap();
                prop_assert_eq!(&out, expected.get_ids());
            }
        }
    }

    #[test]
    fn random_masks_are_those_of_offsets(pieces in proptest::collection::vec(marked(), 1..6)) {
        let (text, spans) = every_other(&pieces);
        PAIRS.iter().chain(&*TRIMMING).for_each(|pair| _ = compare(&pair.ours, &text, &spans));
    }

    #[test]
    fn random_masks_of_white_space(
        pieces in proptest::collection::vec(r"[ \n\r\t\u{a0}\u{3000}]{0,5}[a-c文]{0,2}[ \n]{0,3}\.?(<\|im_start\|>)?", 2..6),
    ) {
        let (text, spans) = every_other(&pieces);
        PAIRS.iter().chain(&*TRIMMING).for_each(|pair| _ = compare(&pair.ours, &text, &spans));
    }
}

#[test]
fn a_continuation_is_encoded_by_itself_where_the_border_is_exact() {
    let mut definition = definition(&split(Pattern::Qwen2), &json!({"type": "NFC"}), false);
    let behind = |pair: &Pair, left: &str, right: &str| {
        let mut out = Vec::new();
        let text = format!("{left}{right}");
        pair.ours
            .encode_behind(&text, left.len(), &mut super::super::Scratch::default(), &mut out)
            .unwrap()
            .then_some(out)
    };
    assert!(behind(&Pair::new(&definition), "\n", "a").is_none(), "a token here eats white space");
    definition["added_tokens"] = json!([added()[0], {"id": 1001, "content": "x\ny", "special": false, "single_word": false,
        "lstrip": false, "rstrip": false, "normalized": true}]);
    let pair = Pair::new(&definition);
    let ids = |text: &str| pair.truth.encode_fast(text, false).unwrap().get_ids().to_vec();
    for (left, right, exact) in [
        ("user\n", "Hello\n", true),
        ("so\n", "\nno", false),
        ("x\n", "y", false),
        ("7", "\n ", true),
        ("", "a b", true),
    ] {
        let found = behind(&pair, left, right);
        assert_eq!(found.is_some(), exact, "{left:?} {right:?}");
        assert_eq!([ids(left), ids(right)].concat() == ids(&format!("{left}{right}")), exact);
        assert!(found.is_none_or(|found| [ids(left), found].concat() == ids(&format!("{left}{right}"))));
    }
}

/// NFC makes a K of a Kelvin sign, and one character of a letter and its accent: the tokens are found over the border only then.
#[test]
fn a_token_of_normalized_text_may_cross_where_its_content_does_not() {
    for (token, left, right) in
        [("K x", "a\u{212a}", " x"), ("e\u{301} x", "b\u{e9}", " x"), ("a e\u{301}", "a", " \u{e9}")]
    {
        let mut definition = definition(&split(Pattern::Qwen2), &json!({"type": "NFC"}), false);
        definition["added_tokens"] = json!([{"id": 1001, "content": token, "special": false, "single_word": false,
            "lstrip": false, "rstrip": false, "normalized": true}]);
        let pair = Pair::new(&definition);
        let (text, mut scratch, mut out) = (format!("{left}{right}"), super::super::Scratch::default(), Vec::new());
        let id = pair.truth.token_to_id(token).unwrap();
        assert!(pair.truth.encode_fast(text.as_str(), false).unwrap().get_ids().contains(&id), "{text:?}");
        assert!(!pair.ours.encode_behind(&text, left.len(), &mut scratch, &mut out).unwrap(), "{text:?}");
        check_first(&pair.ours, &format!("{text} and so on"));
    }
}

#[test]
fn a_space_that_an_added_token_takes_is_not_left_out() {
    for text in ["a<|im_start|> the< so", "a<|im_start|> <s> so", "a<|im_start|> so", "a<|im_start|>\n the< so"] {
        let span = text.find('>').unwrap() + 1..text.len();
        PAIRS.iter().chain(&*TRIMMING).for_each(|pair| _ = compare(&pair.ours, text, std::slice::from_ref(&span)));
    }
}

/// What trims offsets takes a `Ġ` at either end of an added token for a space.
#[test]
fn a_written_space_in_an_added_token_is_left_out() {
    let word = |content: &str, normalized: bool| {
        json!({"id": 1001, "content": content, "special": false, "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": normalized})
    };
    let mut plain = definition(&byte_level(false, true), &Value::Null, false);
    for (prefix, trims) in [(false, false), (false, true), (true, true)] {
        plain["post_processor"] = json!({"type": "ByteLevel", "add_prefix_space": prefix, "trim_offsets": trims});
        plain["pre_tokenizer"]["add_prefix_space"] = json!(prefix);
        for (content, normalized) in [("Ġ", false), ("Ġx", false), ("xĠ", false), ("ĠxĠy", true), ("Ġx", true)] {
            plain["added_tokens"] = json!([added()[0], word(content, normalized)]);
            let pair = Pair::new(&plain);
            let known = |pieces: &[&str]| {
                let (text, spans) = every_other(&pieces.iter().map(ToString::to_string).collect::<Vec<_>>());
                compare(&pair.ours, &text, &spans)
            };
            let at_start = [known(&["a", &format!("{content}b.")]), known(&["a<|im_start|>", content, "b"])];
            assert!(!(trims && content.starts_with('Ġ') && at_start.contains(&true)), "{content:?}");
            let at_end = ["Ġ", "xĠ"].map(|token| known(&["a<|im_start|>", &format!("b{token}"), ".", "b."]));
            assert!(!at_end.contains(&true));
            // A token before the span, or behind it, is nothing to it; a space before it is.
            let beside = known(&[&format!("a{content}<|im_start|>"), ".b.", &format!("<|im_start|>{content}")]);
            assert_eq!(beside, !prefix, "{content:?}");
        }
    }
}

/// Tokens that no merge gives: with `ignore_merges` a piece that looks like one becomes it, else never.
#[test]
fn whole_tokens_go_before_merges_only_if_asked() {
    for ignore_merges in [false, true] {
        let mut definition = definition(&split(Pattern::Cl100k), &Value::Null, ignore_merges);
        for (token, id) in [("qzqz", 900), ("Ġqz", 901), ("æĸĩåŃĹ", 902)] {
            definition["model"]["vocab"][token] = json!(id);
        }
        let pair = Pair::new(&definition);
        let mut scratch = super::super::Scratch::default();
        pair.check("qzqz qz qzq 文字 文字文字", &mut scratch);
        let mut out = Vec::new();
        pair.ours.encode_ids("qzqz", &mut scratch, &mut out).unwrap();
        assert_eq!(out == [900], ignore_merges);
    }
}

/// Of two post-processors that trim, the second takes letters: the answer's first character may be in no token.
#[test]
fn what_trims_twice_is_left_to_offsets() {
    let mut twice = definition(&split(Pattern::Cl100k), &Value::Null, false);
    twice["post_processor"] =
        json!({"type": "Sequence", "processors": [byte_level(false, true), byte_level(false, true)]});
    let spans: Vec<_> = std::iter::once(4..9).collect();
    assert!(!compare(&Pair::new(&twice).ours, "the there", &spans));
}

/// A token of white space that one before it has taken gives no id.
#[test]
fn white_space_that_another_token_took_is_no_token() {
    for (left, text) in [("<t>", "a<t>\tb"), ("\u{3000}", "a\u{3000}\u{3000}b"), ("\t", "a\t\tb")] {
        let mut definition = definition(&split(Pattern::Cl100k), &Value::Null, false);
        definition["added_tokens"] = json!([added()[2], added()[1]]);
        definition["added_tokens"][0]["content"] = json!(left);
        definition["added_tokens"][0]["lstrip"] = json!(left != "<t>");
        definition["added_tokens"][1]["content"] = json!(if left == "\t" { "<s>" } else { "\t" });
        let (json, mut ids) = (definition.to_string(), Vec::new());
        let ours = Tokenizer::from_json(&json).unwrap();
        ours.encode_ids(text, &mut super::super::Scratch::default(), &mut ids).unwrap();
        let truth: Backend = json.parse().unwrap();
        assert_eq!(ids, truth.encode_fast(text, false).unwrap().get_ids(), "{text:?}");
        assert_eq!(ids.len(), 3, "{text:?}");
    }
}

#[test]
fn only_whole_definitions_are_recognised() {
    let known = definition(&split(Pattern::Qwen2), &Value::Null, false);
    let recognised = |change: &dyn Fn(&mut Value)| {
        let mut changed = known.clone();
        change(&mut changed);
        ByteLevel::recognise(&changed).is_some()
    };
    assert!(recognised(&|_| ()));
    assert!(recognised(&|value| value["normalizer"] = json!({"type": "Sequence", "normalizers": [{"type": "NFC"}]})));
    assert!(recognised(&|value| value["model"]["continuing_subword_prefix"] = json!("")));
    assert!(recognised(&|value| value["pre_tokenizer"]["pretokenizers"] = json!([byte_level(true, true)])));
    // As Llama-3 and GPT-4 are also written down.
    assert!(recognised(&|value| {
        value["pre_tokenizer"]["pretokenizers"][0]["behavior"] = json!("Removed");
        value["pre_tokenizer"]["pretokenizers"][0]["invert"] = json!(true);
    }));
    // Merges were texts in older files.
    assert!(recognised(&|value| {
        let merges = value["model"]["merges"].as_array_mut().unwrap();
        for merge in merges {
            *merge = json!(format!("{} {}", merge[0].as_str().unwrap(), merge[1].as_str().unwrap()));
        }
    }));

    assert!(!recognised(&|value| value["normalizer"] = json!({"type": "NFKC"})));
    assert!(!recognised(&|value| value["normalizer"] = json!({"type": "Lowercase"})));
    assert!(!recognised(&|value| value["pre_tokenizer"] = Value::Null));
    assert!(!recognised(&|value| value["pre_tokenizer"] = byte_level(false, false)));
    assert!(!recognised(&|value| value["pre_tokenizer"]["pretokenizers"][0]["invert"] = json!(true)));
    assert!(!recognised(&|value| value["pre_tokenizer"]["pretokenizers"][0]["behavior"] = json!("Removed")));
    assert!(!recognised(&|value| value["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = json!(r"\p{L}+|.")));
    assert!(!recognised(&|value| value["pre_tokenizer"]["pretokenizers"][0]["pattern"] = json!({"String": " "})));
    assert!(!recognised(&|value| value["pre_tokenizer"]["pretokenizers"][1]["add_prefix_space"] = json!(true)));
    assert!(!recognised(&|value| value["pre_tokenizer"]["pretokenizers"][1]["use_regex"] = json!(true)));
    assert!(!recognised(&|value| value["model"]["type"] = json!("WordPiece")));
    assert!(!recognised(&|value| value["model"]["dropout"] = json!(0.1)));
    assert!(!recognised(&|value| value["model"]["end_of_word_suffix"] = json!("</w>")));
    assert!(!recognised(&|value| value["model"]["continuing_subword_prefix"] = json!("##")));
    assert!(!recognised(&|value| value["model"]["vocab"]["x"] = value["model"]["vocab"]["y"].clone()));
    assert!(!recognised(&|value| value["model"]["vocab"]["zz"] = json!(u32::MAX)));
    assert!(!recognised(&|value| value["model"]["vocab"]["zz"] = json!(MOST_IDS)));
    assert!(recognised(&|value| value["model"]["vocab"]["zz"] = json!(MOST_IDS - 1)));
    assert!(!recognised(&|value| drop(value["model"]["vocab"].as_object_mut().unwrap().shift_remove("Ġ"))));
}
