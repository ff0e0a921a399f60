//! Generates the messages and services from `proto/`, with protox instead of protoc.

use std::path::Path;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=proto");
    let files =
        ["common", "map", "function", "compute", "grid"].map(|name| format!("proto/wattle/v1/{name}.proto"));
    let descriptors = protox::compile(&files, ["proto"])?;
    let out = std::env::var("OUT_DIR")?;
    std::fs::write(Path::new(&out).join("wattle.v1.bin"), prost::Message::encode_to_vec(&descriptors))?;
    tonic_prost_build::configure().bytes(".wattle.v1").compile_fds(descriptors)?;
    // By itself: what nodes say to each other is not in the set that reflection shows.
    let internal = protox::compile(["proto/wattle/internal/v1/peer.proto"], ["proto"])?;
    tonic_prost_build::configure().bytes(".wattle.internal.v1").compile_fds(internal)?;
    Ok(())
}
