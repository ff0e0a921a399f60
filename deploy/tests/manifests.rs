//! The manifests for people without Helm are what the chart makes, and can be applied as their first lines say.

use std::process::Command;

use crate::cluster::Cluster;
use crate::helm::{Helm, folder};

const HEADER: &str = "\
# A grid of three nodes, called wattle, in the namespace wattle, for people without Helm. How to apply it:
#
#   kubectl create namespace wattle
#   kubectl --namespace wattle create secret generic wattle-secret --from-literal=secret=$(head -c 32 /dev/urandom | base64 -w 0)
#   kubectl apply --filename deploy/manifests/grid.yaml
#
# It is made of deploy/chart, with its default values, by `WRITE_MANIFESTS=1 cargo test -p wattle-deploy manifests`.
";

const PATH: &str = "manifests/grid.yaml";

fn rendered(helm: &Helm) -> String {
    let release = ["--name-template", "wattle", "--namespace", "wattle"];
    let secret = ["--set", "secret.existingSecret=wattle-secret"];
    let text = helm.run(&[&["template", "chart"][..], &release, &secret].concat());
    assert!(text.status.success(), "{}", String::from_utf8_lossy(&text.stderr));
    let text = String::from_utf8(text.stdout).unwrap();
    // No release of Helm owns them.
    let foreign = ["# Source: ", "helm.sh/chart: ", "app.kubernetes.io/managed-by: "];
    let lines = text.lines().filter(|line| {
        let line = line.trim_start();
        !line.is_empty() && !foreign.iter().any(|start| line.starts_with(start))
    });
    HEADER.to_owned() + &lines.map(|line| format!("{line}\n")).collect::<String>()
}

#[test]
fn the_manifests_are_what_the_chart_makes() {
    let Some(helm) = Helm::find("manifests::the_manifests_are_what_the_chart_makes") else { return };
    let path = folder().join(PATH);
    let expected = rendered(&helm);
    if std::env::var_os("WRITE_MANIFESTS").is_some() {
        std::fs::write(&path, &expected).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap();
    assert!(
        found == expected,
        "{PATH} is not what the chart makes: its first lines say how to write it anew"
    );
}

#[tokio::test]
async fn the_manifests_can_be_applied_as_they_say() {
    if Command::new("kubectl").args(["version", "--client"]).output().is_err() {
        let line =
            "SKIPPED deploy::manifests::the_manifests_can_be_applied_as_they_say: kubectl is not installed\n";
        return std::io::Write::write_all(&mut std::io::stderr(), line.as_bytes()).unwrap();
    }
    let cluster = Cluster::start().await;
    let text = std::fs::read_to_string(folder().join(PATH)).unwrap();
    let commands: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("#   ")).collect();
    assert_eq!(commands.len(), 3);
    for command in commands {
        let mut shell = tokio::process::Command::new("sh");
        shell.args(["-euc", command]).current_dir(folder().parent().unwrap());
        shell.env("KUBECONFIG", cluster.kubeconfig()).env("HOME", cluster.folder.path());
        let output = shell.kill_on_drop(true).output().await.unwrap();
        assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
    }
    let nodes = kubectl(&cluster, "get statefulset wattle --output jsonpath={.spec.replicas}").await;
    assert_eq!(nodes, "3");
    let secret = kubectl(&cluster, "get secret wattle-secret --output jsonpath={.data.secret}").await;
    assert!(secret.len() > 40, "{secret}");
}

async fn kubectl(cluster: &Cluster, arguments: &str) -> String {
    let mut command = tokio::process::Command::new("kubectl");
    command.args(["--namespace", "wattle"]).args(arguments.split(' '));
    command.env("KUBECONFIG", cluster.kubeconfig()).env("HOME", cluster.folder.path());
    String::from_utf8(command.kill_on_drop(true).output().await.unwrap().stdout).unwrap()
}
