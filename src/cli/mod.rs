//! The command line: one file per subcommand. Only here and in the node is the environment read.

mod bench;
mod compile_module;
mod completions;
mod exit;
mod function;
mod grid;
mod invoke;
mod map;
mod output;
mod progress;
mod quantity;
mod remote;
mod serve;
mod shown;
mod template;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// A compute grid: partitioned maps in memory, and WebAssembly functions that run next to the data.
#[derive(Debug, Parser)]
#[command(name = "wattle", version, after_help = exit::HELP, subcommand_required = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a node
    Serve(serve::Serve),
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
    /// Print the completions of a shell
    Completions(completions::Completions),
    /// Compile a module from the standard input: a node's own child
    #[command(name = compile_module::NAME, hide = true)]
    CompileModule,
}

/// Runs what the command line asks for.
pub(crate) fn run() -> ExitCode {
    let cli = Cli::parse();
    let done = match cli.command {
        Command::Serve(serve) => serve.run(),
        Command::Map(map) => map.run(),
        Command::Function(function) => function.run(),
        Command::Invoke(invoke) => invoke.run(),
        Command::Grid(grid) => grid.run(),
        Command::Bench(bench) => bench.run(),
        Command::Completions(completions) => completions.run(),
        Command::CompileModule => return compile_module::run(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => exit::report(&error),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

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
            "bench put --in-flight 50 --batch 16 --keys 1000 --value-bytes 100 --duration 3s --server-pid 1",
            "completions bash",
            "compile-module",
        ];
        for line in lines {
            let words = std::iter::once("wattle").chain(line.split(' '));
            if let Err(error) = Cli::try_parse_from(words) {
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
        ] {
            let words = std::iter::once("wattle").chain(line.split_whitespace());
            let error = Cli::try_parse_from(words).expect_err(line);
            assert_eq!(error.exit_code(), 2, "{line}: {error}");
        }
    }
}
