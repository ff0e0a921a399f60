//! What `wattle function new` writes builds and passes its tests outside the repository, and runs in a grid.

use crate::command::{cargo, program, root, run};
use crate::failure::Failure;
use crate::json::Json;
use crate::node::Node;
use crate::prerequisites::GUEST_TARGET;
use std::path::Path;

const NAME: &str = "page-reader";
const MODULE: &str = "page_reader.wasm";

/// The quickly built binary must be there already.
pub(crate) fn check() -> Result<(), Failure> {
    let binary = root().join("target/debug/wattle");
    let node = Node::start(&binary)?;
    let crate_folder = node.folder().join(NAME);
    let mut new = program(&binary.to_string_lossy(), &["function", "new", NAME, "--path"]);
    run(new.arg(&crate_folder))?;
    build(&crate_folder, &["test"])?;
    build(&crate_folder, &["build", "--release", "--target", GUEST_TARGET])?;
    let module = crate_folder.join("target").join(GUEST_TARGET).join("release").join(MODULE);
    node.ask(&["function", "upload", NAME, &module.to_string_lossy()])?;
    for reads in [1.0, 2.0] {
        let printed =
            node.ask(&["invoke", NAME, "--map", "pages", "--key", "home", "--argument", "\"alice\""])?;
        let response = Json::parse(&printed).ok().and_then(|answer| answer.get("response")?.number());
        if response != Some(reads) {
            return Err(Failure::Unexpected { command: format!("wattle invoke {NAME}"), printed });
        }
    }
    Ok(())
}

/// Offline: the dependencies are those of the workspace, which were fetched for it.
fn build(folder: &Path, arguments: &[&str]) -> Result<(), Failure> {
    run(cargo(arguments).arg("--offline").current_dir(folder).env_remove("CARGO_TARGET_DIR"))
}
