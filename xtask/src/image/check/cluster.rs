//! A cluster without machines: the double of the API server in a container, with kubectl for who may do everything.
//!
//! Containers get what Kubernetes gives pods to find the API server, and nothing else: the address in the environment,
//! and the files of a service account. Its certificate is valid for 127.0.0.1 and for the name that pods know.

use super::build_tool;
use super::network::{NETWORK, Network, wait_for};
use crate::command::{output, program, root, run, shown};
use crate::failure::Failure;
use crate::image::engine::answer;
use crate::json::Json;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const SERVER: &str = "wattle-check-api-server";
const KUBECTL: &str = "wattle-check-kubectl";
/// What a pod reaches the API server by: a name, in a network of its own, or an address, next to the server.
pub(super) const BY_NAME: Way = Way { network: NETWORK, host: "kubernetes.default.svc" };
pub(super) const BY_ADDRESS: Way = Way { network: "container:wattle-check-api-server", host: "127.0.0.1" };
const PORT: &str = "6443";
const ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

#[derive(Debug, Clone, Copy)]
pub(super) struct Way {
    pub(super) network: &'static str,
    host: &'static str,
}

pub(super) struct Cluster<'a> {
    pub(super) network: &'a Network<'a>,
    /// Where kubectl finds files as `/check`.
    folder: PathBuf,
}

/// Kubectl, if it is installed.
pub(super) fn kubectl() -> Option<PathBuf> {
    let places = std::env::var_os("PATH")?;
    std::env::split_paths(&places).map(|place| place.join("kubectl")).find(|file| file.is_file())
}

impl<'a> Cluster<'a> {
    pub(super) fn start(network: &'a Network<'a>, server: &Path, kubectl: &Path) -> Result<Self, Failure> {
        build_tool(network.engine, SERVER, server)?;
        build_tool(network.engine, KUBECTL, kubectl)?;
        let folder = root().join("target/container/cluster");
        if folder.exists() {
            fs::remove_dir_all(&folder).map_err(Failure::file(&folder))?;
        }
        fs::create_dir_all(&folder).map_err(Failure::file(&folder))?;
        let cluster = Self { network, folder };
        let mut start = network.container(SERVER, NETWORK);
        // It writes its kubeconfig into the container.
        start.args(["--network-alias", BY_NAME.host, "--user", "0:0", SERVER]);
        start.args(["--listen", &format!("0.0.0.0:{PORT}"), "--kubeconfig", "/kubeconfig"]);
        run(&mut start)?;
        wait_for(&mut network.engine.docker(&["logs", SERVER]), |log| log.starts_with("listening on "))?;
        let copy = ["cp", &format!("{SERVER}:/kubeconfig"), &cluster.folder.to_string_lossy()];
        run(&mut network.engine.docker(&copy))?;
        Ok(cluster)
    }

    /// It runs next to the server. What is in `deploy` is there, too.
    fn kubectl(&self, arguments: &[&str]) -> Command {
        let mut kubectl = self.network.tool(BY_ADDRESS.network);
        kubectl.args(["--volume", &format!("{}:/check:ro", self.folder.display())]);
        kubectl.args(["--volume", &format!("{}:/deploy:ro", root().join("deploy").display())]);
        kubectl.args(["--tmpfs", "/tmp", "--env", "HOME=/tmp", KUBECTL, "--kubeconfig", "/check/kubeconfig"]);
        kubectl.args(["--server", &format!("https://{}:{PORT}", BY_ADDRESS.host)]).args(arguments);
        kubectl
    }

    /// Runs kubectl, and shows what it says.
    pub(super) fn run(&self, arguments: &[&str]) -> Result<(), Failure> {
        println!("$ kubectl {}", arguments.join(" "));
        print!("{}", output(&mut self.kubectl(arguments))?);
        Ok(())
    }

    /// A field of an object.
    pub(super) fn field(&self, namespace: &str, object: &str, path: &str) -> Command {
        self.kubectl(&["get", object, "--namespace", namespace, "--output", &format!("jsonpath={path}")])
    }

    /// What the pods of an object that makes pods run.
    pub(super) fn arguments(&self, namespace: &str, object: &str) -> Result<Vec<String>, Failure> {
        let mut get = self.field(namespace, object, "{.spec.template.spec.containers[0].args}");
        let printed = output(&mut get)?;
        match texts(&printed) {
            Some(arguments) => Ok(arguments),
            None => Err(Failure::Unexpected { command: shown(&get), printed }),
        }
    }

    /// A file or a folder that pods can have mounted.
    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    pub(super) fn write(&self, name: &str, content: &[u8]) -> Result<(), Failure> {
        let path = self.file(name);
        let folder = path.parent().expect("a file lies in a folder");
        fs::create_dir_all(folder).map_err(Failure::file(folder))?;
        fs::write(&path, content).map_err(Failure::file(&path))
    }

    /// The beginning of a command that starts a pod of a service account.
    pub(super) fn pod(&self, name: &str, way: Way, account: (&str, &str)) -> Result<Command, Failure> {
        let (namespace, account) = account;
        let files = format!("pods/{name}");
        let token = answer(&mut self.kubectl(&["create", "token", account, "--namespace", namespace]))?;
        self.write(&format!("{files}/token"), token.as_bytes())?;
        self.write(&format!("{files}/namespace"), namespace.as_bytes())?;
        self.write(&format!("{files}/ca.crt"), &self.authority()?)?;
        let mut pod = self.network.pod(name, way.network);
        pod.args(["--volume", &format!("{}:{ACCOUNT}:ro", self.file(&files).display())]);
        pod.args(["--env", &format!("KUBERNETES_SERVICE_HOST={}", way.host)]);
        pod.args(["--env", &format!("KUBERNETES_SERVICE_PORT={PORT}")]);
        Ok(pod)
    }

    /// Who has signed the server's certificate.
    fn authority(&self) -> Result<Vec<u8>, Failure> {
        let path = "jsonpath={.clusters[0].cluster.certificate-authority-data}";
        let encoded = output(&mut self.kubectl(&["config", "view", "--raw", "--output", path]))?;
        self.write("ca.base64", encoded.as_bytes())?;
        Ok(output(program("base64", &["--decode"]).arg(self.file("ca.base64")))?.into_bytes())
    }
}

/// A list of words in JSON.
fn texts(printed: &str) -> Option<Vec<String>> {
    match Json::parse(printed) {
        Ok(Json::List(all)) => all.iter().map(|one| one.text().map(str::to_owned)).collect(),
        Ok(_) | Err(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_a_list_of_words() {
        assert_eq!(texts(r#"["serve","--grid"]"#), Some(vec!["serve".to_owned(), "--grid".to_owned()]));
        for printed in ["", "serve", "{}", r#"["serve",1]"#] {
            assert_eq!(texts(printed), None, "{printed:?}");
        }
    }
}
