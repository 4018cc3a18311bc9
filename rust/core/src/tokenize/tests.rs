//! The tokenizer as a whole: what is cut, refused, or left to the crate.
#![expect(clippy::single_range_in_vec_init, reason = "one span is a list of spans")]

use super::*;

#[test]
fn first_ids_of_a_tokenizer_without_an_engine() {
    let json = r#"{"version": "1.0", "added_tokens": [], "normalizer": null, "pre_tokenizer": {"type": "Whitespace"},
        "post_processor": null, "decoder": null, "model": {"type": "WordLevel", "vocab": {"?": 0, "s": 1}, "unk_token": "?"}}"#;
    let (tokenizer, mut out) = (Tokenizer::from_json(json).unwrap(), vec![7]);
    tokenizer.encode_first("s t s s", 3, &mut Scratch::default(), &mut out).unwrap();
    assert_eq!(out, [7, 1, 0, 1]);
    // As many as there are, behind what is there already.
    tokenizer.encode_first("s t", usize::MAX, &mut Scratch::default(), &mut out).unwrap();
    assert_eq!(out, [7, 1, 0, 1, 1, 0]);
}

#[test]
fn texts_have_less_than_four_gibibytes() {
    assert!(bounded(u32::MAX as usize - 2).is_ok());
    for bytes in [u32::MAX as usize - 1, u32::MAX as usize, usize::MAX] {
        let error = bounded(bytes).unwrap_err().to_string();
        assert!(error.contains("more than 4 GiB of text\nhint: "), "{error}");
    }
}

/// A byte-level tokenizer of single bytes.
fn single_bytes() -> Value {
    let printable = ('!'..='~').chain('¡'..='¬').chain('®'..='ÿ').collect::<Vec<_>>();
    let others = ('\u{100}'..).take(256 - printable.len());
    let vocab: serde_json::Map<String, Value> =
        printable.into_iter().chain(others).zip(0..).map(|(c, id)| (c.to_string(), id.into())).collect();
    serde_json::json!({
        "version": "1.0", "added_tokens": [], "normalizer": null, "decoder": null, "post_processor": null,
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true},
        "model": {"type": "BPE", "vocab": vocab, "merges": []},
    })
}

/// The same with 3,000 added tokens, of which one has the attributes of `last`.
fn many_tokens(add_prefix_space: bool, last: &Value) -> Tokenizer {
    let token = |id: u32| {
        serde_json::json!({"id": id, "content": format!("<extra_id_{id}>"), "special": true, "single_word": false,
            "lstrip": false, "rstrip": false, "normalized": false})
    };
    let mut added: Vec<Value> = (256..3256).map(token).collect();
    added.last_mut().unwrap().as_object_mut().unwrap().extend(last.as_object().unwrap().clone());
    let mut json = single_bytes();
    json["added_tokens"] = added.into();
    json["pre_tokenizer"]["add_prefix_space"] = add_prefix_space.into();
    Tokenizer::from_json(&json.to_string()).unwrap()
}

/// How many borders are looked up among the added tokens for the first ids of a text of 200 KB.
fn looks(tokenizer: &Tokenizer) -> usize {
    let (text, mut out) = ("word ".repeat(40_000), Vec::new());
    let count = || added::looks::COUNT.with(std::cell::Cell::get);
    let before = count();
    tokenizer.encode_first(&text, 10, &mut Scratch::default(), &mut out).unwrap();
    assert!(tokenizer.is_fast());
    assert_eq!(out, tokenizer_ids(tokenizer, &text)[..10]);
    count() - before
}

fn tokenizer_ids(tokenizer: &Tokenizer, text: &str) -> Vec<u32> {
    let mut out = Encoded::default();
    tokenizer.encode(text, &mut out).unwrap();
    out.ids
}

#[test]
fn no_border_is_looked_up_where_none_is_accepted() {
    let of = |last: &Value| looks(&many_tokens(false, last));
    assert_eq!(of(&serde_json::json!({"lstrip": true})), 0);
    assert_eq!(of(&serde_json::json!({"rstrip": true})), 0);
    assert_eq!(of(&serde_json::json!({"content": "<é>", "normalized": true})), 0);
    assert_eq!(looks(&many_tokens(true, &serde_json::json!({}))), 0);
    // Between words the first border does, and where a token lies over it each is looked up once in all tokens.
    assert!((1..10).contains(&of(&serde_json::json!({}))));
    assert!((30_000..=40_000).contains(&of(&serde_json::json!({"content": "d "}))));
}

#[test]
fn ids_of_more_than_31_bits_are_refused() {
    let load = |change: &dyn Fn(&mut Value)| {
        let mut json = single_bytes();
        change(&mut json);
        Tokenizer::from_json(&json.to_string()).map(|_| ()).map_err(|error| error.to_string())
    };
    let refused = |id: u32| {
        Err(format!(
            "cannot use the tokenizer: a token's id is too large: {id}\n\
            hint: ids are kept as signed 32-bit numbers; the largest is 2147483647"
        ))
    };
    assert_eq!(load(&|json| json["model"]["vocab"]["zz"] = LAST_ID.into()), Ok(()));
    assert_eq!(load(&|json| json["model"]["vocab"]["zz"] = (LAST_ID + 1).into()), refused(LAST_ID + 1));
    // An added token gets the id that the model has for it; one that is single-word is no other.
    let added = |id: u32| {
        serde_json::json!([{"id": id, "content": "zz", "special": true, "single_word": true, "lstrip": false,
            "rstrip": false, "normalized": false}])
    };
    assert_eq!(
        load(&|json| {
            json["model"]["vocab"]["zz"] = 3_000_000_000_u32.into();
            json["added_tokens"] = added(3_000_000_000);
        }),
        refused(3_000_000_000)
    );
}

#[test]
fn templates_that_do_not_have_the_text_once_are_left_to_the_crate() {
    let text = |id: &str| serde_json::json!({"Sequence": {"id": id, "type_id": 0}});
    let begin = serde_json::json!({"SpecialToken": {"id": "!", "type_id": 0}});
    let template = |single: &[&Value]| {
        serde_json::json!({"type": "TemplateProcessing", "single": single, "pair": [text("A"), text("B")],
            "special_tokens": {"!": {"id": "!", "ids": [0], "tokens": ["!"]}}})
    };
    let sequence = |of: &[&Value]| serde_json::json!({"type": "Sequence", "processors": of});
    let byte_level =
        serde_json::json!({"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true});
    let one = text("A");
    let (plain, none) = (template(&[&begin, &one, &begin]), template(&[]));
    for (post_processor, fast, times) in [
        (plain.clone(), true, 1),
        (sequence(&[&byte_level, &plain, &plain]), true, 1),
        (template(&[&one, &one]), false, 2),
        (none.clone(), false, 0),
        (template(&[&begin]), false, 0),
        (sequence(&[&byte_level, &template(&[&one, &begin, &one])]), false, 2),
        (sequence(&[&plain, &sequence(&[&none])]), false, 0),
    ] {
        let mut json = single_bytes();
        json["post_processor"] = post_processor;
        let (tokenizer, mut ids) = (Tokenizer::from_json(&json.to_string()).unwrap(), Vec::new());
        tokenizer.encode_ids("ab", &mut Scratch::default(), &mut ids).unwrap();
        assert_eq!((tokenizer.is_fast(), ids), (fast, [64, 65].repeat(times)), "{}", json["post_processor"]);
    }
    assert!(!has_text_once(&template(&[&text("B")])));
}

#[test]
fn post_processors_that_fail_on_every_text_are_refused() {
    let text = |id: &str| serde_json::json!({"Sequence": {"id": id, "type_id": 0}});
    let (a, b) = (text("A"), text("B"));
    let template = |single: &[&Value]| serde_json::json!({"type": "TemplateProcessing", "single": single, "pair": [a, b], "special_tokens": {}});
    let sequence = |of: &[&Value]| serde_json::json!({"type": "Sequence", "processors": of});
    let (none, once, twice, thrice) = (template(&[]), template(&[&a]), template(&[&a, &a]), template(&[&a, &a, &a]));
    for (post_processor, works) in [
        (template(&[&b]), false),
        (template(&[&a, &b]), false),
        (sequence(&[&once, &template(&[&b, &a])]), false),
        // After no text, or three, none is what the next template takes; after two it takes them as a pair.
        (sequence(&[&none, &once]), false),
        (sequence(&[&thrice, &once]), false),
        (sequence(&[&twice, &once]), true),
        (sequence(&[&twice, &template(&[&b])]), true),
        (none, true),
        (thrice, true),
    ] {
        let mut json = single_bytes();
        json["post_processor"] = post_processor;
        let json = json.to_string();
        // What the crate says of each text.
        for text in ["", "a", "a b\n"] {
            let backend: tokenizers::Tokenizer = json.parse().unwrap();
            let encoded = crate::error::quietly(|| backend.encode(text, false).unwrap());
            assert_eq!(encoded.is_ok(), works, "{json}");
        }
        let loaded = Tokenizer::from_json(&json).map(|_| ()).map_err(|error| error.to_string());
        assert_eq!(loaded.is_ok(), works, "{json}");
        if let Err(error) = loaded {
            assert!(
                error.contains("post-processor fails on every text: ") && error.contains("\nhint: `single` of"),
                "{error}"
            );
        }
    }
}

#[test]
fn what_trims_offsets() {
    let trims = |json: &str| trims(&serde_json::from_str(json).unwrap());
    for json in ["null", r#"{"type": "TemplateProcessing"}"#, r#"{"type": "BertProcessing"}"#] {
        assert_eq!(trims(json), Trims::Nothing);
    }
    assert_eq!(trims(r#"{"type": "ByteLevel"}"#), Trims::Spaces);
    assert_eq!(trims(r#"{"type": "RobertaProcessing", "trim_offsets": true}"#), Trims::Spaces);
    assert_eq!(trims(r#"{"type": "ByteLevel", "trim_offsets": false}"#), Trims::Nothing);
    for json in [r#"{"type": "Unheard-of"}"#, "{}", r#"{"type": "Sequence"}"#] {
        assert_eq!(trims(json), Trims::White);
    }
    let sequence = |of: &str| trims(&format!(r#"{{"type": "Sequence", "processors": [{of}]}}"#));
    assert_eq!(sequence(r#"{"type": "TemplateProcessing"}, {"type": "ByteLevel"}"#), Trims::Spaces);
    assert_eq!(sequence(r#"{"type": "ByteLevel"}, {"type": "ByteLevel"}"#), Trims::White);
    assert_eq!(sequence(r#"{"type": "TemplateProcessing"}"#), Trims::Nothing);
}

#[test]
fn one_tokenizer_serves_all_threads() {
    let json = r#"{"version": "1.0", "added_tokens": [{"id": 2, "content": "<s>", "special": true, "single_word": false,
        "lstrip": false, "rstrip": false, "normalized": false}], "normalizer": null, "pre_tokenizer": {"type": "Whitespace"},
        "post_processor": null, "decoder": null,
        "model": {"type": "WordLevel", "vocab": {"?": 0, "s": 1}, "unk_token": "?"}}"#;
    let tokenizer = Tokenizer::from_json(json).unwrap();
    assert_eq!((tokenizer.engine_name(), tokenizer.vocab_size()), ("tokenizers", 3));
    assert_eq!(tokenizer.added_special_tokens(), [("<s>".to_string(), 2)]);
    assert!(tokenizer.holds_special("a <s>") && !tokenizer.holds_special("a s"));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut out = Encoded::default();
                tokenizer.encode("<s> s <s>", &mut out).unwrap();
                assert_eq!(
                    (out.ids.as_slice(), out.offsets.as_slice()),
                    (&[2, 1, 2][..], &[(0, 3), (4, 5), (6, 9)][..])
                );
                tokenizer.encode_literal("<s> s <s>", &[4..9], &mut out).unwrap();
                assert_eq!(out.ids, [2, 1, 0, 1, 0]);
                out.clear();
                assert_eq!(out, Encoded::default());
            });
        }
    });
}
