//! A new user's way, with kubectl; skipped where it is not installed.

use std::io::Write as _;
use std::process::{Command, Stdio};

use serde_json::json;

use crate::cluster::Cluster;

struct Kubectl {
    cluster: Cluster,
    home: tempfile::TempDir,
}

impl Kubectl {
    /// `None`, and said so, where there is no kubectl.
    async fn start(test: &str) -> Option<Self> {
        if Command::new("kubectl").args(["version", "--client"]).output().is_err() {
            let line = format!("SKIPPED operator::kubectl::{test}: kubectl is not installed\n");
            std::io::stderr().write_all(line.as_bytes()).unwrap();
            return None;
        }
        Some(Self { cluster: Cluster::start().await, home: tempfile::tempdir().unwrap() })
    }

    async fn run(&self, arguments: &str, input: &str) -> (bool, String) {
        let mut command = tokio::process::Command::new("kubectl");
        command
            .args(["--server", &self.cluster.server.url()])
            .args(arguments.split(' '))
            .env("KUBECONFIG", self.home.path().join("none"))
            .env("HOME", self.home.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        let mut child = command.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        tokio::io::AsyncWriteExt::write_all(&mut stdin, input.as_bytes()).await.unwrap();
        drop(stdin);
        let output = child.wait_with_output().await.unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8(text).unwrap())
    }

    async fn ok(&self, arguments: &str) -> String {
        let (succeeded, text) = self.run(arguments, "").await;
        assert!(succeeded, "kubectl {arguments}: {text}");
        text
    }

    async fn apply(&self, kind: &str, name: &str, spec: serde_json::Value) {
        let object = json!({
            "apiVersion": "wattle.dev/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec,
        });
        let (succeeded, text) = self.run("apply -f -", &object.to_string()).await;
        assert!(succeeded, "kubectl apply {object}: {text}");
    }

    /// What `kubectl get` shows, column by column.
    async fn row(&self, what: &str) -> Vec<String> {
        let shown = self.ok(&format!("get {what} --no-headers")).await;
        shown.split_whitespace().map(str::to_owned).collect()
    }
}

#[tokio::test]
async fn a_grid_a_map_and_a_function_are_used_with_kubectl() {
    let Some(kubectl) = Kubectl::start("a_grid_a_map_and_a_function_are_used_with_kubectl").await else {
        return;
    };
    kubectl.apply("Grid", "g", json!({"size": 2})).await;
    kubectl.ok("wait --for=condition=Ready --timeout=60s grid/g").await;
    assert_eq!(kubectl.row("wg g").await[..6], ["g", "2", "2", "True", "0.1.0", "Running"]);
    kubectl.apply("GridMap", "flights", json!({"grid": "g", "contentType": "Json"})).await;
    kubectl.ok("wait --for=condition=Ready --timeout=60s gridmap/flights").await;
    assert_eq!(
        kubectl.row("gridmaps flights").await[..5],
        ["flights", "g", "flights", "True", "AsSpecified"]
    );
    let module = kubectl.home.path().join("debit.wasm");
    std::fs::write(&module, b"\0asm\x01\0\0\0\xff").unwrap();
    kubectl.ok(&format!("create configmap modules --from-file=debit={}", module.display())).await;
    let source = json!({"configMap": {"name": "modules", "key": "debit"}});
    kubectl.apply("GridFunction", "debit", json!({"grid": "g", "source": source})).await;
    kubectl.ok("wait --for=condition=Ready --timeout=60s gridfunction/debit").await;
    let row = kubectl.row("gridfunctions debit").await;
    assert_eq!(
        (&row[..5], row[6].as_str()),
        (&["debit", "g", "True", "Loaded", "1"].map(str::to_owned)[..], "2/2")
    );
    kubectl.ok("scale grid/g --replicas=3").await;
    kubectl.ok("wait --for=jsonpath={.status.ready}=3 --timeout=60s grid/g").await;
    kubectl.ok("wait --for=condition=Ready --timeout=60s grid/g").await;
    let described = kubectl.ok("describe grid g").await;
    assert!(described.contains("Founded") && described.contains("Scaled"), "{described}");
    let (succeeded, refused) = kubectl.run("scale grid/g --replicas=0", "").await;
    assert!(!succeeded && refused.contains("greater than or equal to 1"), "{refused}");
    kubectl.ok("delete gridfunction/debit gridmap/flights --timeout=60s").await;
    let all = kubectl.ok("get wattle").await;
    assert!(all.contains("grid.wattle.dev/g") && !all.contains("flights"), "{all}");
    kubectl.ok("delete grid/g --timeout=60s").await;
}
