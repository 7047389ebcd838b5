//! Property tests of asynchronous code, with shrinking.

use proptest::strategy::Strategy;
use proptest::test_runner::{Config, TestRunner};
use tokio::runtime::Handle;
use tokio::task::spawn_blocking;

/// Checks a property of `cases` generated values. A check fails by panicking; the value that is reported is the smallest
/// that was found to fail.
pub async fn for_all<S>(cases: u32, values: S, check: impl AsyncFn(S::Value) + Send + 'static)
where
    S: Strategy + Send + 'static,
{
    // The cases run on a thread of their own and do their I/O on this one.
    let io = Handle::current();
    let run = move || {
        let config = Config {
            cases,
            failure_persistence: None,
            ..Config::default()
        };
        let outcome = TestRunner::new(config).run(&values, |value| {
            io.block_on(check(value));
            Ok(())
        });
        outcome.map_err(|failure| failure.to_string())
    };
    if let Err(failure) = spawn_blocking(run)
        .await
        .expect("the runner does not panic")
    {
        panic!("{failure}");
    }
}
