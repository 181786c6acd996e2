//! [`Iterator`] over `Stream`, and `Stream` from a sync function that yields.

mod generator;
mod iter;

pub use generator::{Generator, Yielder, generate};
pub use iter::{Iter, iter};
