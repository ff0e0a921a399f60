//! Lifting and lowering by hand. A module is one thread, so its state is in thread locals that cost nothing.
//!
//! Pointers that are given to the host stay valid until the next call of an export: what they point to lies on the
//! heap or in a thread local, and is not touched in between.

use std::cell::RefCell;
use std::ptr;
use std::slice;

use super::arena::Arena;
use super::panics;
use crate::call;
use crate::function::Function;

/// `result<list<u8>, failure>` in memory.
#[repr(C)]
#[derive(Clone, Copy)]
struct ProcessResult {
    /// 0: the list (pointer, length, unused). 1: the failure (code, pointer, length).
    tag: u32,
    payload: [usize; 3],
}

/// `list<function-info>` in memory. The macro `export!` makes one when the module is compiled.
#[repr(C)]
#[derive(Debug)]
pub struct Manifest {
    start: *const FunctionInfo,
    length: usize,
}

/// `function-info` in memory.
#[repr(C)]
#[derive(Debug)]
pub struct FunctionInfo {
    name: *const u8,
    name_length: usize,
    read_only: bool,
    deterministic: bool,
}

// SAFETY: it points to what lives and stays the same for ever.
unsafe impl Sync for Manifest {}
// SAFETY: as above.
unsafe impl Sync for FunctionInfo {}

impl FunctionInfo {
    pub const fn of<const N: usize>(functions: &[Function]) -> [Self; N] {
        let mut infos =
            [const { Self { name: ptr::null(), name_length: 0, read_only: false, deterministic: false } }; N];
        let mut place = 0;
        while place < N {
            let function = &functions[place];
            infos[place] = Self {
                name: function.name().as_ptr(),
                name_length: function.name().len(),
                read_only: function.is_read_only(),
                deterministic: function.is_deterministic(),
            };
            place += 1;
        }
        infos
    }
}

impl Manifest {
    pub const fn of(infos: &'static [FunctionInfo]) -> Self {
        Self { start: infos.as_ptr(), length: infos.len() }
    }
}

thread_local! {
    static ARENA: RefCell<Arena> = const { RefCell::new(Arena::new()) };
    static OUTPUT: RefCell<Output> = const { RefCell::new(Output::new()) };
}

/// What the host reads after a call, and what that points to.
struct Output {
    result: ProcessResult,
    reply: Vec<u8>,
    message: String,
}

impl Output {
    const fn new() -> Self {
        let result = ProcessResult { tag: 0, payload: [0; 3] };
        Self { result, reply: Vec::new(), message: String::new() }
    }

    fn fill(&mut self, functions: &[Function], frame: &[u8]) -> *const u8 {
        self.result = match call::process(functions, frame, &mut self.reply) {
            Ok(()) => ProcessResult { tag: 0, payload: [self.reply.as_ptr().addr(), self.reply.len(), 0] },
            Err(failure) => {
                let code = failure.code() as usize;
                self.message = failure.into_message();
                ProcessResult { tag: 1, payload: [code, self.message.as_ptr().addr(), self.message.len()] }
            }
        };
        (&raw const self.result).cast()
    }
}

/// The export `process`.
///
/// # Safety
/// `frame` points to `length` bytes that nobody writes until this returns.
pub unsafe fn process(functions: &[Function], frame: *const u8, length: usize) -> *const u8 {
    panics::report();
    // SAFETY: the caller's promise. Memory of no length still comes from `reallocate`, which gives no null pointer.
    let frame = unsafe { slice::from_raw_parts(frame, length) };
    let result = OUTPUT.with_borrow_mut(|output| output.fill(functions, frame));
    ARENA.with_borrow_mut(Arena::finish_call);
    result
}

/// The export `cabi_realloc`.
///
/// # Safety
/// `align` is a power of two; `old`, unless `old_length` is 0, is what this gave for `old_length` bytes in the same call.
pub unsafe fn reallocate(old: *mut u8, old_length: usize, align: usize, length: usize) -> *mut u8 {
    if old_length != 0 && length <= old_length {
        return old;
    }
    let new = ARENA.with_borrow_mut(|arena| arena.allocate(align, length));
    // SAFETY: both are memory of the arena of at least `old_length` bytes, and do not overlap, for nothing that was
    // allocated in a call is given out again in it.
    unsafe { ptr::copy_nonoverlapping(old, new, old_length) };
    new
}
