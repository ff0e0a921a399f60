//! `parking_lot`'s interface over loom's locks.
//!
//! Loom switches threads where a lock is taken, never where it is given back, so by itself it would not see two
//! locks that are released in the wrong order. Here every release is a point where it may switch.

use std::ops::{Deref, DerefMut};

use loom::sync::atomic::{AtomicUsize, Ordering};

const NO_PANIC: &str = "a panic ends the model";

pub(crate) struct Mutex<T> {
    inner: loom::sync::Mutex<T>,
    releases: AtomicUsize,
}

pub(crate) struct MutexGuard<'a, T> {
    /// None only while it is released.
    inner: Option<loom::sync::MutexGuard<'a, T>>,
    releases: &'a AtomicUsize,
}

pub(crate) struct Condvar(loom::sync::Condvar);

impl<T> Mutex<T> {
    pub(crate) fn new(value: T) -> Self {
        Self { inner: loom::sync::Mutex::new(value), releases: AtomicUsize::new(0) }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        MutexGuard { inner: Some(self.inner.lock().expect(NO_PANIC)), releases: &self.releases }
    }

    pub(crate) fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        let inner = self.inner.try_lock().ok()?;
        Some(MutexGuard { inner: Some(inner), releases: &self.releases })
    }
}

impl<T> Deref for MutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.inner.as_ref().expect("held")
    }
}

impl<T> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.inner.as_mut().expect("held")
    }
}

impl<T> Drop for MutexGuard<'_, T> {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.releases.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Condvar {
    pub(crate) fn new() -> Self {
        Self(loom::sync::Condvar::new())
    }

    pub(crate) fn wait<T>(&self, guard: &mut MutexGuard<'_, T>) {
        let inner = guard.inner.take().expect("held");
        guard.inner = Some(self.0.wait(inner).expect(NO_PANIC));
    }

    pub(crate) fn notify_one(&self) {
        self.0.notify_one();
    }

    pub(crate) fn notify_all(&self) {
        self.0.notify_all();
    }
}
