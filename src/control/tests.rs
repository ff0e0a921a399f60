use wattle_core::control::{FunctionKind, FunctionOptions, FunctionVersion, Promote};
use wattle_core::ids::{MapId, ModuleHash};
use wattle_core::map::MapOptions;
use wattle_core::name::Name;

use super::*;

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

fn create(map: &str) -> Command {
    Command::CreateMap { name: name(map), options: MapOptions::default() }
}

fn upload(module: u8) -> Command {
    let version = Box::new(FunctionVersion {
        number: 0,
        module: ModuleHash([module; 32]),
        size_bytes: 1,
        export: "f".into(),
        export_index: 0,
        kind: FunctionKind::EntryProcessor,
        read_only: false,
        deterministic: true,
        uploaded_ms: 0,
        options: FunctionOptions::default(),
    });
    Command::AddVersion { name: name("f"), version, promote: Promote::AtOnce }
}

fn map_names(state: &ControlState) -> Vec<String> {
    state.maps().map(|map| map.name.to_string()).collect()
}

#[test]
fn what_was_proposed_is_there_after_a_restart() {
    let root = tempfile::tempdir().unwrap();
    for (restart, map) in ["a", "b", "c"].into_iter().enumerate() {
        let directory = DataDirectory::open(root.path()).unwrap();
        let control = Control::open(&directory).unwrap();
        let applied = control.propose(create(map), |_, _| {}).unwrap();
        assert!(matches!(applied, Applied::Map(map) if map.id == MapId(restart as u64 + 1)));
    }
    let directory = DataDirectory::open(root.path()).unwrap();
    assert_eq!(Control::open(&directory).unwrap().read(map_names), ["a", "b", "c"]);
}

#[test]
fn a_refused_command_is_neither_published_nor_kept() {
    let root = tempfile::tempdir().unwrap();
    let directory = DataDirectory::open(root.path()).unwrap();
    let control = Control::open(&directory).unwrap();
    control.propose(create("a"), |_, _| {}).unwrap();
    let before = control.read(ControlState::clone);
    match control.propose(create("a"), |_, _| panic!("published")).unwrap_err() {
        ProposeError::Refused(refusal) => assert_eq!(refusal, Refusal::MapExists { name: name("a") }),
        ProposeError::Journal(error) => panic!("{error:?}"),
    }
    assert_eq!(control.read(ControlState::clone), before);
    drop(control);
    assert_eq!(Control::open(&directory).unwrap().read(ControlState::clone), before);
}

#[test]
fn a_command_that_cannot_be_written_is_neither_published_nor_seen() {
    let root = tempfile::tempdir().unwrap();
    let directory = DataDirectory::open(root.path()).unwrap();
    let control = Control::open(&directory).unwrap();
    control.propose(create("a"), |_, _| {}).unwrap();
    let journal = control.journal.lock().replace(Journal::broken());
    match control.propose(create("b"), |_, _| panic!("published")).unwrap_err() {
        ProposeError::Journal(JournalError::NotWritten { .. }) => {}
        other => panic!("{other:?}"),
    }
    assert_eq!(control.read(map_names), ["a"]);
    *control.journal.lock() = journal;
    control.propose(create("c"), |_, _| {}).unwrap();
    drop(control);
    assert_eq!(Control::open(&directory).unwrap().read(map_names), ["a", "c"]);
}

#[test]
fn what_changes_nothing_is_not_journaled() {
    let control = Control::in_memory();
    control.propose(upload(1), |_, _| {}).unwrap();
    control.propose(upload(2), |_, _| {}).unwrap();
    *control.journal.lock() = Some(Journal::broken());
    let suspend = |version| Command::Suspend { name: name("f"), version, because: "spins".into() };
    assert!(matches!(control.propose(suspend(1), |_, _| {}), Ok(Applied::Unchanged)), "not the active one");
    assert!(matches!(control.propose(suspend(2), |_, _| {}), Err(ProposeError::Journal(_))));
}

#[test]
fn proposals_of_many_threads_are_published_in_order() {
    let (control, published) = (Control::in_memory(), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (control, published) = (&control, &published);
            scope.spawn(move || {
                for number in 0..50 {
                    let publish = |state: &ControlState, applied: &Applied| match applied {
                        Applied::Map(map) => published.lock().push((map.id, state.maps().len())),
                        other => panic!("{other:?}"),
                    };
                    control.propose(create(&format!("m{thread}-{number}")), publish).unwrap();
                }
            });
        }
    });
    let expected: Vec<_> = (1..=200).map(|number| (MapId(number), number as usize)).collect();
    assert_eq!(published.into_inner(), expected);
    assert_eq!(control.read(|state| state.maps().len()), 200);
}

#[test]
fn readers_do_not_wait_for_a_proposal() {
    let control = Control::in_memory();
    let seen = |control: &Control| control.read(|state| state.maps().len());
    // The lock of the journal is held while this runs, as it is while a disk is written.
    control.propose(create("a"), |_, _| assert_eq!(seen(&control), 1)).unwrap();
    let _writing = control.journal.lock();
    assert_eq!(seen(&control), 1);
}
