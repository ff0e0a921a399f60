//! kubectl itself, as people use it; skipped where it is not installed.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;
use wattle_api_server::{ApiServer, Settings};

struct Kubectl {
    server: ApiServer,
    folder: TempDir,
}

fn manifest(name: &str) -> String {
    let path: PathBuf = [env!("CARGO_MANIFEST_DIR"), "tests", "manifests", name].iter().collect();
    path.display().to_string()
}

impl Kubectl {
    /// `None`, and said so, where there is no kubectl.
    async fn start(test: &str) -> Option<Self> {
        if Command::new("kubectl").args(["version", "--client"]).output().is_err() {
            let line = format!("SKIPPED main::kubectl::{test}: kubectl is not installed\n");
            std::io::stderr().write_all(line.as_bytes()).unwrap();
            return None;
        }
        let server = ApiServer::start(Settings { tls: true, ..Settings::default() }).await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        server.write_kubeconfig(&folder.path().join("kubeconfig")).unwrap();
        Some(Self { server, folder })
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    async fn run(&self, arguments: &str, editor: &str) -> Output {
        let mut command = tokio::process::Command::new("kubectl");
        command
            .args(arguments.split(' '))
            .env("KUBECONFIG", self.path().join("kubeconfig"))
            .env("HOME", self.path())
            .env("KUBE_EDITOR", editor)
            .kill_on_drop(true);
        command.output().await.unwrap()
    }

    /// What a command prints that succeeds.
    async fn ok(&self, arguments: &str) -> String {
        let output = self.run(arguments, "true").await;
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "kubectl {arguments}: {errors}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// What a command complains of.
    async fn fails(&self, arguments: &str) -> String {
        let output = self.run(arguments, "true").await;
        assert!(!output.status.success(), "kubectl {arguments} succeeds");
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    async fn check(&self, arguments: &str, expected: &[&str]) {
        let printed = self.ok(arguments).await;
        for expected in expected {
            assert!(printed.contains(expected), "kubectl {arguments}: no {expected:?} in\n{printed}");
        }
    }
}

/// Words of the lines of a table, so that widths and ages do not matter.
fn words(table: &str) -> Vec<Vec<&str>> {
    table.lines().map(|line| line.split_whitespace().collect()).collect()
}

#[tokio::test]
async fn manifests_are_applied_from_the_client_side() {
    let Some(kubectl) = Kubectl::start("manifests_are_applied_from_the_client_side").await else { return };
    let web = manifest("web.yaml");
    kubectl.check(&format!("apply -f {web}"), &["statefulset.apps/web created", "service/web created"]).await;
    kubectl
        .check(&format!("apply -f {web}"), &["statefulset.apps/web unchanged", "service/web unchanged"])
        .await;
    kubectl.check("scale sts web --replicas=5", &["statefulset.apps/web scaled"]).await;
    let table = kubectl.ok("get sts web").await;
    assert_eq!(words(&table)[0], ["NAME", "READY", "AGE"]);
    assert_eq!(words(&table)[1][..2], ["web", "0/5"]);
    kubectl.check("label sts web x=y", &["labeled"]).await;
    kubectl.check("annotate sts web x=y", &["annotated"]).await;
    kubectl.check("describe sts web", &["Replicas:           5 desired | 0 total", "web:1"]).await;
    let patch =
        r#"patch sts web -p {"spec":{"template":{"spec":{"containers":[{"name":"web","image":"web:2"}]}}}}"#;
    kubectl.check(patch, &["patched"]).await;
    kubectl.check("get sts web -o jsonpath={..image}{..containerPort}", &["web:280"]).await;
    let output = kubectl.run("edit sts web", "sed -i s/web:2/web:3/").await;
    assert!(output.status.success(), "{output:?}");
    kubectl.check("get sts web -o jsonpath={..image}", &["web:3"]).await;
    kubectl
        .check(&format!("delete -f {web}"), &["statefulset.apps \"web\" deleted", "service \"web\" deleted"])
        .await;
    let complaint = kubectl.fails("get sts web").await;
    assert_eq!(complaint, "Error from server (NotFound): statefulsets.apps \"web\" not found\n");
}

#[tokio::test]
async fn manifests_are_applied_from_the_server_side() {
    let Some(kubectl) = Kubectl::start("manifests_are_applied_from_the_server_side").await else { return };
    let apply = format!("apply --server-side -f {}", manifest("web.yaml"));
    kubectl.check(&apply, &["statefulset.apps/web serverside-applied"]).await;
    kubectl.ok("scale sts web --replicas=5").await;
    let complaint = kubectl.fails(&apply).await;
    let start = "error: Apply failed with 1 conflict: conflict with \"kubectl\" with subresource \"scale\" using apps/v1";
    assert!(complaint.starts_with(start), "{complaint}");
    kubectl.check(&format!("{apply} --force-conflicts"), &["statefulset.apps/web serverside-applied"]).await;
    kubectl.check("get sts web -o jsonpath={.spec.replicas}", &["3"]).await;
}

#[tokio::test]
async fn custom_resources_are_explained_listed_scaled_and_waited_for() {
    let name = "custom_resources_are_explained_listed_scaled_and_waited_for";
    let Some(kubectl) = Kubectl::start(name).await else { return };
    kubectl.ok(&format!("apply -f {}", manifest("definition.yaml"))).await;
    kubectl.check("wait --for=condition=Established crd/grids.example.dev", &["condition met"]).await;
    kubectl.check(&format!("apply -f {}", manifest("grid.yaml")), &["grid.example.dev/g created"]).await;
    kubectl.check("explain grid.spec", &["size\t<integer> -required-", "How many pods."]).await;
    kubectl.check("api-resources", &["grids", "example.dev/v1alpha1"]).await;
    kubectl.ok("scale grid g --replicas=4").await;
    let status = r#"patch gr g --subresource=status --type=merge -p {"status":{"conditions":[{"type":"Ready","status":"True"}]}}"#;
    kubectl.ok(status).await;
    kubectl.check("wait gr/g --for=condition=Ready", &["grid.example.dev/g condition met"]).await;
    let table = kubectl.ok("get gr").await;
    assert_eq!(words(&table)[0], ["NAME", "SIZE", "READY", "AGE"]);
    assert_eq!(words(&table)[1][..3], ["g", "4", "True"]);
    let complaint = kubectl.fails(r#"patch gr g --type=merge -p {"spec":{"zone":"b"}}"#).await;
    assert_eq!(complaint, "The Grid \"g\" is invalid: spec: Invalid value: \"object\": zone cannot change\n");
    kubectl.check("delete gr g", &["grid.example.dev \"g\" deleted"]).await;
    kubectl.ok("delete crd grids.example.dev").await;
    let complaint = kubectl.fails("get gr").await;
    assert!(complaint.contains("the server could not find the requested resource"), "{complaint}");
}

#[tokio::test]
async fn a_definition_that_is_deleted_is_waited_for() {
    let name = "a_definition_that_is_deleted_is_waited_for";
    let Some(kubectl) = Kubectl::start(name).await else { return };
    let grid = manifest("grid.yaml");
    kubectl.ok(&format!("apply -f {}", manifest("definition.yaml"))).await;
    kubectl.ok(&format!("apply -f {grid}")).await;
    kubectl.ok(r#"patch gr g --type=merge -p {"metadata":{"finalizers":["example.dev/held"]}}"#).await;
    kubectl.check("delete crd grids.example.dev --wait=false", &["\"grids.example.dev\" deleted"]).await;
    let complaint = kubectl.fails("delete crd grids.example.dev --timeout=1s").await;
    assert!(complaint.contains("timed out waiting for the condition"), "{complaint}");
    kubectl.check("wait --for=condition=Terminating crd/grids.example.dev", &["condition met"]).await;
    kubectl.check("get gr", &["g "]).await;
    let complaint = kubectl.fails(&format!("-n kube-system create -f {grid}")).await;
    assert_eq!(
        complaint,
        format!(
            "Error from server (MethodNotAllowed): error when creating \"{grid}\": create not allowed while custom \
             resource definition is terminating\n"
        )
    );
    let free = r#"patch gr g --type=merge -p {"metadata":{"finalizers":null}}"#;
    // Whether it waits or comes too late.
    let end = "delete crd grids.example.dev --ignore-not-found --timeout=20s";
    tokio::join!(kubectl.ok(end), kubectl.ok(free));
    assert!(kubectl.fails("get crd grids.example.dev").await.contains("not found"));
    assert!(!kubectl.ok("get --raw /openapi/v3").await.contains("example.dev"));
}

#[tokio::test]
async fn objects_that_kubectl_makes_itself_are_taken() {
    let Some(kubectl) = Kubectl::start("objects_that_kubectl_makes_itself_are_taken").await else { return };
    kubectl.check("create ns other", &["namespace/other created"]).await;
    kubectl.check("create cm settings --from-literal=mode=safe", &["configmap/settings created"]).await;
    kubectl.check("get cm settings -o jsonpath={.data.mode}", &["safe"]).await;
    kubectl.check("create secret generic s --from-literal=key=hello", &["secret/s created"]).await;
    kubectl.check("get secret s -o jsonpath={.data.key}", &["aGVsbG8="]).await;
    kubectl.check("create sa bot", &["serviceaccount/bot created"]).await;
    kubectl.ok("create role r --verb=get --resource=pods,statefulsets.apps").await;
    kubectl.check("get role r -o jsonpath={.rules[1]}", &[r#""apiGroups":["apps"]"#]).await;
    kubectl.ok("create rolebinding rb --role=r --serviceaccount=default:bot").await;
    kubectl.check("get rolebinding rb -o wide", &["Role/r"]).await;
    kubectl.ok("create deployment d --image=d:1 --replicas=2").await;
    kubectl.check("get deploy d", &["0/2"]).await;
    kubectl.check("auth can-i delete pods", &["yes"]).await;
    assert!(kubectl.ok("create token bot").await.trim().len() > 20);
    kubectl.ok("-n other create cm x").await;
    kubectl.check("delete ns other", &["namespace \"other\" deleted"]).await;
    assert!(kubectl.fails("get ns other").await.contains("not found"));
}

#[tokio::test]
async fn unknown_fields_are_refused_by_default_and_warned_of() {
    let Some(kubectl) = Kubectl::start("unknown_fields_are_refused_by_default_and_warned_of").await else {
        return;
    };
    let path = kubectl.path().join("wrong.yaml");
    let text = std::fs::read_to_string(manifest("web.yaml")).unwrap();
    std::fs::write(&path, text.replace("serviceName: web", "serviceName: web\n  foo: bar")).unwrap();
    let complaint = kubectl.fails(&format!("create -f {}", path.display())).await;
    let expected = "StatefulSet in version \"v1\" cannot be handled as a StatefulSet: strict decoding error: unknown field \"spec.foo\"";
    assert!(complaint.contains(expected), "{complaint}");
    let output = kubectl.run(&format!("apply --validate=warn -f {}", path.display()), "true").await;
    assert!(output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("Warning: unknown field \"spec.foo\""));
}

#[tokio::test]
async fn somebody_without_rights_is_told_which_are_missing() {
    let name = "somebody_without_rights_is_told_which_are_missing";
    let Some(kubectl) = Kubectl::start(name).await else { return };
    let token = kubectl.server.service_account_token("default", "bot", None);
    std::fs::write(kubectl.path().join("kubeconfig"), kubectl.server.kubeconfig(&token)).unwrap();
    assert_eq!(
        kubectl.fails("get pods").await,
        "Error from server (Forbidden): pods is forbidden: User \"system:serviceaccount:default:bot\" cannot list \
         resource \"pods\" in API group \"\" in the namespace \"default\"\n"
    );
    kubectl.check("api-resources", &["statefulsets"]).await;
    assert_eq!(kubectl.run("auth can-i get pods", "true").await.stdout, b"no\n");
}

#[tokio::test]
async fn people_ask_who_they_are_and_act_as_others() {
    let Some(kubectl) = Kubectl::start("people_ask_who_they_are_and_act_as_others").await else { return };
    kubectl.check("auth whoami", &["Username    kubernetes-admin", "system:masters"]).await;
    kubectl
        .check("auth whoami --as=jane --as-group=dev", &["Username    jane", "[dev system:authenticated]"])
        .await;
    kubectl.check("auth can-i --list", &["*.*", "[*]"]).await;
    kubectl
        .check("auth can-i --list --as=jane", &["selfsubjectreviews.authentication.k8s.io", "[/version/]"])
        .await;
    assert_eq!(kubectl.run("auth can-i list secrets --as=nobody", "true").await.stdout, b"no\n");
    let complaint = kubectl.fails("get ns --as=nobody").await;
    assert!(complaint.contains("User \"nobody\" cannot list resource \"namespaces\""), "{complaint}");
}
