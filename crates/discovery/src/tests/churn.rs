//! Pods that come, go, move between slices and get each other's addresses: what is told is what the slices say.

use std::collections::BTreeMap;

use serde_json::Value;
use wattle_api_server::Break;

use super::cluster::{Cluster, Life, endpoint, is_at, tells, zones};

const PODS: usize = 50;
const SLICES: usize = 6;
const ZONES: [&str; 3] = ["west", "east", "north"];
const LIVES: [Life; 7] =
    [Life::Ready, Life::Starting, Life::Ready, Life::Ending, Life::Ready, Life::Ended, Life::Ready];

/// What slices say after a wave, and what that means.
#[derive(Default)]
struct Wave {
    slices: BTreeMap<usize, Vec<Value>>,
    zones: BTreeMap<String, &'static str>,
}

impl Wave {
    /// Each pod has the address that another had before.
    fn new(number: usize) -> Self {
        let mut wave = Self::default();
        for pod in 0..PODS {
            let host = format!("10.0.1.{}", (pod + 11 * number) % PODS);
            let (zone, before) = (ZONES[pod % 3], ZONES[(pod + 11) % PODS % 3]);
            let slice = (pod + number) % SLICES;
            // Nobody is in some of the slices, which are not there then.
            let is_there = |slice: usize| !(slice + number).is_multiple_of(4);
            let mut add = |slice: usize, zone: &str, life: Life| {
                let slice = slice % SLICES;
                if is_there(slice) {
                    let endpoints = wave.slices.entry(slice).or_default();
                    endpoints.push(endpoint((&host, zone), life, true));
                }
            };
            let life = LIVES[(pod * 5 + number * 3) % LIVES.len()];
            add(slice, zone, life);
            if is_there(slice) && (pod + number).is_multiple_of(5) {
                // It is on its way to another slice.
                add(slice + 1, zone, life);
            }
            if (pod * 3 + number).is_multiple_of(4) {
                add(slice + 2, before, Life::Ended);
            }
            if is_there(slice) && life != Life::Ended {
                wave.zones.insert(host, zone);
            }
        }
        wave
    }
}

#[tokio::test]
async fn fifty_pods_come_go_and_change_places_and_all_are_followed() {
    let cluster = Cluster::start().await;
    let nodes = cluster.watched().await;
    let faults = cluster.server.faults();
    let mut before = Wave::default();
    let mut expired = 0;
    for number in 0..40 {
        match number % 8 {
            3 => {
                faults.expire_next_watches(1);
                faults.break_watches(Break::MidLine);
                expired += 1;
            }
            6 => faults.break_watches(Break::Close),
            _ => {}
        }
        let wave = Wave::new(number);
        for slice in (0..SLICES).map(|slice| (slice + number) % SLICES) {
            let name = format!("s{slice}");
            match wave.slices.get(&slice) {
                Some(endpoints) => cluster.put(&name, "IPv4", endpoints.clone()).await,
                None if before.slices.contains_key(&slice) => cluster.delete(&name).await,
                None => {}
            }
        }
        let expected: Vec<String> =
            wave.zones.iter().map(|(host, zone)| format!("{host} in {zone}")).collect();
        tells(&nodes, zones, &expected).await;
        let places: Vec<String> = wave.zones.keys().map(|host| format!("{host}:7118")).collect();
        assert_eq!(nodes.addresses().await.unwrap(), places, "in wave {number}");
        let moved =
            wave.zones.iter().find(|(host, zone)| before.zones.get(*host).is_some_and(|z| z != *zone));
        if let Some((host, zone)) = moved {
            assert_eq!(nodes.zone_of(host).await.as_deref(), Some(*zone), "of {host} in wave {number}");
        }
        assert!(number == 0 || moved.is_some() && places.len() > 20, "wave {number} is a weak one");
        before = wave;
    }
    assert_eq!(cluster.lists(), 1 + expired, "each 410, and nothing else, leads to a list");
}

#[tokio::test]
async fn pods_come_and_go_in_several_slices() {
    let cluster = Cluster::start().await;
    let nodes = cluster.watched().await;
    assert_eq!(nodes.addresses().await.unwrap(), Vec::<String>::new());
    cluster.set("a", &[("10.0.0.1", "west")]).await;
    is_at(&nodes, &["10.0.0.1"]).await;
    cluster.set("b", &[("10.0.0.2", "east"), ("10.0.0.1", "west")]).await;
    is_at(&nodes, &["10.0.0.1", "10.0.0.2"]).await;
    assert_eq!(nodes.zone_of("10.0.0.2").await.as_deref(), Some("east"));
    cluster.delete("a").await;
    cluster.set("b", &[("10.0.0.2", "east")]).await;
    is_at(&nodes, &["10.0.0.2"]).await;
    assert_eq!(cluster.watched().await.addresses().await.unwrap(), ["10.0.0.2:7118"]);
}

#[tokio::test]
async fn a_pod_that_moves_to_another_slice_is_there_once_all_the_time() {
    let cluster = Cluster::start().await;
    let nodes = cluster.watched().await;
    let (one, two, three) = (("10.0.0.1", "west"), ("10.0.0.2", "west"), ("10.0.0.3", "west"));
    cluster.set("a", &[one]).await;
    is_at(&nodes, &["10.0.0.1"]).await;
    // Others come and go in the same steps, so that each of them is seen.
    cluster.set("b", &[one, two]).await;
    is_at(&nodes, &["10.0.0.1", "10.0.0.2"]).await;
    cluster.set("a", &[three]).await;
    is_at(&nodes, &["10.0.0.1", "10.0.0.2", "10.0.0.3"]).await;
    cluster.delete("a").await;
    is_at(&nodes, &["10.0.0.1", "10.0.0.2"]).await;
    cluster.set("b", &[two]).await;
    is_at(&nodes, &["10.0.0.2"]).await;
}

#[tokio::test]
async fn addresses_of_ipv6_are_told_while_there_are_no_others() {
    let cluster = Cluster::start().await;
    let nodes = cluster.watched().await;
    let six = [("fd00::1", "west"), ("fd00::2", "east")].map(|pod| endpoint(pod, Life::Ready, true));
    cluster.put("six", "IPv6", six.to_vec()).await;
    is_at(&nodes, &["[fd00::1]", "[fd00::2]"]).await;
    assert_eq!(nodes.zone_of("fd00::2").await.as_deref(), Some("east"));
    cluster.set("four", &[("10.0.0.1", "west"), ("10.0.0.2", "east")]).await;
    is_at(&nodes, &["10.0.0.1", "10.0.0.2"]).await;
    // Who begins now has both from its list.
    is_at(&cluster.watched().await, &["10.0.0.1", "10.0.0.2"]).await;
    cluster.delete("four").await;
    is_at(&nodes, &["[fd00::1]", "[fd00::2]"]).await;
}

#[tokio::test]
async fn a_pod_is_told_of_until_it_ends_and_serves_no_more() {
    for publishes in [false, true] {
        let cluster = Cluster::start().await;
        let nodes = cluster.watched().await;
        for (life, is_told) in
            [(Life::Starting, true), (Life::Ready, true), (Life::Ending, true), (Life::Ended, false)]
        {
            // The other one has another address each time, so that each step is seen.
            let other = format!("10.0.0.{}", 2 + life as usize);
            let endpoints = vec![
                endpoint(("10.0.0.1", "west"), life, publishes),
                endpoint((&other, "east"), Life::Starting, publishes),
            ];
            cluster.put("a", "IPv4", endpoints).await;
            let expected = if is_told { vec!["10.0.0.1", &other] } else { vec![other.as_str()] };
            is_at(&nodes, &expected).await;
        }
    }
}

#[tokio::test]
async fn a_pod_with_the_address_of_one_that_has_ended_is_told_of_in_its_own_zone() {
    let cluster = Cluster::start().await;
    let nodes = cluster.watched().await;
    let ended = endpoint(("10.0.0.1", "west"), Life::Ended, true);
    cluster.put("a", "IPv4", vec![ended, endpoint(("10.0.0.2", "west"), Life::Ready, true)]).await;
    is_at(&nodes, &["10.0.0.2"]).await;
    let heard = async {
        // The new one asks before it is in a slice.
        let zone = nodes.zone_of("10.0.0.1");
        let told = cluster.put("b", "IPv4", vec![endpoint(("10.0.0.1", "east"), Life::Starting, true)]);
        tokio::join!(zone, told).0
    };
    assert_eq!(heard.await.as_deref(), Some("east"));
    is_at(&nodes, &["10.0.0.1", "10.0.0.2"]).await;
    tells(&nodes, zones, &["10.0.0.1 in east", "10.0.0.2 in west"].map(str::to_owned)).await;
    cluster.delete("a").await;
    tells(&nodes, zones, &["10.0.0.1 in east".to_owned()]).await;
}
