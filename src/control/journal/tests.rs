use std::time::Duration;

use wattle_core::control::{FunctionKind, FunctionOptions, FunctionVersion, Promote};
use wattle_core::ids::ModuleHash;
use wattle_core::map::{ContentType, EvictionPolicy, MapOptions, OptionsChange};
use wattle_core::name::Name;

use super::test_disk::TestDisk;
use super::*;

impl Journal {
    /// A journal that cannot be opened again.
    pub(in crate::control) fn broken() -> Self {
        let open = || Err(DatabaseError::RepairAborted);
        Self { path: "broken".into(), open: Box::new(open), database: None, last: 0, snapshot: 0 }
    }
}

fn name(text: impl AsRef<str>) -> Name {
    Name::new(text.as_ref()).unwrap()
}

fn create(map: impl AsRef<str>) -> Command {
    Command::CreateMap { name: name(map), options: MapOptions::default() }
}

fn add(module: u8, promote: Promote) -> Command {
    let version = Box::new(FunctionVersion {
        number: 0,
        module: ModuleHash([module; 32]),
        size_bytes: 1,
        export: "f".into(),
        export_index: 0,
        kind: FunctionKind::EntryProcessor,
        read_only: false,
        deterministic: true,
        uploaded_ms: 1_357_002_000_000,
        options: FunctionOptions { fresh_instances: true, ..FunctionOptions::default() },
    });
    Command::AddVersion { name: name("f"), version, promote }
}

/// One of every kind of command at the least, and options set and taken back.
fn history() -> Vec<Command> {
    let options = MapOptions {
        content_type: ContentType::Json,
        ttl: Some(Duration::from_nanos(1_000_000_007)),
        max_idle: Some(Duration::from_secs(9)),
        max_bytes: Some(u64::MAX),
        eviction: EvictionPolicy::Lfu,
    };
    let change = OptionsChange {
        ttl: Some(None),
        max_bytes: Some(Some(7)),
        eviction: Some(EvictionPolicy::Lru),
        ..OptionsChange::default()
    };
    vec![
        Command::CreateMap { name: name("flights"), options },
        create("gone"),
        Command::UpdateMap { name: name("flights"), change },
        Command::DeleteMap { name: name("gone") },
        add(1, Promote::AtOnce),
        add(2, Promote::Later),
        Command::Promote { name: name("f"), version: None },
        Command::Rollback { name: name("f") },
        Command::Suspend { name: name("f"), version: 1, because: "it spins".into() },
        create("gone"),
        Command::DeleteFunction { name: name("f") },
        add(3, Promote::AtOnce),
    ]
}

fn state_after(commands: &[Command]) -> ControlState {
    let mut state = ControlState::default();
    commands.iter().for_each(|command| drop(state.apply(command).unwrap()));
    state
}

/// Appends commands to a journal, and applies them to the state as the caller of a journal does.
fn append(journal: &mut Journal, state: &mut ControlState, commands: &[Command]) {
    for command in commands {
        journal.append(command, state).unwrap();
        state.apply(command).unwrap();
    }
}

fn maps(numbers: std::ops::Range<u64>) -> Vec<Command> {
    numbers.map(|number| create(format!("m{number}"))).collect()
}

fn open(disk: &TestDisk) -> Result<(Journal, ControlState), JournalError> {
    let disk = disk.clone();
    Journal::replay("test".into(), Box::new(move || builder().create_with_backend(disk.clone())))
}

fn new_disk() -> TestDisk {
    let disk = TestDisk::default();
    create_tables(&builder().create_with_backend(disk.clone()).unwrap()).unwrap();
    disk
}

/// The state that a new process finds on a disk.
fn state_on(bytes: &[u8]) -> ControlState {
    open(&TestDisk::holding(bytes)).unwrap().1
}

/// The sequences of snapshots and commands in the file.
fn sequences(journal: &Journal) -> (Vec<u64>, Vec<u64>) {
    let transaction = journal.database.as_ref().unwrap().begin_read().unwrap();
    let [snapshots, commands] = [SNAPSHOT, COMMANDS].map(|table| {
        let rows = rows(&transaction.open_table(table).unwrap()).unwrap();
        rows.into_iter().map(|(sequence, _)| sequence).collect()
    });
    (snapshots, commands)
}

#[test]
fn a_restart_after_any_command_keeps_everything() {
    let root = tempfile::tempdir().unwrap();
    let directory = DataDirectory::open(root.path()).unwrap();
    let history = history();
    for done in 0..history.len() {
        let (mut journal, mut state) = Journal::open(&directory).unwrap();
        assert_eq!(state, state_after(&history[..done]));
        append(&mut journal, &mut state, &history[done..=done]);
    }
    let (_, state) = Journal::open(&directory).unwrap();
    assert_eq!(state, state_after(&history));
    let flights = &state.map("flights").unwrap().options;
    assert_eq!((flights.ttl, flights.max_bytes), (None, Some(7)), "an option was taken back");
}

#[test]
fn a_copy_of_the_files_of_a_running_node_has_all_its_commands() {
    let (root, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let directory = DataDirectory::open(root.path()).unwrap();
    let copy = DataDirectory::open(other.path()).unwrap();
    let (mut journal, mut state) = Journal::open(&directory).unwrap();
    for command in history() {
        append(&mut journal, &mut state, &[command]);
        fs::copy(directory.journal(), copy.journal()).unwrap();
        assert_eq!(Journal::open(&copy).unwrap().1, state);
    }
}

#[test]
fn a_snapshot_takes_the_place_of_the_commands_before_it() {
    let disk = new_disk();
    let (mut journal, mut state) = open(&disk).unwrap();
    append(&mut journal, &mut state, &maps(1..JOURNAL_COMMANDS + 1));
    assert_eq!(sequences(&journal), (vec![], (1..=JOURNAL_COMMANDS).collect()));
    append(&mut journal, &mut state, &history());
    let (first, last) = (JOURNAL_COMMANDS + 1, JOURNAL_COMMANDS + history().len() as u64);
    assert_eq!(sequences(&journal), (vec![JOURNAL_COMMANDS], (first..=last).collect()));
    drop(journal);
    let (mut journal, mut reopened) = open(&disk).unwrap();
    assert_eq!(reopened, state);
    append(&mut journal, &mut reopened, &maps(last + 1..2 * JOURNAL_COMMANDS + 2));
    assert_eq!(sequences(&journal), (vec![2 * JOURNAL_COMMANDS], vec![2 * JOURNAL_COMMANDS + 1]));
    assert_eq!(state_on(&disk.bytes()), reopened);
}

/// Fails the append of the command after `before` at every operation of the disk in turn, for `failing` operations.
fn check_failing_disk(before: &[Command], failing: usize) -> (usize, usize) {
    let disk = new_disk();
    let (mut journal, mut state) = open(&disk).unwrap();
    append(&mut journal, &mut state, before);
    drop(journal);
    let (bytes, command, other) = (disk.bytes(), create("refused"), create("other"));
    let [mut after, mut after_other] = [state.clone(), state.clone()];
    after.apply(&command).unwrap();
    after_other.apply(&other).unwrap();
    let (mut not_written, mut in_doubt) = (0, 0);
    for healthy in 0..1000 {
        let disk = TestDisk::holding(&bytes);
        let (mut journal, _) = open(&disk).unwrap();
        disk.fail(healthy, failing);
        let appended = journal.append(&command, &state);
        let found = state_on(&disk.bytes());
        match appended {
            Ok(()) => {
                assert_eq!(found, after);
                return (not_written, in_doubt);
            }
            Err(JournalError::NotWritten { .. }) => {
                not_written += 1;
                assert_eq!(found, state, "at operation {healthy}");
            }
            Err(JournalError::InDoubt { .. }) => {
                in_doubt += 1;
                assert!(found == state || found == after, "at operation {healthy}");
            }
            Err(other) => panic!("{other:?}"),
        }
        disk.heal();
        journal.append(&other, &state).unwrap();
        assert_eq!(state_on(&disk.bytes()), after_other, "at operation {healthy}");
    }
    panic!("the append never came to its end");
}

#[test]
fn a_disk_that_fails_once_refuses_the_command_and_takes_the_next() {
    for before in [history(), maps(0..JOURNAL_COMMANDS)] {
        let (not_written, in_doubt) = check_failing_disk(&before, 1);
        assert!(not_written > 3, "{not_written} not written, {in_doubt} in doubt");
        assert_eq!(in_doubt, 0);
    }
}

#[test]
fn a_command_on_a_disk_that_stays_broken_takes_effect_whole_or_not_at_all() {
    for before in [history(), maps(0..JOURNAL_COMMANDS)] {
        let (not_written, in_doubt) = check_failing_disk(&before, usize::MAX);
        assert!(in_doubt > 3, "{not_written} not written, {in_doubt} in doubt");
    }
}

#[test]
fn a_broken_disk_refuses_command_after_command() {
    let disk = new_disk();
    let (mut journal, mut state) = open(&disk).unwrap();
    append(&mut journal, &mut state, &history());
    disk.fail(0, usize::MAX);
    let first = journal.append(&create("a"), &state).unwrap_err();
    assert!(matches!(first, JournalError::InDoubt { .. }), "{first:?}");
    for _ in 0..3 {
        let next = journal.append(&create("b"), &state).unwrap_err();
        assert!(matches!(next, JournalError::NotWritten { .. }), "{next:?}");
    }
    disk.heal();
    append(&mut journal, &mut state, &[create("c")]);
    assert_eq!(state_on(&disk.bytes()), state);
}

/// Opens a journal of `history` that `damage` was done to.
fn open_damaged(damage: impl FnOnce(&WriteTransaction)) -> JournalError {
    let disk = new_disk();
    let (mut journal, mut state) = open(&disk).unwrap();
    append(&mut journal, &mut state, &history());
    let database = journal.database.take().unwrap();
    let transaction = database.begin_write().unwrap();
    damage(&transaction);
    transaction.commit().unwrap();
    drop(database);
    open(&disk).unwrap_err()
}

fn replace(transaction: &WriteTransaction, sequence: u64, bytes: &[u8]) {
    transaction.open_table(COMMANDS).unwrap().insert(sequence, bytes).unwrap();
}

#[test]
fn a_command_that_cannot_be_read_is_named() {
    let error = open_damaged(|transaction| replace(transaction, 3, b"{\"Create"));
    assert!(matches!(error, JournalError::UnreadableCommand { sequence: 3, .. }), "{error:?}");
    assert_eq!(error.to_string(), "command 3 in the journal test cannot be read");
}

#[test]
fn a_command_that_does_not_apply_is_named() {
    let error = open_damaged(|transaction| {
        replace(transaction, 2, &serde_json::to_vec(&create("flights")).unwrap());
    });
    match error {
        JournalError::RefusedCommand { sequence, source, .. } => {
            assert_eq!((sequence, source), (2, Refusal::MapExists { name: name("flights") }));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_command_that_is_missing_is_named() {
    let error = open_damaged(|transaction| {
        transaction.open_table(COMMANDS).unwrap().remove(4).unwrap();
    });
    assert!(matches!(error, JournalError::Gap { missing: 4, found: 5, .. }), "{error:?}");
}

#[test]
fn a_snapshot_that_cannot_be_read_is_named() {
    let error = open_damaged(|transaction| {
        transaction.open_table(SNAPSHOT).unwrap().insert(1, b"".as_slice()).unwrap();
    });
    assert!(matches!(error, JournalError::UnreadableSnapshot { sequence: 1, .. }), "{error:?}");
}

#[test]
fn a_file_that_is_no_journal_is_refused_and_left_alone() {
    for content in ["", "not a journal, but longer than the magic number of one"] {
        let root = tempfile::tempdir().unwrap();
        let directory = DataDirectory::open(root.path()).unwrap();
        fs::write(directory.journal(), content).unwrap();
        let error = Journal::open(&directory).unwrap_err();
        assert!(matches!(error, JournalError::Open { .. }), "{error:?}");
        assert_eq!(fs::read_to_string(directory.journal()).unwrap(), content);
    }
}

#[test]
fn a_damaged_page_never_gives_another_state() {
    let disk = new_disk();
    let (mut journal, mut state) = open(&disk).unwrap();
    append(&mut journal, &mut state, &history());
    let running = disk.bytes();
    drop(journal);
    for bytes in [running, disk.bytes()] {
        let mut refused = 0;
        for (number, page) in bytes.chunks(4096).enumerate() {
            let Some(used) = page.iter().rposition(|byte| *byte != 0) else { continue };
            let mut damaged = bytes.clone();
            damaged[number * 4096 + used / 2] ^= 0x10;
            match open(&TestDisk::holding(&damaged)) {
                Ok((_, found)) => assert_eq!(found, state, "page {number}"),
                Err(_) => refused += 1,
            }
        }
        assert!(refused > 0, "no page in use was damaged");
    }
}
