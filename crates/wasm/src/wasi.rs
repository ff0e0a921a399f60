//! What a guest may call. Its own import is the log; beside it stand the interfaces of WASI that compilers
//! link into every program, with nothing behind them: no files, no sockets, no arguments. Standard output
//! and standard error go to the guest's log, and clocks and randomness work. Waiting traps, for it would hold
//! up the thread, and with it the entries of others.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use tokio::io::AsyncWrite;
use wasmtime::StoreContextMut;
use wasmtime::component::{ComponentType, Lift, Linker, WasmStr};
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{self, OutputStream, Pollable, StreamResult};
use wasmtime_wasi::{WasiCtx, WasiCtxBuilder};

use crate::guest_state::GuestState;
use crate::limits::{LOG_LINE_BYTES, RANDOM_BYTES};
use crate::log::{InstanceLog, Level};
use crate::stop::WouldWait;

/// The log's interface, and its version in `wit/wattle.wit`.
const LOG: &str = "wattle:grid/log@0.1.0";
/// The version that the engine's WASI implements; guests of older minor versions match it.
const POLL: &str = "wasi:io/poll@0.2.12";

/// The imports that guests may have, with what stands behind them.
pub(crate) fn link(linker: &mut Linker<GuestState>) -> wasmtime::Result<()> {
    p2::add_to_linker_sync(linker)?;
    linker.allow_shadowing(true);
    let mut poll = linker.instance(POLL)?;
    poll.func_new("poll", |_, _, _, _| Err(WouldWait.into()))?;
    poll.func_new("[method]pollable.block", |_, _, _, _| Err(WouldWait.into()))?;
    linker.allow_shadowing(false);
    linker
        .instance(LOG)?
        .func_wrap("write", |store, (level, message): (WitLevel, WasmStr)| write(&store, level, &message))
}

/// A WASI context that grants nothing.
pub(crate) fn nothing_granted(log: &Arc<InstanceLog>) -> WasiCtx {
    WasiCtxBuilder::new()
        .stdout(LogOutput::new(log, Level::Info))
        .stderr(LogOutput::new(log, Level::Warn))
        .allow_tcp(false)
        .allow_udp(false)
        .allow_ip_name_lookup(false)
        .max_random_size(RANDOM_BYTES)
        .build()
}

#[derive(Debug, Clone, Copy, ComponentType, Lift)]
#[component(enum)]
#[repr(u8)]
#[expect(dead_code, reason = "guests make these, the host only reads them")]
enum WitLevel {
    #[component(name = "error")]
    Error,
    #[component(name = "warn")]
    Warn,
    #[component(name = "info")]
    Info,
    #[component(name = "debug")]
    Debug,
    #[component(name = "trace")]
    Trace,
    #[component(name = "other")]
    Other,
}

fn write(
    store: &StoreContextMut<'_, GuestState>,
    level: WitLevel,
    message: &WasmStr,
) -> wasmtime::Result<()> {
    let level = match level {
        WitLevel::Error => Level::Error,
        WitLevel::Warn => Level::Warn,
        WitLevel::Info | WitLevel::Other => Level::Info,
        WitLevel::Debug => Level::Debug,
        WitLevel::Trace => Level::Trace,
    };
    let message = message.to_str(store)?;
    let state = store.data();
    state.log.write(state.log.function(), level, &message);
    Ok(())
}

/// Standard output or standard error, line by line into the guest's log.
#[derive(Debug, Clone)]
struct LogOutput {
    log: Arc<InstanceLog>,
    level: Level,
    /// The line so far. Programs open the stream anew for each write, so that it must outlive them; the mutex is a
    /// small leaf that one thread at a time uses.
    line: Arc<Mutex<Line>>,
}

#[derive(Debug, Default)]
struct Line {
    /// Which function began it.
    function: usize,
    bytes: Vec<u8>,
}

impl LogOutput {
    fn new(log: &Arc<InstanceLog>, level: Level) -> Self {
        Self { log: Arc::clone(log), level, line: Arc::default() }
    }

    fn take_line(&self, line: &mut Line) {
        if !line.bytes.is_empty() {
            self.log.write(line.function, self.level, &String::from_utf8_lossy(&line.bytes));
            line.bytes.clear();
        }
    }
}

impl IsTerminal for LogOutput {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for LogOutput {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        // The engine's asynchronous interfaces are off; only `p2_stream` is used.
        p2::pipe::MemoryOutputPipe::new(0).async_stream()
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

impl OutputStream for LogOutput {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        let mut line = self.line.lock().unwrap_or_else(PoisonError::into_inner);
        for &byte in &bytes {
            if byte == b'\n' || line.bytes.len() >= LOG_LINE_BYTES {
                self.take_line(&mut line);
            }
            if line.bytes.is_empty() {
                line.function = self.log.function();
            }
            if byte != b'\n' {
                line.bytes.push(byte);
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(LOG_LINE_BYTES)
    }
}

impl Pollable for LogOutput {
    fn ready<'this, 'future>(&'this mut self) -> Pin<Box<dyn Future<Output = ()> + Send + 'future>>
    where
        'this: 'future,
        Self: 'future,
    {
        Box::pin(std::future::ready(()))
    }
}
