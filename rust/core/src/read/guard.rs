//! Panics of the libraries that decode Parquet and Arrow, made errors of the file: some damage trips them.

use std::cell::Cell;
use std::fmt::Display;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::sync::Once;

thread_local! {
    static GUARDED: Cell<bool> = const { Cell::new(false) };
}

/// Does `work`; what it says against the file, or what it panics with, is the error. Nothing is printed.
pub(super) fn guarded<T, E: Display>(work: impl FnOnce() -> Result<T, E>) -> Result<T, String> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let printing = take_hook();
        set_hook(Box::new(move |panic| {
            if !GUARDED.get() {
                printing(panic);
            }
        }));
    });
    let before = GUARDED.replace(true);
    let done = catch_unwind(AssertUnwindSafe(work));
    GUARDED.set(before);
    match done {
        Ok(done) => done.map_err(|error| error.to_string()),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("unknown");
            Err(format!("the decoder stopped at damage: {text}"))
        }
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
        assert!(!GUARDED.get());
    }
}
