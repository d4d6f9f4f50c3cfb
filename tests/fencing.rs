//! A transaction that relies on a dispatcher that is gone must not commit.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

use libtest_mimic::Trial;
use postgres::{Client, Error};

use crate::calls::{Calls, ack_ids, millis, seconds, sqlstate};
use crate::harness::{database, trials};
use sequin_testkit::cluster::{Cluster, Database, wait_until};
use sequin_testkit::process::{signal, stop};

pub fn tests() -> Vec<Trial> {
    trials![
        what_acked_before_a_dispatcher_restart_fails_at_commit,
        what_only_nacked_before_a_dispatcher_restart_fails_at_commit,
        what_rejected_or_redelivered_before_a_dispatcher_restart_fails_at_commit,
        what_acks_after_the_restart_commits,
        what_was_doomed_and_rolled_back_dooms_nothing_later,
        what_was_rolled_back_to_a_savepoint_dooms_nothing_later,
        a_savepoint_that_is_rolled_back_takes_its_doom_with_it,
        a_nack_between_two_dispatchers_fails_at_commit_and_an_ack_counts,
        what_a_session_leaves_for_a_dispatcher_that_is_gone_is_not_the_next_sessions,
        an_ack_that_waited_for_a_dispatcher_is_not_doomed_by_it,
        exactly_once_while_dispatchers_come_and_go,
    ]
}

const SERIALIZATION_FAILURE: &str = "40001";

/// Three messages, and a table for what became of them.
fn prepare(client: &mut Client, settings: &str) {
    client.create("s", "c", settings);
    client.batch_execute("CREATE TABLE result (seq bigint)").unwrap();
    client.publish_numbers("s", 3, 3);
}

/// Receives, works and acks in one transaction, until all that was published has its result; then nothing more comes.
fn process_all(client: &mut Client, published: i64) {
    wait_until("all is processed", seconds(60), || {
        process(client).unwrap();
        client.number("SELECT count(DISTINCT seq) FROM result") == published
    });
    assert_eq!(client.receive("c", 10, millis(1500)).len(), 0, "a finished message came again");
    assert_eq!(client.number("SELECT count(*) FROM result"), published, "processed twice");
}

fn process(client: &mut Client) -> Result<(), Error> {
    let mut transaction = client.transaction()?;
    let held = transaction.try_receive("c", fastrand::i32(1..=20), millis(200))?;
    for delivery in &held {
        transaction.execute("INSERT INTO result VALUES ($1)", &[&delivery.seq])?;
    }
    // A lease that ended meanwhile is somebody else's now, and so is the work.
    if transaction.try_ack("c", &ack_ids(&held))? as usize != held.len() {
        return transaction.rollback();
    }
    transaction.commit()
}

fn what_acked_before_a_dispatcher_restart_fails_at_commit() {
    let database = database("doomed_ack");
    let (mut client, mut worker) = (database.connect(), database.connect());
    prepare(&mut client, "ack_wait => '1 s'");
    let before = worker.receive("c", 1, seconds(10));
    let mut transaction = worker.transaction().unwrap();
    let within = transaction.receive("c", 1, seconds(10));
    for delivery in before.iter().chain(&within) {
        transaction.execute("INSERT INTO result VALUES ($1)", &[&delivery.seq]).unwrap();
        assert_eq!(transaction.ack("c", &[delivery.ack_id]), 1);
    }
    client.restart_dispatcher();
    assert_eq!(sqlstate(transaction.commit()), SERIALIZATION_FAILURE);
    assert_eq!(client.number("SELECT count(*) FROM result"), 0);
    // The session itself is as good as before.
    process_all(&mut worker, 3);
}

fn what_only_nacked_before_a_dispatcher_restart_fails_at_commit() {
    let database = database("doomed_nack");
    let (mut client, mut worker) = (database.connect(), database.connect());
    prepare(&mut client, "ack_wait => '1 s'");
    let held = worker.receive("c", 1, seconds(10));
    let mut transaction = worker.transaction().unwrap();
    transaction.execute("INSERT INTO result VALUES (-1)", &[]).unwrap();
    assert_eq!(transaction.nack("c", &ack_ids(&held)), 1);
    client.restart_dispatcher();
    assert_eq!(sqlstate(transaction.commit()), SERIALIZATION_FAILURE);
    assert_eq!(client.number("SELECT count(*) FROM result"), 0);
    process_all(&mut worker, 3);
}

fn what_rejected_or_redelivered_before_a_dispatcher_restart_fails_at_commit() {
    let database = database("doomed_others");
    let (mut client, mut worker) = (database.connect(), database.connect());
    prepare(&mut client, "ack_wait => '1 s'");
    let acked = client.receive("c", 1, seconds(10));
    assert_eq!(client.ack("c", &ack_ids(&acked)), 1);
    let held = client.receive("c", 1, seconds(10));
    for (call, id) in [("reject", held[0].ack_id), ("redeliver", acked[0].seq)] {
        let mut transaction = worker.transaction().unwrap();
        transaction.execute("INSERT INTO result VALUES (-1)", &[]).unwrap();
        let call = format!("SELECT sequin.{call}('c', ARRAY[$1::bigint])");
        assert_eq!(transaction.query_one(&call, &[&id]).unwrap().get::<_, i32>(0), 1);
        client.restart_dispatcher();
        assert_eq!(sqlstate(transaction.commit()), SERIALIZATION_FAILURE, "{call}");
    }
    assert_eq!(client.number("SELECT count(*) FROM result"), 0);
    assert_eq!(client.number("SELECT count(*) FROM sequin.dead_letters"), 0);
    process_all(&mut worker, 2);
}

/// To have received is no promise that a restart could break: the lease is in the journal.
fn what_acks_after_the_restart_commits() {
    let database = database("not_doomed");
    let (mut client, mut worker) = (database.connect(), database.connect());
    prepare(&mut client, "ack_wait => '10 min'");
    let mut transaction = worker.transaction().unwrap();
    let held = transaction.receive("c", 3, seconds(10));
    transaction.execute("INSERT INTO result VALUES (1), (2), (3)", &[]).unwrap();
    client.restart_dispatcher();
    assert_eq!(transaction.ack("c", &ack_ids(&held)), 3);
    transaction.commit().unwrap();
    assert_eq!(client.number("SELECT count(*) FROM result"), 3);
    assert_eq!(client.receive("c", 10, millis(500)).len(), 0, "an acked message came back");
    assert_eq!(client.in_flight("c"), 0);
}

fn what_was_doomed_and_rolled_back_dooms_nothing_later() {
    let database = database("doomed_rollback");
    let (mut client, mut worker) = (database.connect(), database.connect());
    prepare(&mut client, "ack_wait => '10 min'");
    let held = worker.receive("c", 3, seconds(10));
    let mut transaction = worker.transaction().unwrap();
    assert_eq!(transaction.ack("c", &[held[0].ack_id]), 1);
    client.restart_dispatcher();
    transaction.rollback().unwrap();
    let mut transaction = worker.transaction().unwrap();
    assert_eq!(transaction.ack("c", &ack_ids(&held)), 3);
    transaction.commit().unwrap();
    assert_eq!(client.in_flight("c"), 0);
    assert_eq!(client.receive("c", 10, millis(500)).len(), 0, "an acked message came back");
}

fn what_was_rolled_back_to_a_savepoint_dooms_nothing_later() {
    let database = database("doomed_savepoint");
    let (mut client, mut worker) = (database.connect(), database.connect());
    prepare(&mut client, "ack_wait => '10 min'");
    let held = worker.receive("c", 1, seconds(10));
    for call in ["ack", "nack", "reject"] {
        let mut transaction = worker.transaction().unwrap();
        let mut inner = transaction.savepoint("a").unwrap();
        let call = format!("SELECT sequin.{call}('c', ARRAY[$1::bigint])");
        assert_eq!(inner.query_one(&call, &[&held[0].ack_id]).unwrap().get::<_, i32>(0), 1);
        inner.rollback().unwrap();
        transaction.commit().unwrap();
        client.restart_dispatcher();
        // It has acked nothing that counts, and what it receives relies on nothing.
        let next = worker.try_receive("c", 1, seconds(10)).unwrap();
        assert_eq!(next.len(), 1, "{call}");
        worker.nack("c", &ack_ids(&next));
    }
}

fn a_savepoint_that_is_rolled_back_takes_its_doom_with_it() {
    let database = database("doomed_in_savepoint");
    let (mut client, mut worker) = (database.connect(), database.connect());
    prepare(&mut client, "ack_wait => '10 min'");
    let held = worker.receive("c", 3, seconds(10));
    let mut transaction = worker.transaction().unwrap();
    transaction.execute("INSERT INTO result VALUES (1)", &[]).unwrap();
    let mut inner = transaction.savepoint("a").unwrap();
    assert_eq!(inner.ack("c", &[held[0].ack_id]), 1);
    client.restart_dispatcher();
    inner.rollback().unwrap();
    assert_eq!(transaction.ack("c", &[held[1].ack_id]), 1);
    transaction.commit().unwrap();
    assert_eq!(client.in_flight("c"), 2);
    // What was acked before the savepoint is relied on, whatever is rolled back after it.
    let mut transaction = worker.transaction().unwrap();
    assert_eq!(transaction.ack("c", &[held[0].ack_id]), 1);
    client.restart_dispatcher();
    let mut inner = transaction.savepoint("a").unwrap();
    assert_eq!(inner.ack("c", &[held[2].ack_id]), 1);
    inner.rollback().unwrap();
    assert_eq!(sqlstate(transaction.commit()), SERIALIZATION_FAILURE);
}

/// A cluster whose launcher sleeps, and starts no dispatcher before it is woken.
struct Launcher(u32);

impl Launcher {
    fn put_to_sleep(client: &mut Client) -> Self {
        let launcher = "SELECT pid::bigint FROM sequin.workers WHERE process = 'launcher'";
        let pid = client.number(launcher) as u32;
        stop(pid);
        Self(pid)
    }

    /// Ends the dispatcher of the client's database, which is not followed by another.
    fn end_dispatcher(&self, client: &mut Client) {
        let here = "process = 'dispatcher' AND database = current_database() AND pid > 0";
        let pid = client.number(&format!("SELECT pid::bigint FROM sequin.workers WHERE {here}"));
        client.terminate(pid as i32);
        let running = format!("SELECT count(*) FROM pg_stat_activity WHERE pid = {pid}");
        wait_until("there is no dispatcher", seconds(30), || client.number(&running) == 0);
    }

    fn wake(&self) {
        signal("CONT", &[self.0]);
    }
}

/// A process that sleeps hangs every DROP DATABASE of its cluster: that of a test that fails, too.
impl Drop for Launcher {
    fn drop(&mut self) {
        self.wake();
    }
}

fn a_nack_between_two_dispatchers_fails_at_commit_and_an_ack_counts() {
    let cluster = Cluster::start();
    let database = cluster.database("between");
    let (mut client, mut worker) = (database.connect(), database.connect());
    let mut acker = database.connect();
    prepare(&mut client, "ack_wait => '10 min'");
    let held = client.receive("c", 3, seconds(10));
    let mut nacking = worker.transaction().unwrap();
    nacking.execute("INSERT INTO result VALUES (-1)", &[]).unwrap();
    assert_eq!(nacking.nack("c", &ack_ids(&held[..1])), 1);
    let mut acking = acker.transaction().unwrap();
    assert_eq!(acking.ack("c", &ack_ids(&held[1..2])), 1);
    let launcher = Launcher::put_to_sleep(&mut client);
    launcher.end_dispatcher(&mut client);
    assert_eq!(sqlstate(nacking.commit()), SERIALIZATION_FAILURE);
    acking.commit().unwrap();
    launcher.wake();
    assert_eq!(client.number("SELECT count(*) FROM result"), 0);
    assert_eq!(client.in_flight("c"), 2, "the nacked one's lease goes on, and so does the third's");
    assert_eq!(client.acked_total(), 1);
}

/// A session that waits in receive is killed when its dispatcher is gone already: nobody collects that its request is
/// void. The next session in its place, of another database, commits what it has received and acked.
fn what_a_session_leaves_for_a_dispatcher_that_is_gone_is_not_the_next_sessions() {
    // So few that a place is taken again soon, in whatever order they are handed out.
    let cluster = Cluster::start_with("max_connections = 14");
    let databases = ["gone", "next"].map(|name| cluster.database(name));
    let [mut left, mut next] = databases.each_ref().map(|database| database.connect());
    left.create("s", "c", "ack_wait => '10 min'");
    next.create("s", "c", "ack_wait => '10 min'");
    next.publish_numbers("s", 20, 20);
    // Both have their dispatchers.
    assert_eq!(left.receive("c", 1, millis(0)).len() + next.receive("c", 1, millis(0)).len(), 1);
    let mut waiting = databases[0].connect();
    let pid = waiting.backend_pid();
    thread::scope(|scope| {
        let receiving = scope.spawn(move || waiting.try_receive("c", 1, seconds(600)));
        let waits = "SELECT coalesce(sum(waiting), 0)::bigint FROM sequin.consumer_stats";
        wait_until("the receive waits", seconds(30), || left.number(waits) == 1);
        let launcher = Launcher::put_to_sleep(&mut left);
        launcher.end_dispatcher(&mut left);
        left.terminate(pid);
        assert!(receiving.join().unwrap().is_err());
        let is_there = format!("SELECT count(*) FROM pg_stat_activity WHERE pid = {pid}");
        wait_until("its session has ended", seconds(30), || left.number(&is_there) == 0);
        // One of these has its place.
        let mut sessions = Vec::new();
        while let Ok(session) = cluster.try_connect("next") {
            sessions.push(session);
        }
        for session in &mut sessions {
            let mut transaction = session.transaction().unwrap();
            let held = transaction.receive("c", 1, seconds(10));
            assert_eq!(transaction.ack("c", &ack_ids(&held)), 1);
            transaction.commit().unwrap();
        }
        let acked = sessions.len() as i64;
        assert!(acked >= 5);
        assert_eq!(next.in_flight("c"), 1, "what was acked came back");
        assert_eq!(next.acked_total(), acked);
        launcher.wake();
    });
}

/// No dispatcher has given its word yet, so no new one can break it.
fn an_ack_that_waited_for_a_dispatcher_is_not_doomed_by_it() {
    let cluster = Cluster::start();
    let database = cluster.database("doomed_waiting");
    let (mut client, mut worker) = (database.connect(), database.connect());
    prepare(&mut client, "ack_wait => '10 min'");
    let held = worker.receive("c", 3, seconds(10));
    let launcher = Launcher::put_to_sleep(&mut client);
    launcher.end_dispatcher(&mut client);
    thread::scope(|scope| {
        let acking = scope.spawn(move || worker.try_ack("c", &ack_ids(&held)));
        let waiting = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT sequin.ack(%'
                       AND state = 'active' AND wait_event = 'Extension'";
        wait_until("the ack waits", seconds(30), || client.number(waiting) == 1);
        launcher.wake();
        assert_eq!(acking.join().unwrap().unwrap(), 3);
    });
    assert_eq!(client.receive("c", 10, millis(500)).len(), 0, "an acked message came back");
}

const RESTARTS: usize = 15;

fn exactly_once_while_dispatchers_come_and_go() {
    let database = database("doomed_load");
    let mut client = database.connect();
    client.create("s", "c", "ack_wait => '1 s'");
    client.batch_execute("CREATE TABLE result (seq bigint)").unwrap();
    let (done, refused) = (AtomicBool::new(false), AtomicUsize::new(0));
    let mut published = 0;
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| work(&database, &done, &refused));
        }
        for _ in 0..RESTARTS {
            let next = Instant::now() + millis(fastrand::u64(50..500));
            while Instant::now() < next {
                client.publish_numbers("s", 20, 20);
                published += 20;
                thread::sleep(millis(5));
            }
            client.restart_dispatcher();
        }
        done.store(true, Ordering::SeqCst);
    });
    process_all(&mut client, published);
    let seqs =
        client.query("SELECT seq FROM sequin_stream.s JOIN result USING (seq)", &[]).unwrap();
    let seqs: HashSet<i64> = seqs.iter().map(|row| row.get(0)).collect();
    assert_eq!(seqs.len() as i64, published);
}

/// A restart may refuse a commit, and do nothing else to a session.
fn work(database: &Database, done: &AtomicBool, refused: &AtomicUsize) {
    let mut client = database.connect();
    while !done.load(Ordering::SeqCst) {
        if let Err(error) = process(&mut client) {
            assert_eq!(sqlstate::<()>(Err(error)), SERIALIZATION_FAILURE);
            refused.fetch_add(1, Ordering::SeqCst);
        }
    }
}
