//! The program, from outside.

use std::collections::BTreeMap;
use std::net::TcpStream;
use std::process::Stdio;

use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use kube::config::Kubeconfig;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use tempfile::TempDir;
use tokio::process::{Child, Command};

use crate::bench::{Process, client, eventually, is_ready, sample, until};

struct Program {
    child: Child,
    folder: TempDir,
}

impl Program {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let image = format!("sample={}", sample().display());
        let child = Command::new(env!("CARGO_BIN_EXE_wattle-pods"))
            .args(["--listen", "127.0.0.1:0", "--node", "only=here", "--image", &image])
            .arg("--kubeconfig")
            .arg(folder.path().join("kubeconfig"))
            .arg("--directory")
            .arg(folder.path().join("cluster"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        Self { child, folder }
    }

    async fn kubeconfig(&self) -> Kubeconfig {
        let path = self.folder.path().join("kubeconfig");
        eventually(|| Kubeconfig::read_from(&path).ok().filter(|one| one.current_context.is_some())).await
    }

    /// Runs a pod, and gives back its process.
    async fn run_pod(&self) -> Process {
        let pods: Api<Pod> = Api::default_namespaced(client(self.kubeconfig().await).await);
        let pod = json!({"metadata": {"name": "a"}, "spec": {"containers": [{"name": "sample", "image": "sample",
            "args": ["--listen", "[::]:7117", "--ignore-sigterm"],
            "readinessProbe": {"tcpSocket": {"port": 7117}}}]}});
        pods.create(&PostParams::default(), &serde_json::from_value(pod).unwrap()).await.unwrap();
        until(pods, "", &mut |pods| pods.values().any(is_ready)).await;
        let log = self.folder.path().join("cluster/logs/default/a/sample.log");
        let log = std::fs::read_to_string(log).unwrap();
        let id = log.lines().find_map(|line| line.strip_prefix("process: ")).unwrap();
        Process::open(id.parse().unwrap())
    }

    fn signal(&self, signal: Signal) {
        let id = Pid::from_raw(i32::try_from(self.child.id().unwrap()).unwrap()).unwrap();
        kill_process(id, signal).unwrap();
    }
}

#[tokio::test]
async fn the_program_ends_with_all_its_processes_when_it_is_asked_to() {
    let mut program = Program::start();
    let process = program.run_pod().await;
    program.signal(Signal::TERM);
    process.ended().await;
    assert!(program.child.wait().await.unwrap().success());
}

#[tokio::test]
async fn no_process_outlives_the_program_that_is_killed() {
    let mut program = Program::start();
    let process = program.run_pod().await;
    program.signal(Signal::KILL);
    process.ended().await;
    assert!(!program.child.wait().await.unwrap().success());
}

#[tokio::test]
async fn the_api_server_is_away_for_as_long_as_it_is_asked_to_and_pods_run_on() {
    let program = Program::start();
    let process = program.run_pod().await;
    let kubeconfig = program.kubeconfig().await;
    let server = kubeconfig.clusters[0].cluster.clone().unwrap().server.unwrap();
    let listens = || TcpStream::connect(server.strip_prefix("https://").unwrap()).is_ok();
    let namespaces: Api<Namespace> = Api::all(client(kubeconfig).await);
    // What means nothing changes nothing; and the same can be asked for again.
    for length in ["soon", "1s", "1s"] {
        let patch = Patch::Merge(json!({"metadata": {"annotations": {"wattle.dev/outage": length}}}));
        namespaces.patch("kube-system", &PatchParams::default(), &patch).await.unwrap();
        if length == "1s" {
            eventually(|| (!listens()).then_some(())).await;
            eventually(|| listens().then_some(())).await;
        }
        let is_heard = |namespaces: &BTreeMap<String, Namespace>| {
            let annotations = namespaces["kube-system"].metadata.annotations.as_ref();
            annotations.is_none_or(|all| !all.contains_key("wattle.dev/outage"))
        };
        until(namespaces.clone(), "", &mut is_heard.clone()).await;
    }
    assert!(process.is_alive());
}
