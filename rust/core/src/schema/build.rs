//! Rows, rejects and changes into Arrow batches.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, Float64Builder, Int64Builder, ListBuilder, RecordBatch, StringBuilder, StructBuilder, UInt32Builder,
    UInt64Builder,
};
use arrow::datatypes::{DataType, Field, SchemaRef};

use super::{MESSAGE_FIELDS, Reject, batch, carrying, changes, rejects, rows};
use crate::record::{Kind, Message, Record, Row};

/// Collects message lists into an Arrow array.
struct MessagesBuilder(ListBuilder<StructBuilder>);

impl MessagesBuilder {
    fn new() -> Self {
        let item = Field::new("item", DataType::Struct(MESSAGE_FIELDS.clone()), false);
        let message = StructBuilder::new(
            MESSAGE_FIELDS.clone(),
            vec![Box::new(StringBuilder::new()), Box::new(StringBuilder::new())],
        );
        MessagesBuilder(ListBuilder::new(message).with_field(item))
    }

    fn push(&mut self, messages: Option<&[Message]>) {
        for message in messages.unwrap_or_default() {
            let fields = self.0.values();
            for (index, text) in [message.role.as_str(), &message.content].into_iter().enumerate() {
                if let Some(column) = fields.field_builder::<StringBuilder>(index) {
                    column.append_value(text);
                }
            }
            fields.append(true);
        }
        self.0.append(messages.is_some());
    }
}

/// Collects rows (or rejects) into a record batch.
pub struct RowsBuilder {
    kind: Kind,
    id: StringBuilder,
    file: StringBuilder,
    line: Int64Builder,
    lists: Vec<MessagesBuilder>,
    scores: [Float64Builder; 2],
    reason: StringBuilder,
    detail: StringBuilder,
    kept_id: StringBuilder,
    raw: StringBuilder,
    carried: CarriedBuilder,
}

impl RowsBuilder {
    /// An empty batch for rows of `kind`.
    pub fn new(kind: Kind) -> Self {
        let lists = match kind {
            Kind::Chat => 1,
            Kind::Preference => 3,
        };
        RowsBuilder {
            kind,
            id: StringBuilder::new(),
            file: StringBuilder::new(),
            line: Int64Builder::new(),
            lists: (0..lists).map(|_| MessagesBuilder::new()).collect(),
            scores: [Float64Builder::new(), Float64Builder::new()],
            reason: StringBuilder::new(),
            detail: StringBuilder::new(),
            kept_id: StringBuilder::new(),
            raw: StringBuilder::new(),
            carried: CarriedBuilder::new(&[]),
        }
    }

    /// The same, with the columns that rows carry along.
    #[must_use]
    pub fn carrying(self, carry: &[String]) -> Self {
        RowsBuilder { carried: CarriedBuilder::new(carry), ..self }
    }

    /// Adds a row that stays.
    pub fn push(&mut self, row: &Row) {
        self.push_place(&row.id, &row.file, row.line);
        self.push_record(Some(&row.record));
        self.carried.push(&row.carried);
    }

    /// Adds a row that goes; finish such a batch with [`RowsBuilder::finish_rejects`].
    pub fn push_reject(&mut self, reject: &Reject) {
        self.push_place(&reject.id, &reject.file, reject.line);
        self.push_record(reject.row.as_ref().map(|row| &row.record));
        self.carried.push(reject.row.as_ref().map_or(&[], |row| &row.carried));
        self.reason.append_value(reject.reason);
        self.detail.append_value(&reject.detail);
        self.kept_id.append_option(reject.kept_id.as_deref());
        self.raw.append_option(reject.raw.as_deref());
    }

    fn push_place(&mut self, id: &str, file: &str, line: u64) {
        self.id.append_value(id);
        self.file.append_value(file);
        self.line.append_value(line.cast_signed());
    }

    fn push_record(&mut self, record: Option<&Record>) {
        let (lists, scores): ([Option<&[Message]>; 3], [Option<f64>; 2]) = match record {
            Some(Record::Chat(chat)) => ([Some(&chat.messages), None, None], [None, None]),
            Some(Record::Preference(pair)) => (
                [Some(&pair.prompt), Some(&pair.chosen), Some(&pair.rejected)],
                [pair.score_chosen, pair.score_rejected],
            ),
            None => ([None; 3], [None; 2]),
        };
        for (builder, messages) in self.lists.iter_mut().zip(lists) {
            builder.push(messages);
        }
        for (builder, score) in self.scores.iter_mut().zip(scores) {
            builder.append_option(score);
        }
    }

    /// Number of rows so far.
    pub fn len(&self) -> usize {
        arrow::array::ArrayBuilder::len(&self.line)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn record_columns(&mut self) -> Vec<ArrayRef> {
        let mut columns: Vec<ArrayRef> =
            self.lists.iter_mut().map(|list| Arc::new(list.0.finish()) as ArrayRef).collect();
        let scores = self.scores.each_mut().map(|column| Arc::new(column.finish()) as ArrayRef);
        if self.kind == Kind::Preference {
            columns.extend(scores);
        }
        columns
    }

    fn place_columns(&mut self) -> Vec<ArrayRef> {
        vec![Arc::new(self.id.finish()), Arc::new(self.file.finish()), Arc::new(self.line.finish())]
    }

    /// The rows as a batch of [`rows`]; the builder is empty again.
    pub fn finish(&mut self) -> RecordBatch {
        let mut columns = self.place_columns();
        columns.extend(self.record_columns());
        self.carried.finish(&rows(self.kind), columns)
    }

    /// The rejects as a batch of [`rejects`]; the builder is empty again.
    pub fn finish_rejects(&mut self) -> RecordBatch {
        let mut columns = self.place_columns();
        columns.push(Arc::new(self.reason.finish()));
        columns.push(Arc::new(self.detail.finish()));
        columns.push(Arc::new(self.kept_id.finish()));
        columns.extend(self.record_columns());
        columns.push(Arc::new(self.raw.finish()));
        self.carried.finish(&rejects(self.kind), columns)
    }
}

/// Collects the columns that rows carry along, which stand behind all others.
pub struct CarriedBuilder {
    names: Vec<String>,
    columns: Vec<StringBuilder>,
}

impl CarriedBuilder {
    /// Columns of these names, without values yet.
    pub fn new(names: &[String]) -> Self {
        CarriedBuilder { names: names.to_vec(), columns: names.iter().map(|_| StringBuilder::new()).collect() }
    }

    /// Adds a row's values; those that are missing, as of a row that could not be read, are null.
    pub fn push(&mut self, values: &[Option<String>]) {
        for (at, column) in self.columns.iter_mut().enumerate() {
            column.append_option(values.get(at).and_then(Option::as_deref));
        }
    }

    /// The columns behind those of `schema`; the builder is empty again.
    pub fn finish(&mut self, schema: &SchemaRef, mut columns: Vec<ArrayRef>) -> RecordBatch {
        columns.extend(self.columns.iter_mut().map(|column| Arc::new(column.finish()) as ArrayRef));
        batch(carrying(schema, &self.names), columns)
    }
}

/// Collects repaired letters into a batch of [`changes`].
#[derive(Default)]
pub struct ChangesBuilder {
    id: StringBuilder,
    turn: UInt32Builder,
    byte_offset: UInt64Builder,
    before: StringBuilder,
    after: StringBuilder,
    rule: StringBuilder,
}

impl ChangesBuilder {
    /// Adds one letter: in which turn of the row `id`, at which byte, what it was and became, by which rule.
    pub fn push(&mut self, id: &str, turn: u32, byte_offset: u64, letters: (char, char), rule: &str) {
        let mut buffer = [0; 4];
        self.id.append_value(id);
        self.turn.append_value(turn);
        self.byte_offset.append_value(byte_offset);
        self.before.append_value(letters.0.encode_utf8(&mut buffer));
        self.after.append_value(letters.1.encode_utf8(&mut buffer));
        self.rule.append_value(rule);
    }

    /// The letters so far as a batch; the builder is empty again.
    pub fn finish(&mut self) -> RecordBatch {
        let columns: Vec<ArrayRef> = vec![
            Arc::new(self.id.finish()),
            Arc::new(self.turn.finish()),
            Arc::new(self.byte_offset.finish()),
            Arc::new(self.before.finish()),
            Arc::new(self.after.finish()),
            Arc::new(self.rule.finish()),
        ];
        batch(changes(), columns)
    }
}
