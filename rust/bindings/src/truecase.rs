//! Truecasing of strings in memory.

use std::sync::Arc;

use arrow::array::{Array, AsArray, StringBuilder};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3_arrow::PyArray;
use zephyr_data_core::read::utf8;
use zephyr_data_core::text::truecase::repair_text;

use crate::error::CoreError;
use crate::verbs::ARRAY;

/// Repairs each string of an Arrow array; nulls stay null.
#[pyfunction]
pub(crate) fn truecase(py: Python<'_>, texts: PyArray) -> PyResult<PyArray> {
    let (array, _) = texts.into_inner();
    utf8::check(ARRAY, None, &array).map_err(CoreError::from)?;
    let wrong = |found: &DataType| PyTypeError::new_err(format!("expected an Arrow array of strings, found: {found}"));
    let repaired = py.detach(|| {
        let strings = cast(&array, &DataType::Utf8).ok()?;
        let strings = strings.as_string_opt::<i32>()?;
        let (mut builder, mut changes) = (StringBuilder::new(), Vec::new());
        for text in strings {
            builder.append_option(text.map(|text| {
                let mut text = text.to_owned();
                changes.clear();
                repair_text(&mut text, &mut changes);
                text
            }));
        }
        Some(builder.finish())
    });
    let is_text = matches!(array.data_type(), DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View);
    match repaired {
        Some(repaired) if is_text => Ok(PyArray::from_array_ref(Arc::new(repaired))),
        _ => Err(wrong(array.data_type())),
    }
}
