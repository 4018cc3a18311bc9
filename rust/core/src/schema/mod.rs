//! The columns of the files between the stages: the only place that names them.
//!
//! `docs/FORMAT.md` describes the same columns for readers of the files.

use std::sync::{Arc, LazyLock};

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef};

use crate::record::{Kind, Row};

mod build;
mod view;

pub use build::{CarriedBuilder, ChangesBuilder, RowsBuilder};
pub use view::{MessagesView, RowsView};

/// Version of every file and manifest; a new one re-runs all stages.
pub const FORMAT_VERSION: u32 = 1;

static MESSAGE_FIELDS: LazyLock<Fields> = LazyLock::new(|| {
    Fields::from(vec![Field::new("role", DataType::Utf8, false), Field::new("content", DataType::Utf8, false)])
});

fn messages_field(name: &str) -> Field {
    let item = Field::new("item", DataType::Struct(MESSAGE_FIELDS.clone()), false);
    Field::new(name, DataType::List(Arc::new(item)), false)
}

fn row_fields(kind: Kind) -> Vec<Field> {
    let mut fields = vec![
        Field::new("id", DataType::Utf8, false),
        Field::new("file", DataType::Utf8, false),
        Field::new("line", DataType::Int64, false),
    ];
    match kind {
        Kind::Chat => fields.push(messages_field("messages")),
        Kind::Preference => {
            fields.extend(["prompt", "chosen", "rejected"].map(messages_field));
            fields.extend(["score_chosen", "score_rejected"].map(|name| Field::new(name, DataType::Float64, true)));
        }
    }
    fields
}

/// The columns that files of a run have; one that is carried along must have another name.
pub const OWN_COLUMNS: [&str; 21] = [
    "id",
    "file",
    "line",
    "messages",
    "prompt",
    "chosen",
    "rejected",
    "score_chosen",
    "score_rejected",
    "split",
    "reason",
    "detail",
    "kept_id",
    "raw",
    "row",
    "start",
    "length",
    "truncated",
    "prompt_ids",
    "chosen_ids",
    "rejected_ids",
];

/// The columns of `schema`, and behind them those that are carried along.
pub fn carrying(schema: &SchemaRef, carry: &[String]) -> SchemaRef {
    let carried = carry.iter().map(|name| Arc::new(Field::new(name, DataType::Utf8, true)));
    Arc::new(Schema::new(schema.fields().iter().cloned().chain(carried).collect::<Vec<_>>()))
}

/// Columns of `clean/part-*.arrow`.
pub fn rows(kind: Kind) -> SchemaRef {
    Arc::new(Schema::new(row_fields(kind)))
}

/// Columns of `dedup/part-*.arrow`: those of [`rows`] and the side of the train/test split.
pub fn split_rows(kind: Kind) -> SchemaRef {
    let mut fields = row_fields(kind);
    fields.push(Field::new("split", DataType::Utf8, false));
    Arc::new(Schema::new(fields))
}

/// Columns of `rejects/*.arrow`: why a row went, and the row; a row that could not be read has only `raw`.
pub fn rejects(kind: Kind) -> SchemaRef {
    let mut fields = row_fields(kind);
    let record = fields.split_off(3);
    fields.push(Field::new("reason", DataType::Utf8, false));
    fields.push(Field::new("detail", DataType::Utf8, false));
    fields.push(Field::new("kept_id", DataType::Utf8, true));
    fields.extend(record.into_iter().map(|field| field.with_nullable(true)));
    fields.push(Field::new("raw", DataType::Utf8, true));
    Arc::new(Schema::new(fields))
}

/// Columns of `changes/*.arrow`: every letter that truecasing touched.
pub fn changes() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("id", DataType::Utf8, false),
        Field::new("turn", DataType::UInt32, false),
        Field::new("byte_offset", DataType::UInt64, false),
        Field::new("before", DataType::Utf8, false),
        Field::new("after", DataType::Utf8, false),
        Field::new("rule", DataType::Utf8, false),
    ]))
}

/// Columns of `dedup/clusters.parquet`: the rows that are like others, and those that stay for them.
pub fn clusters() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("id", DataType::Utf8, false),
        Field::new("cluster", DataType::UInt32, false),
        Field::new("representative", DataType::Utf8, false),
        Field::new("similarity", DataType::Float64, false),
    ]))
}

/// Columns of `dedup/closest.parquet`: of the rows that stay those that hold the most of a text of a benchmark.
pub fn closest() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("id", DataType::Utf8, false),
        Field::new("coverage", DataType::Float64, false),
        Field::new("benchmark", DataType::Utf8, false),
        Field::new("benchmark_row", DataType::Int64, false),
        Field::new("field", DataType::Utf8, false),
        Field::new("matched", DataType::Utf8, false),
    ]))
}

/// A row that goes, with the evidence.
#[derive(Clone, Debug)]
pub struct Reject {
    /// The row; `None` if it could not be read.
    pub row: Option<Row>,
    /// Its id.
    pub id: String,
    /// Its file.
    pub file: Arc<str>,
    /// Its line.
    pub line: u64,
    /// Name of the rule.
    pub reason: &'static str,
    /// Matched text, similarity, length, …
    pub detail: String,
    /// The row that stayed instead.
    pub kept_id: Option<String>,
    /// The row's text as it stands in the file, if it could not be read.
    pub raw: Option<String>,
}

impl Reject {
    /// A readable row that a rule dropped.
    pub fn of(row: Row, reason: &'static str, detail: String) -> Self {
        Reject {
            id: row.id.clone(),
            file: row.file.clone(),
            line: row.line,
            row: Some(row),
            reason,
            detail,
            kept_id: None,
            raw: None,
        }
    }
}

/// A batch whose columns are known to fit its schema.
#[expect(clippy::expect_used, reason = "the columns are built by this file, for this schema")]
pub(crate) fn batch(schema: SchemaRef, columns: Vec<ArrayRef>) -> RecordBatch {
    RecordBatch::try_new(schema, columns).expect("columns fit their schema")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_columns_are_those_of_the_files() {
        for kind in [Kind::Chat, Kind::Preference] {
            for schema in [rows(kind), split_rows(kind), rejects(kind)] {
                let unknown = schema.fields().iter().find(|field| !OWN_COLUMNS.contains(&field.name().as_str()));
                assert_eq!(unknown, None);
            }
        }
        let carrying = carrying(&rows(Kind::Chat), &["source".to_string()]);
        assert_eq!(carrying.fields().last().unwrap().name(), "source");
    }
}
