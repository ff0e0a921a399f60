//! [`TestDisk`]: a disk in memory that fails when a test wants it to.

use std::io::{self, ErrorKind};
use std::sync::Arc;

use parking_lot::Mutex;
use redb::StorageBackend;
use redb::backends::InMemoryBackend;

/// Clones are the same disk.
#[derive(Debug, Clone, Default)]
pub(super) struct TestDisk(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    bytes: InMemoryBackend,
    faults: Mutex<Faults>,
}

/// Operations that change the disk fail, unless `failing` is zero or `healthy` is not.
#[derive(Debug, Default)]
struct Faults {
    healthy: usize,
    failing: usize,
}

impl TestDisk {
    /// The next `failing` changes after `healthy` ones fail.
    pub(super) fn fail(&self, healthy: usize, failing: usize) {
        *self.0.faults.lock() = Faults { healthy, failing };
    }

    /// Nothing fails any more.
    pub(super) fn heal(&self) {
        self.fail(0, 0);
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![0; usize::try_from(self.0.bytes.len().unwrap()).unwrap()];
        self.0.bytes.read(0, &mut bytes).unwrap();
        bytes
    }

    /// A healthy disk that holds `bytes`: what a new process finds.
    pub(super) fn holding(bytes: &[u8]) -> Self {
        let disk = Self::default();
        disk.0.bytes.set_len(bytes.len() as u64).unwrap();
        disk.0.bytes.write(0, bytes).unwrap();
        disk
    }

    fn change(&self) -> io::Result<()> {
        let mut faults = self.0.faults.lock();
        if faults.failing == 0 {
            return Ok(());
        }
        if faults.healthy > 0 {
            faults.healthy -= 1;
            return Ok(());
        }
        faults.failing -= 1;
        Err(ErrorKind::StorageFull.into())
    }
}

impl StorageBackend for TestDisk {
    fn len(&self) -> io::Result<u64> {
        self.0.bytes.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.bytes.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.change()?;
        self.0.bytes.set_len(len)
    }

    /// All that was written is on the disk although the sync fails: the worst that a caller can assume.
    fn sync_data(&self) -> io::Result<()> {
        self.change()
    }

    /// A write that fails has written its first half.
    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let failure = self.change();
        let written = if failure.is_ok() { data.len() } else { data.len() / 2 };
        self.0.bytes.write(offset, &data[..written])?;
        failure
    }
}
