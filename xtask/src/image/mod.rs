//! `cargo xtask image`: the container image of nodes and operator, built from this clone, and checked in containers.
//!
//! The program in it is static, so the image has nothing else. The quick one has what the tests have built, with its
//! libraries: it shows that the program can live in an image, not that the static program can be built.

mod check;
mod context;
mod engine;
mod http;

use crate::command::{cargo, root, run};
use crate::failure::Failure;
use crate::prerequisites;
use crate::test_log::TestLog;
use engine::Engine;
use std::path::PathBuf;

pub(crate) use http::answer as probe;

/// All crates of the workspace have one version.
const VERSION: &str = env!("CARGO_PKG_VERSION");
/// Whoever pulls the static image waits for it: it stays below this.
const BYTES_MAX: u64 = 60_000_000;

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Options {
    tag: String,
    program: Program,
    check: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Program {
    /// Static and optimised: what is published.
    Static,
    /// What the tests have built, and the libraries that it loads.
    Quick,
}

impl Options {
    pub(crate) fn parse(words: &[&str]) -> Result<Self, Failure> {
        let mut options = Self { tag: String::new(), program: Program::Static, check: false };
        let mut words = words.iter();
        while let Some(&word) = words.next() {
            match word {
                "--tag" => {
                    let tag = words.next().ok_or_else(|| Failure::Usage { word: word.to_owned() })?;
                    options.tag = (*tag).to_owned();
                }
                "--quick" => options.program = Program::Quick,
                "--check" => options.check = true,
                _ => return Err(Failure::Usage { word: word.to_owned() }),
            }
        }
        if options.tag.is_empty() {
            options.tag = match options.program {
                Program::Static => format!("wattle:{VERSION}"),
                Program::Quick => "wattle:quick".to_owned(),
            };
        }
        Ok(options)
    }
}

pub(crate) fn build(options: &Options) -> Result<(), Failure> {
    let engine = Engine::find()?;
    build_with(&engine, options)?;
    if options.check {
        check::run_all(&engine, &options.tag, options.program, &mut TestLog::default())?;
    }
    if engine.ends_with_this_run() {
        let archive = format!("target/container/wattle-{VERSION}.tar");
        run(&mut engine.docker(&["save", "--output", &archive, &options.tag]))?;
        println!(
            "no engine of Docker runs here, so the image is in {archive}: `docker load --input {archive}`"
        );
    }
    Ok(())
}

/// The image that the tests' program makes works as containers do. Where there is no engine, that counts as skipped.
pub(crate) fn check_quick(log: &mut TestLog) -> Result<(), Failure> {
    let engine = match Engine::find() {
        Ok(engine) => engine,
        Err(failure) => {
            println!("{failure}");
            log.skip("image", "Docker's engine cannot be installed or started");
            return Ok(());
        }
    };
    let options = Options::parse(&["--quick"])?;
    build_with(&engine, &options)?;
    check::run_all(&engine, &options.tag, options.program, log)
}

fn build_with(engine: &Engine, options: &Options) -> Result<(), Failure> {
    let folder = match options.program {
        Program::Static => context::lay_out("image", &[(static_program()?, "wattle")])?,
        Program::Quick => {
            let program = crate::node::build(true)?;
            context::lay_out_with_libraries("image", &program, "wattle")?
        }
    };
    let file = root().join("deploy/Dockerfile");
    let version = format!("VERSION={VERSION}");
    let mut build = engine.docker(&["build", "--tag", &options.tag, "--build-arg", &version, "--file"]);
    run(build.arg(file).arg(folder))
}

/// Builds the program for musl, which links everything into it.
fn static_program() -> Result<PathBuf, Failure> {
    let target = format!("{}-unknown-linux-musl", std::env::consts::ARCH);
    prerequisites::rust_target(&target, "the compiler's target for static programs")?;
    prerequisites::musl_compiler()?;
    let mut build =
        cargo(&["build", "--locked", "--profile", "image", "--bin", "wattle", "--target", &target]);
    run(build.env(format!("CC_{}", target.replace('-', "_")), "musl-gcc"))?;
    Ok(root().join("target").join(target).join("image/wattle"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_called_after_the_version_unless_it_is_told_otherwise() {
        let parse = |words: &[&str]| Options::parse(words).unwrap();
        let published = Options { tag: format!("wattle:{VERSION}"), program: Program::Static, check: false };
        assert_eq!(parse(&[]), published);
        let other = Options { tag: "a/b:1".to_owned(), check: true, ..published };
        assert_eq!(parse(&["--check", "--tag", "a/b:1"]), other);
        let quick = parse(&["--quick"]);
        assert_eq!((quick.tag.as_str(), quick.program), ("wattle:quick", Program::Quick));
    }

    #[test]
    fn words_that_mean_nothing_are_named() {
        for words in [["--tag"], ["--fast"]] {
            match Options::parse(&words) {
                Err(Failure::Usage { word }) => assert_eq!(word, words[0]),
                other => panic!("{other:?}"),
            }
        }
    }
}
