//! The stages' steps on tables in memory.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3_arrow::PyTable;
use zephyr_data_core::error::Result;
use zephyr_data_core::read::{InputFile, utf8};
use zephyr_data_core::stage::in_memory::{self, Table};

use crate::encoder::ChatEncoder;
use crate::options::{CleanOptions, PackOptions, ReadOptions};
use crate::stages::run;

/// What rows in memory are called in ids and errors, here as in `prepare`.
pub(crate) const FRAME: &str = "frame";
/// What an array is called in errors, which has no rows in this sense.
pub(crate) const ARRAY: &str = "array";

fn rows(table: PyTable) -> impl FnOnce() -> Result<InputFile> + Send {
    let (batches, _) = table.into_inner();
    move || InputFile::of_rows(FRAME, batches)
}

pub(crate) fn to_python(table: Table) -> PyResult<PyTable> {
    PyTable::try_new(table.batches, table.schema).map_err(|error| PyValueError::new_err(error.to_string()))
}

/// The rows that stay, the rejects and the changes of a table.
#[pyfunction]
pub(crate) fn clean_rows(
    py: Python<'_>,
    table: PyTable,
    read: ReadOptions,
    options: CleanOptions,
    workers: usize,
) -> PyResult<(PyTable, PyTable, PyTable)> {
    let (rows, read, options) = (rows(table), read.into_core()?, options.into_core()?);
    let cleaned = run(py, None, |observer| in_memory::clean(rows()?, &read, &options, workers, observer))?;
    Ok((to_python(cleaned.kept)?, to_python(cleaned.rejects)?, to_python(cleaned.changes)?))
}

/// The texts of a table's chats.
#[pyfunction]
pub(crate) fn render_rows(
    py: Python<'_>,
    table: PyTable,
    read: ReadOptions,
    encoder: &Bound<'_, ChatEncoder>,
    add_generation_prompt: bool,
    workers: usize,
) -> PyResult<PyTable> {
    let (rows, read, encoder) = (rows(table), read.into_core()?, encoder.get().core());
    let texts =
        run(py, None, |observer| in_memory::render(rows()?, &read, encoder, add_generation_prompt, workers, observer))?;
    to_python(texts)
}

/// The tokens of a table's chats or preferences.
#[pyfunction]
pub(crate) fn encode_rows(
    py: Python<'_>,
    table: PyTable,
    read: ReadOptions,
    encoder: &Bound<'_, ChatEncoder>,
    workers: usize,
) -> PyResult<PyTable> {
    let (rows, read, encoder) = (rows(table), read.into_core()?, encoder.get().core());
    to_python(run(py, None, |observer| in_memory::encode(rows()?, &read, encoder, workers, observer))?)
}

/// Packed rows, their index, and what was dropped, of a table of tokens.
#[pyfunction]
pub(crate) fn pack_rows(
    py: Python<'_>,
    table: PyTable,
    options: PackOptions,
    workers: usize,
) -> PyResult<(PyTable, Option<PyTable>, PyTable)> {
    let ((batches, columns), options) = (table.into_inner(), options.into_core()?);
    let packed = run(py, None, |observer| {
        utf8::check_table(FRAME, &batches)?;
        in_memory::pack(FRAME, &batches, &columns, &options, workers, observer)
    })?;
    Ok((to_python(packed.rows)?, packed.index.map(to_python).transpose()?, to_python(packed.dropped)?))
}
