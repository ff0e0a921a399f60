//! A cluster on this machine for people who follow a guide with kubectl: the double of the API server, and pods as
//! processes.

mod outage;

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::Context as _;
use clap::Parser;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::dynamic_filter_fn;
use tracing_subscriber::layer::{Layer as _, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;
use wattle_api_server::ApiServer;
use wattle_pods::{Cluster, NodeSettings, Settings};

const FAILURES: &str = "\
What fails when it is asked to:
  kubectl annotate node node-2 wattle.dev/power=off             a machine, without a word
  kubectl annotate node node-2 wattle.dev/power-                and it is back
  kubectl annotate namespace kube-system wattle.dev/outage=60s  the API server, for so long";

/// A cluster on this machine, for trying manifests with kubectl: pods run as processes on addresses 127.x.y.z
#[derive(Debug, Parser)]
#[command(after_help = FAILURES)]
struct Arguments {
    /// Where the API server listens
    #[arg(long, default_value = "127.0.0.1:8001")]
    listen: SocketAddr,
    /// Where to write the kubeconfig
    #[arg(long, default_value = "kubeconfig")]
    kubeconfig: PathBuf,
    /// The program that containers with an image run; may be given several times
    #[arg(long, value_name = "NAME=PROGRAM", value_parser = image)]
    image: Vec<(String, PathBuf)>,
    /// A node and its zone; may be given several times [default: node-1 to node-3 in zone-a to zone-c]
    #[arg(long, value_name = "NAME[=ZONE]", value_parser = node)]
    node: Vec<NodeSettings>,
    /// For volumes and logs [default: one that is removed at the end]
    #[arg(long)]
    directory: Option<PathBuf>,
}

#[derive(Debug, thiserror::Error)]
#[error("give it as NAME=PROGRAM")]
struct NoImage;

fn image(text: &str) -> Result<(String, PathBuf), NoImage> {
    let (name, program) = text.split_once('=').ok_or(NoImage)?;
    Ok((name.to_owned(), program.into()))
}

#[expect(clippy::unnecessary_wraps, reason = "the parser of an argument returns a result")]
fn node(text: &str) -> Result<NodeSettings, NoImage> {
    let (name, zone) = text.split_once('=').unwrap_or((text, ""));
    Ok(NodeSettings { name: name.to_owned(), zone: zone.to_owned() })
}

/// During an outage everybody complains several times a second: who asked for it knows.
fn begin_log() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn"));
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let lines = lines.with_filter(dynamic_filter_fn(|_, _| !outage::is_on()));
    tracing_subscriber::registry().with(filter).with(lines).init();
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    begin_log();
    let mut interrupt = signal(SignalKind::interrupt()).context("no signal can be waited for")?;
    let mut terminate = signal(SignalKind::terminate()).context("no signal can be waited for")?;
    let settings = wattle_api_server::Settings {
        listen: arguments.listen,
        tls: true,
        ..wattle_api_server::Settings::default()
    };
    let server = ApiServer::start(settings)
        .await
        .with_context(|| format!("cannot listen on {}; choose with --listen", arguments.listen))?;
    let temporary = tempfile::tempdir().context("no temporary directory can be made")?;
    let directory = arguments.directory.unwrap_or_else(|| temporary.path().to_owned());
    let kubeconfig = Kubeconfig::from_yaml(&server.kubeconfig(server.admin_token()))
        .context("the server's own kubeconfig is not one")?;
    let config = Config::from_custom_kubeconfig(kubeconfig.clone(), &KubeConfigOptions::default()).await?;
    let client = Client::try_from(config).context("the server's own kubeconfig leads nowhere")?;
    let mut settings = Settings::new(kubeconfig, directory.clone());
    settings.images.extend(arguments.image);
    if !arguments.node.is_empty() {
        settings.nodes = arguments.node;
    }
    let cluster = Cluster::start(settings).await.context("the cluster cannot be started")?;
    // Who waits for this file finds everything running.
    server.write_kubeconfig(&arguments.kubeconfig).context("the kubeconfig cannot be written")?;
    println!(
        "listening on {}; try: kubectl --kubeconfig {} get nodes; volumes and logs are in {}",
        server.url(),
        arguments.kubeconfig.display(),
        directory.display()
    );
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
        () = outage::obey(client, server.faults()) => {}
    }
    cluster.stop().await.context("the cluster had stopped before")
}
