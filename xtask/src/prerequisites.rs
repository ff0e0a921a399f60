//! What a chore needs beyond cargo: installed when it is missing and can be, otherwise a message that says what to do.

use crate::command::{cargo, output, program, run, works};
use crate::failure::Failure;
use std::path::Path;

pub(crate) const GUEST_TARGET: &str = "wasm32-unknown-unknown";

/// The release of cargo-deny that the configuration was written for.
const CARGO_DENY_VERSION: &str = "0.20.2";

/// The compiler's target for guests.
pub(crate) fn guest_target() -> Result<(), Failure> {
    rust_target(GUEST_TARGET, "the compiler's target for guests")
}

/// One of the compiler's targets.
pub(crate) fn rust_target(target: &str, what: &'static str) -> Result<(), Failure> {
    let sysroot = output(&mut program("rustc", &["--print", "sysroot"]))?;
    if Path::new(sysroot.trim()).join("lib/rustlib").join(target).join("lib").is_dir() {
        return Ok(());
    }
    println!("the target {target} is not installed: adding it with rustup");
    run(&mut program("rustup", &["target", "add", target])).map_err(|_| Failure::Missing {
        what,
        advice: format!(
            "run `rustup target add {target}` on a line that reaches the servers of rustup, \
             or install your distribution's package of it"
        ),
    })
}

/// What compiles the C code of dependencies for static programs.
pub(crate) fn musl_compiler() -> Result<(), Failure> {
    if debian_program("musl-gcc", &["musl-tools"]) {
        return Ok(());
    }
    let advice = "install it (Debian's package is musl-tools)".to_owned();
    Err(Failure::Missing { what: "musl-gcc", advice })
}

/// The checker of licences and banned crates.
pub(crate) fn cargo_deny() -> Result<(), Failure> {
    if works(&mut cargo(&["deny", "--version"])) {
        return Ok(());
    }
    println!("cargo-deny is not installed: installing it");
    let version = format!("cargo-deny@{CARGO_DENY_VERSION}");
    run(&mut cargo(&["install", "--locked", &version])).map_err(|_| Failure::Missing {
        what: "cargo-deny",
        advice: format!("run `cargo install --locked {version}`"),
    })
}

/// True when the program is there, or could be installed as one of Debian's packages.
pub(crate) fn debian_program(name: &str, packages: &[&str]) -> bool {
    if works(&mut program(name, &["--version"])) {
        return true;
    }
    if !is_root() || !works(&mut program("apt-get", &["--version"])) {
        return false;
    }
    println!("{name} is not installed: installing Debian's {}", packages.join(" and "));
    let mut install = program("apt-get", &["install", "--yes", "--quiet", "--no-install-recommends"]);
    install.args(packages).env("DEBIAN_FRONTEND", "noninteractive");
    run(&mut program("apt-get", &["update", "--quiet"])).is_ok() && run(&mut install).is_ok()
}

pub(crate) fn is_root() -> bool {
    output(&mut program("id", &["-u"])).is_ok_and(|id| id.trim() == "0")
}
