//! Other programs: started in the repository's root, shown before they run, and their failure reported with their name.

use crate::failure::Failure;
use std::io::{BufRead, BufReader, PipeReader};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

/// The repository's root.
pub(crate) fn root() -> PathBuf {
    let manifest =
        std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    Path::new(&manifest).parent().expect("the folder xtask lies in the root").to_owned()
}

/// A program that runs in the root and reads nothing.
pub(crate) fn program(name: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(name);
    command.args(arguments).current_dir(root()).stdin(Stdio::null());
    command
}

/// The cargo that started this program.
pub(crate) fn cargo(arguments: &[&str]) -> Command {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    program(&cargo, arguments)
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

/// Runs it and shows `on_line` each line of both its outputs, in the order of writing, on the way to the terminal.
pub(crate) fn run_watched(command: &mut Command, mut on_line: impl FnMut(&str)) -> Result<(), Failure> {
    println!("$ {}", shown(command));
    let cannot_start = |command: &Command, source| Failure::CannotStart { command: shown(command), source };
    let (reader, mut child) = start_piped(command).map_err(|source| cannot_start(command, source))?;
    for line in BufReader::new(reader).split(b'\n') {
        let line = line.map_err(|source| cannot_start(command, source))?;
        let line = String::from_utf8_lossy(&line);
        println!("{line}");
        on_line(&line);
    }
    let status = child.wait().map_err(|source| cannot_start(command, source))?;
    succeeded(command, status)
}

fn start_piped(command: &mut Command) -> std::io::Result<(PipeReader, std::process::Child)> {
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
