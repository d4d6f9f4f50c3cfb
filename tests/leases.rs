//! A delivery is a lease: one holder at a time, until ack, nack or deadline.

use std::collections::HashSet;
use std::sync::Barrier;
use std::sync::atomic::{AtomicI64, Ordering};
use std::thread;
use std::time::Instant;

use libtest_mimic::Trial;

use crate::calls::{Calls, ack_ids, millis, seconds, seqs};
use crate::harness::{database, trials};
use sequin_testkit::cluster::{Cluster, wait_until};

pub fn tests() -> Vec<Trial> {
    trials![
        twenty_workers_share_ten_messages,
        max_ack_pending_bounds_what_is_in_flight,
        late_ack_counts_nothing_and_the_second_delivery_stands,
        extend_moves_the_deadline,
        nack_delays_by_argument_and_by_backoff,
        max_deliver_and_reject_end_in_dead_letters,
        ack_ids_of_another_consumer_count_nothing,
        leases_survive_a_dispatcher_restart,
        leases_survive_a_server_restart,
    ]
}

fn twenty_workers_share_ten_messages() {
    let database = database("twenty_workers");
    let mut client = database.connect();
    client.create("s", "c", "");
    client.publish_numbers("s", 10, 10);

    let ready = Barrier::new(20);
    let answers: Vec<Vec<i64>> = thread::scope(|scope| {
        let worker = || {
            let mut client = database.connect();
            ready.wait();
            seqs(&client.receive("c", 1, millis(0)))
        };
        let workers: Vec<_> = (0..20).map(|_| scope.spawn(worker)).collect();
        workers.into_iter().map(|worker| worker.join().unwrap()).collect()
    });

    let empty = answers.iter().filter(|seqs| seqs.is_empty()).count();
    let distinct: HashSet<i64> = answers.iter().flatten().copied().collect();
    assert_eq!((distinct.len(), empty), (10, 10), "{answers:?}");
}

fn max_ack_pending_bounds_what_is_in_flight() {
    const MESSAGES: i64 = 300;
    let database = database("max_ack_pending");
    let mut client = database.connect();
    client.create("s", "c", "max_ack_pending => 3");
    client.publish_numbers("s", MESSAGES as i32, MESSAGES as i32);

    // From when receive has returned until ack is called, a message is in flight for certain.
    let (held, acked) = (AtomicI64::new(0), AtomicI64::new(0));
    let end = Instant::now() + seconds(60);
    thread::scope(|scope| {
        for worker in 0..10 {
            let (database, held, acked) = (&database, &held, &acked);
            scope.spawn(move || {
                let mut client = database.connect();
                while acked.load(Ordering::SeqCst) < MESSAGES {
                    assert!(Instant::now() < end, "only {acked:?} of {MESSAGES} acked in time");
                    let batch = client.receive("c", 1 + worker % 5, millis(100));
                    let count = batch.len() as i64;
                    let now_held = held.fetch_add(count, Ordering::SeqCst) + count;
                    assert!(now_held <= 3, "{now_held} in flight");
                    assert!(client.in_flight("c") <= 3);
                    held.fetch_sub(count, Ordering::SeqCst);
                    let effective = client.ack("c", &ack_ids(&batch));
                    acked.fetch_add(i64::from(effective), Ordering::SeqCst);
                }
            });
        }
    });
    assert_eq!(acked.into_inner(), MESSAGES);
}

fn late_ack_counts_nothing_and_the_second_delivery_stands() {
    let database = database("late_ack");
    let (mut slow, mut other) = (database.connect(), database.connect());
    slow.create("s", "c", "ack_wait => '300 ms'");
    let seq = slow.publish("s", "a", "1");

    let first = slow.receive("c", 1, seconds(10));
    let second = other.receive("c", 1, seconds(10));
    assert_eq!((seqs(&first), seqs(&second)), (vec![seq], vec![seq]));
    assert_eq!((first[0].deliver_count, second[0].deliver_count), (1, 2));
    assert_ne!(first[0].ack_id, second[0].ack_id);

    assert_eq!(slow.ack("c", &ack_ids(&first)), 0, "an ack after the deadline took effect");
    assert_eq!(slow.nack("c", &ack_ids(&first)), 0);
    // The second delivery had only 300 ms too; where this test was too slow for them, the third stands.
    let mut last = second;
    while other.ack("c", &ack_ids(&last)) == 0 {
        last = other.receive("c", 1, seconds(10));
    }
    assert_eq!(other.receive("c", 1, millis(700)).len(), 0, "an acked message came back");
    assert_eq!(other.ack("c", &ack_ids(&last)), 0, "the same ack counted twice");
}

fn extend_moves_the_deadline() {
    let database = database("extend");
    let mut client = database.connect();
    client.create("s", "c", "ack_wait => '2 s'");
    client.publish("s", "a", "1");
    let held = client.receive("c", 1, seconds(10));
    let extend = "SELECT sequin.extend('c', $1, ack_wait => '1 h')";
    assert_eq!(client.query_one(extend, &[&ack_ids(&held)]).unwrap().get::<_, i32>(0), 1);
    assert_eq!(client.receive("c", 1, seconds(3)).len(), 0, "the old deadline was kept");
    assert_eq!(client.ack("c", &ack_ids(&held)), 1);
    assert_eq!(client.query_one(extend, &[&ack_ids(&held)]).unwrap().get::<_, i32>(0), 0);
}

fn nack_delays_by_argument_and_by_backoff() {
    let database = database("nack_delay");
    let mut client = database.connect();
    client.create("s", "plain", "");
    client.create_consumer("s", "patient", "backoff => '{100 ms, 1500 ms}'");
    client.publish("s", "a", "1");

    let held = client.receive("plain", 1, seconds(10));
    assert_eq!(client.nack("plain", &ack_ids(&held)), 1);
    let held = client.receive("plain", 1, millis(0));
    assert_eq!(held[0].deliver_count, 2, "a nack without delay gives back at once");
    let later = "SELECT sequin.nack('plain', $1, delay => '1 s')";
    let begun = Instant::now();
    client.execute(later, &[&ack_ids(&held)]).unwrap();
    assert_eq!(client.receive("plain", 1, seconds(10))[0].deliver_count, 3);
    assert!(begun.elapsed() >= seconds(1), "came after {:?}", begun.elapsed());

    // The first delivery waits the first interval, the second and all later ones the last.
    let mut held = client.receive("patient", 1, seconds(10));
    for (count, least) in [(2, 100), (3, 1500), (4, 1500)] {
        let begun = Instant::now();
        assert_eq!(client.nack("patient", &ack_ids(&held)), 1);
        held = client.receive("patient", 1, seconds(10));
        assert_eq!(held[0].deliver_count, count);
        assert!(begun.elapsed() >= millis(least), "came after {:?}", begun.elapsed());
    }
}

fn max_deliver_and_reject_end_in_dead_letters() {
    let database = database("dead_letters");
    let mut client = database.connect();
    client.create("s", "c", "max_deliver => 2");
    client.publish("s", "a", "1");
    client.publish("s", "b", "2");

    for count in 1..=2 {
        let held = client.receive("c", 2, seconds(10));
        assert!(held.iter().all(|delivery| delivery.deliver_count == count), "{held:?}");
        let (nacked, rejected): (Vec<_>, Vec<_>) =
            held.into_iter().partition(|delivery| delivery.key == "a");
        assert_eq!(client.nack("c", &ack_ids(&nacked)), 1);
        if count == 1 {
            let reject = "SELECT sequin.reject('c', $1, reason => 'not for us')";
            client.execute(reject, &[&ack_ids(&rejected)]).unwrap();
        }
    }
    let dead = "SELECT count(*) FROM sequin.dead_letters WHERE consumer = 'c'";
    wait_until("both are dead letters", seconds(30), || client.number(dead) == 2);
    assert_eq!(client.receive("c", 2, millis(300)).len(), 0);
    let rows = client
        .query("SELECT key, reason, deliver_count FROM sequin.dead_letters ORDER BY key", &[])
        .unwrap();
    assert_eq!(rows[0].get::<_, i32>("deliver_count"), 2);
    assert_eq!(rows[1].get::<_, String>("reason"), "not for us");

    assert_eq!(client.query_one("SELECT sequin.redrive('c')", &[]).unwrap().get::<_, i32>(0), 2);
    let again = client.drain("c", millis(500));
    let keys: HashSet<&str> = again.iter().map(|delivery| delivery.key.as_str()).collect();
    assert_eq!(keys, HashSet::from(["a", "b"]));
    assert!(again.iter().all(|delivery| delivery.deliver_count == 1), "{again:?}");
    assert_eq!(client.number(dead), 0);
}

fn ack_ids_of_another_consumer_count_nothing() {
    let database = database("other_consumer");
    let mut client = database.connect();
    client.create("s", "one", "");
    client.create_consumer("s", "two", "");
    client.publish("s", "a", "1");
    let held = client.receive("one", 1, seconds(10));
    assert_eq!(client.ack("two", &ack_ids(&held)), 0);
    assert_eq!(client.ack("one", &[0, -1, i64::MAX]), 0);
    let twice = [held[0].ack_id, held[0].ack_id];
    assert_eq!(client.ack("one", &twice), 1, "a repeated ack_id counts once");
    assert_eq!(client.receive("two", 1, seconds(10)).len(), 1);
}

fn leases_survive_a_dispatcher_restart() {
    let database = database("dispatcher_restart");
    let mut client = database.connect();
    hold_leases_over(&mut client, |client| client.restart_dispatcher());
}

fn leases_survive_a_server_restart() {
    let cluster = Cluster::start();
    let database = cluster.database("server_restart");
    let mut client = database.connect();
    hold_leases_over(&mut client, |client| {
        cluster.restart();
        *client = database.connect();
    });
}

/// Leases and delivery counts are the same after what `restart` does.
fn hold_leases_over(client: &mut postgres::Client, restart: impl FnOnce(&mut postgres::Client)) {
    client.create("s", "c", "ack_wait => '10 min'");
    client.publish_numbers("s", 6, 6);
    let once = client.receive("c", 2, seconds(10));
    assert_eq!(client.nack("c", &ack_ids(&once)), 2);
    let twice = client.receive("c", 2, seconds(10));
    assert_eq!(seqs(&twice), seqs(&once), "redeliveries go first");
    let first = client.receive("c", 2, seconds(10));
    let acked = [twice[0].ack_id, first[0].ack_id];
    assert_eq!(client.ack("c", &acked), 2);
    let nacked = [twice[1].ack_id];

    restart(client);

    wait_until("the two leases are known again", seconds(30), || client.in_flight("c") == 2);
    let rest = client.receive("c", 10, seconds(10));
    assert_eq!(rest.len(), 2, "what is in flight came again, or is missing: {rest:?}");
    assert!(rest.iter().all(|delivery| delivery.deliver_count == 1));
    assert_eq!(client.ack("c", &acked), 0, "an ack took effect twice");
    assert_eq!(client.nack("c", &nacked), 1);
    let third = client.receive("c", 10, seconds(10));
    assert_eq!((third[0].seq, third[0].deliver_count), (twice[1].seq, 3));
    assert_eq!(client.ack("c", &[first[1].ack_id]), 1, "the lease was lost");
    assert_eq!(client.ack("c", &ack_ids(&rest)), 2);
    assert_eq!(client.ack("c", &ack_ids(&third)), 1);
    assert_eq!(client.receive("c", 10, millis(300)).len(), 0);
}
