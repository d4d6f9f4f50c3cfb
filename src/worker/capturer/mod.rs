//! A capturer: turns the changes of one source's tables into messages of its stream, exactly once.
//!
//! A round decodes what has been written to WAL since the last, writes the messages together with the position
//! up to which they go, in one transaction, and only when that is on disk lets the slot go on. So whatever ends
//! this process, the next begins after the last transaction whose messages are there. `writing` makes messages,
//! `relations` knows the tables, `backfill` reads rows that were there before, in chunks
//! (`chunk`).

mod backfill;
mod chunk;
mod confirmed;
mod last_changes;
mod relations;
mod writing;

use crate::pg::exec::catalog;
use crate::pg::shared::capturers::Capturer as Entry;
use crate::pg::shared::session_entry;
use crate::pg::wal::decode::{self, Decoder};
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

/// The longest sleep: for WAL of other databases, which the slot has to pass, and for commits that wake nobody
/// (COMMIT PREPARED).
const HEARTBEAT: Duration = Duration::from_secs(1);

/// When WAL that is written but not on disk yet is looked at again.
const UNFLUSHED: Duration = Duration::from_millis(10);

/// Under a steady load of small transactions, a pause between rounds has several of them share one: at 2,000 a second
/// it saves two thirds of the processor time of capturing. One that comes after a pause is captured at once.
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
        // How output functions are to write values: what the conversion to JSON reads.
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
    // From here on an end that is no error of this source, such as a signal, is no failure.
    entry.status.exited_cleanly();
    loop {
        capturer.pause();
        // Before the look at the settings: those that were committed before a change hold for it.
        let target = decode::flushed();
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
    /// When the last round has written something, if that was little.
    wrote_little_at: Micros,
}

impl Capturer {
    fn start(entry: &'static Entry, source: Source) -> Result<Capturer, String> {
        let slot = sources::slot_name(entry.database(), source.id, source.generation);
        check_publication(&source)?;
        let (progress, start_marker) = prepare(&source, &slot)?;
        decode::set_do_not_replicate();
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

    /// Lets some more transactions come together, if one has just come.
    fn pause(&self) {
        if now() < self.wrote_little_at + STEADY {
            process::wait(Some(PAUSE));
        }
    }

    /// Decodes, writes, confirms; sleeps when there is nothing to do.
    fn round(&mut self, target: u64) -> Result<(), String> {
        let caught_up = process::attempt(|| self.decoder.read(target, ROUND))?;
        if self.decoder.take_missed_publication() {
            check_publication(&self.source)?;
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

    /// Writes what has been decoded. If that fails, it stays for another attempt, after a pause; false then.
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
        self.confirmed.written(position, decode::last_commit());
        true
    }

    /// Until something is committed in this database, or the heartbeat.
    fn sleep(&mut self) {
        self.entry.sleep_until_commit();
        if decode::flushed() > self.seen {
            self.entry.stop_sleeping();
            return;
        }
        let unflushed = decode::inserted() > decode::flushed();
        process::wait(Some(if unflushed { UNFLUSHED } else { HEARTBEAT }));
        self.entry.stop_sleeping();
    }
}

/// A change of the slot's time can't be decoded without the publication as it was then.
fn check_publication(source: &Source) -> Result<(), String> {
    if process::transaction(|| publications::find(&source.publication))?.is_some() {
        return Ok(());
    }
    Err(source_faults::gone(&source.publication, &source.name))
}

/// Has the slot there. Returns how far its messages are written, and, if none are, the text of the message that
/// opens the source: `create_source` makes the slot itself where it can, and marks its commit with it.
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
