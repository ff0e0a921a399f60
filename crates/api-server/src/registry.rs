//! Which types are served under which paths; CustomResourceDefinitions add to it and take away.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::resource::{ResourceId, ResourceType, builtin};

#[derive(Debug)]
pub(crate) struct Registry {
    types: Vec<Arc<ResourceType>>,
}

impl Registry {
    pub(crate) fn new() -> Self {
        Self { types: builtin().into_iter().map(Arc::new).collect() }
    }

    pub(crate) fn find(&self, group: &str, version: &str, plural: &str) -> Option<Arc<ResourceType>> {
        self.types
            .iter()
            .find(|one| one.group == group && one.version == version && one.plural == plural)
            .cloned()
    }

    pub(crate) fn by_kind(&self, group: &str, version: &str, kind: &str) -> Option<Arc<ResourceType>> {
        self.types
            .iter()
            .find(|one| one.group == group && one.version == version && one.kind == kind)
            .cloned()
    }

    /// Any version of a type.
    pub(crate) fn by_id(&self, id: &ResourceId) -> Option<Arc<ResourceType>> {
        self.types.iter().find(|one| one.id() == *id).cloned()
    }

    pub(crate) fn all(&self) -> &[Arc<ResourceType>] {
        &self.types
    }

    /// Groups with their versions, the preferred one first, in the order of the real server: by age.
    pub(crate) fn groups(&self) -> Vec<(String, Vec<String>)> {
        let mut groups: Vec<(String, Vec<String>)> = Vec::new();
        for one in &self.types {
            let at = match groups.iter().position(|(group, _)| *group == one.group) {
                Some(at) => at,
                None => {
                    groups.push((one.group.clone(), Vec::new()));
                    groups.len() - 1
                }
            };
            if !groups[at].1.contains(&one.version) {
                groups[at].1.push(one.version.clone());
            }
        }
        for (_, versions) in &mut groups {
            versions.sort_by_key(|version| std::cmp::Reverse(priority(version)));
        }
        groups
    }

    pub(crate) fn in_version(&self, group: &str, version: &str) -> Vec<Arc<ResourceType>> {
        let mut found: BTreeMap<&str, &Arc<ResourceType>> = BTreeMap::new();
        for one in self.types.iter().filter(|one| one.group == group && one.version == version) {
            found.insert(&one.plural, one);
        }
        found.into_values().cloned().collect()
    }

    pub(crate) fn replace_custom(&mut self, id: &ResourceId, types: Vec<ResourceType>) {
        self.types.retain(|one| !one.is_custom() || one.id() != *id);
        self.types.extend(types.into_iter().map(Arc::new));
    }
}

/// `v2` before `v1` before `v1beta2` before `v1alpha1` before everything else, as `version.CompareKubeAwareVersionStrings`.
pub(crate) fn priority(version: &str) -> (u8, u64, u64) {
    let number = |digits: &str| digits.parse::<u64>().ok();
    let Some(rest) = version.strip_prefix('v') else { return (0, 0, 0) };
    if let Some(major) = number(rest) {
        return (3, major, 0);
    }
    for (word, stability) in [("beta", 2), ("alpha", 1)] {
        if let Some((major, minor)) = rest.split_once(word)
            && let (Some(major), Some(minor)) = (number(major), number(minor))
        {
            return (stability, major, minor);
        }
    }
    (0, 0, 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_ordered_by_stability() {
        let mut versions = vec!["v1alpha1", "v1", "foo", "v2beta1", "v10", "v1beta2"];
        versions.sort_by_key(|version| std::cmp::Reverse(priority(version)));
        assert_eq!(versions, ["v10", "v1", "v2beta1", "v1beta2", "v1alpha1", "foo"]);
    }

    #[test]
    fn types_are_found_by_path_and_by_kind() {
        let registry = Registry::new();
        assert_eq!(registry.find("apps", "v1", "statefulsets").unwrap().kind, "StatefulSet");
        assert_eq!(registry.by_kind("", "v1", "Pod").unwrap().plural, "pods");
        assert!(registry.find("apps", "v2", "statefulsets").is_none());
        assert_eq!(registry.groups()[0].0, "");
    }
}
