//! Panics of the libraries that decode Parquet and Arrow, made errors of the file: some damage trips them.

use std::fmt::Display;

use crate::error::quietly;

/// Does `work`; what it says against the file, or what it panics with, is the error. Nothing is printed.
pub(super) fn guarded<T, E: Display>(work: impl FnOnce() -> Result<T, E>) -> Result<T, String> {
    match quietly(work) {
        Ok(done) => done.map_err(|error| error.to_string()),
        Err(panic) => Err(format!("the decoder stopped at damage: {panic}")),
    }
}

/// The items, each made under guard. The first error is the last item: what panicked is in no state to go on.
pub(super) fn each_guarded<T, E: Display>(
    items: impl Iterator<Item = Result<T, E>>,
) -> impl Iterator<Item = Result<T, String>> {
    let mut items = Some(items);
    std::iter::from_fn(move || {
        let next = guarded(|| items.as_mut().and_then(Iterator::next).transpose());
        if next.is_err() {
            items = None;
        }
        next.transpose()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_an_error_and_the_end() {
        let items = [Ok(1), Err("bad"), Ok(2)];
        assert_eq!(each_guarded(items.into_iter()).collect::<Vec<_>>(), [Ok(1), Err("bad".to_string())]);
        let items = (0..4).map(|n| if n < 2 { Ok::<_, String>(n) } else { panic!("at {n}") });
        let found: Vec<_> = each_guarded(items).collect();
        assert_eq!(found, [Ok(0), Ok(1), Err("the decoder stopped at damage: at 2".to_string())]);
        assert!(!crate::error::GUARDED.get());
    }
}
