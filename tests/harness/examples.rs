//! The example guests, built once for all tests; and the guests in the text format that the tests of wattle-wasm use.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use bytes::Bytes;
use wattle_client::{Client, UploadOptions};

use crate::harness::guest::Guest;

const TARGET: &str = "wasm32-unknown-unknown";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn built() -> PathBuf {
    root().join("target").join(TARGET).join("guest")
}

/// The module of an example, such as `counter`.
pub(crate) fn example(name: &str) -> Bytes {
    static BUILD: OnceLock<()> = OnceLock::new();
    BUILD.get_or_init(|| {
        let mut cargo = Command::new(env!("CARGO"));
        cargo.current_dir(root()).args([
            "build",
            "--quiet",
            "--locked",
            "--profile",
            "guest",
            "--target",
            TARGET,
        ]);
        for package in ["counter", "debit", "flight-delay", "flight-delay-v2", "rate-limiter"] {
            cargo.args(["--package", &format!("example-{package}")]);
        }
        let built = cargo.status().expect("cargo runs");
        assert!(built.success(), "the example guests are built; is the target {TARGET} installed?");
    });
    read(name)
}

/// The module of the example in C; `None` where no compiler is installed.
pub(crate) fn c_example() -> Option<Bytes> {
    let there = |program: &str| {
        Command::new(program).arg("--version").output().is_ok_and(|output| output.status.success())
    };
    if !(there("clang") && there("wasm-ld")) {
        return None;
    }
    let script = root().join("examples/upper-c/build.sh");
    let file = tempfile::NamedTempFile::new().unwrap();
    let built = Command::new("bash").arg(script).arg(file.path()).status().expect("bash runs");
    assert!(built.success(), "the example in C is built");
    Some(std::fs::read(file.path()).unwrap().into())
}

fn read(name: &str) -> Bytes {
    let file = built().join(format!("example_{}.wasm", name.replace('-', "_")));
    std::fs::read(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display())).into()
}

/// Uploads one export of an example under the export's name.
pub(crate) async fn upload(client: &Client, example_name: &str, export: &str) {
    let options = UploadOptions::new().export(export);
    client
        .functions()
        .upload(export, example(example_name), &options)
        .await
        .expect("the example is accepted");
}

/// Adds one to a binary number, and takes its time for each batch.
pub(crate) fn slow_counter() -> Guest {
    let spin = "(local $n i32)
        (loop $again
          (local.set $n (i32.add (local.get $n) (i32.const 1)))
          (br_if $again (i32.lt_u (local.get $n) (i32.const 10000000))))";
    Guest::counter().before_allocation(spin)
}
