//! The operator of the image: as its manifest has it run, with the rights of its service account.

use super::cluster::{BY_ADDRESS, Cluster};
use super::network::{expect, wait_for};
use crate::command::run;
use crate::failure::Failure;

const NAME: &str = "wattle-check-operator";
const PROBES: &str = "127.0.0.1:7120";
/// Of the operator, and of the example.
const NAMESPACE: &str = "wattle-system";
const EXAMPLE: &str = "flights";

pub(super) fn check(cluster: &Cluster<'_>, image: &str) -> Result<(), Failure> {
    let network = cluster.network;
    cluster.run(&["create", "namespace", EXAMPLE])?;
    cluster.run(&["apply", "--filename", "/deploy/operator/operator.yaml"])?;
    start(cluster, image)?;
    network.check_rights(NAME)?;
    let probe = |path, expected| network.wait_for_answer(BY_ADDRESS.network, PROBES, path, expected);
    probe("/livez", "200 ")?;
    // It asks the API server, which does not know of grids yet.
    probe("/readyz", "503 ")?;
    cluster.run(&["apply", "--server-side", "--filename", "/deploy/operator/crds.yaml"])?;
    probe("/readyz", "200 ")?;
    cluster.run(&["apply", "--namespace", EXAMPLE, "--filename", "/deploy/operator/example.yaml"])?;
    check_grid(cluster, image)?;
    network.stop(NAME)?;
    // It has given back its turn, so the Lease was its own.
    let lease = "holder {.spec.holderIdentity}, {.spec.leaseTransitions}";
    let mut lease = cluster.field(NAMESPACE, "lease/wattle-operator", lease);
    expect(&mut lease, "holder , ")
}

fn start(cluster: &Cluster<'_>, image: &str) -> Result<(), Failure> {
    let arguments = cluster.arguments(NAMESPACE, "deployment/wattle-operator")?;
    let mut operator = cluster.pod(NAME, BY_ADDRESS, (NAMESPACE, "wattle-operator"))?;
    // Without POD_NAMESPACE the Lease is where the files of the service account say, and nowhere else may it be.
    operator.args([
        "--memory",
        "256m",
        "--env",
        "POD_NAME=wattle-operator-0",
        "--env",
        &format!("WATTLE_IMAGE={image}"),
        image,
    ]);
    run(operator.args(arguments))
}

/// There is nobody to start the grid's pods, so it waits for them.
fn check_grid(cluster: &Cluster<'_>, image: &str) -> Result<(), Failure> {
    let status = "{.status.phase} {.status.conditions[?(@.type==\"Ready\")].status} {.status.message}";
    let mut status = cluster.field(EXAMPLE, "grid/flights", status);
    let said = wait_for(&mut status, |said| said.starts_with("Founding False "))?;
    println!("Grid flights: {said}");
    let made = "{.spec.replicas} {.spec.template.spec.containers[0].image}";
    expect(&mut cluster.field(EXAMPLE, "statefulset/flights", made), &format!("3 {image}"))
}
