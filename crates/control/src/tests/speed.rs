//! How fast a lone voter is. Run by hand: `cargo test -p wattle-control --release -- --ignored --nocapture speed`.

use std::time::Instant;

use super::*;
use crate::disk::{self, Write};

async fn measure(name: &str, storage: Storage) {
    let begin = Instant::now();
    let group = start(&TestNetwork::default(), voter(1), storage).await;
    group.create(State::default()).await.unwrap();
    println!("{name}: started and created in {:?}", begin.elapsed());
    let begin = Instant::now();
    let rounds = 500;
    for map in 0..rounds {
        group.propose(group.proposal(create(format!("a{map}")))).await.unwrap();
    }
    println!("{name}: {:?} for each proposal, one after the other", begin.elapsed() / rounds);
    let begin = Instant::now();
    let proposals = (0..1000).map(|map| {
        let (group, proposal) = (Arc::clone(&group), group.proposal(create(format!("b{map}"))));
        tokio::spawn(async move { group.propose(proposal).await.unwrap() })
    });
    for proposed in proposals.collect::<Vec<_>>() {
        proposed.await.unwrap();
    }
    println!("{name}: {:?} for each of 1000 proposals at once", begin.elapsed() / 1000);
    group.shutdown().await;
}

#[tokio::test]
#[ignore = "prints times"]
async fn speed_of_a_lone_voter() {
    measure("in memory", Storage::Memory).await;
    let root = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
    let path = root.path().join("control.redb");
    let disk = Disk::open(&path).unwrap();
    let begin = Instant::now();
    for _ in 0..100 {
        disk::write(&disk.database, &[Write::Append(vec![(0, vec![0; 200])], None)]).unwrap();
    }
    println!("on disk: {:?} for each transaction of the storage alone", begin.elapsed() / 100);
    drop(disk);
    std::fs::remove_file(&path).unwrap();
    let disk = Disk::open(&path).unwrap();
    measure("on disk", Storage::Disk(Box::new(disk))).await;
    let begin = Instant::now();
    let disk = Disk::open(&path).unwrap();
    let group = start(&TestNetwork::default(), voter(1), Storage::Disk(Box::new(disk))).await;
    group.confirm_leadership().await.unwrap();
    println!(
        "on disk: started again in {:?}, with {} maps",
        begin.elapsed(),
        group.decided().state.maps().len()
    );
    group.shutdown().await;
}
