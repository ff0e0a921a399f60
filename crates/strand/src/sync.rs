//! The locks: `parking_lot`'s, or loom's under `cfg(wattle_loom)`, with one interface for both.

#[cfg(not(wattle_loom))]
pub(crate) use std::thread;

#[cfg(wattle_loom)]
pub(crate) use loom::thread;

#[cfg(not(wattle_loom))]
pub(crate) use parking_lot::MutexGuard;

#[cfg(wattle_loom)]
pub(crate) use loom::sync::MutexGuard;

#[cfg(not(wattle_loom))]
type RawMutex<T> = parking_lot::Mutex<T>;

#[cfg(wattle_loom)]
type RawMutex<T> = loom::sync::Mutex<T>;

#[cfg(not(wattle_loom))]
type RawCondvar = parking_lot::Condvar;

#[cfg(wattle_loom)]
type RawCondvar = loom::sync::Condvar;

pub(crate) struct Mutex<T>(RawMutex<T>);

impl<T> Mutex<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(RawMutex::new(value))
    }

    #[cfg(not(wattle_loom))]
    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock()
    }

    #[cfg(not(wattle_loom))]
    pub(crate) fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        self.0.try_lock()
    }

    #[cfg(wattle_loom)]
    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().expect("a panic ends the model")
    }

    #[cfg(wattle_loom)]
    pub(crate) fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        self.0.try_lock().ok()
    }
}

pub(crate) struct Condvar(RawCondvar);

impl Condvar {
    pub(crate) fn new() -> Self {
        Self(RawCondvar::new())
    }

    pub(crate) fn notify_one(&self) {
        self.0.notify_one();
    }

    pub(crate) fn notify_all(&self) {
        self.0.notify_all();
    }

    #[cfg(not(wattle_loom))]
    pub(crate) fn wait<'a, T>(&self, mut guard: MutexGuard<'a, T>) -> MutexGuard<'a, T> {
        self.0.wait(&mut guard);
        guard
    }

    #[cfg(wattle_loom)]
    pub(crate) fn wait<'a, T>(&self, guard: MutexGuard<'a, T>) -> MutexGuard<'a, T> {
        self.0.wait(guard).expect("a panic ends the model")
    }
}
