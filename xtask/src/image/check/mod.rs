//! The image as containers: without root, and on a root file system that cannot be written. Three nodes are one grid by DNS;
//! in a cluster the operator acts, and three nodes find one another, by what Kubernetes gives every pod.

mod cluster;
mod dns;
mod network;
mod operator;
mod slices;

use super::engine::{Engine, answer};
use super::{BYTES_MAX, Program, context};
use crate::command::{cargo, root, run};
use crate::failure::Failure;
use crate::test_log::TestLog;
use crate::{guests, node};
use cluster::Cluster;
use network::Network;
use std::path::{Path, PathBuf};

const USER: &str = "65532:65532";

pub(super) fn run_all(engine: &Engine, image: &str, kind: Program, log: &mut TestLog) -> Result<(), Failure> {
    check_form(engine, image, kind)?;
    let this = std::env::current_exe().map_err(Failure::file("this program"))?;
    build_tool(engine, network::PROBE, &this)?;
    guests::build_rust(&[dns::GUEST.to_owned()])?;
    Network::during(engine, |network| dns::check(network, image))?;
    let Some(kubectl) = cluster::kubectl() else {
        log.skip("image::cluster", "kubectl is not installed");
        return Ok(());
    };
    let server = api_server(kind)?;
    Network::during(engine, |network| {
        let cluster = Cluster::start(network, &server, &kubectl)?;
        operator::check(&cluster, image)?;
        slices::check(&cluster, image)
    })
}

/// Who it runs as, and how large it is.
fn check_form(engine: &Engine, image: &str, kind: Program) -> Result<(), Failure> {
    let format = "{{.Config.User}} {{.Size}} {{.Config.Entrypoint}}";
    let form = answer(&mut engine.docker(&["image", "inspect", "--format", format, image]))?;
    println!("{image}: user, bytes and entry point are {form}");
    if is_as_it_should_be(&form, kind) {
        return Ok(());
    }
    Err(Failure::Unexpected { command: format!("docker image inspect {image}"), printed: form })
}

fn is_as_it_should_be(form: &str, kind: Program) -> bool {
    let mut words = form.split(' ');
    let user = words.next() == Some(USER);
    let bytes: Option<u64> = words.next().and_then(|bytes| bytes.parse().ok());
    let fits = bytes.is_some_and(|bytes| bytes < BYTES_MAX);
    // What the tests have built has names and lines in it.
    user && (fits || kind == Program::Quick) && words.next() == Some("[/usr/local/bin/wattle]")
}

/// The double of the API server, with as little built as may be.
fn api_server(kind: Program) -> Result<PathBuf, Failure> {
    const NAME: &str = "wattle-api-server";
    match kind {
        Program::Quick => node::build_for_tests(&[NAME])?,
        Program::Static => run(&mut cargo(&["build", "--locked", "--package", NAME]))?,
    }
    Ok(root().join("target/debug").join(NAME))
}

/// An image of a program that the check needs in containers, both called so.
fn build_tool(engine: &Engine, name: &str, program: &Path) -> Result<(), Failure> {
    let folder = context::lay_out_with_libraries(name, program, name)?;
    let file = folder.join("Dockerfile");
    let text = format!("FROM scratch\nCOPY root/ /\nUSER {USER}\nENTRYPOINT [\"/usr/local/bin/{name}\"]\n");
    std::fs::write(&file, text).map_err(Failure::file(&file))?;
    run(engine.docker(&["build", "--quiet", "--tag", name]).arg(folder))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(form: &str, kind: Program, expected: bool) {
        assert_eq!(is_as_it_should_be(form, kind), expected, "{form}");
    }

    #[test]
    fn an_image_of_root_or_of_too_many_bytes_is_refused() {
        check("65532:65532 59999999 [/usr/local/bin/wattle]", Program::Static, true);
        check("65532:65532 60000000 [/usr/local/bin/wattle]", Program::Static, false);
        check("65532:65532 150000000 [/usr/local/bin/wattle]", Program::Quick, true);
        check(" 1 [/usr/local/bin/wattle]", Program::Quick, false);
        check("root 1 [/usr/local/bin/wattle]", Program::Static, false);
        check("65532:65532 1 [/bin/sh -c wattle]", Program::Static, false);
    }
}
