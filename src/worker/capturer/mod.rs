//! A capturer: turns the changes of one source's tables into messages of its stream, exactly once.
//!
//! A round decodes what was written to WAL since the last round, and writes the messages together with the position up
//! to which they go, in one transaction. Only when that is on disk, it confirms the position to the slot. So however
//! this process ends, the next one begins after the last transaction whose messages were written. `writing` makes
//! messages, `relations` knows the tables, `backfill` reads rows that were there before, in chunks (`chunk`).

mod backfill;
mod chunk;
mod confirmed;
mod last_changes;
mod relations;
mod writing;

use crate::pg::exec::catalog;
use crate::pg::shared::capturers::Capturer as Entry;
use crate::pg::shared::session_entry;
use crate::pg::wal::decode::Decoder;
use crate::pg::wal::{output, position};
use crate::pg::{now, process};
use crate::store::source_progress::{self, Progress};
use crate::store::sources::Source;
use crate::store::{publications, slots, source_faults, sources};
use backfill::Backfill;
use confirmed::Confirmed;
use sequin_capture::key_format::KeyFormat;
use sequin_capture::message;
use sequin_engine::settings::Micros;
use std::time::Duration;
use writing::Writer;

/// Bytes of messages after which a round stops decoding and writes: some thousand changes, so that the cost of a
/// transaction doesn't show, and one round is short.
const ROUND: u64 = 1 << 20;

/// The same, where the catalogs have changed since what is decoded: each round empties and fills the caches of the catalogs
/// twice, which took 7% of the time of capturing a backlog in rounds of [`ROUND`].
const ROUND_IN_THE_PAST: u64 = 4 << 20;

/// The longest sleep. The slot has to advance past WAL of other databases, and some commits don't wake the capturer
/// (COMMIT PREPARED).
const HEARTBEAT: Duration = Duration::from_secs(1);

/// After which time to look again at WAL that is inserted but not on disk yet.
const UNFLUSHED: Duration = Duration::from_millis(10);

/// Under a steady load of small transactions, a pause before each round lets several of them share a round: at 2,000
/// transactions a second that saves two thirds of the CPU time of capturing. Without such load there is no pause.
const PAUSE: Duration = Duration::from_millis(2);
const STEADY: Micros = 5_000;
const FEW: u64 = 64 << 10;

/// Pauses between attempts to write what could not be written: from the first to the last, doubling.
const FIRST_RETRY: Duration = Duration::from_millis(100);
const LAST_RETRY: Duration = Duration::from_secs(10);

/// Memory that decoding may take for transactions before it writes them to disk.
const DECODING_MEMORY: &str = "32MB";

/// Runs until the source is dropped or paused, or something is wrong with it.
pub fn run(entry: &'static Entry) {
    process::set_defaults();
    for (name, value) in [
        ("lock_timeout", "1s"),
        ("logical_decoding_work_mem", DECODING_MEMORY),
        // How output functions write values: the conversion to JSON relies on it.
        ("client_encoding", "UTF8"),
        ("DateStyle", "ISO, YMD"),
        ("IntervalStyle", "postgres"),
        ("bytea_output", "hex"),
        ("extra_float_digits", "1"),
        ("xmlbinary", "base64"),
        ("lc_monetary", "C"),
    ] {
        process::set(name, value);
    }
    if let Err(error) = capture(entry) {
        entry.status.failed();
        entry.status.set_error(&error);
        pgrx::warning!("sequin capturer: {error}");
    }
}

fn capture(entry: &'static Entry) -> Result<(), String> {
    entry.take_config_changed();
    let Some(source) = find(entry)? else { return Ok(()) };
    let mut capturer = Capturer::start(entry, source)?;
    entry.status.set_error("");
    // From here on an end without an error, such as one by a signal, is no failure.
    entry.status.exited_cleanly();
    loop {
        capturer.pause();
        // Read before the settings are checked: so the settings hold for all changes up to there.
        let target = position::flushed();
        if capturer.must_end()? {
            return Ok(());
        }
        capturer.round(target)?;
    }
}

/// The source, if it is to be captured.
fn find(entry: &Entry) -> Result<Option<Source>, String> {
    let all = process::transaction(|| match catalog::extension() {
        Some(_) => {
            catalog::check_members()?;
            sources::list()
        }
        None => Ok(Vec::new()),
    })?;
    let is_it = |s: &Source| s.id == entry.source() && s.is_here && !s.paused;
    Ok(all.into_iter().find(is_it))
}

struct Capturer {
    entry: &'static Entry,
    source: Source,
    decoder: Decoder,
    writer: Writer,
    backfill: Backfill,
    /// Up to where WAL has been looked at.
    seen: u64,
    confirmed: Confirmed,
    retry: Option<Duration>,
    /// When the last round wrote something, if it was little; 0 otherwise.
    wrote_little_at: Micros,
}

impl Capturer {
    fn start(entry: &'static Entry, source: Source) -> Result<Capturer, String> {
        let slot = sources::slot_name(entry.database(), source.id, source.generation);
        check_publication(&source)?;
        let (progress, start_marker) = prepare(&source, &slot)?;
        output::set_do_not_replicate();
        let from = progress.as_ref().map_or(0, |progress| progress.lsn);
        let start_marker = start_marker.as_deref();
        let decoder =
            process::transaction(|| Decoder::open(&slot, &source.publication, from, start_marker))?;
        let format = KeyFormat::parse(&source.key_format).map_err(|error| error.to_string())?;
        let database = process::transaction(|| Ok(catalog::database_name(entry.database())))?;
        let named = message::Source {
            name: source.name.clone(),
            database: database.unwrap_or_default(),
            key_format: format,
        };
        let writer = Writer::new(&source, named, progress);
        Ok(Capturer {
            entry,
            decoder,
            writer,
            backfill: Backfill::new(&source),
            source,
            seen: 0,
            confirmed: Confirmed::default(),
            retry: None,
            wrote_little_at: 0,
        })
    }

    /// True once another process needs this one gone, or the source is not what it was.
    fn must_end(&mut self) -> Result<bool, String> {
        if session_entry::is_suspended(self.entry.database()) || !self.entry.is_enabled() {
            return Ok(true);
        }
        if !self.entry.take_config_changed() {
            return Ok(false);
        }
        self.backfill.look_again();
        if find(self.entry)?.as_ref() != Some(&self.source) {
            return Ok(true);
        }
        check_publication(&self.source)?;
        Ok(false)
    }

    /// Pauses if a round has just written a little: more transactions may come meanwhile.
    fn pause(&self) {
        if now() < self.wrote_little_at + STEADY {
            process::wait(Some(PAUSE));
        }
    }

    /// Decodes, writes, confirms; sleeps when there is nothing to do.
    fn round(&mut self, target: u64) -> Result<(), String> {
        let enough = if self.decoder.is_in_the_past() { ROUND_IN_THE_PAST } else { ROUND };
        let caught_up = process::attempt(|| self.decoder.read(target, enough))?;
        if self.decoder.has_lost_changes() {
            check_publication(&self.source)?;
            return Err(source_faults::was_gone(&self.source.publication, &self.source.name));
        }
        if caught_up {
            self.seen = target;
        }
        if !self.write() {
            return Ok(());
        }
        self.confirmed.confirm(&self.decoder);
        let more = self.backfill.step(self.entry, &self.decoder, &mut self.writer)?;
        if caught_up && !more {
            self.sleep();
        }
        Ok(())
    }

    /// Writes what has been decoded. If that fails, keeps it for the next attempt, pauses, and returns false.
    fn write(&mut self) -> bool {
        let start_lsn = self.decoder.take_start_lsn();
        if let Some(lsn) = start_lsn {
            self.writer.start_lsn(lsn);
        }
        let position = self.decoder.position();
        let bytes = self.decoder.messages().len();
        let chunk = &mut self.backfill;
        if let Err(error) = self.writer.write(self.decoder.messages(), chunk) {
            if self.retry.is_none() {
                pgrx::warning!("sequin capturer: source \"{}\": {error}", self.source.name);
            }
            self.entry.status.set_error(&error);
            let pause = self.retry.map_or(FIRST_RETRY, |pause| (2 * pause).min(LAST_RETRY));
            self.retry = Some(pause);
            process::wait(Some(pause));
            return false;
        }
        self.decoder.messages().clear();
        if bytes > 0 {
            self.wrote_little_at = if bytes < FEW { now() } else { 0 };
        }
        if self.retry.take().is_some() {
            self.entry.status.set_error("");
        }
        self.confirmed.written(position, position::last_commit());
        true
    }

    /// Sleeps until a transaction commits in this database, or for [`HEARTBEAT`].
    fn sleep(&mut self) {
        self.entry.sleep_until_commit();
        if position::flushed() > self.seen {
            self.entry.stop_sleeping();
            return;
        }
        let unflushed = position::inserted() > position::flushed();
        process::wait(Some(if unflushed { UNFLUSHED } else { HEARTBEAT }));
        self.entry.stop_sleeping();
    }
}

/// Checks that the publication exists: without it, changes can't be decoded.
fn check_publication(source: &Source) -> Result<(), String> {
    if process::transaction(|| publications::find(&source.publication))?.is_some() {
        return Ok(());
    }
    Err(source_faults::gone(&source.publication, &source.name))
}

/// Makes the slot if there is none yet. Returns up to where messages are written; or, if nothing is written yet, the
/// text of the message in WAL that opens the source: where `create_source` could make the slot itself, it has emitted
/// that message with its commit.
fn prepare(source: &Source, slot: &str) -> Result<(Option<Progress>, Option<String>), String> {
    let (id, generation) = (source.id, source.generation);
    let state = process::transaction(|| slots::state(slot, id, generation))?;
    if state.is_lost {
        return Err(lost(
            source,
            slot,
            "has fallen behind max_slot_wal_keep_size and lost its WAL",
        ));
    }
    match (state.has_progress, state.exists) {
        (true, false) => Err(lost(source, slot, "is gone")),
        (true, true) => {
            Ok((process::transaction(|| source_progress::newest(id, generation))?, None))
        }
        (false, true) => {
            process::transaction(|| slots::mark(slot))?;
            Ok((None, Some(slots::mark_text(slot))))
        }
        (false, false) => {
            process::transaction(|| slots::create(slot))?;
            let progress = process::transaction(|| {
                let start = Progress { lsn: slots::confirmed(slot)?, ..Progress::default() };
                source_progress::write(id, generation, &start)?;
                Ok(start)
            })?;
            Ok((Some(progress), None))
        }
    }
}

fn lost(source: &Source, slot: &str, how: &str) -> String {
    let name = &source.name;
    format!(
        "replication slot \"{slot}\" {how}: sequin.resume_source('{name}') starts the source anew"
    )
}
