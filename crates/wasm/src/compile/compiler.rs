//! The parent's side: starts the child, waits for it, and ends it when it takes too long.

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Condvar, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use rustix::process::Signal;

use super::{Artifact, CompileError, Verdict};
use crate::inspect::screen;
use crate::limits::{ARTIFACT_BYTES, CHILD_STDERR_BYTES};
use crate::stop::cut;

/// What one compilation may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CompileLimits {
    /// Address space of the child, in bytes.
    pub memory_bytes: u64,
    /// CPU time of the child, in seconds.
    pub cpu_seconds: u64,
    /// Time on the wall clock.
    pub wall: Duration,
}

impl Default for CompileLimits {
    fn default() -> Self {
        Self { memory_bytes: 2 << 30, cpu_seconds: 60, wall: Duration::from_secs(120) }
    }
}

impl CompileLimits {
    pub(super) const ENCODED: usize = 16;

    fn encode(self) -> [u8; Self::ENCODED] {
        let mut bytes = [0; Self::ENCODED];
        bytes[..8].copy_from_slice(&self.memory_bytes.to_le_bytes());
        bytes[8..].copy_from_slice(&self.cpu_seconds.to_le_bytes());
        bytes
    }

    /// What the child can limit by itself; the wall clock is the parent's.
    pub(super) fn decode(bytes: [u8; Self::ENCODED]) -> Self {
        let [memory, cpu] = [0, 8].map(|at| {
            let mut number = [0; 8];
            number.copy_from_slice(&bytes[at..at + 8]);
            u64::from_le_bytes(number)
        });
        Self { memory_bytes: memory, cpu_seconds: cpu, wall: Duration::MAX }
    }
}

/// Compiles modules in children, a few at a time.
#[derive(Debug)]
pub struct Compiler {
    executable: PathBuf,
    arguments: Vec<OsString>,
    limits: CompileLimits,
    /// Guards a counter; callers wait on it for a permit, on threads that may block.
    free: Mutex<u32>,
    freed: Condvar,
}

impl Compiler {
    /// Runs `executable` with `arguments` as the child, which must call [`super::child_main`]; at most `children` at
    /// a time.
    pub fn new(executable: PathBuf, arguments: Vec<OsString>, children: u32, limits: CompileLimits) -> Self {
        Self { executable, arguments, limits, free: Mutex::new(children.max(1)), freed: Condvar::new() }
    }

    /// Checks and compiles a module. Blocks until it is done or over its limits, and before that until no more
    /// than the other permitted children run.
    pub fn compile(&self, module: &[u8]) -> Result<Artifact, CompileError> {
        screen(module)?;
        let _permit = self.permit();
        let mut child = self.spawn()?;
        let outcome = self.talk(&mut child, module);
        // Whatever came of it, the child is gone when this returns; a second kill finds nobody, which is fine.
        let status = child.wait();
        let (answer, stderr) = outcome?;
        self.judge(status?, &answer, &stderr)
    }

    fn permit(&self) -> Permit<'_> {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        while *free == 0 {
            free = self.freed.wait(free).unwrap_or_else(PoisonError::into_inner);
        }
        *free -= 1;
        Permit(self)
    }

    fn spawn(&self) -> io::Result<Child> {
        Command::new(&self.executable)
            .args(&self.arguments)
            .env_clear()
            // mimalloc, if the child has it, reserves a GiB at its start: it would escape the limit that the child sets.
            .env("MIMALLOC_ARENA_RESERVE", "0")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
    }

    /// What the child wrote to its standard output and standard error.
    fn talk(&self, child: &mut Child, module: &[u8]) -> Result<(Vec<u8>, String), CompileError> {
        let (Some(mut stdin), Some(stdout), Some(stderr)) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            return Err(CompileError::Child(io::Error::from(io::ErrorKind::BrokenPipe)));
        };
        let header = self.limits.encode();
        thread::scope(|scope| {
            scope.spawn(move || {
                // A child that ends early breaks the pipe; its status says why.
                stdin.write_all(&header).and_then(|()| stdin.write_all(module)).ok();
            });
            let errors = scope.spawn(move || read_up_to(stderr, CHILD_STDERR_BYTES));
            let (done, waiting) = mpsc::channel();
            scope.spawn(move || done.send(read_up_to(stdout, ARTIFACT_BYTES)).ok());
            let answer = match waiting.recv_timeout(self.limits.wall) {
                Ok(answer) => answer.map_err(CompileError::Child),
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                    Err(CompileError::Time { limits: self.limits })
                }
            };
            // After an answer it is about to exit, and after a timeout it must: either way its pipes close.
            if answer.is_err() {
                child.kill()?;
            }
            let errors = errors.join().unwrap_or_else(|_| Ok(Vec::new()))?;
            Ok((answer?, String::from_utf8_lossy(&errors).into_owned()))
        })
    }

    fn judge(&self, status: ExitStatus, answer: &[u8], stderr: &str) -> Result<Artifact, CompileError> {
        let limits = self.limits;
        if status.success() {
            return match postcard::from_bytes(answer).map_err(CompileError::Answer)? {
                Verdict::Compiled(artifact) => Ok(artifact),
                Verdict::Refused(refusal) => Err(CompileError::Refused(refusal)),
                Verdict::Failed { message } => Err(failed(&message, limits)),
            };
        }
        if status.signal() == Some(Signal::XCPU.as_raw()) {
            return Err(CompileError::Time { limits });
        }
        // What the standard library and the allocators say before they abort.
        if stderr.contains("memory allocation of") || stderr.contains("out of memory") {
            return Err(CompileError::Memory { limits });
        }
        Err(CompileError::Crash { status, stderr: cut(stderr.trim(), 1000) })
    }
}

/// The compiler gives up in an orderly way when it cannot map memory.
fn failed(message: &str, limits: CompileLimits) -> CompileError {
    if message.contains("Cannot allocate memory") || message.contains("out of memory") {
        return CompileError::Memory { limits };
    }
    CompileError::Failed { message: cut(message, 4000) }
}

fn read_up_to(stream: impl Read, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    stream.take(limit).read_to_end(&mut bytes)?;
    Ok(bytes)
}

struct Permit<'a>(&'a Compiler);

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        *self.0.free.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.0.freed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_reach_the_child_as_they_are() {
        let limits = CompileLimits { memory_bytes: 1 << 40, cpu_seconds: 7, wall: Duration::from_secs(1) };
        let decoded = CompileLimits::decode(limits.encode());
        assert_eq!((decoded.memory_bytes, decoded.cpu_seconds), (1 << 40, 7));
    }

    #[test]
    fn a_child_that_cannot_be_started_is_an_error() {
        let missing = PathBuf::from("/nonexistent/compiler");
        let compiler = Compiler::new(missing, Vec::new(), 1, CompileLimits::default());
        let error = compiler.compile(b"\0asm\x01\0\0\0").unwrap_err();
        assert!(matches!(error, CompileError::Child(error) if error.kind() == io::ErrorKind::NotFound));
    }
}
