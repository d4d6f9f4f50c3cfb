//! What may be wrong with a stream's table: its owner may do to it, to its trigger and to its sequence what ordinary SQL
//! allows, and some of that would have messages lost without a word.

use super::key::Seq;
use std::fmt;

/// What is wrong with a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    Columns,
    PrimaryKey,
    Unlogged,
    Trigger,
    NoSequence,
    /// Sessions would take seqs ahead and use them later, or lower ones after higher ones.
    Steps,
    /// Its sequence is at `last`, though seqs up to `known` have been used.
    WentBack {
        last: Seq,
        known: Seq,
    },
    /// It has another sequence than when it was last looked at.
    Another,
}

impl Fault {
    /// What is wrong with a stream of this name.
    pub fn of(self, stream: &str) -> String {
        format!("stream \"{stream}\" is damaged: {self}")
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Fault::Columns => {
                "its first columns are not seq, key, data, headers and inserted_at as create_stream made them"
            }
            Fault::PrimaryKey => "it has no primary key on seq",
            Fault::Unlogged => "it is unlogged: a crash may have lost messages, or will",
            Fault::Trigger => {
                "its trigger on_publish is missing, or not enabled always: transactions publish without saying so"
            }
            Fault::NoSequence => "its column seq is no identity column",
            Fault::Steps => {
                "its sequence is not one with a positive INCREMENT, CACHE 1 and NO CYCLE: seqs come in no order"
            }
            Fault::WentBack { last, known } => {
                return write!(
                    f,
                    "its sequence is at {last}, though seqs up to {known} have been used"
                );
            }
            Fault::Another => {
                "it has another sequence than before: seqs may have been used a second time"
            }
        })
    }
}

/// What has been seen of a stream's sequence, which only goes forward, and stays the same.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Known {
    pub last: Seq,
    /// The sequence's OID, once it has been seen.
    pub sequence: Option<u32>,
}
