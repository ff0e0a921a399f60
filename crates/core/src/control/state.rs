//! [`ControlState`]: applies commands.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::command::{Applied, Command, Promote, Refusal};
use super::function::{Function, FunctionState, FunctionVersion};
use crate::ids::{GridTime, MapId, ModuleHash, ReplicationClass};
use crate::limits::{FUNCTIONS, MAPS, SUSPENSION_REASON_BYTES};
use crate::map::{MapDescriptor, MapOptions, OptionsChange};
use crate::name::Name;

/// Maps and functions of the grid. A clone shares them: who changes one of them then copies its kind, but no function's versions.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ControlState {
    maps: Arc<BTreeMap<Name, MapDescriptor>>,
    functions: Arc<BTreeMap<Name, Arc<Function>>>,
    /// Ids up to this one were given to maps.
    last_map: u64,
    /// Names of maps that were deleted: no more than [`MAPS`], the last ones.
    #[serde(default, skip_serializing_if = "is_empty")]
    former: Arc<BTreeMap<Name, Former>>,
}

/// What maps of a name were that is free again, or another map's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Former {
    /// In whose partitions their entries were.
    classes: BTreeSet<ReplicationClass>,
    /// When the last of them was deleted.
    until: GridTime,
}

fn is_empty(former: &BTreeMap<Name, Former>) -> bool {
    former.is_empty()
}

impl ControlState {
    /// All maps by name.
    pub fn maps(&self) -> impl ExactSizeIterator<Item = &MapDescriptor> {
        self.maps.values()
    }

    /// A map by its name.
    #[must_use]
    pub fn map(&self, name: &str) -> Option<&MapDescriptor> {
        self.maps.get(name)
    }

    /// All functions by name.
    pub fn functions(&self) -> impl ExactSizeIterator<Item = (&Name, &Function)> {
        self.functions.iter().map(|(name, function)| (name, function.as_ref()))
    }

    /// Whether calls run the same in both, whatever they call. Versions that no name stands for yet are none of it.
    #[must_use]
    pub fn runs_the_same(&self, other: &Self) -> bool {
        fn runs(state: &ControlState) -> impl Iterator<Item = (&Name, &FunctionState, &FunctionVersion)> {
            state.functions().filter_map(|(name, function)| {
                Some((name, &function.state, function.version(function.active()?)?))
            })
        }
        Arc::ptr_eq(&self.functions, &other.functions) || runs(self).eq(runs(other))
    }

    /// A function by its name.
    #[must_use]
    pub fn function(&self, name: &str) -> Option<&Function> {
        self.functions.get(name).map(Arc::as_ref)
    }

    /// Whether the other is a clone of this one, or this one of the other, and neither has changed since. Looks at no map or
    /// function.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.maps, &other.maps) && Arc::ptr_eq(&self.functions, &other.functions)
    }

    /// Whether any version of any function is this module.
    #[must_use]
    pub fn uses_module(&self, module: &ModuleHash) -> bool {
        self.functions
            .values()
            .flat_map(|function| &function.versions)
            .any(|version| version.module == *module)
    }

    /// The same, with none of these numbers for another map.
    pub(super) fn rebuilt(&self, numbers: u64) -> Self {
        Self { last_map: self.last_map.max(numbers), ..self.clone() }
    }

    /// Decides a command and carries it out.
    ///
    /// # Errors
    /// A refusal; nothing has changed.
    pub fn apply(&mut self, command: &Command) -> Result<Applied, Refusal> {
        match command {
            Command::CreateMap { name, options } => self.create_map(name, options),
            Command::UpdateMap { name, change } => self.update_map(name, change),
            Command::DeleteMap { name, at } => {
                let (map, class) = (self.map_named(name)?.id, self.map_named(name)?.options.class);
                Arc::make_mut(&mut self.maps).remove(name);
                self.note_former(name, class, *at);
                Ok(Applied::MapDeleted(map))
            }
            Command::AddVersion { name, version, promote } => self.add_version(name, version, *promote),
            Command::Promote { name, version } => self.promote(name, *version),
            Command::Rollback { name } => {
                let mut function = self.function_named(name)?.clone();
                let previous =
                    function.previous.ok_or_else(|| Refusal::NothingToRollBack { name: name.clone() })?;
                function.promote(previous);
                Ok(self.put_function(name, function, previous))
            }
            Command::DeleteFunction { name } => {
                self.function_named(name)?;
                Arc::make_mut(&mut self.functions).remove(name);
                Ok(Applied::FunctionDeleted(name.clone()))
            }
            Command::Suspend { name, version, because } => self.suspend(name, *version, because),
        }
    }

    /// In whose partitions maps of a name were that were deleted after a time.
    #[must_use]
    pub fn former(&self, name: &str, after: GridTime) -> Option<&BTreeSet<ReplicationClass>> {
        self.former.get(name).filter(|former| former.until > after).map(|former| &former.classes)
    }

    fn note_former(&mut self, name: &Name, class: ReplicationClass, at: GridTime) {
        let all = Arc::make_mut(&mut self.former);
        let none = Former { classes: BTreeSet::new(), until: at };
        let former = all.entry(name.clone()).or_insert(none);
        former.classes.insert(class);
        former.until = former.until.max(at);
        if all.len() > MAPS
            && let Some(oldest) =
                all.iter().min_by_key(|(_, former)| former.until).map(|(name, _)| name.clone())
        {
            all.remove(&oldest);
        }
    }

    fn create_map(&mut self, name: &Name, options: &MapOptions) -> Result<Applied, Refusal> {
        options.validate()?;
        if self.maps.contains_key(name) {
            return Err(Refusal::MapExists { name: name.clone() });
        }
        if self.maps.len() == MAPS {
            return Err(Refusal::TooManyMaps);
        }
        self.last_map += 1;
        let map = MapDescriptor {
            id: MapId(self.last_map),
            name: name.clone(),
            revision: 1,
            options: options.clone(),
        };
        Ok(self.put_map(map))
    }

    fn update_map(&mut self, name: &Name, change: &OptionsChange) -> Result<Applied, Refusal> {
        let mut map = self.map_named(name)?.clone();
        let options = map.options.changed(change);
        options.validate()?;
        if options == map.options {
            return Ok(Applied::Map(map));
        }
        map.options = options;
        map.revision += 1;
        Ok(self.put_map(map))
    }

    fn add_version(
        &mut self,
        name: &Name,
        version: &FunctionVersion,
        promote: Promote,
    ) -> Result<Applied, Refusal> {
        let mut function = match self.functions.get(name) {
            Some(function) => Function::clone(function),
            None if self.functions.len() == FUNCTIONS => return Err(Refusal::TooManyFunctions),
            None => Function::new(),
        };
        let number = function.add(version);
        match promote {
            // What misbehaved stays suspended when it is uploaded again, perhaps by a deployment that knows nothing of it.
            Promote::AtOnce if function.is_suspended() && function.active() == Some(number) => {}
            Promote::AtOnce => function.promote(number),
            Promote::Later => {}
        }
        Ok(self.put_function(name, function, number))
    }

    fn promote(&mut self, name: &Name, version: Option<u32>) -> Result<Applied, Refusal> {
        let mut function = self.function_named(name)?.clone();
        let newest = function.versions.last().map_or(0, |version| version.number);
        let number = version.unwrap_or(newest);
        if function.version(number).is_none() {
            return Err(Refusal::VersionNotFound { name: name.clone(), version: number });
        }
        function.promote(number);
        Ok(self.put_function(name, function, number))
    }

    fn suspend(&mut self, name: &Name, version: u32, because: &str) -> Result<Applied, Refusal> {
        if because.len() > SUSPENSION_REASON_BYTES {
            return Err(Refusal::ReasonTooLong { bytes: because.len() });
        }
        let mut function = self.function_named(name)?.clone();
        if function.state != FunctionState::Active(version) {
            return Ok(Applied::Unchanged);
        }
        function.state = FunctionState::Suspended { version, because: because.to_owned() };
        Ok(self.put_function(name, function, version))
    }

    fn map_named(&self, name: &Name) -> Result<&MapDescriptor, Refusal> {
        self.maps.get(name).ok_or_else(|| Refusal::MapNotFound { name: name.clone() })
    }

    fn function_named(&self, name: &Name) -> Result<&Function, Refusal> {
        self.function(name.as_str()).ok_or_else(|| Refusal::FunctionNotFound { name: name.clone() })
    }

    fn put_map(&mut self, map: MapDescriptor) -> Applied {
        Arc::make_mut(&mut self.maps).insert(map.name.clone(), map.clone());
        Applied::Map(map)
    }

    /// Also when the function is as it was: then nothing is copied.
    fn put_function(&mut self, name: &Name, function: Function, version: u32) -> Applied {
        if self.function(name.as_str()) != Some(&function) {
            Arc::make_mut(&mut self.functions).insert(name.clone(), Arc::new(function));
        }
        Applied::Function(name.clone(), version)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::control::{FunctionKind, FunctionOptions};
    use crate::limits::FUNCTION_VERSIONS;

    fn name(text: &str) -> Name {
        Name::new(text).unwrap()
    }

    pub(in crate::control) fn upload(module: u8) -> Box<FunctionVersion> {
        Box::new(FunctionVersion {
            number: 0,
            module: ModuleHash([module; 32]),
            size_bytes: 1,
            export: "f".into(),
            export_index: 0,
            kind: FunctionKind::EntryProcessor,
            read_only: false,
            deterministic: false,
            uploaded_ms: 0,
            options: FunctionOptions::default(),
        })
    }

    fn add(state: &mut ControlState, module: u8, promote: Promote) -> u32 {
        match state.apply(&Command::AddVersion { name: name("f"), version: upload(module), promote }) {
            Ok(Applied::Function(_, number)) => number,
            other => panic!("{other:?}"),
        }
    }

    fn create(state: &mut ControlState, map: &str) -> Result<Applied, Refusal> {
        state.apply(&Command::CreateMap { name: name(map), options: MapOptions::default() })
    }

    #[test]
    fn a_name_remembers_in_whose_partitions_its_maps_were() {
        let mut state = ControlState::default();
        for (class, at) in [(0, 10), (1, 20), (1, 15)] {
            let options = MapOptions { class: ReplicationClass(class), ..MapOptions::default() };
            state.apply(&Command::CreateMap { name: name("m"), options }).unwrap();
            assert!(state.former("n", GridTime(0)).is_none());
            state.apply(&Command::DeleteMap { name: name("m"), at: GridTime(at) }).unwrap();
        }
        let classes: BTreeSet<_> = [0, 1].map(ReplicationClass).into();
        assert_eq!(state.former("m", GridTime(19)), Some(&classes));
        assert_eq!(state.former("m", GridTime(20)), None, "it is long ago");
        for other in 0..MAPS {
            let (name, options) = (Name::new(&format!("m{other}")).unwrap(), MapOptions::default());
            state.apply(&Command::CreateMap { name: name.clone(), options }).unwrap();
            state.apply(&Command::DeleteMap { name, at: GridTime(30) }).unwrap();
        }
        assert_eq!(
            (state.former.len(), state.former("m", GridTime(0))),
            (MAPS, None),
            "the oldest is forgotten"
        );
    }

    #[test]
    fn a_map_of_the_same_name_is_another_map() {
        let mut state = ControlState::default();
        assert!(matches!(create(&mut state, "m"), Ok(Applied::Map(map)) if map.id == MapId(1)));
        assert_eq!(create(&mut state, "m"), Err(Refusal::MapExists { name: name("m") }));
        assert_eq!(
            state.apply(&Command::DeleteMap { name: name("m"), at: GridTime::default() }),
            Ok(Applied::MapDeleted(MapId(1)))
        );
        let gone = Err(Refusal::MapNotFound { name: name("m") });
        assert_eq!(state.apply(&Command::DeleteMap { name: name("m"), at: GridTime::default() }), gone);
        assert!(matches!(create(&mut state, "m"), Ok(Applied::Map(map)) if map.id == MapId(2)));
    }

    #[test]
    fn the_number_of_maps_is_bounded() {
        let mut state = ControlState::default();
        (0..MAPS).for_each(|i| assert!(matches!(create(&mut state, &format!("m{i}")), Ok(Applied::Map(_)))));
        assert_eq!(create(&mut state, "one-more"), Err(Refusal::TooManyMaps));
    }

    #[test]
    fn an_update_raises_the_revision_only_if_it_changes_something() {
        let mut state = ControlState::default();
        create(&mut state, "m").unwrap();
        let mut update = |max_bytes| {
            let change = OptionsChange { max_bytes: Some(max_bytes), ..OptionsChange::default() };
            match state.apply(&Command::UpdateMap { name: name("m"), change }) {
                Ok(Applied::Map(map)) => map.revision,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!([update(None), update(Some(7)), update(Some(7)), update(None)], [1, 2, 2, 3]);
    }

    #[test]
    fn a_name_flips_forward_and_back() {
        let mut state = ControlState::default();
        assert_eq!(add(&mut state, 1, Promote::Later), 1);
        assert_eq!(state.function("f").unwrap().active(), None);
        let promote =
            |state: &mut ControlState, version| state.apply(&Command::Promote { name: name("f"), version });
        assert_eq!(promote(&mut state, None), Ok(Applied::Function(name("f"), 1)));
        assert_eq!(add(&mut state, 2, Promote::AtOnce), 2);
        assert_eq!(state.function("f").unwrap().active(), Some(2));
        let rollback = Command::Rollback { name: name("f") };
        assert_eq!(state.apply(&rollback), Ok(Applied::Function(name("f"), 1)));
        assert_eq!(state.apply(&rollback), Ok(Applied::Function(name("f"), 2)), "and forth again");
        let missing = Refusal::VersionNotFound { name: name("f"), version: 3 };
        assert_eq!(promote(&mut state, Some(3)), Err(missing));
    }

    #[test]
    fn nothing_active_before_means_nothing_to_roll_back_to() {
        let mut state = ControlState::default();
        add(&mut state, 1, Promote::AtOnce);
        let refused = state.apply(&Command::Rollback { name: name("f") });
        assert_eq!(refused, Err(Refusal::NothingToRollBack { name: name("f") }));
    }

    #[test]
    fn the_same_upload_is_found_again() {
        let mut state = ControlState::default();
        assert_eq!([1, 2, 1].map(|module| add(&mut state, module, Promote::AtOnce)), [1, 2, 1]);
        assert_eq!(state.function("f").unwrap().previous, Some(2));
    }

    #[test]
    fn versions_are_bounded_and_the_active_and_previous_ones_stay() {
        let mut state = ControlState::default();
        add(&mut state, 0, Promote::AtOnce);
        add(&mut state, 1, Promote::AtOnce);
        (2..60).for_each(|module| assert_eq!(add(&mut state, module, Promote::Later), u32::from(module) + 1));
        let function = state.function("f").unwrap();
        assert_eq!(function.versions.len(), FUNCTION_VERSIONS);
        assert_eq!((function.active(), function.previous), (Some(2), Some(1)));
        assert!(
            function.version(1).is_some() && function.version(2).is_some() && function.version(3).is_none()
        );
        assert!(state.uses_module(&ModuleHash([0; 32])) && !state.uses_module(&ModuleHash([2; 32])));
    }

    #[test]
    fn a_suspension_meets_only_the_version_that_misbehaved() {
        let mut state = ControlState::default();
        add(&mut state, 1, Promote::AtOnce);
        add(&mut state, 2, Promote::AtOnce);
        let suspend = |version| Command::Suspend { name: name("f"), version, because: "spins".into() };
        assert_eq!(state.apply(&suspend(1)), Ok(Applied::Unchanged));
        assert_eq!(state.apply(&suspend(2)), Ok(Applied::Function(name("f"), 2)));
        let suspended = FunctionState::Suspended { version: 2, because: "spins".into() };
        assert_eq!(state.function("f").unwrap().state, suspended);
        state.apply(&Command::Promote { name: name("f"), version: None }).unwrap();
        assert_eq!(state.function("f").unwrap().state, FunctionState::Active(2), "lifted by hand");
    }

    #[test]
    fn another_upload_lifts_a_suspension_and_the_same_one_does_not() {
        let mut state = ControlState::default();
        add(&mut state, 1, Promote::AtOnce);
        state.apply(&Command::Suspend { name: name("f"), version: 1, because: "spins".into() }).unwrap();
        assert_eq!(add(&mut state, 1, Promote::AtOnce), 1);
        let suspended = FunctionState::Suspended { version: 1, because: "spins".into() };
        assert_eq!(state.function("f").unwrap().state, suspended);
        assert_eq!(add(&mut state, 2, Promote::AtOnce), 2);
        assert_eq!(state.function("f").unwrap().state, FunctionState::Active(2));
    }

    #[test]
    fn the_reason_of_a_suspension_is_bounded() {
        let mut state = ControlState::default();
        add(&mut state, 1, Promote::AtOnce);
        let suspend = |bytes| Command::Suspend { name: name("f"), version: 1, because: "x".repeat(bytes) };
        let over = SUSPENSION_REASON_BYTES + 1;
        assert_eq!(state.apply(&suspend(over)), Err(Refusal::ReasonTooLong { bytes: over }));
        assert_eq!(state.function("f").unwrap().state, FunctionState::Active(1));
        assert_eq!(state.apply(&suspend(over - 1)), Ok(Applied::Function(name("f"), 1)));
    }
}
