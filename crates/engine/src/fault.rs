//! What can be wrong with a stream's table. The owner can change the table, its trigger and its sequence by ordinary
//! SQL, and some changes would make messages get lost unnoticed.

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
    /// With the sequence's options, sessions would take seqs ahead of their use, or lower ones after higher ones.
    Steps,
    /// Its sequence is at `last`, although seqs up to `known` have been used.
    WentBack {
        last: Seq,
        known: Seq,
    },
    /// It has another sequence than when it was last looked at.
    Another,
}

impl Fault {
    /// The fault as a text about the stream of this name.
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

/// What is known of a stream's sequence. A sound one only goes forward, and is never replaced by another.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Known {
    pub last: Seq,
    /// The sequence's OID, once it has been seen.
    pub sequence: Option<u32>,
}
