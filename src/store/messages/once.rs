//! Seqs for messages that are published once under each dedup_id.

use super::inserting::take_seqs;
use crate::error::Result;
use crate::store::dedup::Ids;
use pgrx::pg_sys;
use sequin_engine::key::Seq;
use std::collections::{HashMap, HashSet};

/// What becomes of the messages of a call.
pub struct Taken {
    ids: Ids,
    /// The dedup_id of each; `None` for a message that has none.
    dedup_ids: Vec<Option<String>>,
    /// The seq of each message that is to be inserted; `None` for one whose id has been published, or is published by an
    /// earlier message of the call.
    pub seqs: Vec<Option<Seq>>,
    /// The seqs that ids have.
    by_id: HashMap<String, Seq>,
}

impl Taken {
    /// Looks for the ids, and takes seqs for those that are new. The stream's table is locked.
    pub fn take(stream: &str, table: pg_sys::Oid, dedup_ids: Vec<Option<String>>) -> Result<Taken> {
        let ids = Ids::open(stream, table)?;
        let all: Vec<&str> = dedup_ids.iter().flatten().map(String::as_str).collect();
        let mut by_id = ids.published(&all)?;
        let mut met = HashSet::new();
        let is_new = |id: &Option<String>| {
            id.as_ref().is_none_or(|id| !by_id.contains_key(id) && met.insert(id.clone()))
        };
        let new: Vec<bool> = dedup_ids.iter().map(is_new).collect();
        let count = new.iter().filter(|&&new| new).count();
        let mut free = take_seqs(table, count)?.into_iter();
        let mut seqs: Vec<Option<Seq>> =
            new.iter().map(|&new| if new { free.next() } else { None }).collect();
        let claims = dedup_ids.iter().zip(&seqs);
        let claims: Vec<(String, Seq)> =
            claims.filter_map(|(id, seq)| Some((id.clone()?, (*seq)?))).collect();
        if !claims.is_empty() {
            let lost = ids.claim(claims.clone())?;
            for (id, seq) in dedup_ids.iter().zip(&mut seqs) {
                if id.as_ref().is_some_and(|id| lost.contains_key(id)) {
                    *seq = None;
                }
            }
            by_id.extend(claims);
            by_id.extend(lost);
        }
        Ok(Taken { ids, dedup_ids, seqs, by_id })
    }

    /// Those that were to be inserted have these seqs now.
    pub fn published(&mut self, seqs: &[Seq]) -> Result<()> {
        let taken = self.dedup_ids.iter().zip(&mut self.seqs).filter(|(_, seq)| seq.is_some());
        for ((id, taken), &seq) in taken.zip(seqs) {
            if *taken != Some(seq)
                && let Some(id) = id
            {
                self.ids.correct(id, seq)?;
                self.by_id.insert(id.clone(), seq);
            }
            *taken = Some(seq);
        }
        Ok(())
    }

    /// The seqs of all messages.
    pub fn all(&self) -> Vec<Seq> {
        let of_id = |id: &Option<String>| self.by_id.get(id.as_ref()?).copied();
        let each = self.dedup_ids.iter().zip(&self.seqs);
        each.filter_map(|(id, seq)| seq.or_else(|| of_id(id))).collect()
    }
}
