//! The committed component types say what `wit/wattle.wit` says. After a change of the WIT, write them again with
//! `WATTLE_BLESS=1 cargo test -p wattle-guest-tests --test component_types`.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use wit_component::{StringEncoding, metadata};
use wit_parser::Resolve;

fn check(world: &str) {
    let crate_root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut resolve = Resolve::default();
    let (package, _) = resolve.push_path(crate_root.join("../../wit")).expect("the WIT is valid");
    let id = resolve.select_world(&[package], Some(world)).expect("the WIT has the world");
    let expected =
        metadata::encode(&resolve, id, StringEncoding::UTF8, None).expect("the world can be encoded");

    let committed: PathBuf = crate_root.join("../guest/component-types").join(format!("{world}.bin"));
    if env::var_os("WATTLE_BLESS").is_some() {
        fs::write(&committed, &expected).expect("the file can be written");
    }
    let found = fs::read(&committed).unwrap_or_default();
    assert!(
        found == expected,
        "{} is not what wit/wattle.wit says: see this test's head",
        committed.display()
    );
}

#[test]
fn entry_processor_is_what_the_wit_says() {
    check("entry-processor");
}

#[test]
fn simple_entry_processor_is_what_the_wit_says() {
    check("simple-entry-processor");
}
