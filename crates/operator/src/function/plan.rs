//! What to do about a function, told from what it should run and what it does.

use std::time::Duration;

use wattle_client::{UploadOptions, api as wire};

use crate::api::{DurationError, FunctionCapability, GridFunctionSpec, duration};

/// As the grid has them where nothing is said.
const CPU_BUDGET: Duration = Duration::from_millis(10);
const MEMORY_BYTES: u64 = 16 << 20;

/// What a version has to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct WantedVersion {
    /// SHA-256 of the module, in lower-case hexadecimal.
    pub(super) digest: String,
    pub(super) settings: VersionSettings,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct VersionSettings {
    /// Any that the module has, if it has one.
    export: Option<String>,
    cpu_budget: Duration,
    memory_bytes: u64,
    fresh_instances: bool,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum FunctionPlan {
    /// It runs what it should.
    Nothing,
    /// The grid has the version.
    Promote(u32),
    Upload,
}

impl VersionSettings {
    pub(super) fn of(spec: &GridFunctionSpec) -> Result<Self, DurationError> {
        let budget = spec.limits.cpu_budget.as_deref().map(duration).transpose()?;
        let memory = spec.limits.memory_bytes.and_then(|bytes| u64::try_from(bytes).ok());
        Ok(Self {
            export: spec.export.clone(),
            cpu_budget: budget.unwrap_or(CPU_BUDGET),
            memory_bytes: memory.unwrap_or(MEMORY_BYTES),
            fresh_instances: spec.limits.fresh_instances,
        })
    }

    pub(super) fn upload(&self) -> UploadOptions {
        let mut options = UploadOptions::new().cpu_budget(self.cpu_budget).memory_bytes(self.memory_bytes);
        if let Some(export) = &self.export {
            options = options.export(export);
        }
        if self.fresh_instances { options.fresh_instances() } else { options }
    }
}

impl WantedVersion {
    fn is(&self, version: &wire::FunctionVersion) -> bool {
        let options = version.options.unwrap_or_default();
        let budget = options.cpu_budget.and_then(|time| Duration::try_from(time).ok());
        let settings = &self.settings;
        version.module == self.digest
            && settings.export.as_ref().is_none_or(|export| *export == version.export)
            && budget == Some(settings.cpu_budget)
            && options.memory_bytes == settings.memory_bytes
            && settings.fresh_instances == options.fresh_instances
    }
}

pub(super) fn plan(wanted: &WantedVersion, there: &wire::Function) -> FunctionPlan {
    let found = there.versions.iter().filter(|version| wanted.is(version)).map(|version| version.number);
    if found.clone().any(|number| number == there.active) {
        return FunctionPlan::Nothing;
    }
    found.max().map_or(FunctionPlan::Upload, FunctionPlan::Promote)
}

/// What a version can do.
pub(super) fn capabilities(version: &wire::FunctionVersion) -> Vec<FunctionCapability> {
    if version.read_only { Vec::new() } else { vec![FunctionCapability::Write] }
}

/// What a version can do and may not.
pub(super) fn excess(
    allowed: Option<&[FunctionCapability]>,
    version: &wire::FunctionVersion,
) -> Option<FunctionCapability> {
    let allowed = allowed?;
    capabilities(version).into_iter().find(|capability| !allowed.contains(capability))
}

/// The version that calls run.
pub(super) fn active(function: &wire::Function) -> Option<&wire::FunctionVersion> {
    function.versions.iter().find(|version| version.number == function.active)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::FunctionLimits;

    fn version(number: u32, module: &str, memory_bytes: u64) -> wire::FunctionVersion {
        let cpu_budget = CPU_BUDGET.try_into().ok();
        let options = wire::FunctionOptions { cpu_budget, memory_bytes, ..Default::default() };
        let (module, export) = (module.to_owned(), "add".to_owned());
        wire::FunctionVersion { number, module, export, options: Some(options), ..Default::default() }
    }

    fn wanted(digest: &str, change: impl FnOnce(&mut GridFunctionSpec)) -> WantedVersion {
        let mut spec = GridFunctionSpec::default();
        change(&mut spec);
        WantedVersion { digest: digest.to_owned(), settings: VersionSettings::of(&spec).unwrap() }
    }

    #[test]
    fn a_version_that_the_grid_has_is_promoted_and_another_one_uploaded() {
        let versions =
            vec![version(1, "aa", MEMORY_BYTES), version(2, "bb", MEMORY_BYTES), version(3, "aa", 1 << 20)];
        let there = wire::Function { active: 2, versions, ..Default::default() };
        let check = |wanted: WantedVersion, expected| assert_eq!(plan(&wanted, &there), expected);
        check(wanted("bb", |_| {}), FunctionPlan::Nothing);
        check(wanted("bb", |spec| spec.export = Some("add".into())), FunctionPlan::Nothing);
        check(wanted("bb", |spec| spec.export = Some("sub".into())), FunctionPlan::Upload);
        check(wanted("aa", |_| {}), FunctionPlan::Promote(1));
        let small = FunctionLimits { memory_bytes: Some(1 << 20), ..Default::default() };
        check(wanted("aa", |spec| spec.limits = small), FunctionPlan::Promote(3));
        let slow = FunctionLimits { cpu_budget: Some("20ms".into()), ..Default::default() };
        check(wanted("bb", |spec| spec.limits = slow), FunctionPlan::Upload);
        check(wanted("cc", |_| {}), FunctionPlan::Upload);
    }
}
