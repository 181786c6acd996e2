//! What the green modules of the package are made of: locks, sleep and sockets that
//! wait with the reactor in a green function, and are the stdlib's anywhere else.

mod gil;
pub mod in_turn;
pub mod lock;
mod nonblocking;
pub mod polled;
mod raw_lock;
pub mod rlock;
pub mod sleep;
pub mod socket;

pub use nonblocking::retry;
