//! A DNS server for tests: it answers datagrams from what it was told.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use hickory_resolver::proto::op::{Message, ResponseCode};
use hickory_resolver::proto::rr::rdata::{A, AAAA, SRV};
use hickory_resolver::proto::rr::{Name, RData, Record};
use parking_lot::Mutex;
use tokio::net::UdpSocket;
use tokio::sync::watch;
use tokio::task::JoinHandle;

pub(crate) struct DnsServer {
    address: SocketAddr,
    zone: Arc<Mutex<Zone>>,
    task: JoinHandle<()>,
}

#[derive(Default)]
struct Zone {
    records: HashMap<Name, Vec<RData>>,
    fails: bool,
    asked: watch::Sender<usize>,
}

pub(crate) fn a(ip: &str) -> RData {
    RData::A(A(ip.parse().unwrap()))
}

pub(crate) fn aaaa(ip: &str) -> RData {
    RData::AAAA(AAAA(ip.parse().unwrap()))
}

pub(crate) fn srv(target: &str, port: u16) -> RData {
    RData::SRV(SRV::new(0, 0, port, name(target)))
}

fn name(text: &str) -> Name {
    let mut name = Name::from_utf8(text).unwrap();
    name.set_fqdn(true);
    name
}

impl DnsServer {
    /// One that knows no name.
    pub(crate) async fn start() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let zone = Arc::<Mutex<Zone>>::default();
        let task = tokio::spawn(serve(socket, Arc::clone(&zone)));
        Self { address, zone, task }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// What a name stands for from now on.
    pub(crate) fn set(&self, of: &str, records: Vec<RData>) {
        self.zone.lock().records.insert(name(of), records);
    }

    /// Waits until it is asked so many times more.
    pub(crate) async fn asked(&self, times: usize) {
        let mut asked = self.zone.lock().asked.subscribe();
        let before = *asked.borrow();
        asked.wait_for(|asked| *asked >= before + times).await.unwrap();
    }

    /// Whether every question fails from now on.
    pub(crate) fn fail(&self, fails: bool) {
        self.zone.lock().fails = fails;
    }
}

impl Drop for DnsServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(socket: UdpSocket, zone: Arc<Mutex<Zone>>) {
    let mut buffer = [0; 4096];
    while let Ok((bytes, from)) = socket.recv_from(&mut buffer).await {
        let answer = zone.lock().answer(&Message::from_vec(&buffer[..bytes]).unwrap());
        zone.lock().asked.send_modify(|asked| *asked += 1);
        socket.send_to(&answer.to_vec().unwrap(), from).await.unwrap();
    }
}

impl Zone {
    fn answer(&self, asked: &Message) -> Message {
        let query = asked.queries[0].clone();
        let mut answer = Message::response(asked.metadata.id, asked.metadata.op_code);
        let records = self.records.get(query.name());
        answer.metadata.response_code = match records {
            _ if self.fails => ResponseCode::ServFail,
            Some(_) => ResponseCode::NoError,
            None => ResponseCode::NXDomain,
        };
        let fitting = records.into_iter().flatten().filter(|data| data.record_type() == query.query_type());
        // It holds for this question alone.
        answer.add_answers(fitting.map(|data| Record::from_rdata(query.name().clone(), 0, data.clone())));
        if self.fails {
            answer.answers.clear();
        }
        answer.edns = asked.edns.clone();
        answer.add_query(query);
        answer
    }
}
