//! Raw chats and AI feedback in, packed Arrow out: the part of zephyr-data that knows no Python.
//!
//! Four ideas: a [`record`] is a chat or a preference, a [`filter::Verdict`] says whether it stays, a [`stage`] turns files
//! into files with a [`manifest`], and what the last stage writes is a packed data set. Who may use what is a line from left
//! to right, which `tests/test_layers.py` enforces:
//!
//! `error`, `record` → `text`, `schema`, `simd` → `filter`, `dedup`, `chat`, `tokenize`, `pack` → `read`, `manifest`, `shard` → `stage`

pub mod chat;
pub mod dedup;
pub mod error;
pub mod filter;
pub mod manifest;
pub mod pack;
pub mod read;
pub mod record;
pub mod schema;
pub mod shard;
pub mod simd;
pub mod stage;
pub mod text;
pub mod tokenize;
