//! Clients that speak the protocol themselves, well or badly.

use std::io::ErrorKind;

use tokio::io::{DuplexStream, duplex};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::super::spdy::{self, Encoder, Head, Reset, kind};
use super::*;

const DEADLINE: Duration = Duration::from_secs(20);

struct Client {
    io: DuplexStream,
    encoder: Encoder,
    served: JoinHandle<Result<(), Broken>>,
    views: watch::Sender<Vec<View>>,
    pod: TcpListener,
}

impl Client {
    /// One of a pod that listens.
    async fn start() -> Self {
        let pod = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let views = watch::Sender::default();
        let (name, uid) = ("p".to_owned(), "u".to_owned());
        let target = Target { name, uid, address: Ipv4Addr::LOCALHOST, views: views.subscribe() };
        let (io, other) = duplex(64 * 1024);
        let served = tokio::spawn(serve(other, target));
        Self { io, encoder: Encoder::new(), served, views, pod }
    }

    fn port(&self) -> u16 {
        self.pod.local_addr().unwrap().port()
    }

    async fn send(&mut self, frame: &[u8]) {
        self.io.write_all(frame).await.unwrap();
    }

    async fn open(&mut self, stream: u32, headers: &[(&str, &str)]) {
        let block = self.encoder.encode(headers);
        let frame = spdy::control(kind::SYN_STREAM, false, &[&stream.to_be_bytes(), &[0; 6], &block]);
        self.send(&frame).await;
    }

    /// The streams 1 for errors and 3 for data, which are replied to.
    async fn open_pair(&mut self, port: u16) {
        for (stream, kind) in [(1, "error"), (3, "data")] {
            let port = port.to_string();
            self.open(stream, &[("streamtype", kind), ("port", &port), ("requestid", "0")]).await;
            let (head, payload) = self.frame().await;
            assert!(matches!(head, Head::Control { kind: kind::SYN_REPLY, .. }), "{head:?}");
            assert_eq!(payload[..4], stream.to_be_bytes());
        }
    }

    async fn frame(&mut self) -> (Head, Vec<u8>) {
        let read = async {
            let mut head = [0; Head::SIZE];
            self.io.read_exact(&mut head).await.unwrap();
            let head = Head::parse(head);
            let (Head::Control { length, .. } | Head::Data { length, .. }) = head;
            let mut payload = vec![0; length];
            self.io.read_exact(&mut payload).await.unwrap();
            (head, payload)
        };
        timeout(DEADLINE, read).await.expect("no frame comes")
    }

    async fn check_data(&mut self, stream: u32, bytes: &[u8], is_last: bool) {
        let (head, payload) = self.frame().await;
        assert_eq!(head, Head::Data { stream, is_last, length: bytes.len() });
        assert_eq!(payload, bytes);
    }

    async fn check_reset(&mut self, stream: u32, why: Reset) {
        let (head, payload) = self.frame().await;
        assert!(matches!(head, Head::Control { kind: kind::RST_STREAM, .. }), "{head:?}");
        assert_eq!(spdy::reset(stream, why)[Head::SIZE..], payload);
    }

    async fn accept(&self) -> TcpStream {
        timeout(DEADLINE, self.pod.accept()).await.expect("nobody connects").unwrap().0
    }

    /// What the connection ends with when the client has gone.
    async fn end(self) -> Result<(), Broken> {
        drop(self.io);
        timeout(DEADLINE, self.served).await.expect("it does not end").unwrap()
    }
}

#[tokio::test]
async fn a_half_closed_stream_is_answered_at_leisure() {
    let mut client = Client::start().await;
    client.open_pair(client.port()).await;
    client.send(&spdy::data(3, false, b"question")).await;
    client.send(&spdy::data(3, true, b"")).await;
    let mut pod = client.accept().await;
    let mut heard = String::new();
    pod.read_to_string(&mut heard).await.unwrap();
    assert_eq!(heard, "question");
    pod.write_all(b"answer").await.unwrap();
    client.check_data(3, b"answer", false).await;
    drop(pod);
    client.check_data(3, b"", true).await;
    client.check_data(1, b"", true).await;
    client.end().await.unwrap();
}

#[tokio::test]
async fn a_client_that_goes_on_talking_to_a_pod_that_has_said_all_is_cut_off() {
    let mut client = Client::start().await;
    client.open_pair(client.port()).await;
    let mut pod = client.accept().await;
    pod.shutdown().await.unwrap();
    client.check_data(3, b"", true).await;
    client.send(&spdy::data(3, false, b"more")).await;
    client.check_data(1, b"", true).await;
    let mut heard = String::new();
    pod.read_to_string(&mut heard).await.unwrap();
    assert_eq!(heard, "more");
}

#[tokio::test]
async fn a_stream_that_is_reset_hangs_up_on_the_pod() {
    let mut client = Client::start().await;
    client.open_pair(client.port()).await;
    let mut pod = client.accept().await;
    client.send(&spdy::reset(3, Reset::Cancel)).await;
    assert_eq!(timeout(DEADLINE, pod.read(&mut [0])).await.unwrap().unwrap(), 0);
    client.check_data(1, b"", true).await;
}

#[tokio::test]
async fn the_stream_of_errors_says_what_went_wrong() {
    let mut client = Client::start().await;
    client.open_pair(client.port()).await;
    let mut pod = client.accept().await;
    pod.write_all(b"hello").await.unwrap();
    client.check_data(3, b"hello", false).await;
    pod.set_zero_linger().unwrap();
    drop(pod);
    let (port, address) = (client.port(), "127.0.0.1");
    let expected = format!(
        "error forwarding port {port} to pod p, uid u: read tcp {address}:{port}: read: connection reset by peer"
    );
    client.check_data(1, expected.as_bytes(), false).await;
    client.check_reset(3, Reset::Cancel).await;
    client.check_reset(1, Reset::Cancel).await;
}

#[tokio::test]
async fn a_pod_that_is_gone_is_not_sought_at_its_address() {
    let mut client = Client::start().await;
    client.views = watch::Sender::default();
    client.open_pair(client.port()).await;
    let expected = format!("error forwarding port {} to pod p, uid u: the pod is gone", client.port());
    client.check_data(1, expected.as_bytes(), false).await;
}

#[tokio::test]
async fn streams_that_are_not_as_they_should_be_are_refused_alone() {
    let mut client = Client::start().await;
    for (stream, headers) in [
        (1, &[("streamtype", "data")][..]),
        (3, &[("port", "80")]),
        (5, &[("streamtype", "data"), ("port", "0")]),
        (7, &[("streamtype", "data"), ("port", "65536")]),
        (9, &[("streamtype", "other"), ("port", "80")]),
    ] {
        client.open(stream, headers).await;
        client.check_reset(stream, Reset::Refused).await;
    }
    let good = [("streamtype", "data"), ("port", "80")];
    for stream in [10, 9, 0] {
        client.open(stream, &good).await;
        client.check_reset(stream, Reset::ProtocolError).await;
    }
    // Of streams that are not there.
    client.send(&spdy::data(77, true, &[0; 100_000])).await;
    client.send(&spdy::reset(79, Reset::Cancel)).await;
    // The same connection twice.
    for stream in [11, 13] {
        client.open(stream, &[("streamtype", "error"), ("port", "80"), ("requestid", "1")]).await;
        client.frame().await;
    }
    client.check_data(13, b"such a stream is there already", false).await;
    client.check_reset(13, Reset::Cancel).await;
    client.send(&spdy::control(kind::PING, false, &[&5_u32.to_be_bytes()])).await;
    let (head, payload) = client.frame().await;
    assert!(matches!(head, Head::Control { kind: kind::PING, .. }) && payload == 5_u32.to_be_bytes());
    client.end().await.unwrap();
}

#[tokio::test]
async fn a_connection_has_not_more_streams_than_it_may() {
    let mut client = Client::start().await;
    for at in 0..512_u32 {
        let number = at.to_string();
        client.open(2 * at + 1, &[("streamtype", "data"), ("port", "80"), ("requestid", &number)]).await;
        let (head, _) = client.frame().await;
        assert!(matches!(head, Head::Control { kind: kind::SYN_REPLY, .. }), "{at}: {head:?}");
    }
    client.open(1025, &[("streamtype", "data"), ("port", "80")]).await;
    client.check_reset(1025, Reset::Refused).await;
}

/// What a connection ends with on which this comes.
async fn ended_by(bytes: &[u8]) -> Result<(), Broken> {
    let mut client = Client::start().await;
    if let Err(error) = client.io.write_all(bytes).await {
        assert_eq!(error.kind(), ErrorKind::BrokenPipe, "it has ended before it had read all");
    }
    client.end().await
}

#[tokio::test]
async fn hostile_frames_end_their_connection() {
    let garbage = ended_by(b"\xff\xff\x00\x01GET / HTTP/1.1\r\n\r\n").await;
    assert!(matches!(garbage, Err(Broken::Version)), "{garbage:?}");
    let long = ended_by(&spdy::control(kind::SYN_STREAM, false, &[&[0; 20_000]])).await;
    assert!(matches!(long, Err(Broken::Length { kind: kind::SYN_STREAM, length: 20_000 })), "{long:?}");
    let short = ended_by(&spdy::control(kind::SYN_STREAM, false, &[&[0; 9]])).await;
    assert!(matches!(short, Err(Broken::Length { length: 9, .. })), "{short:?}");
    let ping = ended_by(&spdy::control(kind::PING, false, &[&[0; 5]])).await;
    assert!(matches!(ping, Err(Broken::Length { kind: kind::PING, .. })), "{ping:?}");
    let bomb = Encoder::new().encode(&[("a", &"a".repeat(1_000_000))]);
    let bomb = ended_by(&spdy::control(kind::SYN_STREAM, false, &[&[0; 10], &bomb])).await;
    assert!(matches!(bomb, Err(Broken::Headers(_))), "{bomb:?}");
    let cut = ended_by(&spdy::control(kind::SYN_STREAM, false, &[&[0; 10], b"x"])[..15]).await;
    assert!(matches!(&cut, Err(Broken::Io(error)) if error.kind() == ErrorKind::UnexpectedEof), "{cut:?}");
    ended_by(&spdy::control(kind::GO_AWAY, false, &[&[0; 8]])).await.unwrap();
    ended_by(b"").await.unwrap();
}

#[tokio::test]
async fn noise_ends_nothing_but_its_connection() {
    let mut state = 1_u64;
    let mut random = move || {
        // xorshift64
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    for _ in 0..500 {
        let mut bytes = Vec::new();
        for _ in 0..random() % 4 + 1 {
            let payload: Vec<u8> = (0..random() % 40).map(|_| random() as u8).collect();
            match random() % 3 {
                0 => bytes.extend(spdy::data(random() as u32, random() % 2 == 0, &payload)),
                1 => bytes.extend(spdy::control((random() % 10) as u16, random() % 2 == 0, &[&payload])),
                _ => bytes.extend(payload),
            }
        }
        // Whatever it ends with, it does end, and nobody panics.
        if let Err(broken) = ended_by(&bytes).await {
            tracing::debug!(%broken, "as it should be");
        }
    }
}

#[tokio::test]
async fn what_a_stream_does_not_take_waits_with_its_sender() {
    let (mut client, io) = duplex(1024);
    let (input, output) = tokio::io::split(io);
    let (accepted, mut streams) = mpsc::channel(1);
    let (reader, writer) = spdy::connection(input, output, admits, accepted);
    let (mut reader, mut writer) = (std::pin::pin!(reader), std::pin::pin!(writer));
    let block = Encoder::new().encode(&[("streamtype", "data"), ("port", "80")]);
    let opening = spdy::control(kind::SYN_STREAM, false, &[&1_u32.to_be_bytes(), &[0; 6], &block]);
    client.write_all(&opening).await.unwrap();
    let endless = spdy::data(1, false, &vec![7; 1 << 23]);
    let mut taken = 0;
    let mut stream = None;
    let flood = async {
        loop {
            tokio::select! {
                biased;
                ended = &mut reader => panic!("{ended:?}"),
                ended = &mut writer => panic!("{ended:?}"),
                Some(found) = streams.recv() => stream = Some(found),
                written = client.write(&endless[taken..]) => taken += written.unwrap(),
                // Nobody can go on.
                () = std::future::ready(()) => break,
            }
        }
    };
    tokio::task::unconstrained(flood).await;
    // Eight pieces in the stream's queue, one in the reader's hands, and what the connection holds.
    assert!(taken > 8 * PIECE && taken < 10 * PIECE, "{taken}");
    let mut stream = stream.unwrap();
    for _ in 0..8 {
        assert_eq!(stream.input.recv().await.unwrap().len(), PIECE);
    }
}
