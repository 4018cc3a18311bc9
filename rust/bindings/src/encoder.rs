//! Chats in memory to ids and masks, as `pack` encodes them; and texts to ids.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int8Builder, Int32Builder, ListBuilder, RecordBatch, StructArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Schema};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3_arrow::PyArray;
use zephyr_data_core::chat::ChatTemplate;
use zephyr_data_core::record::{Message, Role};
use zephyr_data_core::schema::MessagesView;
use zephyr_data_core::stage::encode::{self, EncodeOptions, Scratch};

use crate::error::{CoreError, Result};
use crate::options::{TokenizerSpec, loss_on};

/// Encodes chats with one tokenizer.
#[pyclass(frozen, module = "zephyr_data._core")]
pub(crate) struct ChatEncoder {
    encoder: encode::ChatEncoder,
    /// How the template is formatted.
    #[pyo3(get)]
    template: String,
    /// What makes the ids.
    #[pyo3(get)]
    engine: String,
}

impl ChatEncoder {
    /// The core's encoder.
    pub(crate) fn core(&self) -> &encode::ChatEncoder {
        &self.encoder
    }
}

#[pymethods]
impl ChatEncoder {
    #[new]
    #[pyo3(signature = (tokenizer, *, loss_on = "assistant", allow_special_in_content = false))]
    fn new(tokenizer: TokenizerSpec, loss_on: &str, allow_special_in_content: bool) -> PyResult<Self> {
        let options = EncodeOptions { loss_on: self::loss_on(loss_on)?, allow_special_in_content };
        let spec = tokenizer.into_core();
        let load = || -> Result<encode::ChatEncoder> { Ok(encode::ChatEncoder::new(&spec, options)?) };
        let encoder = load()?;
        let entry = encoder.entry(&spec);
        Ok(ChatEncoder { encoder, template: entry.template, engine: entry.encoder })
    }

    /// Whether a template is formatted natively, so that nothing of it is executed.
    #[staticmethod]
    #[expect(clippy::needless_pass_by_value, reason = "what comes from Python is owned")]
    fn is_native(chat_template: &str, special_tokens: BTreeMap<String, String>) -> bool {
        ChatTemplate::is_native(chat_template, &special_tokens)
    }

    /// Ids and assistant mask of each chat.
    fn encode(&self, py: Python<'_>, messages: PyArray) -> PyResult<PyArray> {
        let (array, field) = messages.into_inner();
        let expected = "expected an Arrow array of list<struct<role: string, content: string>>";
        let schema = Arc::new(Schema::new(vec![field.as_ref().clone().with_name("messages")]));
        let batch =
            RecordBatch::try_new(schema, vec![array]).map_err(|error| PyTypeError::new_err(error.to_string()))?;
        let chats = MessagesView::new(&batch, "messages").ok_or_else(|| PyTypeError::new_err(expected))?;
        py.detach(|| {
            let (mut ids, mut masks) = (ListBuilder::new(Int32Builder::new()), ListBuilder::new(Int8Builder::new()));
            let mut scratch = Scratch::default();
            for index in 0..batch.num_rows() {
                let turns = chats.get(index).map(|(role, content)| {
                    let role = Role::parse(role);
                    let role = role.ok_or_else(|| PyValueError::new_err(format!("unknown role in chat {index}")))?;
                    Ok(Message::new(role, content))
                });
                let turns: Vec<Message> = turns.collect::<PyResult<_>>()?;
                let chat = || -> Result<encode::Document> { Ok(self.encoder.chat(&turns, &mut scratch)?) };
                let document = { chat }()?;
                ids.values().extend(document.ids.iter().map(|id| Some(id.cast_signed())));
                ids.append(true);
                masks.values().extend(document.mask.iter().map(|bit| Some(bit.cast_signed())));
                masks.append(true);
            }
            let columns: [(&str, ArrayRef); 2] =
                [("input_ids", Arc::new(ids.finish())), ("assistant_masks", Arc::new(masks.finish()))];
            let fields =
                columns.map(|(name, column)| (Arc::new(Field::new(name, column.data_type().clone(), false)), column));
            Ok(PyArray::from_array_ref(Arc::new(StructArray::from(fields.to_vec()))))
        })
    }

    /// Ids of each text, or the first `max_length` of them, without a template; nulls stay null.
    #[pyo3(signature = (texts, max_length = None))]
    fn encode_texts(&self, py: Python<'_>, texts: PyArray, max_length: Option<usize>) -> PyResult<PyArray> {
        let (array, _) = texts.into_inner();
        if !matches!(array.data_type(), DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View) {
            let found = array.data_type();
            return Err(PyTypeError::new_err(format!("expected an Arrow array of strings, found: {found}")));
        }
        py.detach(|| {
            let strings =
                cast(&array, &DataType::LargeUtf8).map_err(|error| PyTypeError::new_err(error.to_string()))?;
            let mut lists = ListBuilder::new(Int32Builder::new());
            let (mut scratch, mut ids) = (Scratch::default(), Vec::new());
            for text in strings.as_string::<i64>() {
                ids.clear();
                if let Some(text) = text {
                    self.encoder.text(text, max_length, &mut scratch, &mut ids).map_err(CoreError::from)?;
                }
                // The offsets of a list are 32 bits wide.
                if lists.values().values_slice().len() + ids.len() > i32::MAX as usize {
                    return Err(PyValueError::new_err(
                        "cannot hold more than 2147483647 tokens in one array\nhint: encode fewer texts at a time",
                    ));
                }
                lists.values().extend(ids.iter().map(|id| Some(id.cast_signed())));
                lists.append(text.is_some());
            }
            Ok(PyArray::from_array_ref(Arc::new(lists.finish())))
        })
    }
}
