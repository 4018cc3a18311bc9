//! The extension module `zephyr_data._core`: owned arguments in, the interpreter released around the core call, a typed
//! result out. Conversions only; `python/zephyr_data/_core.pyi` is its documentation.

use pyo3::prelude::*;

mod encoder;
mod error;
mod instructions;
mod near;
mod options;
mod stages;
mod truecase;
mod verbs;

#[pymodule(gil_used = false)]
mod _core {
    use pyo3::prelude::*;

    #[pymodule_export]
    use super::encoder::ChatEncoder;
    #[pymodule_export]
    use super::instructions::choose_instructions;
    #[pymodule_export]
    use super::near::{deduplicate_rows, exact_duplicates, near_duplicates, near_pairs, words};
    #[pymodule_export]
    use super::options::default_options;
    #[pymodule_export]
    use super::stages::{
        DirectoryLock, StageResult, check_dedup, clean, dedup, find_files, inspect, measure_recall, pack,
    };
    #[pymodule_export]
    use super::truecase::truecase;
    #[pymodule_export]
    use super::verbs::{clean_rows, encode_rows, pack_rows, render_rows};

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("__version__", env!("CARGO_PKG_VERSION"))?;
        module.add("FORMAT_VERSION", zephyr_data_core::schema::FORMAT_VERSION)?;
        module.add("DEBUG_BUILD", cfg!(debug_assertions))
    }
}
