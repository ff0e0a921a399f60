//! Which of several processes of this machine has opened a connection: a proxy sees an address only, and all nodes here have the
//! same. Linux says whose socket it is, below `/proc`.

use std::fs;
use std::net::SocketAddrV4;

/// The place, among the processes, of the one that has connected from `peer` to `here`.
pub(crate) fn dialler(peer: SocketAddrV4, here: SocketAddrV4, processes: &[Option<u32>]) -> Option<usize> {
    let sockets = fs::read_to_string("/proc/net/tcp").ok()?;
    let socket = format!("socket:[{}]", inode(&sockets, peer, here)?);
    processes.iter().position(|process| process.is_some_and(|process| has_open(process, &socket)))
}

fn inode(sockets: &str, local: SocketAddrV4, remote: SocketAddrV4) -> Option<&str> {
    let (local, remote) = (in_table(local), in_table(remote));
    sockets.lines().find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        (fields.get(1) == Some(&local.as_str()) && fields.get(2) == Some(&remote.as_str()))
            .then(|| fields.get(9).copied())?
    })
}

/// As `/proc/net/tcp` writes it: the address in the order of the machine's bytes.
fn in_table(address: SocketAddrV4) -> String {
    format!("{:08X}:{:04X}", u32::from_ne_bytes(address.ip().octets()), address.port())
}

fn has_open(process: u32, file: &str) -> bool {
    let Ok(files) = fs::read_dir(format!("/proc/{process}/fd")) else { return false };
    files.flatten().any(|entry| fs::read_link(entry.path()).is_ok_and(|path| path.as_os_str() == file))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]
mod tests {
    use super::*;
    use std::net::{SocketAddr, TcpListener, TcpStream};

    fn v4(address: SocketAddr) -> SocketAddrV4 {
        match address {
            SocketAddr::V4(address) => address,
            SocketAddr::V6(address) => panic!("{address}"),
        }
    }

    #[test]
    fn the_process_that_has_connected_is_found() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let here = v4(listener.local_addr().unwrap());
        let connected = TcpStream::connect(here).unwrap();
        let (_, peer) = listener.accept().unwrap();
        let me = Some(std::process::id());
        assert_eq!(dialler(v4(peer), here, &[None, me]), Some(1));
        assert_eq!(dialler(v4(peer), here, &[Some(1), None]), None, "it is another's");
        drop(connected);
    }
}
