//! Stands for a node at an address: holds what others say to it, as if the network did, until it is released.

use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt, copy};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

pub(crate) struct Holding {
    address: String,
    held: Arc<watch::Sender<bool>>,
    /// Ends with it.
    _task: JoinSet<()>,
}

impl Holding {
    /// Before a node that listens there, or is to.
    pub(crate) async fn before(node: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (node, held) = (node.to_owned(), Arc::new(watch::Sender::new(false)));
        let mut task = JoinSet::new();
        let holds = Arc::clone(&held);
        task.spawn(async move {
            let mut open = JoinSet::new();
            while let Ok((caller, _)) = listener.accept().await {
                if let Ok(node) = TcpStream::connect(&node).await {
                    open.spawn(forward(caller, node, holds.subscribe()));
                }
            }
        });
        Self { address, held, _task: task }
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    pub(crate) fn hold(&self) {
        self.held.send_replace(true);
    }

    pub(crate) fn release(&self) {
        self.held.send_replace(false);
    }
}

async fn forward(mut caller: TcpStream, mut node: TcpStream, mut held: watch::Receiver<bool>) {
    let ((mut says, mut told), (mut answers, mut hears)) = (caller.split(), node.split());
    let said = async {
        let mut piece = vec![0; 64 << 10];
        while let Ok(bytes @ 1..) = says.read(&mut piece).await {
            if held.wait_for(|held| !held).await.is_err() || hears.write_all(&piece[..bytes]).await.is_err() {
                return;
            }
        }
    };
    // However a side ends, both are closed.
    tokio::select! {
        () = said => {}
        end = copy(&mut answers, &mut told) => drop(end),
    }
}
