//! A client's connection joined to a kubelet's: bytes are passed on as they come, in the messages of a WebSocket or as
//! they are. Each direction holds one message at most, so that who reads slowly is written to slowly.

use std::time::Duration;

use bytes::BytesMut;
use futures_util::{Sink, SinkExt as _, Stream, StreamExt as _};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message};

use super::upgrade::{PROTOCOL_VERSION, TUNNEL, Upgrade};

/// Bytes of a kubelet that make one message.
const PIECE: usize = 32 * 1024;
/// Longer messages end the tunnel; kubectl sends 32 KiB at most.
const MAX_MESSAGE: usize = 4 * 1024 * 1024;
/// What a client has left to say goodbye.
const FAREWELL: Duration = Duration::from_secs(5);

impl Upgrade {
    /// The headers of an answer that accepts it.
    pub(crate) fn accepted(&self, version: &str) -> Vec<(&'static str, String)> {
        match self {
            Self::Tunnel { key, .. } => vec![
                ("upgrade", "websocket".to_owned()),
                ("sec-websocket-accept", derive_accept_key(key.as_bytes())),
                ("sec-websocket-protocol", format!("{TUNNEL}{version}")),
            ],
            Self::Plain { protocol, .. } => {
                vec![("upgrade", protocol.clone()), (PROTOCOL_VERSION, version.to_owned())]
            }
        }
    }
}

/// To be run when the client's connection has been answered.
#[derive(Debug)]
pub(crate) struct Tunnel {
    is_websocket: bool,
    client: OnUpgrade,
    kubelet: Upgraded,
}

impl Tunnel {
    pub(crate) fn new(wanted: &Upgrade, client: OnUpgrade, kubelet: Upgraded) -> Self {
        Self { is_websocket: matches!(wanted, Upgrade::Tunnel { .. }), client, kubelet }
    }

    /// Until either end closes it.
    pub(crate) async fn run(self) {
        // A client that has gone has no use for it.
        let Ok(client) = self.client.await else { return };
        let (mut client, mut kubelet) = (TokioIo::new(client), TokioIo::new(self.kubelet));
        if self.is_websocket {
            websocket(client, kubelet).await;
        } else {
            // What ends it is no fault of the server.
            drop(tokio::io::copy_bidirectional(&mut client, &mut kubelet).await);
        }
    }
}

async fn websocket(client: impl AsyncRead + AsyncWrite + Unpin, kubelet: impl AsyncRead + AsyncWrite) {
    let config =
        WebSocketConfig::default().max_message_size(Some(MAX_MESSAGE)).max_frame_size(Some(MAX_MESSAGE));
    let client = WebSocketStream::from_raw_socket(client, Role::Server, Some(config)).await;
    let (mut to_client, mut from_client) = client.split();
    let (from_kubelet, to_kubelet) = tokio::io::split(kubelet);
    let close = tokio::select! {
        code = upload(&mut from_client, to_kubelet) => code,
        () = download(from_kubelet, &mut to_client) => CloseCode::Normal,
    };
    let last = Message::Close(Some(CloseFrame { code: close, reason: "".into() }));
    // The connection is closed hard in the end, so a client that has not read all yet is waited for.
    let farewell = async {
        if to_client.send(last).await.is_ok() {
            while let Some(Ok(_)) = from_client.next().await {}
        }
    };
    drop(timeout(FAREWELL, farewell).await);
}

/// Says how the client is to be answered at the end.
async fn upload(
    client: &mut (impl Stream<Item = Result<Message, Error>> + Unpin),
    mut kubelet: impl AsyncWrite + Unpin,
) -> CloseCode {
    while let Some(message) = client.next().await {
        match message {
            Ok(Message::Binary(bytes)) => {
                if kubelet.write_all(&bytes).await.is_err() {
                    return CloseCode::Normal;
                }
            }
            // The library answers pings itself.
            Ok(Message::Ping(_) | Message::Pong(_)) => {}
            Ok(Message::Close(_)) => return CloseCode::Normal,
            Ok(Message::Text(_) | Message::Frame(_)) => return CloseCode::Unsupported,
            Err(Error::Capacity(_)) => return CloseCode::Size,
            Err(_) => return CloseCode::Protocol,
        }
    }
    CloseCode::Normal
}

async fn download(
    mut kubelet: impl AsyncRead + Unpin,
    client: &mut (impl Sink<Message, Error = Error> + Unpin),
) {
    let mut buffer = BytesMut::new();
    loop {
        buffer.reserve(PIECE);
        let mut piece = (&mut kubelet).take(PIECE as u64);
        if piece.read_buf(&mut buffer).await.is_err() || buffer.is_empty() {
            return;
        }
        if client.send(Message::Binary(buffer.split().freeze())).await.is_err() {
            return;
        }
    }
}
