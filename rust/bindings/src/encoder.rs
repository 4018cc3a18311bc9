//! Chats in memory to ids and masks, as `pack` encodes them; and texts to ids.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, ListArray, PrimitiveArray, RecordBatch, StructArray};
use arrow::buffer::{Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::compute::cast;
use arrow::datatypes::{ArrowNativeType, ArrowPrimitiveType, DataType, Field, Int8Type, Int32Type, Schema};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3_arrow::PyArray;
use zephyr_data_core::chat::ChatTemplate;
use zephyr_data_core::read::utf8;
use zephyr_data_core::record::{Message, Role};
use zephyr_data_core::schema::MessagesView;
use zephyr_data_core::stage::encode::{self, EncodeOptions, Scratch};

use crate::error::{CoreError, Result};
use crate::options::{TokenizerSpec, loss_on};
use crate::verbs::ARRAY;

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
        utf8::check(ARRAY, None, &array).map_err(CoreError::from)?;
        let expected = "expected an Arrow array of list<struct<role: string, content: string>>";
        let schema = Arc::new(Schema::new(vec![field.as_ref().clone().with_name("messages")]));
        let batch =
            RecordBatch::try_new(schema, vec![array]).map_err(|error| PyTypeError::new_err(error.to_string()))?;
        let chats = MessagesView::new(&batch, "messages").ok_or_else(|| PyTypeError::new_err(expected))?;
        py.detach(|| {
            let (mut ids, mut masks, mut ends) = (Vec::new(), Vec::new(), vec![0]);
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
                ids.extend_from_slice(&document.ids);
                masks.extend_from_slice(&document.mask);
                ends.push(end_of_list(ids.len())?);
            }
            let ends = OffsetBuffer::new(ends.into());
            let columns = [
                ("input_ids", lists::<Int32Type>(ids, ends.clone(), None)),
                ("assistant_masks", lists::<Int8Type>(masks, ends, None)),
            ];
            let fields =
                columns.map(|(name, column)| (Arc::new(Field::new(name, column.data_type().clone(), false)), column));
            Ok(PyArray::from_array_ref(Arc::new(StructArray::from(fields.to_vec()))))
        })
    }

    /// Ids of each text, or the first `max_length` of them, without a template; nulls stay null.
    #[pyo3(signature = (texts, max_length = None))]
    fn encode_texts(&self, py: Python<'_>, texts: PyArray, max_length: Option<usize>) -> PyResult<PyArray> {
        let (array, _) = texts.into_inner();
        utf8::check(ARRAY, None, &array).map_err(CoreError::from)?;
        if !matches!(array.data_type(), DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View) {
            let found = array.data_type();
            return Err(PyTypeError::new_err(format!("expected an Arrow array of strings, found: {found}")));
        }
        py.detach(|| {
            let strings =
                cast(&array, &DataType::LargeUtf8).map_err(|error| PyTypeError::new_err(error.to_string()))?;
            let strings = strings.as_string::<i64>();
            let (mut scratch, mut ids, mut ends) = (Scratch::default(), Vec::new(), vec![0]);
            for text in strings {
                if let Some(text) = text {
                    self.encoder.text(text, max_length, &mut scratch, &mut ids).map_err(CoreError::from)?;
                }
                ends.push(end_of_list(ids.len())?);
            }
            let nulls = strings.nulls().cloned();
            Ok(PyArray::from_array_ref(lists::<Int32Type>(ids, OffsetBuffer::new(ends.into()), nulls)))
        })
    }
}

/// Where a list ends; its offsets are 32 bits wide.
fn end_of_list(tokens: usize) -> PyResult<i32> {
    i32::try_from(tokens).map_err(|_| {
        PyValueError::new_err(
            "cannot hold more than 2147483647 tokens in one array\nhint: encode fewer texts at a time",
        )
    })
}

/// Lists of integers over the very memory of `values`, whose type is the unsigned one of the same width.
fn lists<T: ArrowPrimitiveType>(
    values: Vec<impl ArrowNativeType>,
    ends: OffsetBuffer<i32>,
    nulls: Option<NullBuffer>,
) -> ArrayRef {
    let values = PrimitiveArray::<T>::new(ScalarBuffer::from(Buffer::from_vec(values)), None);
    let item = Arc::new(Field::new_list_field(T::DATA_TYPE, true));
    Arc::new(ListArray::new(item, ends, Arc::new(values), nulls))
}
