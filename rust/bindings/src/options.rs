//! Option objects, read by attribute: the frozen pydantic models of `zephyr_data.options` fit as they are.

use std::collections::BTreeMap;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use zephyr_data_core::dedup::contamination::Options;
use zephyr_data_core::dedup::exact;
use zephyr_data_core::dedup::near::{Keep, Policy};
use zephyr_data_core::filter::FilterOptions;
use zephyr_data_core::filter::ai_preface::AiPrefaceOptions;
use zephyr_data_core::filter::empty::EmptyOptions;
use zephyr_data_core::filter::length::LengthOptions;
use zephyr_data_core::filter::refusal::RefusalOptions;
use zephyr_data_core::filter::repetition::RepetitionOptions;
use zephyr_data_core::filter::turns::TurnsOptions;
use zephyr_data_core::read::{OnBadRow, Shape};
use zephyr_data_core::record::{Kind, Role};
use zephyr_data_core::stage::{clean, contamination, dedup, encode, near, pack};
use zephyr_data_core::text::truecase::TruecaseOptions;

/// A value of a closed list, by its name.
fn choice<T: Copy>(option: &str, name: &str, known: &[(&str, T)]) -> PyResult<T> {
    known.iter().find(|(known, _)| *known == name).map(|(_, value)| *value).ok_or_else(|| {
        let names: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
        PyValueError::new_err(format!("`{option}` must be one of `{}`, found: `{name}`", names.join("`, `")))
    })
}

#[derive(FromPyObject)]
pub(crate) struct ReadOptions {
    kind: String,
    shape: String,
    on_bad_row: String,
    carry: Vec<String>,
}

impl ReadOptions {
    pub(crate) fn into_core(self) -> PyResult<clean::ReadOptions> {
        let kinds = [("auto", None), ("chat", Some(Kind::Chat)), ("preference", Some(Kind::Preference))];
        let bad = [("stop", OnBadRow::Stop), ("reject", OnBadRow::Reject)];
        let shapes = Shape::ALL.map(|shape| (shape.as_str(), Some(shape)));
        let shapes: Vec<(&str, Option<Shape>)> = [("auto", None)].into_iter().chain(shapes).collect();
        Ok(clean::ReadOptions {
            shape: choice("read.shape", &self.shape, &shapes)?,
            kind: choice("read.kind", &self.kind, &kinds)?,
            carry: self.carry,
            on_bad_row: choice("read.on_bad_row", &self.on_bad_row, &bad)?,
        })
    }
}

#[derive(FromPyObject)]
struct Truecase {
    enabled: bool,
    roles: Vec<String>,
}

#[derive(FromPyObject)]
struct Switch {
    enabled: bool,
}

#[derive(FromPyObject)]
struct Exchanges {
    enabled: bool,
    min_turns: usize,
    max_turns: Option<usize>,
}

#[derive(FromPyObject)]
struct Length {
    enabled: bool,
    min_chars: usize,
    max_chars: usize,
}

#[derive(FromPyObject)]
struct Repetition {
    enabled: bool,
    min_repeats: usize,
    min_bytes: usize,
    min_share_percent: usize,
}

#[derive(FromPyObject)]
struct Refusal {
    enabled: bool,
    max_bytes: usize,
}

#[derive(FromPyObject)]
pub(crate) struct CleanOptions {
    truecase: Truecase,
    empty: Switch,
    turns: Exchanges,
    length: Length,
    ai_preface: Switch,
    repetition: Repetition,
    refusal: Refusal,
}

impl CleanOptions {
    pub(crate) fn into_core(self) -> PyResult<clean::CleanOptions> {
        let roles = Role::ALL.map(|role| (role.as_str(), role));
        let named = self.truecase.roles.iter().map(|name| choice("clean.truecase.roles", name, &roles));
        let Repetition { enabled, min_repeats, min_bytes, min_share_percent } = self.repetition;
        Ok(clean::CleanOptions {
            truecase: TruecaseOptions { enabled: self.truecase.enabled, roles: named.collect::<PyResult<_>>()? },
            filters: FilterOptions {
                empty: EmptyOptions { enabled: self.empty.enabled },
                turns: TurnsOptions {
                    enabled: self.turns.enabled,
                    min_turns: self.turns.min_turns,
                    max_turns: self.turns.max_turns,
                },
                length: LengthOptions {
                    enabled: self.length.enabled,
                    min_chars: self.length.min_chars,
                    max_chars: self.length.max_chars,
                },
                ai_preface: AiPrefaceOptions { enabled: self.ai_preface.enabled },
                repetition: RepetitionOptions { enabled, min_repeats, min_bytes, min_share_percent },
                refusal: RefusalOptions { enabled: self.refusal.enabled, max_bytes: self.refusal.max_bytes },
            },
        })
    }
}

#[derive(FromPyObject)]
struct ConstantAnswer {
    enabled: bool,
    min_prompts: u32,
    min_chars: u32,
}

#[derive(FromPyObject)]
struct Benchmark {
    path: std::path::PathBuf,
    fields: Vec<String>,
}

#[derive(FromPyObject)]
struct Contamination {
    ngram: usize,
    coverage: f64,
    min_words: usize,
}

#[derive(FromPyObject)]
pub(crate) struct DedupOptions {
    exact: bool,
    constant_answer: ConstantAnswer,
    near: bool,
    compare: String,
    threshold: f64,
    policy: String,
    keep: String,
    bands: usize,
    rows: usize,
    memory_limit: u64,
    decontaminate: Vec<Benchmark>,
    contamination: Contamination,
    test_fraction: f64,
    seed: u64,
}

impl DedupOptions {
    pub(crate) fn into_core(self) -> PyResult<dedup::DedupOptions> {
        let compare = [
            ("prompt", near::Compare::Prompt),
            ("conversation", near::Compare::Conversation),
            ("assistant", near::Compare::Assistant),
        ];
        let ConstantAnswer { enabled, min_prompts, min_chars } = self.constant_answer;
        let constant_answer = exact::ConstantAnswer { enabled, min_prompts, min_chars };
        let near = near::NearOptions {
            enabled: self.near,
            compare: choice("dedup.compare", &self.compare, &compare)?,
            threshold: self.threshold,
            policy: policy(&self.policy)?,
            keep: keep(&self.keep)?,
            bands: self.bands,
            rows: self.rows,
            memory_limit: self.memory_limit,
        };
        let Contamination { ngram, coverage, min_words } = self.contamination;
        let benchmark = |Benchmark { path, fields }| contamination::Benchmark { path, fields };
        Ok(dedup::DedupOptions {
            exact: exact::Options { exact: self.exact, constant_answer },
            near,
            decontaminate: self.decontaminate.into_iter().map(benchmark).collect(),
            contamination: Options { ngram, coverage, min_words },
            test_fraction: self.test_fraction,
            seed: self.seed,
        })
    }
}

/// `policy` by name.
pub(crate) fn policy(name: &str) -> PyResult<Policy> {
    choice("dedup.policy", name, &[("direct", Policy::Direct), ("component", Policy::Component)])
}

/// `keep` by name.
pub(crate) fn keep(name: &str) -> PyResult<Keep> {
    choice("dedup.keep", name, &[("first", Keep::First), ("longest", Keep::Longest), ("best_score", Keep::BestScore)])
}

#[derive(FromPyObject)]
pub(crate) struct PackOptions {
    max_length: u32,
    loss_on: String,
    overlong: String,
    allow_special_in_content: bool,
    seed: u64,
}

/// `loss_on` by name.
pub(crate) fn loss_on(name: &str) -> PyResult<encode::LossOn> {
    choice("pack.loss_on", name, &[("assistant", encode::LossOn::Assistant), ("all", encode::LossOn::All)])
}

impl PackOptions {
    pub(crate) fn into_core(self) -> PyResult<pack::PackOptions> {
        let overlong = [
            ("truncate", pack::Overlong::Truncate),
            ("drop", pack::Overlong::Drop),
            ("split_turns", pack::Overlong::SplitTurns),
        ];
        Ok(pack::PackOptions {
            max_length: self.max_length,
            overlong: choice("pack.overlong", &self.overlong, &overlong)?,
            encode: encode::EncodeOptions {
                loss_on: loss_on(&self.loss_on)?,
                allow_special_in_content: self.allow_special_in_content,
            },
            seed: self.seed,
        })
    }
}

#[derive(FromPyObject)]
pub(crate) struct TokenizerSpec {
    name: String,
    hash: String,
    backend: String,
    chat_template: String,
    special_tokens: BTreeMap<String, String>,
}

impl TokenizerSpec {
    pub(crate) fn into_core(self) -> encode::TokenizerSpec {
        let TokenizerSpec { name, hash, backend, chat_template, special_tokens } = self;
        encode::TokenizerSpec { name, hash, backend, chat_template, special_tokens }
    }
}

/// The core's own defaults as JSON, so that a test can hold those of `zephyr_data.options` against them.
#[pyfunction]
pub(crate) fn default_options() -> String {
    let (clean, dedup) = (clean::CleanOptions::default(), dedup::DedupOptions::default());
    serde_json::json!({"clean": clean, "dedup": dedup, "pack": pack::PackOptions::default()}).to_string()
}
