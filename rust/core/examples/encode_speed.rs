//! How fast chats are encoded, and whether the ids are those of the `tokenizers` crate.
//!
//!     cargo run --release -p zephyr-data-core --example encode_speed -- TOKENIZER.json CHATS.jsonl.zst [EVERY [ROWS]]
//!
//! Rows are written with the markup of `<|im_start|>`, with the special tokens if the tokenizer has them. Three passes over all of them, the first
//! from an empty memo, then each EVERY-th row (1: all, the default) is compared with the crate, whose speed is measured, too.
//! With ROWS, only so many evenly spaced rows, as `peers.py --rows` takes them. Seconds are CPU seconds of this thread, where
//! Linux tells them. `ZEPHYR_DATA_SIMD` narrows the instructions, as it does for the package. The exit status is 1 if a row differs.
#![expect(clippy::print_stdout, reason = "a program that prints figures")]

use std::error::Error;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::ExitCode;

use serde_json::Value;
use zephyr_data_core::simd;
use zephyr_data_core::tokenize::{Scratch, Tokenizer};

fn seconds() -> f64 {
    let nanoseconds = std::fs::read_to_string("/proc/thread-self/schedstat")
        .ok()
        .and_then(|line| line.split(' ').next()?.parse::<f64>().ok());
    nanoseconds.unwrap_or_default() / 1e9
}

fn rendered(path: &str) -> Result<Vec<String>, Box<dyn Error>> {
    let file = File::open(path)?;
    let stream: Box<dyn Read> = if Path::new(path).extension().is_some_and(|end| end == "zst") {
        Box::new(zstd::stream::read::Decoder::new(file)?)
    } else {
        Box::new(file)
    };
    let mut texts = Vec::new();
    for line in BufReader::new(stream).lines() {
        let row: Value = serde_json::from_str(&line?)?;
        let mut text = String::new();
        for message in row["messages"].as_array().ok_or("a row without `messages`")? {
            let (role, content) = (message["role"].as_str(), message["content"].as_str());
            let (role, content) = (role.unwrap_or_default(), content.unwrap_or_default());
            text.extend(["<|im_start|>", role, "\n", content, "<|im_end|>\n"]);
        }
        texts.push(text);
    }
    Ok(texts)
}

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, tokenizer, chats, rest @ ..] = &arguments[..] else {
        return Err("usage: encode_speed TOKENIZER.json CHATS.jsonl[.zst] [EVERY [ROWS]]".into());
    };
    let every = rest.first().map_or(Ok(1), |every| every.parse::<usize>())?.max(1);
    if let Ok(name) = std::env::var("ZEPHYR_DATA_SIMD") {
        simd::choose(&name)?;
    }
    let json = std::fs::read_to_string(tokenizer)?;
    let started = seconds();
    let ours = Tokenizer::from_json(&json)?;
    println!("loaded in {:.2} s, fast engine: {}", seconds() - started, ours.is_fast());
    let mut texts = rendered(chats)?;
    if let Some(rows) = rest.get(1) {
        let (rows, all) = (rows.parse::<usize>()?, texts.len());
        texts = (0..rows.min(all)).map(|row| std::mem::take(&mut texts[row * all / rows.min(all)])).collect();
    }
    let megabytes = texts.iter().map(String::len).sum::<usize>() as f64 / 1e6;

    let (mut scratch, mut ids) = (Scratch::default(), Vec::new());
    for pass in ["cold", "warm", "warm"] {
        let (started, mut count) = (seconds(), 0);
        for text in &texts {
            ids.clear();
            ours.encode_ids(text, &mut scratch, &mut ids)?;
            count += ids.len();
        }
        let spent = seconds() - started;
        println!("{pass}: {:.1} MB/s, {count} ids, {} rows, {megabytes:.2} MB", megabytes / spent, texts.len());
    }

    let crates = tokenizers::Tokenizer::from_bytes(&json).map_err(|error| error.to_string())?;
    let (mut compared, mut differ, mut spent) = (0, 0, 0.0);
    for text in texts.iter().step_by(every) {
        let started = seconds();
        let theirs = crates.encode_fast(text.as_str(), false).map_err(|error| error.to_string())?;
        spent += seconds() - started;
        compared += text.len();
        ids.clear();
        ours.encode_ids(text, &mut scratch, &mut ids)?;
        differ += usize::from(ids != theirs.get_ids());
    }
    let rows = texts.len().div_ceil(every);
    println!("tokenizers: {:.2} MB/s; {differ} of {rows} rows differ", compared as f64 / 1e6 / spent);
    Ok(ExitCode::from(u8::from(differ > 0)))
}
