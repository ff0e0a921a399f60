//! The locks and threads: the real ones, or loom's behind the same interface under `cfg(wattle_loom)`.

#[cfg(wattle_loom)]
mod modelled;

#[cfg(wattle_loom)]
pub(crate) use {
    loom::thread,
    modelled::{Condvar, Mutex, MutexGuard},
};

#[cfg(not(wattle_loom))]
pub(crate) use {
    parking_lot::{Condvar, Mutex, MutexGuard},
    std::thread,
};
