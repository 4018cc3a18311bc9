//! Work on any number of threads whose results arrive in the order of the source.
//!
//! Every thread does all of it: takes the next item under a lock, works on it, and whoever finishes the oldest missing
//! result writes it and those that waited for it. One worker is therefore plain sequential work on one core, and nothing
//! depends on the number of workers but the time.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::error::{Error, Result, panic_text};

/// How often the caller's thread looks for a wish to stop and reports progress.
const TICK: Duration = Duration::from_millis(100);

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Source<I> {
    items: I,
    next: u64,
    ended: bool,
}

struct Sink<O, W> {
    write: W,
    next: u64,
    waiting: BTreeMap<u64, Result<O>>,
    failed: Option<Error>,
    running: usize,
}

/// Applies `work` to the items on `workers` threads and hands the results to `write` in the order of the items.
///
/// `tick` runs on the calling thread about ten times a second; if it fails, the work ends with that error. Of several
/// failing items the first in the source's order decides, as it would on one thread.
pub(super) fn for_each<T: Send, O: Send>(
    workers: usize,
    items: impl Iterator<Item = Result<T>> + Send,
    work: impl Fn(T) -> Result<O> + Sync,
    write: impl FnMut(O) -> Result<()> + Send,
    mut tick: impl FnMut() -> Result<()>,
) -> Result<()> {
    let ahead = 2 * workers as u64;
    let source = Mutex::new(Source { items, next: 0, ended: false });
    let sink = Mutex::new(Sink { write, next: 0, waiting: BTreeMap::new(), failed: None, running: workers });
    let (written, finished) = (Condvar::new(), Condvar::new());
    let stop = AtomicBool::new(false);

    let worker = || {
        while !stop.load(Ordering::Relaxed) {
            let (number, item) = {
                let mut source = lock(&source);
                if source.ended {
                    break;
                }
                let item = guarded(|| source.items.next().transpose());
                source.ended = !matches!(item, Ok(Some(_)));
                let number = source.next;
                source.next += 1;
                (number, item)
            };
            let result = match item {
                Ok(None) => break,
                Ok(Some(item)) => guarded(|| work(item)),
                Err(error) => Err(error),
            };
            let mut sink = lock(&sink);
            // A thread that is far ahead waits, or the results of a slow item's successors would fill the memory.
            while number >= sink.next + ahead && !stop.load(Ordering::Relaxed) {
                sink = written.wait_timeout(sink, TICK).unwrap_or_else(PoisonError::into_inner).0;
            }
            sink.waiting.insert(number, result);
            let state = &mut *sink;
            while let Some(result) = state.waiting.remove(&state.next) {
                state.next += 1;
                if state.failed.is_some() {
                    continue;
                }
                if let Err(error) = result.and_then(|output| guarded(|| (state.write)(output))) {
                    state.failed = Some(error);
                    stop.store(true, Ordering::Relaxed);
                }
            }
            drop(sink);
            written.notify_all();
        }
        lock(&sink).running -= 1;
        finished.notify_all();
    };

    let mut stopped = Ok(());
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(worker);
        }
        let mut state = lock(&sink);
        while state.running > 0 {
            state = finished.wait_timeout(state, TICK).unwrap_or_else(PoisonError::into_inner).0;
            if stopped.is_ok() {
                drop(state);
                stopped = tick();
                if stopped.is_err() {
                    stop.store(true, Ordering::Relaxed);
                }
                state = lock(&sink);
            }
        }
    });
    stopped?;
    match sink.into_inner().unwrap_or_else(PoisonError::into_inner).failed {
        Some(error) => Err(error),
        None => Ok(()),
    }
}

/// Runs `work`; a panic becomes an error, so that it ends the run and not the interpreter.
fn guarded<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| Err(Error::Panic { message: panic_text(&*panic) }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(workers: usize, fail_at: &[u32]) -> (Vec<u32>, Result<()>) {
        let mut seen = Vec::new();
        let work = |n: u32| {
            std::thread::sleep(Duration::from_micros(u64::from(n * 7919 % 200)));
            if fail_at.contains(&n) { Err(Error::Panic { message: n.to_string() }) } else { Ok(n) }
        };
        let result = for_each(
            workers,
            (0..300).map(Ok),
            work,
            |n| {
                seen.push(n);
                Ok(())
            },
            || Ok(()),
        );
        (seen, result)
    }

    #[test]
    fn results_arrive_in_order_on_any_number_of_threads() {
        for workers in [1, 2, 5] {
            let (seen, result) = run(workers, &[]);
            assert!(result.is_ok());
            assert_eq!(seen, (0..300).collect::<Vec<_>>());
        }
    }

    #[test]
    fn the_first_failure_in_order_decides() {
        for workers in [1, 2, 5] {
            let (seen, result) = run(workers, &[150, 151, 40, 220]);
            assert_eq!(seen, (0..40).collect::<Vec<_>>());
            assert!(result.unwrap_err().to_string().contains("failed: 40"));
        }
    }

    #[test]
    fn a_panic_is_an_error() {
        let result = for_each(
            2,
            (0..9).map(Ok),
            |n: u32| {
                assert!(n != 4, "four");
                Ok(n)
            },
            |_| Ok(()),
            || Ok(()),
        );
        assert!(matches!(result, Err(Error::Panic { message }) if message == "four"));
    }

    #[test]
    fn a_failing_tick_ends_the_work() {
        let work = |n: u32| {
            std::thread::sleep(Duration::from_millis(5));
            Ok(n)
        };
        let result = for_each(2, (0..100_000).map(Ok), work, |_| Ok(()), || Err(Error::Interrupted));
        assert!(matches!(result, Err(Error::Interrupted)));
    }
}
