//! Messages of the output plugin on their way to the stream. They are in memory, and beyond a bound in a temporary
//! file: so a transaction of any size takes a bounded amount of memory.

use crate::error::{Error, Result};
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};

/// Bytes that are kept in memory before they go to the file: more than any ordinary transaction has.
const MEMORY: usize = 8 << 20;

/// The server's directory for temporary files, relative to the data directory, which is every process's working
/// directory. When the server starts, it removes files there whose names begin like that of [`unnamed_file`].
const DIRECTORY: &str = "base/pgsql_tmp";

/// Messages in the order in which they came.
pub struct Spool {
    directory: &'static str,
    /// Each message with its length before it.
    memory: Vec<u8>,
    /// The messages before those in memory. The file has no name any more, so it is gone when the process ends.
    file: Option<File>,
    in_file: u64,
}

impl Default for Spool {
    fn default() -> Spool {
        Spool::new(DIRECTORY)
    }
}

impl Spool {
    /// An empty spool. If it needs a file, it makes that in this directory.
    fn new(directory: &'static str) -> Spool {
        Spool { directory, memory: Vec::new(), file: None, in_file: 0 }
    }

    /// Adds a message.
    pub fn push(&mut self, message: &[u8]) -> io::Result<()> {
        let len = u32::try_from(message.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
        self.memory.extend_from_slice(&len.to_ne_bytes());
        self.memory.extend_from_slice(message);
        if self.memory.len() > MEMORY { self.write_out() } else { Ok(()) }
    }

    /// How many bytes there are.
    pub fn len(&self) -> u64 {
        self.in_file + self.memory.len() as u64
    }

    /// All messages, if all are in memory. The iterator can be cloned, to go through them several times.
    pub fn in_memory(&self) -> Option<Messages<'_>> {
        (self.in_file == 0).then_some(Messages { rest: &self.memory })
    }

    /// Hands each message to `f`, in order.
    pub fn read(&mut self, mut f: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
        if let Some(file) = &mut self.file {
            let mut left = self.in_file;
            file.seek(SeekFrom::Start(0)).map_err(failed)?;
            let mut reader = BufReader::with_capacity(1 << 16, file);
            let mut message = Vec::new();
            let mut len = [0; 4];
            while left > 0 {
                reader.read_exact(&mut len).map_err(failed)?;
                message.resize(u32::from_ne_bytes(len) as usize, 0);
                reader.read_exact(&mut message).map_err(failed)?;
                left = left.saturating_sub(4 + message.len() as u64);
                f(&message)?;
            }
        }
        Messages { rest: &self.memory }.try_for_each(f)
    }

    /// Forgets all messages, and gives memory and disk back if there was much.
    pub fn clear(&mut self) {
        const KEEP: usize = 1 << 20;
        self.memory.clear();
        self.memory.shrink_to(KEEP);
        self.file = None;
        self.in_file = 0;
    }

    fn write_out(&mut self) -> io::Result<()> {
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(unnamed_file(self.directory)?),
        };
        file.write_all(&self.memory)?;
        self.in_file += self.memory.len() as u64;
        self.memory.clear();
        Ok(())
    }
}

/// A walk through messages in memory.
#[derive(Clone)]
pub struct Messages<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Messages<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let (len, rest) = self.rest.split_first_chunk::<4>()?;
        let (message, rest) = rest.split_at_checked(u32::from_ne_bytes(*len) as usize)?;
        self.rest = rest;
        Some(message)
    }
}

fn failed(error: io::Error) -> Error {
    Error::Spool(error.to_string())
}

fn unnamed_file(directory: &str) -> io::Result<File> {
    fs::create_dir_all(directory)?;
    let path = format!("{directory}/pgsql_tmp{}.sequin", std::process::id());
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(&path)?;
    fs::remove_file(&path)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::{MEMORY, Spool};

    fn all(spool: &mut Spool) -> Vec<Vec<u8>> {
        let mut all = Vec::new();
        spool
            .read(|message| {
                all.push(message.to_vec());
                Ok(())
            })
            .unwrap();
        all
    }

    #[test]
    fn messages_come_back_in_order_from_memory_and_from_the_file() {
        let directory = std::env::temp_dir().join(format!("sequin-spool-{}", std::process::id()));
        let name: &'static str = directory.to_str().unwrap().to_owned().leak();
        let mut spool = Spool::new(name);
        let messages: Vec<Vec<u8>> =
            (0..40_u8).map(|n| vec![n; MEMORY / 16 + usize::from(n)]).chain([Vec::new()]).collect();
        for message in &messages {
            spool.push(message).unwrap();
        }
        assert!(spool.in_memory().is_none());
        assert!(all(&mut spool) == messages);
        spool.clear();
        assert_eq!(spool.len(), 0);
        spool.push(b"one").unwrap();
        spool.push(b"two").unwrap();
        assert_eq!(all(&mut spool), [b"one", b"two"]);
        assert_eq!(spool.in_memory().unwrap().count(), 2);
        std::fs::remove_dir_all(&directory).unwrap();
    }
}
