//! The command line: one file per subcommand. Only here and in the node is the environment read.

mod bench;
mod compile_module;
mod completions;
mod exit;
mod function;
mod grid;
mod invoke;
mod map;
mod operator;
mod output;
mod progress;
mod quantity;
mod remote;
mod serve;
mod shown;
mod template;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use remote::Remote;

/// A compute grid: partitioned maps in memory, and WebAssembly functions that run next to the data.
#[derive(Debug, Parser)]
#[command(name = "wattle", version, after_help = exit::HELP, subcommand_required = true)]
struct Cli {
    #[command(flatten)]
    remote: Remote,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a node
    #[command(args = Remote::hidden())]
    Serve(Box<serve::Serve>),
    /// Work with maps and their entries
    Map(map::MapCommand),
    /// Upload, replace and roll back functions
    Function(function::FunctionCommand),
    /// Run a function on one key, on many keys or on all entries of a map
    Invoke(invoke::Invoke),
    /// Look at the grid
    Grid(grid::GridCommand),
    /// Put load on a grid and measure it
    Bench(bench::Bench),
    /// Look after grids on Kubernetes: Grid, GridMap and GridFunction objects
    #[command(args = Remote::hidden())]
    Operator(operator::Operate),
    /// Print the completions of a shell
    #[command(args = Remote::hidden())]
    Completions(completions::Completions),
    /// Compile a module from the standard input: a node's own child
    #[command(name = compile_module::NAME, hide = true, args = Remote::hidden())]
    CompileModule,
}

/// Runs what the command line asks for.
pub(crate) fn run() -> ExitCode {
    let Cli { remote, command } = parse(std::env::args_os()).unwrap_or_else(|error| error.exit());
    let done = match command {
        Command::Serve(serve) => serve.run(),
        Command::Map(map) => map.run(&remote),
        Command::Function(function) => function.run(&remote),
        Command::Invoke(invoke) => invoke.run(&remote),
        Command::Grid(grid) => grid.run(&remote),
        Command::Bench(bench) => bench.run(&remote),
        Command::Operator(operate) => operate.run(),
        Command::Completions(completions) => completions.run(),
        Command::CompileModule => return compile_module::run(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => exit::report(&error),
    }
}

fn parse(words: impl IntoIterator<Item = OsString>) -> Result<Cli, clap::Error> {
    let mut command = Cli::command();
    let matches = command.try_get_matches_from_mut(words)?;
    let cli = Cli::from_arg_matches(&matches).map_err(|error| error.format(&mut command))?;
    let alone = match &cli.command {
        Command::Serve(_) | Command::Operator(_) | Command::Completions(_) | Command::CompileModule => {
            Remote::given(&matches)
        }
        Command::Map(_)
        | Command::Function(_)
        | Command::Invoke(_)
        | Command::Grid(_)
        | Command::Bench(_) => None,
    };
    match alone {
        Some(option) => {
            let name = matches.subcommand_name().unwrap_or_default();
            let problem = format!("`{name}` talks to no grid, and takes no --{option}");
            Err(command.error(ErrorKind::ArgumentConflict, problem))
        }
        None => Ok(cli),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(line: &str) -> Result<Cli, clap::Error> {
        parse(std::iter::once("wattle").chain(line.split_whitespace()).map(OsString::from))
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_documented_commands_parse() {
        let lines = [
            "serve --listen 127.0.0.1:0 --data-dir d --config f --insecure",
            "map create m --content-type json --ttl 5m --max-idle 1h --max-bytes 64MiB --eviction lru",
            "map update m --ttl 0s --endpoint http://127.0.0.1:1",
            "map put m k v --ttl 30s --if-absent",
            "map put m k --file f --if-version 7",
            "map get m k --output json",
            "map import m f.csv.gz --key a,b,c --null NA --null= --on-error skip",
            "map export m f.ndjson",
            "map watch m --prefix p --count 3",
            "map scan m --prefix p --keys-only --limit 10",
            "function new counter",
            "function upload f f.wasm --export add --stage --cpu-budget 20ms --memory 32MiB",
            "function promote f 2",
            "invoke f --map m --key k --argument 1",
            "invoke f --map m --all --output json",
            "grid status",
            "grid members --output json",
            "grid partitions --all",
            "bench put --in-flight 50 --batch 16 --keys 1000 --value-bytes 100 --duration 3s --server-pid 1",
            "operator --namespace a --namespace b --image registry/wattle:1",
            "operator crds",
            "completions bash",
            "compile-module",
        ];
        for line in lines {
            if let Err(error) = typed(line) {
                panic!("{line}: {error}");
            }
        }
    }

    #[test]
    fn a_wrong_line_is_a_usage_error() {
        for line in [
            "",
            "map put m k v --if-absent --if-version 3",
            "invoke f --map m",
            "map import m f",
            "frobnicate",
            "serve --endpoint http://127.0.0.1:1",
            "--output json serve",
            "completions bash --timeout 1s",
        ] {
            let error = typed(line).expect_err(line);
            assert_eq!(error.exit_code(), 2, "{line}: {error}");
        }
    }

    #[test]
    fn common_options_stand_before_and_behind_the_command() {
        for line in [
            "--endpoint http://127.0.0.1:1 --output json grid status",
            "grid --endpoint http://127.0.0.1:1 status --output json",
            "--endpoint http://127.0.0.1:2 grid status --endpoint http://127.0.0.1:1 --output json",
        ] {
            let remote = typed(line).expect(line).remote;
            assert_eq!(
                (remote.endpoint.as_str(), remote.output),
                ("http://127.0.0.1:1", remote::Format::Json),
                "{line}"
            );
        }
    }

    #[test]
    fn help_lists_common_options_only_where_they_are_taken() {
        let help = |line: &str| typed(&format!("{line} --help")).expect_err(line).to_string();
        for line in ["", "map", "map put", "invoke", "grid status", "bench"] {
            assert_eq!(help(line).matches("--endpoint <URL>").count(), 1, "{line}");
        }
        for line in ["serve", "operator", "completions"] {
            assert!(!help(line).contains("--endpoint"), "{line}");
        }
    }
}
