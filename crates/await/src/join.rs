//! A few functions at once.

use std::panic;

use crate::scope;

/// Runs two sync functions at once, in the task that calls this: while one waits, the other runs.
///
/// They may borrow, each on a stack of its own. For more of them nest it, or use [`join_all`] or
/// [`scope`].
///
/// ```
/// use verdigris_await::{async_def, await_, join};
///
/// let future = async_def(|| {
///     let text = String::from("text");
///     join(|| await_(async { text.len() }), || text.as_str().to_owned())
/// });
/// assert_eq!(pollster::block_on(future), (4, "text".to_owned()));
/// ```
///
/// # Panics
///
/// Where [`await_`](crate::await_) does. If a function panics, the other one runs to its end, and
/// then this panics with the same payload, the first one's if both did.
#[track_caller]
pub fn join<A, B>(first: impl FnOnce() -> A, second: impl FnOnce() -> B) -> (A, B) {
    let (first, second) = scope(|scope| {
        let first = scope.spawn(first);
        let second = scope.spawn(second);
        (first.join(), second.join())
    });
    match (first, second) {
        (Ok(first), Ok(second)) => (first, second),
        (Err(payload), _) | (_, Err(payload)) => panic::resume_unwind(payload),
    }
}

/// Runs sync functions at once, in the task that calls this, and returns what they do, in order.
///
/// ```
/// use verdigris_await::{async_def, await_, join_all};
///
/// let future = async_def(|| join_all((0..3).map(|n| move || await_(async move { n * n }))));
/// assert_eq!(pollster::block_on(future), [0, 1, 4]);
/// ```
///
/// # Panics
///
/// Where [`await_`](crate::await_) does. If functions panic, the others run to their end, and then
/// this panics with the payload of the first in order.
#[track_caller]
pub fn join_all<F, T>(functions: impl IntoIterator<Item = F>) -> Vec<T>
where
    F: FnOnce() -> T,
{
    let results = scope(|scope| {
        let handles: Vec<_> = functions.into_iter().map(|f| scope.spawn(f)).collect();
        handles
            .into_iter()
            .map(|handle| handle.join())
            .collect::<Vec<_>>()
    });
    results
        .into_iter()
        .map(|result| result.unwrap_or_else(|payload| panic::resume_unwind(payload)))
        .collect()
}
