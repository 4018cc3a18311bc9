//! Which vector instructions the core may use.

use pyo3::prelude::*;
use zephyr_data_core::simd;

use crate::error::Result;

/// Narrows them for this process, by name.
#[pyfunction]
pub(crate) fn choose_instructions(name: &str) -> Result<()> {
    Ok(simd::choose(name)?)
}
