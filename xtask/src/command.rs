//! Other programs: started in the repository's root, shown before they run, and their failure reported with their name.

use crate::failure::Failure;
use std::fs::File;
use std::io::{BufRead, BufReader, PipeReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

/// The repository's root.
pub(crate) fn root() -> PathBuf {
    let manifest =
        std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    Path::new(&manifest).parent().expect("the folder xtask lies in the root").to_owned()
}

/// A program that runs in the root and reads nothing. What cargo has told this one of its package is kept from it: dependencies whose
/// build scripts look at that (ring's does) would be built anew, and again when a developer calls cargo.
pub(crate) fn program(name: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(name);
    command.args(arguments).current_dir(root()).stdin(Stdio::null());
    for (name, _) in std::env::vars_os() {
        if is_of_this_package(&name.to_string_lossy()) {
            command.env_remove(name);
        }
    }
    command
}

/// The cargo that started this program.
pub(crate) fn cargo(arguments: &[&str]) -> Command {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    program(&cargo, arguments)
}

fn is_of_this_package(variable: &str) -> bool {
    ["CARGO_MANIFEST_", "CARGO_PKG_"].iter().any(|prefix| variable.starts_with(prefix))
}

/// The command as one would type it.
pub(crate) fn shown(command: &Command) -> String {
    let name = Path::new(command.get_program()).file_name().unwrap_or_default().to_string_lossy();
    let arguments = command.get_args().map(|argument| argument.to_string_lossy());
    std::iter::once(name).chain(arguments).collect::<Vec<_>>().join(" ")
}

/// Runs it with its output on the terminal.
pub(crate) fn run(command: &mut Command) -> Result<(), Failure> {
    println!("$ {}", shown(command));
    let status =
        command.status().map_err(|source| Failure::CannotStart { command: shown(command), source })?;
    succeeded(command, status)
}

/// Runs it quietly and returns what it wrote to its standard output.
pub(crate) fn output(command: &mut Command) -> Result<String, Failure> {
    let output = command
        .stderr(Stdio::inherit())
        .output()
        .map_err(|source| Failure::CannotStart { command: shown(command), source })?;
    succeeded(command, output.status)?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// True when it starts and succeeds; its output is dropped.
pub(crate) fn works(command: &mut Command) -> bool {
    command.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

/// Starts it in the background. What it writes is in this file.
pub(crate) fn start_logged(command: &mut Command, log: &Path) -> Result<Child, Failure> {
    let file = File::create(log).map_err(Failure::file(log))?;
    command.stdout(file.try_clone().map_err(Failure::file(log))?).stderr(file);
    command.spawn().map_err(|source| Failure::CannotStart { command: shown(command), source })
}

/// Asks a process to end, and has it ended by force past a deadline. Whether that was not needed.
pub(crate) fn end(child: &mut Child, deadline: Duration) -> bool {
    let has_ended = |child: &mut Child| child.try_wait().is_ok_and(|status| status.is_some());
    if has_ended(child) {
        return true;
    }
    let asked = works(&mut program("kill", &["-TERM", &child.id().to_string()]));
    let start = Instant::now();
    while asked && start.elapsed() < deadline {
        if has_ended(child) {
            return true;
        }
        std::thread::sleep(POLL);
    }
    end_by_force(child);
    false
}

pub(crate) fn end_by_force(child: &mut Child) {
    if child.kill().and_then(|()| child.wait()).is_err() {
        eprintln!("process {} could not be ended", child.id());
    }
}

/// How often a process is looked at that is to end.
const POLL: Duration = Duration::from_millis(5);
/// How long a program that is watched may say nothing: a test that never ends is to be named, not waited for.
const SILENCE: Duration = Duration::from_secs(15 * 60);

/// Runs it and shows `on_line` each line of both its outputs, in the order of writing, on the way to the terminal. Who says nothing
/// for [`SILENCE`] is ended, with all that it has started.
pub(crate) fn run_watched(command: &mut Command, on_line: impl FnMut(&str)) -> Result<(), Failure> {
    println!("$ {}", shown(command));
    watch(command, SILENCE, on_line)
}

fn watch(command: &mut Command, silence: Duration, mut on_line: impl FnMut(&str)) -> Result<(), Failure> {
    let cannot_start = |command: &Command, source| Failure::CannotStart { command: shown(command), source };
    let (reader, mut child) = start_piped(command).map_err(|source| cannot_start(command, source))?;
    let lines = read_lines(reader);
    loop {
        match lines.recv_timeout(silence) {
            Ok(line) => {
                println!("{line}");
                on_line(&line);
            }
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => {
                kill_with_children(&child.id().to_string());
                drop(child.wait());
                return Err(Failure::Silent { command: shown(command), silence });
            }
        }
    }
    let status = child.wait().map_err(|source| cannot_start(command, source))?;
    succeeded(command, status)
}

fn read_lines(reader: PipeReader) -> Receiver<String> {
    let (sender, lines) = mpsc::channel();
    std::thread::spawn(move || {
        // What cannot be read has ended.
        for line in BufReader::new(reader).split(b'\n').map_while(Result::ok) {
            if sender.send(String::from_utf8_lossy(&line).into_owned()).is_err() {
                return;
            }
        }
    });
    lines
}

/// A program and what it has started. They are no process group of their own: Ctrl-C at the terminal is for all of them.
fn kill_with_children(id: &str) {
    let threads = std::fs::read_dir(format!("/proc/{id}/task")).into_iter().flatten().flatten();
    let children: String =
        threads.filter_map(|thread| std::fs::read_to_string(thread.path().join("children")).ok()).collect();
    works(&mut program("kill", &["-KILL", id]));
    children.split_whitespace().for_each(kill_with_children);
}

fn start_piped(command: &mut Command) -> std::io::Result<(PipeReader, Child)> {
    let (reader, writer) = std::io::pipe()?;
    command.stdout(writer.try_clone()?).stderr(writer);
    let child = command.spawn()?;
    // The command holds the writing ends; while it does, the reader sees no end.
    command.stdout(Stdio::null()).stderr(Stdio::null());
    Ok((reader, child))
}

fn succeeded(command: &Command, status: ExitStatus) -> Result<(), Failure> {
    if status.success() { Ok(()) } else { Err(Failure::Exited { command: shown(command), status }) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    #[test]
    fn who_is_silent_for_too_long_is_ended_with_its_children() {
        let script = "echo begun; sleep 600 & echo $!; wait";
        let mut lines = Vec::new();
        let mut command = program("sh", &["-c", script]);
        let result = watch(&mut command, Duration::from_secs(1), |line| lines.push(line.to_owned()));
        assert!(matches!(result, Err(Failure::Silent { .. })), "{result:?}");
        let [begun, child] = &lines[..] else { panic!("{lines:?}") };
        assert_eq!(begun, "begun");
        // Who is killed may die a moment later, and whoever takes in orphans may not have buried it yet.
        let state = || std::fs::read_to_string(format!("/proc/{child}/stat")).unwrap_or_default();
        let is_gone = || state().is_empty() || state().contains(") Z ");
        let start = Instant::now();
        while !is_gone() && start.elapsed() < Duration::from_secs(30) {
            std::thread::yield_now();
        }
        assert!(is_gone(), "{}", state());
    }

    #[test]
    fn cargo_is_not_told_of_this_package() {
        let mut command = program("cargo", &[]);
        let forgotten = command.get_envs().filter(|(_, value)| value.is_none()).map(|(name, _)| name);
        let forgotten: Vec<_> = forgotten.map(|name| name.to_string_lossy().into_owned()).collect();
        for name in ["CARGO_MANIFEST_DIR", "CARGO_PKG_NAME", "CARGO_PKG_VERSION_MAJOR"] {
            assert!(std::env::var_os(name).is_some() && forgotten.iter().any(|one| one == name), "{name}");
        }
        // It can be found nevertheless, and all else is as it was.
        assert!(works(command.arg("--version")));
        assert!(!is_of_this_package("CARGO") && !is_of_this_package("CARGO_INCREMENTAL"));
    }

    #[test]
    fn lines_and_failures_of_a_program_are_told() {
        let mut lines = Vec::new();
        let mut command = program("sh", &["-c", "echo one; echo two >&2; exit 3"]);
        let result = watch(&mut command, SILENCE, |line| lines.push(line.to_owned()));
        assert!(matches!(result, Err(Failure::Exited { .. })), "{result:?}");
        assert_eq!(lines, ["one", "two"]);
    }
}
