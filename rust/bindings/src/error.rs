//! The core's errors as Python's exceptions: those of `zephyr_data.errors`, or the builtin where there is one.

use pyo3::exceptions::{PyKeyboardInterrupt, PyOSError, PyRuntimeError};
use pyo3::prelude::*;
use pyo3::types::PyTuple;
use zephyr_data_core::error::Error;

/// An error on its way to Python.
pub(crate) struct CoreError(Error);

pub(crate) type Result<T> = std::result::Result<T, CoreError>;

impl From<Error> for CoreError {
    fn from(error: Error) -> Self {
        CoreError(error)
    }
}

impl From<CoreError> for PyErr {
    fn from(CoreError(error): CoreError) -> PyErr {
        Python::attach(|py| exception(py, &error).unwrap_or_else(|failure| failure))
    }
}

fn exception(py: Python<'_>, error: &Error) -> PyResult<PyErr> {
    let message = error.to_string();
    // What could not be removed is a note on the error that came first.
    let mut error = error;
    while let Error::Left { error: first, .. } = error {
        error = first;
    }
    let ours = |class: &str, arguments: Bound<'_, PyTuple>| {
        let class = py.import("zephyr_data.errors")?.getattr(class)?;
        Ok(PyErr::from_value(class.call1(arguments)?))
    };
    match error {
        Error::Interrupted => Ok(PyKeyboardInterrupt::new_err(message)),
        // OSError(errno, text) becomes FileNotFoundError, PermissionError, … by itself.
        Error::Io { source, .. } => Ok(PyOSError::new_err((source.raw_os_error(), message))),
        Error::Config { key, .. } => ours("ConfigError", (message, key).into_pyobject(py)?),
        Error::Tokenizer { .. } | Error::Template { .. } => {
            ours("ConfigError", (message, "tokenizer").into_pyobject(py)?)
        }
        Error::Format { path, .. } => ours("DataError", (message, path).into_pyobject(py)?),
        Error::Row { path, line, field, .. } => {
            let field = (!field.is_empty()).then_some(field);
            ours("DataError", (message, path, line, field).into_pyobject(py)?)
        }
        Error::Manifest { .. } => ours("ManifestError", (message,).into_pyobject(py)?),
        Error::Locked { .. } => ours("LockedError", (message,).into_pyobject(py)?),
        _ => Ok(PyRuntimeError::new_err(message)),
    }
}

/// An exception that was raised by Python code while the core ran.
pub(crate) fn keep(error: PyErr, slot: &mut Option<PyErr>) -> Error {
    *slot = Some(error);
    Error::Interrupted
}
