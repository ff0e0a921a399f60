//! [`FaultyDisk`]: a disk in memory that fails when a test wants it to.

use std::io::{self, ErrorKind};
use std::sync::Arc;

use parking_lot::Mutex;
use redb::StorageBackend;
use redb::backends::InMemoryBackend;

use super::somewhere;
use crate::disk::{self, Disk, DiskError};

/// Clones are the same disk.
#[derive(Debug, Clone, Default)]
pub(crate) struct FaultyDisk(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    bytes: InMemoryBackend,
    faults: Mutex<Faults>,
}

/// Operations that change the disk fail once `healthy` is zero.
#[derive(Debug, Default)]
struct Faults {
    healthy: Option<usize>,
}

impl FaultyDisk {
    /// With an empty log.
    pub(crate) fn new() -> Self {
        let disk = Self::default();
        disk::create_tables(&disk::builder().create_with_backend(disk.clone()).unwrap()).unwrap();
        disk
    }

    /// A healthy disk that holds `bytes`: what a new process finds.
    pub(crate) fn holding(bytes: &[u8]) -> Self {
        let disk = Self::default();
        disk.0.bytes.set_len(bytes.len() as u64).unwrap();
        disk.0.bytes.write(0, bytes).unwrap();
        disk
    }

    /// All changes after so many fail.
    pub(crate) fn fail_after(&self, healthy: usize) {
        self.0.faults.lock().healthy = Some(healthy);
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![0; usize::try_from(self.0.bytes.len().unwrap()).unwrap()];
        self.0.bytes.read(0, &mut bytes).unwrap();
        bytes
    }

    pub(crate) fn open(&self) -> Result<Disk, DiskError> {
        Disk::read(somewhere(), disk::builder().create_with_backend(self.clone()))
    }

    fn change(&self) -> io::Result<()> {
        match &mut self.0.faults.lock().healthy {
            None => Ok(()),
            Some(0) => Err(ErrorKind::StorageFull.into()),
            Some(healthy) => {
                *healthy -= 1;
                Ok(())
            }
        }
    }
}

impl StorageBackend for FaultyDisk {
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
