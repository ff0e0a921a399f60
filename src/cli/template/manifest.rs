//! The manifest of a crate of the SDK as it stands alone: what it takes from the workspace is written out.

use toml::{Table, Value};

const WORKSPACE: &str = include_str!("../../../Cargo.toml");

/// The crates of the SDK, and the folders beside one another that they go to.
const FOLDERS: [(&str, &str); 3] =
    [("wattle-frame", "frame"), ("wattle-guest", "guest"), ("wattle-guest-macros", "macros")];

/// Where a manifest may say `workspace = true` for a dependency that the crate needs outside the workspace.
const DEPENDENCIES: &str = "dependencies";

/// What tests and lints need is left out, and the tests with it: they are run where the SDK is made.
pub(super) fn standalone(manifest: &str) -> String {
    let workspace = parsed(WORKSPACE);
    let workspace = workspace.get("workspace").and_then(Value::as_table).expect("the root is a workspace");
    let mut manifest = parsed(manifest);
    manifest.remove("dev-dependencies");
    manifest.remove("lints");
    if let Some(Value::Table(package)) = manifest.get_mut("package") {
        package.remove("metadata");
        write_out(package, workspace, "package");
    }
    if let Some(Value::Table(dependencies)) = manifest.get_mut(DEPENDENCIES) {
        write_out(dependencies, workspace, DEPENDENCIES);
        for (name, folder) in FOLDERS {
            if let Some(Value::Table(dependency)) = dependencies.get_mut(name) {
                dependency.insert("path".to_owned(), Value::String(format!("../{folder}")));
            }
        }
    }
    let library = manifest.entry("lib").or_insert_with(|| Value::Table(Table::new()));
    if let Value::Table(library) = library {
        library.insert("test".to_owned(), Value::Boolean(false));
        library.insert("doctest".to_owned(), Value::Boolean(false));
    }
    manifest.to_string()
}

fn parsed(manifest: &str) -> Table {
    manifest.parse().expect("cargo has read it when it built this")
}

/// Replaces each `{ workspace = true, … }` by what the workspace says, with what else is given laid over it.
fn write_out(items: &mut Table, workspace: &Table, section: &str) {
    for (name, item) in items.iter_mut() {
        let Some(own) = item.as_table_mut() else { continue };
        if own.remove("workspace").is_none() {
            continue;
        }
        let shared = workspace.get(section).and_then(|section| section.get(name)).cloned();
        let shared = shared.expect("cargo has found it there when it built this");
        *item = laid_over(shared, std::mem::take(own));
    }
}

fn laid_over(shared: Value, own: Table) -> Value {
    let mut merged = match shared {
        Value::Table(table) => table,
        single if own.is_empty() => return single,
        version => Table::from_iter([("version".to_owned(), version)]),
    };
    for (key, value) in own {
        match (merged.get_mut(&key), value) {
            (Some(Value::Array(list)), Value::Array(more)) => list.extend(more),
            (_, value) => {
                merged.insert(key, value);
            }
        }
    }
    Value::Table(merged)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_from_the_workspace_is_written_out() {
        let manifest = standalone(
            r#"
            [package]
            name = "wattle-guest"
            edition.workspace = true
            [dependencies]
            serde = { workspace = true, optional = true, features = ["rc"] }
            serde_json.workspace = true
            wattle-frame.workspace = true
            quote = "1"
            [dev-dependencies]
            tempfile.workspace = true
            [lints]
            workspace = true
            "#,
        );
        let expected: Table = r#"
            [package]
            name = "wattle-guest"
            edition = "2024"
            [lib]
            test = false
            doctest = false
            [dependencies]
            serde = { version = "1", features = ["derive", "rc"], optional = true }
            serde_json = "1"
            wattle-frame = { path = "../frame" }
            quote = "1"
            "#
        .parse()
        .unwrap();
        assert_eq!(manifest.parse::<Table>().unwrap(), expected);
    }
}
