//! Which vector instructions the inner loops use: by default the widest that the processor has.
//!
//! Every loop that is written for several instruction sets gives the same result on all of them, so this choice is one of
//! speed alone. It can be narrowed once for the whole process, to compare the loops or to avoid one; the bindings do it
//! where the user's environment has `ZEPHYR_DATA_SIMD`.
//!
//! ```
//! use zephyr_data_core::simd::{Path, chosen};
//!
//! assert!(Path::available().contains(&chosen()) && Path::available().contains(&Path::Scalar));
//! ```

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::error::{Error, Result};

/// An instruction set that loops are written for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Path {
    /// x86-64 with AVX-512: F, BW, VBMI and VBMI2 (Ice Lake, Zen 4 and later).
    Avx512Vbmi,
    /// x86-64 with AVX-512 F (Skylake-X and later).
    Avx512,
    /// x86-64 with AVX2.
    Avx2,
    /// What every processor of the target has, left to the compiler: SSE2 on x86-64, NEON on 64-bit ARM.
    Scalar,
}

/// All paths, the widest first.
const PATHS: [Path; 4] = [Path::Avx512Vbmi, Path::Avx512, Path::Avx2, Path::Scalar];

/// The place in [`PATHS`] of the widest path that may be used.
static WIDEST: AtomicUsize = AtomicUsize::new(0);

impl Path {
    /// Those that run here, the widest first.
    pub fn available() -> Vec<Path> {
        PATHS.into_iter().filter(|path| path.is_available()).collect()
    }

    /// As users write it.
    pub fn name(self) -> &'static str {
        match self {
            Path::Avx512Vbmi => "avx512vbmi",
            Path::Avx512 => "avx512",
            Path::Avx2 => "avx2",
            Path::Scalar => "scalar",
        }
    }

    #[cfg(target_arch = "x86_64")]
    fn is_available(self) -> bool {
        use std::arch::is_x86_feature_detected as has;
        match self {
            Path::Avx512Vbmi => {
                has!("avx512f") && has!("avx512bw") && has!("avx512vbmi") && has!("avx512vbmi2") && has!("popcnt")
            }
            Path::Avx512 => has!("avx512f"),
            Path::Avx2 => has!("avx2"),
            Path::Scalar => true,
        }
    }

    #[cfg(not(target_arch = "x86_64"))]
    fn is_available(self) -> bool {
        self == Path::Scalar
    }
}

/// The path that loops take from now on.
pub fn chosen() -> Path {
    let widest = WIDEST.load(Ordering::Relaxed);
    PATHS[widest..].iter().copied().find(|path| path.is_available()).unwrap_or(Path::Scalar)
}

/// Lets loops that are made from now on use this path, by its name, and nothing wider. What was made before keeps its own.
///
/// # Errors
///
/// [`Error::Config`] if there is no such path, or the processor lacks its instructions; then nothing changes.
pub fn choose(name: &str) -> Result<()> {
    let named = PATHS.iter().position(|path| path.name() == name && path.is_available());
    let Some(place) = named else {
        let message = if PATHS.iter().any(|path| path.name() == name) {
            format!("this processor lacks what `ZEPHYR_DATA_SIMD` asks for: `{name}`")
        } else {
            format!("`ZEPHYR_DATA_SIMD` must name an instruction set, found: `{name}`")
        };
        let here: Vec<String> = Path::available().iter().map(|path| format!("`{}`", path.name())).collect();
        let hint = format!("here it may be {}; without it the first of these is used", here.join(", "));
        return Err(Error::Config { key: "ZEPHYR_DATA_SIMD".into(), message, hint });
    };
    WIDEST.store(place, Ordering::Relaxed);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_chosen_is_an_error_with_the_names() {
        let message = |name| choose(name).unwrap_err().to_string();
        assert!(message("avx9").starts_with("`ZEPHYR_DATA_SIMD` must name an instruction set, found: `avx9`\nhint: "));
        assert!(message("").contains("`scalar`; without it"));
        for path in PATHS.iter().filter(|path| !Path::available().contains(path)) {
            assert!(message(path.name()).starts_with("this processor lacks what `ZEPHYR_DATA_SIMD` asks for: `"));
        }
        // A choice is for the process, so that of a name that works is tested from Python, in a process of its own.
        assert_eq!(chosen(), Path::available()[0]);
    }
}
