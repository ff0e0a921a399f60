//! [`Links`]: what goes from each node to each other one goes through here, and is let through, held, delayed or lost. Nodes tell one
//! another the addresses of these proxies as theirs; whoever is no node is let through.

use std::io;
use std::net::{SocketAddr, SocketAddrV4};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use wattle_simulation::Random;

use crate::dialler::dialler;

/// What is read at a time.
const PIECE_BYTES: usize = 64 << 10;
/// What a slow link takes for each piece.
const SLOW: (u64, u64) = (10, 60);
/// How long a lost packet is missed, and of how many pieces one is lost.
const LOST: (u64, u64, u64) = (200, 700, 12);
/// Of so many pieces of a lossy link one is the last.
const BROKEN: u64 = 400;

/// What becomes of what one node says to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) enum Way {
    #[default]
    Open,
    Slow,
    /// Some is late, and some connections break.
    Lossy,
    /// It waits until the link is whole again, as with packets that are lost and sent again.
    Cut,
}

/// From one node to another.
pub(crate) type Pair = (usize, usize);

#[derive(Debug, Clone)]
pub(crate) struct Links(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    nodes: usize,
    /// By pair.
    ways: watch::Sender<Vec<Way>>,
    /// Of the nodes. Held to copy or to change it.
    processes: Mutex<Vec<Option<u32>>>,
    random: Mutex<Random>,
}

/// Stands for a node at an address.
#[derive(Debug)]
pub(crate) struct Proxy {
    task: JoinSet<()>,
}

impl Proxy {
    /// Nobody is there any more, and the address is free.
    pub(crate) async fn close(mut self) {
        self.task.shutdown().await;
    }
}

impl Links {
    pub(crate) fn new(nodes: usize, random: Random) -> Self {
        let ways = watch::Sender::new(vec![Way::Open; nodes * nodes]);
        Self(Arc::new(Shared {
            nodes,
            ways,
            processes: Mutex::new(vec![None; nodes]),
            random: Mutex::new(random),
        }))
    }

    /// What is worst for a link counts.
    pub(crate) fn set(&self, pairs: &[Pair], way: Way) {
        let worst = |ways: &mut Vec<Way>, pair| {
            let known = &mut ways[self.place(pair)];
            *known = way.max(*known);
        };
        self.0.ways.send_modify(|ways| pairs.iter().for_each(|&pair| worst(ways, pair)));
    }

    pub(crate) fn heal(&self) {
        self.0.ways.send_modify(|ways| ways.fill(Way::Open));
    }

    pub(crate) fn set_process(&self, node: usize, process: Option<u32>) {
        self.0.processes.lock().unwrap_or_else(PoisonError::into_inner)[node] = process;
    }

    fn place(&self, (from, to): Pair) -> usize {
        from * self.0.nodes + to
    }

    /// Listens for a node.
    pub(crate) async fn stand_for(
        &self,
        node: usize,
        here: SocketAddrV4,
        there: SocketAddrV4,
    ) -> io::Result<Proxy> {
        let listener = TcpListener::bind(here).await?;
        let links = self.clone();
        let mut task = JoinSet::new();
        task.spawn(async move {
            // They end with the proxy.
            let mut open = JoinSet::new();
            while let Ok((dialled, peer)) = listener.accept().await {
                while open.try_join_next().is_some() {}
                open.spawn(links.clone().carry((dialled, peer), here, (node, there)));
            }
        });
        Ok(Proxy { task })
    }

    async fn carry(
        self,
        (mut dialled, peer): (TcpStream, SocketAddr),
        here: SocketAddrV4,
        (node, there): (usize, SocketAddrV4),
    ) {
        let Ok(mut served) = TcpStream::connect(there).await else { return };
        let from = self.node_of(peer, here);
        let (asks, answers) = (from.map(|from| (from, node)), from.map(|from| (node, from)));
        // What is small is not to wait for more.
        let at_once = dialled.set_nodelay(true).and_then(|()| served.set_nodelay(true));
        if at_once.is_err() {
            return;
        }
        let ((dialled_read, dialled_write), (served_read, served_write)) = (dialled.split(), served.split());
        // However a side ends, both are closed.
        tokio::select! {
            _ = self.pump(dialled_read, served_write, asks) => {}
            _ = self.pump(served_read, dialled_write, answers) => {}
        }
    }

    fn node_of(&self, peer: SocketAddr, here: SocketAddrV4) -> Option<usize> {
        let SocketAddr::V4(peer) = peer else { return None };
        let processes = self.0.processes.lock().unwrap_or_else(PoisonError::into_inner).clone();
        dialler(peer, here, &processes)
    }

    async fn pump(
        &self,
        mut from: ReadHalf<'_>,
        mut to: WriteHalf<'_>,
        pair: Option<Pair>,
    ) -> io::Result<()> {
        let mut piece = vec![0; PIECE_BYTES];
        let mut ways = self.0.ways.subscribe();
        loop {
            let length = from.read(&mut piece).await?;
            if let Some(pair) = pair {
                let place = self.place(pair);
                let way = ways.wait_for(|ways| ways[place] != Way::Cut).await.map(|ways| ways[place]);
                let delay = self.delay(way.unwrap_or_default()).ok_or(io::ErrorKind::ConnectionReset)?;
                tokio::time::sleep(delay).await;
                ways.mark_unchanged();
            }
            if length == 0 {
                return Ok(());
            }
            to.write_all(&piece[..length]).await?;
        }
    }

    /// How long a piece waits; none if the connection breaks.
    fn delay(&self, way: Way) -> Option<Duration> {
        let mut random = self.0.random.lock().unwrap_or_else(PoisonError::into_inner);
        match way {
            Way::Open | Way::Cut => Some(Duration::ZERO),
            Way::Slow => Some(Duration::from_millis(random.between(SLOW.0, SLOW.1))),
            Way::Lossy if random.one_in(BROKEN) => None,
            Way::Lossy if random.one_in(LOST.2) => {
                Some(Duration::from_millis(random.between(LOST.0, LOST.1)))
            }
            Way::Lossy => Some(Duration::ZERO),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]
mod tests {
    use std::net::Ipv4Addr;

    use tokio::time::timeout;

    use super::*;

    fn v4(address: SocketAddr) -> SocketAddrV4 {
        match address {
            SocketAddr::V4(address) => address,
            SocketAddr::V6(address) => panic!("{address}"),
        }
    }

    /// A free address; whoever takes it meanwhile fails the test.
    fn free() -> SocketAddrV4 {
        v4(std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap())
    }

    /// This process, as the first node, has dialled the second.
    async fn connected(links: &Links) -> (TcpStream, TcpStream, Proxy) {
        links.set_process(0, Some(std::process::id()));
        let served = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let here = free();
        let proxy = links.stand_for(1, here, v4(served.local_addr().unwrap())).await.unwrap();
        let dialled = TcpStream::connect(here).await.unwrap();
        (dialled, served.accept().await.unwrap().0, proxy)
    }

    /// Says something, and waits until it is heard.
    async fn say(from: &mut TcpStream, to: &mut TcpStream) {
        from.write_all(b"x").await.unwrap();
        hear(to).await;
    }

    async fn hear(to: &mut TcpStream) {
        let mut heard = [0];
        timeout(Duration::from_secs(30), to.read_exact(&mut heard)).await.unwrap().unwrap();
    }

    /// Says something that is not heard.
    async fn say_in_vain(from: &mut TcpStream, to: &mut TcpStream) {
        from.write_all(b"x").await.unwrap();
        let mut heard = [0];
        assert!(timeout(Duration::from_millis(200), to.read(&mut heard)).await.is_err());
    }

    #[tokio::test]
    async fn a_cut_in_one_direction_holds_what_goes_there_and_nothing_else() {
        let links = Links::new(2, Random::new(1));
        let (mut dialled, mut served, _proxy) = connected(&links).await;
        say(&mut dialled, &mut served).await;
        say(&mut served, &mut dialled).await;
        links.set(&[(0, 1)], Way::Cut);
        say_in_vain(&mut dialled, &mut served).await;
        say(&mut served, &mut dialled).await;
        links.heal();
        hear(&mut served).await;
        links.set(&[(1, 0)], Way::Cut);
        links.set(&[(0, 1), (1, 0)], Way::Slow);
        say(&mut dialled, &mut served).await;
        say_in_vain(&mut served, &mut dialled).await;
    }

    #[tokio::test]
    async fn who_is_no_node_is_not_cut_off() {
        let links = Links::new(2, Random::new(1));
        links.set(&[(0, 1), (1, 0)], Way::Cut);
        let served = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let here = free();
        let _proxy = links.stand_for(1, here, v4(served.local_addr().unwrap())).await.unwrap();
        let mut dialled = TcpStream::connect(here).await.unwrap();
        let mut served = served.accept().await.unwrap().0;
        say(&mut dialled, &mut served).await;
        say(&mut served, &mut dialled).await;
    }

    #[tokio::test]
    async fn the_address_of_a_proxy_that_is_closed_is_free() {
        let links = Links::new(2, Random::new(1));
        let here = free();
        links.stand_for(1, here, free()).await.unwrap().close().await;
        let refused = TcpStream::connect(here).await.unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
        links.stand_for(1, here, free()).await.unwrap().close().await;
    }
}
