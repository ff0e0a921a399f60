//! Runs the double for people who try manifests with kubectl.

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::Context as _;
use clap::Parser;
use wattle_api_server::{ApiServer, Settings};

/// A double of the Kubernetes API server: kubectl works with it, and no pods run
#[derive(Debug, Parser)]
struct Arguments {
    /// Where to listen
    #[arg(long, default_value = "127.0.0.1:8001")]
    listen: SocketAddr,
    /// Where to write the kubeconfig
    #[arg(long, default_value = "kubeconfig")]
    kubeconfig: PathBuf,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let settings = Settings { listen: arguments.listen, tls: true, ..Settings::default() };
    let server = ApiServer::start(settings).await.context("the address cannot be listened on")?;
    server.write_kubeconfig(&arguments.kubeconfig).context("the kubeconfig cannot be written")?;
    println!(
        "listening on {}; try: kubectl --kubeconfig {} get all",
        server.url(),
        arguments.kubeconfig.display()
    );
    tokio::signal::ctrl_c().await.context("no signal can be waited for")
}
