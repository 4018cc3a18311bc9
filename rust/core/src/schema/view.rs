//! Arrow batches of the stages, read without copying.

use std::sync::Arc;

use arrow::array::{Array, AsArray, Float64Array, Int64Array, ListArray, RecordBatch, StringArray};
use arrow::datatypes::{Float64Type, Int64Type};

use crate::record::{Chat, Kind, Message, Preference, Record, Role, Row};

/// One column of message lists.
pub struct MessagesView<'a> {
    lists: &'a ListArray,
    role: &'a StringArray,
    content: &'a StringArray,
}

impl<'a> MessagesView<'a> {
    /// The column `name`; `None` if it is missing or of another type.
    pub fn new(batch: &'a RecordBatch, name: &str) -> Option<Self> {
        let lists: &ListArray = batch.column_by_name(name)?.as_list_opt()?;
        let messages = lists.values().as_struct_opt()?;
        Some(MessagesView {
            lists,
            role: messages.column_by_name("role")?.as_string_opt()?,
            content: messages.column_by_name("content")?.as_string_opt()?,
        })
    }

    /// Role and content of each message of row `index`.
    pub fn get(&self, index: usize) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
        let offsets = self.lists.value_offsets();
        let (role, content) = (self.role, self.content);
        (offsets[index].cast_unsigned() as usize..offsets[index + 1].cast_unsigned() as usize)
            .map(move |at| (role.value(at), content.value(at)))
    }

    fn to_messages(&self, index: usize) -> Vec<Message> {
        self.get(index).filter_map(|(role, content)| Some(Message::new(Role::parse(role)?, content))).collect()
    }
}

/// A batch that [`super::RowsBuilder`] made.
pub struct RowsView<'a> {
    kind: Kind,
    id: &'a StringArray,
    file: &'a StringArray,
    line: &'a Int64Array,
    lists: Vec<MessagesView<'a>>,
    scores: Option<[&'a Float64Array; 2]>,
    split: Option<&'a StringArray>,
    carried: Vec<&'a StringArray>,
}

impl<'a> RowsView<'a> {
    /// The batch's columns; `None` if one of them is missing or of another type.
    pub fn new(batch: &'a RecordBatch, kind: Kind) -> Option<Self> {
        let names: &[&str] = match kind {
            Kind::Chat => &["messages"],
            Kind::Preference => &["prompt", "chosen", "rejected"],
        };
        let score = |name| batch.column_by_name(name)?.as_primitive_opt::<Float64Type>();
        let scores = match kind {
            Kind::Chat => None,
            Kind::Preference => Some([score("score_chosen")?, score("score_rejected")?]),
        };
        Some(RowsView {
            kind,
            id: batch.column_by_name("id")?.as_string_opt()?,
            file: batch.column_by_name("file")?.as_string_opt()?,
            line: batch.column_by_name("line")?.as_primitive_opt::<Int64Type>()?,
            lists: names.iter().map(|name| MessagesView::new(batch, name)).collect::<Option<_>>()?,
            scores,
            split: batch.column_by_name("split").and_then(|column| column.as_string_opt()),
            carried: Vec::new(),
        })
    }

    /// The same, with the columns that the rows carry along; `None` if one of them is missing.
    #[must_use]
    pub fn carrying(mut self, batch: &'a RecordBatch, carry: &[String]) -> Option<Self> {
        let column = |name: &String| batch.column_by_name(name)?.as_string_opt();
        self.carried = carry.iter().map(column).collect::<Option<_>>()?;
        Some(self)
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.line.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The id of row `index`.
    pub fn id(&self, index: usize) -> &'a str {
        self.id.value(index)
    }

    /// The side of the split of row `index`, in the files of the dedup stage.
    pub fn split(&self, index: usize) -> Option<&'a str> {
        self.split.map(|column| column.value(index))
    }

    /// The score of the chosen answer of row `index`, if it has one.
    pub fn score_chosen(&self, index: usize) -> Option<f64> {
        let [chosen, _] = self.scores?;
        chosen.is_valid(index).then(|| chosen.value(index))
    }

    /// The message lists: `[messages]`, or `[prompt, chosen, rejected]`.
    pub fn lists(&self) -> &[MessagesView<'a>] {
        &self.lists
    }

    /// Row `index` as a record of its own.
    pub fn row(&self, index: usize) -> Row {
        let mut lists = self.lists.iter().map(|list| list.to_messages(index));
        let mut next = || lists.next().unwrap_or_default();
        let record = match self.kind {
            Kind::Chat => Record::Chat(Chat { messages: next() }),
            Kind::Preference => {
                let score = |at: usize| {
                    let column = self.scores?[at];
                    column.is_valid(index).then(|| column.value(index))
                };
                Record::Preference(Preference {
                    prompt: next(),
                    chosen: next(),
                    rejected: next(),
                    score_chosen: score(0),
                    score_rejected: score(1),
                })
            }
        };
        Row {
            id: self.id(index).to_string(),
            file: Arc::from(self.file.value(index)),
            line: self.line.value(index).cast_unsigned(),
            record,
            carried: self
                .carried
                .iter()
                .map(|column| column.is_valid(index).then(|| column.value(index).into()))
                .collect(),
        }
    }
}
