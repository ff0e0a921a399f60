//! The child's side: it limits itself before it reads the module.

use std::io::{self, Read, Write};
use std::process::ExitCode;

use rustix::process::{Resource, Rlimit, setpriority_process, setrlimit};

use super::compiler::CompileLimits;
use super::{Artifact, CompileError, Verdict};
use crate::engine::compiling_engine;
use crate::inspect::inspect;
use crate::limits::MODULE_BYTES;

const NICE: i32 = 19;

/// What the hidden subcommand of the compiler's child does: it reads [`CompileLimits`] and a module, and writes
/// what became of it.
pub fn child_main(mut input: impl Read, mut output: impl Write) -> ExitCode {
    let answer = limit_and_compile(&mut input).and_then(|verdict| {
        let bytes = postcard::to_allocvec(&verdict).map_err(io::Error::other)?;
        output.write_all(&bytes)?;
        output.flush()
    });
    match answer {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(%error, "cannot compile");
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn limit_and_compile(input: &mut impl Read) -> io::Result<Verdict> {
    let mut header = [0; CompileLimits::ENCODED];
    input.read_exact(&mut header)?;
    restrict(CompileLimits::decode(header))?;
    let mut module = Vec::new();
    // One byte more than allowed, so that the inspection sees that it is too large.
    input.take(MODULE_BYTES as u64 + 1).read_to_end(&mut module)?;
    match compile_here(&module) {
        Ok(artifact) => Ok(Verdict::Compiled(artifact)),
        Err(CompileError::Refused(refusal)) => Ok(Verdict::Refused(refusal)),
        Err(CompileError::Failed { message }) => Ok(Verdict::Failed { message }),
        Err(error) => Err(io::Error::other(error)),
    }
}

fn restrict(limits: CompileLimits) -> io::Result<()> {
    setpriority_process(None, NICE)?;
    let exactly = |limit| Rlimit { current: Some(limit), maximum: Some(limit) };
    setrlimit(Resource::Core, exactly(0))?;
    setrlimit(Resource::As, exactly(limits.memory_bytes))?;
    // One second between the signal that says why, and the one that only kills.
    let seconds = limits.cpu_seconds;
    setrlimit(Resource::Cpu, Rlimit { current: Some(seconds), maximum: Some(seconds.saturating_add(1)) })?;
    Ok(())
}

/// Inspects and compiles a module in this very process, with nothing to stop it: for modules that are trusted, as
/// those of tests and benchmarks, and for the child.
pub fn compile_here(module: &[u8]) -> Result<Artifact, CompileError> {
    let inspected = inspect(module)?;
    let machine_code = compiling_engine()
        .and_then(|engine| engine.precompile_component(&inspected.component))
        .map_err(|error| CompileError::Failed { message: format!("{error:#}") })?;
    Ok(Artifact { world: inspected.world, frees_replies: inspected.frees_replies, machine_code })
}
