//! Duplicates of texts and chats in memory.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Float64Array, RecordBatch, UInt32Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Float64Type, Schema};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3_arrow::{PyArray, PyRecordBatch, PyTable};
use zephyr_data_core::dedup::exact::{self, Fate, Keys};
use zephyr_data_core::dedup::near::{self, Bands, Match, Options};
use zephyr_data_core::error::Error;
use zephyr_data_core::read::utf8;
use zephyr_data_core::record::Kind;
use zephyr_data_core::schema::MessagesView;
use zephyr_data_core::stage::deduplicate::deduplicate;

use crate::error::CoreError;
use crate::options::{DedupOptions, keep, policy};
use crate::stages::run;
use crate::verbs::{ARRAY, FRAME, to_python};

/// The words by which near-duplicates are told.
#[pyfunction]
pub(crate) fn words(text: &str) -> Vec<String> {
    near::words(text)
}

/// For each chat the number of the first one with the same canonical text, which may be its own.
#[pyfunction]
pub(crate) fn exact_duplicates(py: Python<'_>, messages: PyArray) -> PyResult<PyArray> {
    let (array, field) = messages.into_inner();
    utf8::check(ARRAY, None, &array).map_err(CoreError::from)?;
    let schema = Arc::new(Schema::new(vec![field.as_ref().clone().with_name("messages")]));
    let batch = RecordBatch::try_new(schema, vec![array]).map_err(|error| PyTypeError::new_err(error.to_string()))?;
    let Some(chats) = MessagesView::new(&batch, "messages") else {
        return Err(PyTypeError::new_err("expected an Arrow array of list<struct<role: string, content: string>>"));
    };
    let firsts = py.detach(|| {
        let mut keys = Keys::default();
        for index in 0..batch.num_rows() {
            let (row, prompt, answers) = exact::keys_of(Kind::Chat, &[chats.get(index).collect()], u32::MAX);
            keys.push(row, prompt, answers);
        }
        let fates = keys.decide(&exact::Options {
            exact: true,
            constant_answer: exact::ConstantAnswer { enabled: false, ..Default::default() },
        });
        (0..)
            .zip(fates)
            .map(|(row, fate)| if let Fate::Duplicate { of } = fate { of } else { row })
            .collect::<UInt32Array>()
    });
    Ok(PyArray::from_array_ref(Arc::new(firsts)))
}

/// Runs `find` on the strings of an Arrow array, nulls as empty ones, with the interpreter released.
fn on_texts(
    py: Python<'_>,
    texts: PyArray,
    find: impl FnOnce(&[&str]) -> Result<Vec<Match>, Error> + Send,
) -> PyResult<PyRecordBatch> {
    let (array, _) = texts.into_inner();
    utf8::check(ARRAY, None, &array).map_err(CoreError::from)?;
    let is_text = matches!(array.data_type(), DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View);
    let found = py.detach(|| {
        let strings = cast(&array, &DataType::LargeUtf8).ok()?;
        let strings = strings.as_string_opt::<i64>()?;
        let texts: Vec<&str> = strings.iter().map(Option::unwrap_or_default).collect();
        is_text.then(|| find(&texts))
    });
    let Some(found) = found else {
        let message = format!("expected an Arrow array of strings, found: {}", array.data_type());
        return Err(PyTypeError::new_err(message));
    };
    let found = found.map_err(CoreError::from)?;
    let columns: [(&str, ArrayRef); 3] = [
        ("row", Arc::new(found.iter().map(|found| found.row).collect::<UInt32Array>())),
        ("other", Arc::new(found.iter().map(|found| found.other).collect::<UInt32Array>())),
        ("similarity", Arc::new(found.iter().map(|found| found.similarity).collect::<Float64Array>())),
    ];
    let fields: Vec<Field> =
        columns.iter().map(|(name, column)| Field::new(*name, column.data_type().clone(), false)).collect();
    let columns = columns.into_iter().map(|(_, column)| column).collect();
    let batch = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns);
    Ok(PyRecordBatch::new(batch.map_err(|error| PyTypeError::new_err(error.to_string()))?))
}

/// The texts that are near-duplicates of one that stays.
#[pyfunction]
#[pyo3(signature = (texts, *, threshold = 0.8, policy = "direct", keep = "first", scores = None, bands = 20, rows = 6))]
#[expect(clippy::too_many_arguments, reason = "named arguments in Python")]
pub(crate) fn near_duplicates(
    py: Python<'_>,
    texts: PyArray,
    threshold: f64,
    policy: &str,
    keep: &str,
    scores: Option<Vec<Option<f64>>>,
    bands: usize,
    rows: usize,
) -> PyResult<PyRecordBatch> {
    let bands = Bands::new(bands, rows).map_err(CoreError::from)?;
    let options = Options { threshold, policy: self::policy(policy)?, bands };
    let (keep, scores) = (self::keep(keep)?, scores.unwrap_or_default());
    on_texts(py, texts, |texts| near::duplicates(texts, keep, &scores, &options))
}

/// All pairs of similar texts.
#[pyfunction]
#[pyo3(signature = (texts, *, threshold = 0.8, bands = 20, rows = 6))]
pub(crate) fn near_pairs(
    py: Python<'_>,
    texts: PyArray,
    threshold: f64,
    bands: usize,
    rows: usize,
) -> PyResult<PyRecordBatch> {
    let bands = Bands::new(bands, rows).map_err(CoreError::from)?;
    let options = Options { threshold, bands, ..Options::default() };
    on_texts(py, texts, |texts| near::pairs(texts, &options))
}

/// The rows of a table's first column that say what another row says, and for each row whether it stays; a second column has
/// the scores.
#[pyfunction]
pub(crate) fn deduplicate_rows(
    py: Python<'_>,
    table: PyTable,
    options: DedupOptions,
    workers: usize,
) -> PyResult<(PyTable, PyArray)> {
    let ((batches, columns), options) = (table.into_inner(), options.into_core()?);
    let Some(compared) = columns.fields().first() else {
        return Err(PyTypeError::new_err("expected a table with the column that is compared"));
    };
    let column: Vec<ArrayRef> = batches.iter().map(|batch| batch.column(0).clone()).collect();
    let scores = batches.iter().filter_map(|batch| batch.columns().get(1)?.as_primitive_opt::<Float64Type>());
    let scores: Vec<Option<f64>> = scores.flatten().collect();
    let found =
        run(py, None, |observer| deduplicate(FRAME, (compared, &column), &scores, &options, workers, observer))?;
    Ok((to_python(found.dropped)?, PyArray::from_array_ref(Arc::new(found.stays))))
}
