//! Texts of a pod's specification made true for a process of this machine: variables, paths of volumes, and addresses
//! that mean all of the pod's own.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

/// `$(NAME)` is the variable's value if there is one, `$$` a dollar.
pub(crate) fn expand(text: &str, variables: &BTreeMap<String, String>) -> String {
    let mut expanded = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        expanded.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            expanded.push('$');
            rest = after;
        } else if let Some((name, after)) = rest.strip_prefix('(').and_then(|inner| inner.split_once(')')) {
            match variables.get(name) {
                Some(value) => expanded.push_str(value),
                None => expanded.push_str(&format!("$({name})")),
            }
            rest = after;
        } else {
            expanded.push('$');
        }
    }
    expanded + rest
}

#[derive(Debug, Clone)]
pub(crate) struct Rewriter {
    /// Mount paths, the longest first, and the directories that stand for them.
    mounts: Vec<(String, PathBuf)>,
    address: String,
}

impl Rewriter {
    pub(crate) fn new(mounts: &[(String, PathBuf)], address: Ipv4Addr) -> Self {
        let trimmed =
            |(path, folder): &(String, PathBuf)| (path.trim_end_matches('/').to_owned(), folder.clone());
        let mut mounts: Vec<_> = mounts.iter().map(trimmed).filter(|(path, _)| !path.is_empty()).collect();
        mounts.sort_by_key(|(path, _)| std::cmp::Reverse(path.len()));
        Self { mounts, address: address.to_string() }
    }

    /// The directory that is mounted at this path, if any.
    pub(crate) fn mounted_at(&self, path: &str) -> Option<&Path> {
        self.mounts.iter().find(|(mount, _)| mount == path).map(|(_, folder)| folder.as_path())
    }

    pub(crate) fn rewrite(&self, text: &str) -> String {
        let mut rewritten = String::new();
        let mut before = None;
        let mut rest = text;
        while let Some(next) = rest.chars().next() {
            if let Some((length, replacement)) = self.replaced(before, rest) {
                rewritten.push_str(&replacement);
                before = rest[..length].chars().next_back();
                rest = &rest[length..];
            } else {
                rewritten.push(next);
                before = Some(next);
                rest = &rest[next.len_utf8()..];
            }
        }
        rewritten
    }

    /// How much at the start of this text is replaced, and by what.
    fn replaced(&self, before: Option<char>, text: &str) -> Option<(usize, String)> {
        let next = |length: usize| text[length..].chars().next();
        if before.is_none_or(|before| "=:,; ".contains(before)) {
            for (path, folder) in &self.mounts {
                if text.starts_with(path.as_str())
                    && next(path.len()).is_none_or(|next| "/:,; ".contains(next))
                {
                    return Some((path.len(), folder.display().to_string()));
                }
            }
        }
        let is_in_number = |one: Option<char>| one.is_some_and(|one| one.is_ascii_digit() || one == '.');
        for (all, is_number) in [("0.0.0.0", true), ("[::]", false)] {
            if text.starts_with(all)
                && !(is_number && (is_in_number(before) || is_in_number(next(all.len()))))
            {
                return Some((all.len(), self.address.clone()));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_expanded_once() {
        let variables =
            BTreeMap::from([("A".to_owned(), "1".to_owned()), ("B".to_owned(), "$(A)".to_owned())]);
        let check = |text: &str, expected: &str| assert_eq!(expand(text, &variables), expected);
        check("--a=$(A)", "--a=1");
        check("$(B)", "$(A)");
        check("$$(A) $(C) $A 5$", "$(A) $(C) $A 5$");
        check("$(A", "$(A");
    }

    fn check(text: &str, expected: &str) {
        let mounts = [
            ("/etc/web".to_owned(), PathBuf::from("/pod/web")),
            ("/etc/web/secret/".to_owned(), PathBuf::from("/pod/secret")),
            ("/tmp".to_owned(), PathBuf::from("/tmp/pod/tmp")),
        ];
        let rewriter = Rewriter::new(&mounts, Ipv4Addr::new(127, 1, 2, 3));
        assert_eq!(rewriter.rewrite(text), expected);
    }

    #[test]
    fn paths_below_mounts_lead_to_their_directories() {
        check("/etc/web/config.toml", "/pod/web/config.toml");
        check("--secret=/etc/web/secret/key", "--secret=/pod/secret/key");
        check("/etc/website", "/etc/website");
        check("/srv/etc/web", "/srv/etc/web");
        check("a=/tmp,b=/tmp/x", "a=/tmp/pod/tmp,b=/tmp/pod/tmp/x");
    }

    #[test]
    fn all_addresses_are_the_pods_own() {
        check("0.0.0.0:7117", "127.1.2.3:7117");
        check("http://[::]:80", "http://127.1.2.3:80");
        check("10.0.0.0.0", "10.0.0.0.0");
        check("0.0.0.0.1", "0.0.0.0.1");
        check("ü 0.0.0.0", "ü 127.1.2.3");
    }
}
