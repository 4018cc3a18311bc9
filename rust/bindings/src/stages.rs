//! The stages and the lock on their folder.

use std::path::PathBuf;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use zephyr_data_core::read;
use zephyr_data_core::stage::{self, Outcome, Progress};

use crate::error::{CoreError, Result, keep};
use crate::options::{CleanOptions, DedupOptions, PackOptions, ReadOptions, TokenizerSpec};

/// What a stage did.
#[pyclass(frozen, get_all, module = "zephyr_data._core")]
pub(crate) struct StageResult {
    stage: &'static str,
    folder: PathBuf,
    skipped: bool,
    seconds: f64,
    text_bytes: u64,
}

#[pymethods]
impl StageResult {
    fn __repr__(&self) -> String {
        let StageResult { stage, folder, skipped, seconds, text_bytes } = self;
        let (skipped, folder) = (if *skipped { "True" } else { "False" }, folder.display());
        format!(
            "StageResult(stage='{stage}', folder='{folder}', skipped={skipped}, seconds={seconds:.3}, text_bytes={text_bytes})"
        )
    }
}

impl From<Outcome> for StageResult {
    fn from(outcome: Outcome) -> Self {
        let Outcome { stage, folder, skipped, seconds, text_bytes } = outcome;
        StageResult { stage, folder, skipped, seconds, text_bytes }
    }
}

/// Keeps a second run out of a folder.
#[pyclass(module = "zephyr_data._core")]
pub(crate) struct DirectoryLock(Option<stage::DirectoryLock>);

#[pymethods]
impl DirectoryLock {
    #[new]
    #[expect(clippy::needless_pass_by_value, reason = "pyo3 hands over owned arguments")]
    fn new(folder: PathBuf) -> Result<Self> {
        Ok(DirectoryLock(Some(stage::DirectoryLock::acquire(&folder)?)))
    }

    fn release(&mut self) {
        self.0 = None;
    }

    fn __enter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    fn __exit__(&mut self, _class: &Bound<'_, PyAny>, _value: &Bound<'_, PyAny>, _trace: &Bound<'_, PyAny>) {
        self.release();
    }
}

/// Works with the interpreter released; looks for Ctrl-C and calls the observer, if there is one, about ten times a second.
pub(crate) fn run<T: Send>(
    py: Python<'_>,
    observer: Option<&Py<PyAny>>,
    work: impl FnOnce(stage::Observer<'_>) -> zephyr_data_core::error::Result<T> + Send,
) -> PyResult<T> {
    let mut raised = None;
    let outcome = py.detach(|| {
        let mut tick = |progress: Progress| {
            Python::attach(|py| {
                py.check_signals()?;
                let Progress { stage, done, total, rows } = progress;
                observer.map_or(Ok(()), |told| told.call1(py, (stage, done, total, rows)).map(drop))
            })
            .map_err(|error| keep(error, &mut raised))
        };
        work(&mut tick)
    });
    match (outcome, raised) {
        (Ok(outcome), _) => Ok(outcome),
        (Err(_), Some(error)) => Err(error),
        (Err(error), None) => Err(CoreError::from(error).into()),
    }
}

/// A file or folder: a path, also with the name that it is to have in ids, errors and manifests, also with a note for these.
#[derive(FromPyObject)]
pub(crate) enum Input {
    Made(PathBuf, String, String),
    Named(PathBuf, String),
    Path(PathBuf),
}

impl From<Input> for read::Input {
    fn from(input: Input) -> Self {
        match input {
            Input::Made(path, name, note) => read::Input { path, name: Some(name), note: Some(note) },
            Input::Named(path, name) => read::Input { path, name: Some(name), note: None },
            Input::Path(path) => read::Input { path, name: None, note: None },
        }
    }
}

/// Reads the inputs and writes `folder/clean`.
#[pyfunction]
#[expect(clippy::needless_pass_by_value, reason = "pyo3 hands over owned arguments")]
pub(crate) fn clean(
    py: Python<'_>,
    inputs: Vec<Input>,
    folder: PathBuf,
    read: ReadOptions,
    options: CleanOptions,
    workers: usize,
    observer: Py<PyAny>,
) -> PyResult<StageResult> {
    let (read, options) = (read.into_core()?, options.into_core()?);
    let inputs: Vec<read::Input> = inputs.into_iter().map(Into::into).collect();
    run(py, Some(&observer), |observer| stage::clean::clean(&inputs, &folder, &read, &options, workers, observer))
        .map(Into::into)
}

/// Reads `folder/clean` and writes `folder/dedup`.
#[pyfunction]
#[expect(clippy::needless_pass_by_value, reason = "pyo3 hands over owned arguments")]
pub(crate) fn dedup(
    py: Python<'_>,
    folder: PathBuf,
    options: DedupOptions,
    workers: usize,
    observer: Py<PyAny>,
) -> PyResult<StageResult> {
    let options = options.into_core()?;
    run(py, Some(&observer), |observer| stage::dedup::dedup(&folder, &options, workers, observer)).map(Into::into)
}

/// Whether the options of `dedup` can be honoured; reads the benchmarks.
#[pyfunction]
pub(crate) fn check_dedup(py: Python<'_>, options: DedupOptions) -> PyResult<()> {
    let options = options.into_core()?;
    run(py, None, |observer| stage::dedup::check(&options, observer))
}

/// Edits copies of rows of `folder/clean` and looks for them, as JSON; writes nothing.
#[pyfunction]
#[expect(clippy::needless_pass_by_value, reason = "pyo3 hands over owned arguments")]
pub(crate) fn measure_recall(
    py: Python<'_>,
    folder: PathBuf,
    options: DedupOptions,
    observer: Py<PyAny>,
) -> PyResult<String> {
    let options = options.into_core()?;
    let found = run(py, Some(&observer), |observer| stage::recall::measure_recall(&folder, &options, observer))?;
    serde_json::to_string(&found).map_err(|error| PyValueError::new_err(error.to_string()))
}

/// Reads `folder/dedup` and writes `folder/packed`.
#[pyfunction]
#[expect(clippy::needless_pass_by_value, reason = "pyo3 hands over owned arguments")]
pub(crate) fn pack(
    py: Python<'_>,
    folder: PathBuf,
    tokenizer: TokenizerSpec,
    options: PackOptions,
    workers: usize,
    observer: Py<PyAny>,
) -> PyResult<StageResult> {
    let (tokenizer, options) = (tokenizer.into_core(), options.into_core()?);
    run(py, Some(&observer), |observer| stage::pack::pack(&folder, &tokenizer, &options, workers, observer))
        .map(Into::into)
}

/// The files that the inputs name, in the order in which they are read.
#[pyfunction]
pub(crate) fn find_files(py: Python<'_>, inputs: Vec<Input>) -> PyResult<Vec<PathBuf>> {
    let inputs: Vec<read::Input> = inputs.into_iter().map(Into::into).collect();
    let files = py.detach(|| read::find_files(&inputs)).map_err(CoreError::from)?;
    Ok(files.iter().map(|file| file.path().to_path_buf()).collect())
}

/// Reads the inputs and says what they hold, as JSON; writes nothing.
#[pyfunction]
#[expect(clippy::needless_pass_by_value, reason = "pyo3 hands over owned arguments")]
pub(crate) fn inspect(
    py: Python<'_>,
    inputs: Vec<Input>,
    read: ReadOptions,
    workers: usize,
    observer: Py<PyAny>,
) -> PyResult<String> {
    let read = read.into_core()?;
    let inputs: Vec<read::Input> = inputs.into_iter().map(Into::into).collect();
    let found = run(py, Some(&observer), |observer| stage::inspect::inspect(&inputs, &read, workers, observer))?;
    serde_json::to_string(&found).map_err(|error| PyValueError::new_err(error.to_string()))
}
