//! Addresses of machines and pods: a network of 256 addresses out of 127.0.0.0/8, all of which Linux answers on without
//! any set-up. The first machine's kubelet port, which it listens on, holds the network against other clusters on this machine.

use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::error::Error;

/// Where the kubelet of a machine listens, as in all clusters.
pub(crate) const KUBELET_PORT: u16 = 10_250;
/// Networks from 127.64.0.0 up; nobody else is expected there.
const FIRST_NETWORK: u32 = 64 << 8;
const NETWORKS: u32 = 64 << 8;
const ATTEMPTS: u32 = 1024;
const FIRST_POD: u8 = 16;
const LAST_POD: u8 = 254;
pub(crate) const MAX_MACHINES: usize = FIRST_POD as usize - 1;

#[derive(Debug, Clone)]
pub(crate) struct Network(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    prefix: [u8; 3],
    /// Held open as long as there are addresses: that it listens is what keeps the network.
    held: TcpListener,
    // A leaf: taken for a few lines, never across an await.
    addresses: Mutex<Addresses>,
}

#[derive(Debug, Default)]
struct Addresses {
    used: BTreeSet<u8>,
    /// Handed out last; the next one follows it, so that addresses come back late, as in clusters.
    last: u8,
    /// Handed out before all others.
    wanted: VecDeque<u8>,
}

impl Network {
    pub(crate) fn reserve() -> Result<Self, Error> {
        Self::reserve_from(number_of_this_process())
    }

    /// The first network that is free from this one on.
    fn reserve_from(first: u32) -> Result<Self, Error> {
        for attempt in 0..ATTEMPTS {
            let [_, _, high, low] = (FIRST_NETWORK + first.wrapping_add(attempt) % NETWORKS).to_be_bytes();
            let prefix = [127, high, low];
            if let Ok(held) = TcpListener::bind((machine(prefix, 0), KUBELET_PORT)) {
                let addresses = Mutex::new(Addresses { last: LAST_POD, ..Addresses::default() });
                return Ok(Self(Arc::new(Shared { prefix, held, addresses })));
            }
        }
        Err(Error::NoNetwork)
    }

    /// The address of the machine at this place, below [`MAX_MACHINES`].
    pub(crate) fn machine(&self, at: usize) -> Ipv4Addr {
        machine(self.0.prefix, at)
    }

    /// Where the kubelet of the machine at this place is reached.
    pub(crate) fn kubelet(&self, at: usize) -> io::Result<TcpListener> {
        match at {
            0 => self.0.held.try_clone(),
            at => TcpListener::bind((self.machine(at), KUBELET_PORT)),
        }
    }

    /// `None` if all are taken.
    pub(crate) fn lease(&self) -> Option<Lease> {
        let mut addresses = self.0.addresses.lock();
        let wanted = addresses.wanted.front().copied().filter(|wanted| !addresses.used.contains(wanted));
        let host = match wanted {
            Some(wanted) => {
                addresses.wanted.pop_front();
                wanted
            }
            None => addresses.next()?,
        };
        addresses.used.insert(host);
        Some(Lease { network: self.clone(), host })
    }

    /// The next pod gets this address, once it is free. Says whether it is one of this network.
    pub(crate) fn prefer(&self, address: Ipv4Addr) -> bool {
        let [a, b, c, host] = address.octets();
        let is_here = [a, b, c] == self.0.prefix && (FIRST_POD..=LAST_POD).contains(&host);
        if is_here {
            self.0.addresses.lock().wanted.push_back(host);
        }
        is_here
    }
}

/// Any number will do that differs from what clusters of other processes begin with.
fn number_of_this_process() -> u32 {
    std::process::id().wrapping_mul(0x9e37_79b1) >> 8
}

fn machine([a, b, c]: [u8; 3], at: usize) -> Ipv4Addr {
    Ipv4Addr::new(a, b, c, u8::try_from(at + 1).expect("there are at most MAX_MACHINES"))
}

impl Addresses {
    fn next(&mut self) -> Option<u8> {
        let mut hosts = (self.last.saturating_add(1)..=LAST_POD).chain(FIRST_POD..=self.last.min(LAST_POD));
        let host = hosts.find(|host| !self.used.contains(host) && !self.wanted.contains(host))?;
        self.last = host;
        Some(host)
    }
}

/// An address that is a pod's until this is dropped.
#[derive(Debug)]
pub(crate) struct Lease {
    network: Network,
    host: u8,
}

impl Lease {
    pub(crate) fn address(&self) -> Ipv4Addr {
        let [a, b, c] = self.network.0.prefix;
        Ipv4Addr::new(a, b, c, self.host)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.network.0.addresses.lock().used.remove(&self.host);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_differ_and_are_given_back() {
        // Far from where the other tests of this process begin: none of them takes what is given back.
        let first = number_of_this_process().wrapping_add(NETWORKS / 2);
        let one = Network::reserve_from(first).unwrap();
        let other = Network::reserve_from(first).unwrap();
        assert_ne!(one.machine(0), other.machine(0));
        let address = one.machine(0);
        drop(one);
        let again = Network::reserve_from(first).unwrap();
        assert_eq!(again.machine(0), address);
    }

    #[test]
    fn an_address_comes_back_late_unless_it_is_preferred() {
        let network = Network::reserve().unwrap();
        let first = network.lease().unwrap();
        let address = first.address();
        assert!(network.prefer(address));
        let second = network.lease().unwrap();
        assert_ne!(second.address(), address, "it is still used");
        drop(first);
        assert_eq!(network.lease().unwrap().address(), address);
        assert_ne!(network.lease().unwrap().address(), address);
        assert!(!network.prefer(Ipv4Addr::new(10, 0, 0, 1)));
    }

    #[test]
    fn there_are_as_many_addresses_as_there_are() {
        let network = Network::reserve().unwrap();
        let leases: Vec<Lease> = std::iter::from_fn(|| network.lease()).collect();
        let distinct: BTreeSet<Ipv4Addr> = leases.iter().map(Lease::address).collect();
        assert_eq!(distinct.len(), usize::from(LAST_POD - FIRST_POD) + 1);
    }
}
