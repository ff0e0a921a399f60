//! Configurations that a node refuses.

use std::fs;

use super::{Scene, complaint, run, text};

/// `wattle serve` with these arguments ends at once with the code 1 and says this; a node beside it goes on.
async fn check_refused(arguments: &[&str], says: &[&str]) {
    let scene = Scene::start().await;
    let line = [&["serve"], arguments].concat();
    let output = tokio::time::timeout(std::time::Duration::from_secs(20), run(&line)).await;
    let (code, said) = complaint(&output.expect("it ends by itself"));
    assert_eq!(code, Some(1), "{said}");
    for part in says {
        assert!(said.contains(part), "{said:?} lacks {part:?}");
    }
    scene.check_unharmed().await;
}

#[tokio::test]
async fn listening_beyond_loopback_is_refused_without_insecure() {
    check_refused(&["--listen", "0.0.0.0:0"], &["error: 0.0.0.0:0 is reachable", "--insecure"]).await;
    check_refused(&["--listen", "[::]:0"], &["error: [::]:0 is reachable", "--insecure"]).await;
    let beside = ["--listen", "127.0.0.1:0", "--http-listen", "0.0.0.0:0"];
    check_refused(&beside, &["error: 0.0.0.0:0 is reachable", "--insecure"]).await;
}

#[tokio::test]
async fn an_address_that_is_taken_is_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let says = format!("error: cannot listen on {address}: Address already in use (os error 98)\nhint: ");
    check_refused(&["--listen", &address], &[&says, "--listen"]).await;
}

#[tokio::test]
async fn a_name_is_no_address_to_listen_on() {
    let (code, said) = complaint(&run(&["serve", "--listen", "localhost:7333"]).await);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("an IP address and a port are expected, such as 127.0.0.1:7117"), "{said}");
}

#[tokio::test]
async fn a_configuration_file_with_an_unknown_setting_is_refused_by_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("wattle.toml");
    fs::write(&file, "listen = '127.0.0.1:0'\nvalue_byte = 7\n").unwrap();
    check_refused(&["--config", text(&file)], &[text(&file), "value_byte"]).await;
    fs::write(&file, "listen = '127.0.0.1:0'\nvalue_bytes = 4194305\n").unwrap();
    let says = ["value_bytes must be between 1 and 4194304, not 4194305"];
    check_refused(&["--config", text(&file)], &says).await;
}
