//! What the server asks kubelets for, seen from both ends: a client of a test, and a kubelet of a test.

use futures_util::{SinkExt as _, StreamExt as _};
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::Api;
use kube::api::{LogParams, Patch, PatchParams, PostParams};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::handshake::client::Response;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async};
use wattle_api_server::{ApiServer, Outage, Settings};

use crate::server::{DEADLINE, admin, check_refusal};

const TUNNEL: &str = "SPDY/3.1+portforward.k8s.io";
const ACCEPTED: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\
                        X-Stream-Protocol-Version: portforward.k8s.io\r\n\r\n";

/// A server with a pod `p` on a node whose kubelet is this test.
struct Bench {
    server: ApiServer,
    kubelet: TcpListener,
    pods: Api<Pod>,
}

impl Bench {
    async fn start() -> Self {
        let settings = Settings { anonymous_is_admin: true, ..Settings::default() };
        let server = ApiServer::start(settings).await.unwrap();
        let kubelet = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = admin(&server).await;
        let (nodes, pods): (Api<Node>, Api<Pod>) =
            (Api::all(client.clone()), Api::default_namespaced(client));
        let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n"}});
        nodes.create(&PostParams::default(), &serde_json::from_value(node).unwrap()).await.unwrap();
        let status = json!({"status": {"addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": kubelet.local_addr().unwrap().port()}}}});
        nodes.patch_status("n", &PatchParams::default(), &Patch::Merge(status)).await.unwrap();
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"},
            "spec": {"nodeName": "n", "containers": [{"name": "c", "image": "i"}]}});
        pods.create(&PostParams::default(), &serde_json::from_value(pod).unwrap()).await.unwrap();
        Self { server, kubelet, pods }
    }

    /// The next connection that the kubelet gets, with the head of its request, which is answered so.
    async fn answer(&self, answer: &str) -> (TcpStream, String) {
        let (mut stream, _) = timeout(DEADLINE, self.kubelet.accept()).await.expect("nobody asks").unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        stream.write_all(answer.as_bytes()).await.unwrap();
        (stream, String::from_utf8(head).unwrap().to_lowercase())
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.server.address()).await.unwrap()
    }

    async fn websocket(&self) -> Result<(WebSocketStream<TcpStream>, Response), Error> {
        let url = format!("ws://{}/api/v1/namespaces/default/pods/p/portforward", self.server.address());
        let mut request = url.into_client_request().unwrap();
        request.headers_mut().insert("sec-websocket-protocol", TUNNEL.parse().unwrap());
        client_async(request, self.connect().await).await
    }

    /// A tunnel, from its client to its kubelet.
    async fn tunnel(&self) -> (WebSocketStream<TcpStream>, TcpStream) {
        let (client, (kubelet, _)) = tokio::join!(self.websocket(), self.answer(ACCEPTED));
        (client.unwrap().0, kubelet)
    }

    async fn check_is_alive(&self) {
        assert_eq!(self.pods.get("p").await.unwrap().metadata.name.as_deref(), Some("p"));
    }
}

async fn next(client: &mut WebSocketStream<TcpStream>) -> Message {
    timeout(DEADLINE, client.next()).await.expect("nothing comes").expect("it is over").unwrap()
}

async fn check_closed(client: &mut WebSocketStream<TcpStream>, expected: CloseCode) {
    match next(client).await {
        Message::Close(Some(frame)) => assert_eq!(frame.code, expected),
        other => panic!("{other:?}"),
    }
}

/// Nothing more comes, whether the other end has closed or reset the connection.
async fn check_hung_up(stream: &mut TcpStream) {
    let read = timeout(DEADLINE, stream.read(&mut [0])).await.expect("it is not hung up");
    assert!(matches!(read, Ok(0) | Err(_)), "{read:?}");
}

#[tokio::test]
async fn a_tunnel_carries_bytes_both_ways() {
    let bench = Bench::start().await;
    let (opened, (mut kubelet, head)) = tokio::join!(bench.websocket(), bench.answer(ACCEPTED));
    let (mut client, response) = opened.unwrap();
    assert!(head.starts_with("post /portforward/default/p http/1.1\r\n"), "{head}");
    for expected in ["\r\nupgrade: spdy/3.1\r\n", "\r\nx-stream-protocol-version: portforward.k8s.io\r\n"] {
        assert!(head.contains(expected), "{head}");
    }
    assert_eq!(response.headers()["sec-websocket-protocol"], TUNNEL);
    for part in [&b"a"[..], b"bc"] {
        client.send(Message::binary(part.to_vec())).await.unwrap();
    }
    let mut heard = [0; 3];
    kubelet.read_exact(&mut heard).await.unwrap();
    assert_eq!(&heard, b"abc");
    kubelet.write_all(b"xyz").await.unwrap();
    assert_eq!(next(&mut client).await, Message::binary(&b"xyz"[..]));
    client.send(Message::Ping(b"1".to_vec().into())).await.unwrap();
    assert_eq!(next(&mut client).await, Message::Pong(b"1".to_vec().into()));
    kubelet.write_all(b"last").await.unwrap();
    drop(kubelet);
    assert_eq!(next(&mut client).await, Message::binary(&b"last"[..]));
    check_closed(&mut client, CloseCode::Normal).await;
    let codes: Vec<u16> = bench.server.requests().iter().map(|request| request.code).collect();
    assert_eq!(codes.last(), Some(&101));
}

#[tokio::test]
async fn a_client_that_goes_takes_its_tunnel_with_it() {
    let bench = Bench::start().await;
    let (mut client, mut kubelet) = bench.tunnel().await;
    client.close(None).await.unwrap();
    check_hung_up(&mut kubelet).await;
    let (client, mut kubelet) = bench.tunnel().await;
    drop(client);
    check_hung_up(&mut kubelet).await;
}

#[tokio::test]
async fn hostile_messages_end_their_tunnel_and_nothing_else() {
    let bench = Bench::start().await;
    let (mut other, mut other_kubelet) = bench.tunnel().await;
    let (mut client, mut kubelet) = bench.tunnel().await;
    client.send(Message::text("GET /")).await.unwrap();
    check_closed(&mut client, CloseCode::Unsupported).await;
    check_hung_up(&mut kubelet).await;
    // A header of a frame of 8 MiB, one without a mask, and one with bits that mean nothing.
    let long = [0x82, 0xff, 0, 0, 0, 0, 0, 0x80, 0, 0, 1, 2, 3, 4];
    for (bytes, expected) in [
        (&long[..], CloseCode::Size),
        (&[0x82, 0x01, 0x00], CloseCode::Protocol),
        (&[0xf2, 0x80, 0, 0, 0, 0], CloseCode::Protocol),
    ] {
        let (mut client, mut kubelet) = bench.tunnel().await;
        client.get_mut().write_all(bytes).await.unwrap();
        check_closed(&mut client, expected).await;
        check_hung_up(&mut kubelet).await;
    }
    other.send(Message::binary(&b"x"[..])).await.unwrap();
    assert_eq!(other_kubelet.read_u8().await.unwrap(), b'x');
    bench.check_is_alive().await;
}

#[tokio::test]
async fn who_asks_for_something_else_is_refused() {
    let bench = Bench::start().await;
    let check = async |head: &str, expected: &str| {
        let mut stream = bench.connect().await;
        let path = "/api/v1/namespaces/default/pods/p/portforward";
        let request = head.replace("PATH", path) + "\r\nHost: h\r\n\r\n";
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        let read = async {
            while !answer.contains(expected) {
                let mut piece = [0; 1024];
                let length = stream.read(&mut piece).await.unwrap();
                assert_ne!(length, 0, "{answer}");
                answer.push_str(&String::from_utf8_lossy(&piece[..length]));
            }
        };
        timeout(DEADLINE, read).await.expect("no such answer");
    };
    check("GET PATH HTTP/1.1", "Upgrade request required").await;
    check("DELETE PATH HTTP/1.1", "HTTP/1.1 405").await;
    let refusal = "HTTP/1.1 400 Bad Request\r\nContent-Length: 4\r\n\r\nnope";
    // The kubelet is asked whether it knows that, and does not.
    let other = "GET PATH HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: chat";
    let (_, (_, head)) = tokio::join!(check(other, "\r\n\r\nnope"), bench.answer(refusal));
    assert!(head.contains("\r\nupgrade: chat\r\n"), "{head}");
    let (refused, _) = tokio::join!(bench.websocket(), bench.answer(refusal));
    let Err(Error::Http(response)) = refused else { panic!("{refused:?}") };
    assert_eq!((response.status().as_u16(), response.body().as_deref()), (400, Some(&b"nope"[..])));
}

#[tokio::test]
async fn an_outage_cuts_tunnels() {
    let bench = Bench::start().await;
    let (mut client, mut kubelet) = bench.tunnel().await;
    bench.server.faults().start_outage(Outage::Refused);
    check_hung_up(&mut kubelet).await;
    let last = timeout(DEADLINE, client.next()).await.expect("it is not cut");
    assert!(matches!(last, None | Some(Err(_))), "{last:?}");
}

#[tokio::test]
async fn a_log_comes_as_the_kubelet_sends_it() {
    let bench = Bench::start().await;
    let options = LogParams { tail_lines: Some(2), since_seconds: Some(60), ..LogParams::default() };
    let answer = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\na\nb\n";
    let (log, (_, head)) = tokio::join!(bench.pods.logs("p", &options), bench.answer(answer));
    assert_eq!(log.unwrap(), "a\nb\n");
    assert!(
        head.starts_with("get /containerlogs/default/p/c?sinceseconds=60&taillines=2 http/1.1\r\n"),
        "{head}"
    );
    // What is followed comes at once, and the kubelet hears that nobody follows any more.
    let follow = LogParams { follow: true, ..LogParams::default() };
    let begun = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    let (log, (mut kubelet, _)) = tokio::join!(bench.pods.log_stream("p", &follow), bench.answer(begun));
    let mut log = Box::pin(log.unwrap());
    for part in ["one\n", "two\n"] {
        kubelet.write_all(format!("4\r\n{part}\r\n").as_bytes()).await.unwrap();
        let mut heard = [0; 4];
        let read = futures_util::AsyncReadExt::read_exact(&mut log, &mut heard);
        timeout(DEADLINE, read).await.expect("it is held back").unwrap();
        assert_eq!(&heard, part.as_bytes());
    }
    drop(log);
    check_hung_up(&mut kubelet).await;
}

#[tokio::test]
async fn what_a_kubelet_refuses_is_said_as_the_real_server_does() {
    let bench = Bench::start().await;
    let check = async |answer: &str, code: u16, reason: &str, message: &str| {
        let options = LogParams::default();
        let (log, _) = tokio::join!(bench.pods.logs("p", &options), bench.answer(answer));
        check_refusal(log, code, reason, message);
    };
    let waiting = "HTTP/1.1 400 Bad Request\r\nContent-Length: 7\r\n\r\nwaiting";
    check(waiting, 400, "BadRequest", "waiting").await;
    let unknown = "HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\n\r\ngone";
    let message = "the server could not find the requested resource ( pods/log p)";
    check(unknown, 404, "NotFound", message).await;
    let broken = "HTTP/1.1 500 Internal Server Error\r\nContent-Length: 4\r\n\r\nfile";
    check(broken, 500, "InternalError", "Internal error occurred: file").await;
    let Bench { server, kubelet, pods } = bench;
    let address = kubelet.local_addr().unwrap();
    drop(kubelet);
    let message = format!(
        "Get \"http://{address}/containerLogs/default/p/c\": dial tcp {address}: connect: connection refused"
    );
    check_refusal(pods.logs("p", &LogParams::default()).await, 500, "", &message);
    drop(server);
}
