//! Every dependency of a manifest is named somewhere in its crate's code, and every shared version in some manifest.

use super::Violation;
use super::source::Source;

/// Named only by generated code, or needed for a feature alone.
const NAMED_ELSEWHERE: [&str; 3] = ["prost", "prost-types", "tonic-prost"];

pub(crate) fn all_are_used(sources: &[Source]) -> Vec<Violation> {
    let manifests = sources.iter().filter(|source| source.split_path().1 == "Cargo.toml");
    let manifests: Vec<_> = manifests.filter(|source| !source.path.contains("/template/")).collect();
    let unused = manifests.iter().flat_map(|manifest| unused(manifest, sources));
    unused.chain(manifests.iter().flat_map(|manifest| unshared(manifest, &manifests))).collect()
}

/// Versions that a manifest has for all members, and none of them takes.
fn unshared(manifest: &Source, manifests: &[&Source]) -> Vec<Violation> {
    let taken = |name: &str| {
        let ways = [format!("\n{name}.workspace"), format!("\n{name} = {{ workspace")];
        manifests.iter().any(|member| ways.iter().any(|way| member.text.contains(way)))
    };
    let versions = names(&manifest.text, |table| table == "workspace.dependencies");
    let unshared = versions.into_iter().filter(|(_, name)| !taken(name));
    unshared
        .map(|(line, name)| manifest.violation(line, format!("no member uses {name}: remove it")))
        .collect()
}

fn unused(manifest: &Source, sources: &[Source]) -> Vec<Violation> {
    let (folder, _) = manifest.split_path();
    let mut code: Vec<&Source> =
        sources.iter().filter(|source| source.is_rust() && belongs(&source.path, folder, sources)).collect();
    let shared: Vec<&str> = code.iter().flat_map(|source| shared_files(&source.text)).collect();
    code.extend(sources.iter().filter(|source| shared.contains(&source.path.as_str())));
    let is_used = |name: &str| {
        let path = name.replace('-', "_");
        code.iter().any(|source| source.text.contains(&path))
    };
    let declared = dependencies(&manifest.text);
    let unused = declared.iter().filter(|(_, name)| !NAMED_ELSEWHERE.contains(name) && !is_used(name));
    unused.map(|(line, name)| manifest.violation(*line, format!("{name} is not used: remove it"))).collect()
}

/// The files of other crates that code takes in by `#[path = "../…"]`, from the root.
fn shared_files(code: &str) -> impl Iterator<Item = &str> {
    let paths = code.lines().filter_map(|line| line.trim().strip_prefix("#[path = \"")?.strip_suffix("\"]"));
    paths.map(|path| path.trim_start_matches("../"))
}

/// True when the nearest manifest above the file is the one in `folder`.
fn belongs(path: &str, folder: &str, sources: &[Source]) -> bool {
    let mut above = path;
    while let Some((parent, _)) = above.rsplit_once('/') {
        if sources.iter().any(|source| source.split_path() == (parent, "Cargo.toml")) {
            return parent == folder;
        }
        above = parent;
    }
    folder.is_empty()
}

/// The names in the manifest's own tables of dependencies, with their lines.
fn dependencies(manifest: &str) -> Vec<(usize, &str)> {
    names(manifest, |table| table.ends_with("dependencies") && !table.starts_with("workspace"))
}

/// The names in some tables of a manifest, with their lines.
fn names(manifest: &str, is_wanted: impl Fn(&str) -> bool) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    let mut in_table = false;
    for (index, line) in manifest.lines().enumerate() {
        if let Some(table) = line.strip_prefix('[') {
            in_table = is_wanted(table.trim_end_matches(']'));
            continue;
        }
        if in_table && line.starts_with(|letter: char| letter.is_alphanumeric()) {
            let name = line.split(['.', ' ', '=']).next().unwrap_or(line);
            found.push((index + 1, name));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const MANIFEST: &str = "[package]\nname = \"a\"\n\n[dependencies]\nserde.workspace = true\n\
        wattle-core = { path = \"b\" }\n\n[lints]\nworkspace = true\n";

    fn check(code: &str, expected: &[usize]) {
        let sources = [
            Source::new("crates/a/Cargo.toml", MANIFEST.to_owned()),
            Source::new("crates/a/src/lib.rs", code.to_owned()),
            Source::new("crates/b/src/lib.rs", "use serde;".to_owned()),
        ];
        let lines: Vec<usize> = all_are_used(&sources).iter().map(|violation| violation.line).collect();
        assert_eq!(lines, expected);
    }

    #[test]
    fn code_of_another_crate_that_is_taken_in_counts() {
        check("use wattle_core::Map;\n#[path = \"../../b/src/lib.rs\"]\nmod b;", &[5]);
        check("use wattle_core::Map;\n#[path = \"../../crates/b/src/lib.rs\"]\nmod b;", &[]);
    }

    #[test]
    fn a_dependency_that_no_code_names_is_found() {
        check("use wattle_core::Map;", &[5]);
        check("", &[5, 6]);
    }

    #[test]
    fn dependencies_that_code_names_are_fine() {
        check("use serde::Serialize;\nuse wattle_core::Map;", &[]);
    }

    #[test]
    fn a_shared_version_that_no_member_takes_is_found() {
        let shared = "[workspace]\n\n[workspace.dependencies]\nserde = \"1\"\ntower = \"0.5\"\n";
        let sources = [
            Source::new("Cargo.toml", shared.to_owned()),
            Source::new("a/Cargo.toml", "[dependencies]\nserde = { workspace = true }\n".to_owned()),
            Source::new("a/src/lib.rs", "use serde;".to_owned()),
        ];
        let found = all_are_used(&sources);
        assert_eq!(found.iter().map(|violation| violation.line).collect::<Vec<_>>(), [5]);
    }

    #[test]
    fn the_table_of_shared_versions_is_not_a_use() {
        assert!(dependencies("[workspace.dependencies]\nserde = \"1\"\n").is_empty());
    }
}
