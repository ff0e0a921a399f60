//! Between a client and a node: lets only so much of the answers through on each connection, and then cuts it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt, copy};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::TestNode;

pub(crate) struct Proxy {
    endpoint: String,
    connections: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Proxy {
    /// The bytes that the first connections are good for; later ones are not cut.
    pub(crate) async fn cutting(node: &TestNode, good_for: &'static [u64]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let node = node.endpoint().trim_start_matches("http://").to_owned();
        let connections = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&connections);
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let turn = counted.fetch_add(1, Ordering::Relaxed);
                let node = TcpStream::connect(&node).await.unwrap();
                tokio::spawn(forward(client, node, good_for.get(turn).copied().unwrap_or(u64::MAX)));
            }
        });
        Self { endpoint, connections, task }
    }

    pub(crate) fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// How many there were.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn forward(mut client: TcpStream, mut node: TcpStream, good_for: u64) {
    let (mut asks, mut told) = client.split();
    let (answers, mut asked) = node.split();
    let mut answers = answers.take(good_for);
    // However a side ends, both are closed.
    tokio::select! {
        end = copy(&mut asks, &mut asked) => drop(end),
        end = copy(&mut answers, &mut told) => drop(end),
    }
    drop(told.shutdown().await);
}
