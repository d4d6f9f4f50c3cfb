//! Order per key holds across every kind of restart, with messages in flight and messages that wait for redelivery.

use std::collections::{BTreeMap, HashMap};

use libtest_mimic::Trial;
use postgres::Client;

use crate::calls::{Calls, Delivery, ack_ids, millis, seconds, seqs};
use crate::harness::{database, trials};
use sequin_testkit::cluster::{Cluster, Database, wait_until};

pub fn tests() -> Vec<Trial> {
    trials![
        a_key_in_flight_waits_across_each_kind_of_restart,
        a_nacked_key_waits_across_each_kind_of_restart,
        an_ack_between_two_restarts_is_not_forgotten,
        a_committed_nack_counts_though_the_dispatcher_ends_next,
        order_per_key_holds_while_dispatchers_come_and_go,
        order_per_key_holds_while_the_server_is_restarted_and_killed,
    ]
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Restart {
    Dispatcher,
    Server,
    Kill,
}

const RESTARTS: [Restart; 3] = [Restart::Dispatcher, Restart::Server, Restart::Kill];

fn restart(kind: Restart, database: &Database, client: &mut Client) {
    match kind {
        Restart::Dispatcher => return client.restart_dispatcher(),
        Restart::Server => database.cluster.restart(),
        Restart::Kill => {
            database.cluster.kill_9();
            database.cluster.boot();
        }
    }
    *client = database.connect();
}

fn keys(deliveries: &[Delivery]) -> Vec<&str> {
    deliveries.iter().map(|delivery| delivery.key.as_str()).collect()
}

/// Three messages of key a, the first of which the caller holds, and three each of b and c.
fn publish_round(client: &mut Client) -> Vec<i64> {
    let a = (0..3).map(|n| client.publish("s", "a", &n.to_string())).collect();
    for _ in 0..3 {
        client.publish("s", "b", "0");
        client.publish("s", "c", "0");
    }
    a
}

/// Receives and acks all but key a, until nothing comes any more. Of key a, nothing may come but `first`: after a
/// crash, and then the caller has it.
fn others_flow(client: &mut Client, first: i64) -> Option<Delivery> {
    let (mut others, mut early) = (Vec::new(), None);
    loop {
        let batch = client.receive("c", 10, millis(300));
        if batch.is_empty() {
            break;
        }
        for delivery in batch {
            if delivery.key == "a" {
                assert_eq!(delivery.seq, first, "overtook the first of its key: {delivery:?}");
                early = Some(delivery);
            } else {
                assert_eq!(client.ack("c", &[delivery.ack_id]), 1);
                others.push(delivery);
            }
        }
    }
    assert!(others.is_sorted_by_key(|delivery| delivery.seq), "{others:?}");
    assert_eq!(others.len(), 6, "the other keys did not flow: {others:?}");
    early
}

fn a_key_in_flight_waits_across_each_kind_of_restart() {
    let cluster = Cluster::start();
    let database = cluster.database("order_in_flight");
    let mut client = database.connect();
    client.create("s", "c", "ack_wait => '10 min'");
    for kind in RESTARTS {
        let a = publish_round(&mut client);
        let held = client.receive("c", 1, seconds(10));
        assert_eq!(seqs(&held), a[..1]);
        restart(kind, &database, &mut client);
        let early = others_flow(&mut client, a[0]);
        assert!(early.is_none() || kind == Restart::Kill, "{kind:?} ended the lease");
        let current = early.map_or(held[0].ack_id, |delivery| delivery.ack_id);
        assert_eq!(client.ack("c", &[current]), 1);
        assert_eq!(seqs(&client.drain("c", millis(500))), a[1..], "{kind:?}");
    }
}

fn a_nacked_key_waits_across_each_kind_of_restart() {
    let cluster = Cluster::start();
    let database = cluster.database("order_nacked");
    let mut client = database.connect();
    client.create("s", "c", "ack_wait => '10 min'");
    for kind in RESTARTS {
        let a = publish_round(&mut client);
        let held = client.receive("c", 1, seconds(10));
        assert_eq!(seqs(&held), a[..1]);
        let nack = "SELECT sequin.nack('c', $1, delay => '6 s')";
        client.execute(nack, &[&ack_ids(&held)]).unwrap();
        // The journal is written asynchronously: a kill -9 right now would forget the nack, not the lease. The
        // table's commit flushes what was written before it.
        let written = "SELECT count(*) FROM sequin.outbox WHERE kind = 'r'
                       UNION ALL SELECT count(*) FROM sequin.checkpoints WHERE 0 = ANY (ack_ids)
                       ORDER BY 1 DESC LIMIT 1";
        wait_until("the nack is written", seconds(30), || client.number(written) > 0);
        client.batch_execute("CREATE TABLE flush (); DROP TABLE flush").unwrap();
        restart(kind, &database, &mut client);
        // On a slow machine the delay may be over: then the first comes among the others.
        let first = match others_flow(&mut client, a[0]) {
            Some(early) => early,
            None => client.receive("c", 10, seconds(20)).remove(0),
        };
        assert_eq!(first.seq, a[0], "{kind:?}");
        assert!(first.deliver_count == 2 || kind == Restart::Kill, "{kind:?}: {first:?}");
        assert_eq!(client.ack("c", &[first.ack_id]), 1);
        assert_eq!(seqs(&client.drain("c", millis(500))), a[1..], "{kind:?}");
    }
}

/// The dispatcher knows leases again, before it has read the stream: an ack then must count for good.
fn an_ack_between_two_restarts_is_not_forgotten() {
    let database = database("order_acks");
    let mut client = database.connect();
    client.create("s", "c", "ack_wait => '10 min'");
    client.publish_numbers("s", 6, 2);
    let held = client.receive("c", 2, seconds(10));
    client.restart_dispatcher();
    assert_eq!(client.ack("c", &ack_ids(&held[..1])), 1);
    let unfolded = "SELECT count(*) FROM sequin.acks";
    wait_until("the ack is in a checkpoint", seconds(30), || client.number(unfolded) == 0);
    client.restart_dispatcher();
    assert_eq!(client.ack("c", &ack_ids(&held[1..])), 1);
    let rest = client.drain("c", millis(500));
    assert_eq!(keys(&rest), ["k.1", "k.2", "k.1", "k.2"]);
    assert!(seqs(&rest)[0] > held[1].seq, "an acked message came back: {rest:?}");
}

fn a_committed_nack_counts_though_the_dispatcher_ends_next() {
    let database = database("order_last_nack");
    let mut client = database.connect();
    client.create("s", "c", "ack_wait => '10 min'");
    let seq = client.publish("s", "a", "1");
    for count in 1..=5 {
        let held = client.receive("c", 1, seconds(10));
        assert_eq!(seqs(&held), [seq], "the nack of delivery {} was lost", count - 1);
        assert_eq!(held[0].deliver_count, count);
        assert_eq!(client.nack("c", &ack_ids(&held)), 1);
        client.restart_dispatcher();
    }
}

fn order_per_key_holds_while_dispatchers_come_and_go() {
    let database = database("order_dispatchers");
    let mut ledger = Ledger::default();
    let mut client = database.connect();
    client.create("s", "c", "ack_wait => '10 min'");
    for _ in 0..6 {
        ledger.work(&mut client, 150);
        restart(Restart::Dispatcher, &database, &mut client);
    }
    ledger.finish(&mut client);
}

fn order_per_key_holds_while_the_server_is_restarted_and_killed() {
    let cluster = Cluster::start();
    let database = cluster.database("order_server");
    let mut ledger = Ledger::default();
    let mut client = database.connect();
    client.create("s", "c", "ack_wait => '10 min'");
    for round in 0..8 {
        ledger.work(&mut client, 150);
        let kind = [Restart::Server, Restart::Kill][round % 2];
        restart(kind, &database, &mut client);
        if kind == Restart::Kill {
            // What the journal has lost comes early.
            ledger.held.clear();
        }
    }
    ledger.finish(&mut client);
}

/// What one client does, and what may come next: it is the only one, so it knows.
#[derive(Default)]
struct Ledger {
    /// Of each key, in the order of their seqs.
    published: HashMap<String, Vec<i64>>,
    /// How many of each key are finished.
    finished: HashMap<String, usize>,
    /// By key: what is in flight.
    held: BTreeMap<String, Delivery>,
}

impl Ledger {
    const KEYS: u32 = 20;

    fn work(&mut self, client: &mut Client, steps: usize) {
        for _ in 0..steps {
            match fastrand::u8(..10) {
                0..3 => self.publish(client),
                3..7 => self.receive(client, millis(0)),
                _ => self.end_one(client),
            }
        }
    }

    fn publish(&mut self, client: &mut Client) {
        for _ in 0..fastrand::u32(1..6) {
            let key = format!("k.{}", fastrand::u32(..Self::KEYS));
            let seq = client.publish("s", &key, "1");
            self.published.entry(key).or_default().push(seq);
        }
    }

    fn receive(&mut self, client: &mut Client, wait: std::time::Duration) {
        for delivery in client.receive("c", fastrand::i32(1..8), wait) {
            let key = delivery.key.clone();
            let finished = self.finished.get(&key).copied().unwrap_or(0);
            let next = self.published[&key].get(finished).copied();
            assert_eq!(Some(delivery.seq), next, "{delivery:?} after {finished} of its key");
            let twice = self.held.insert(key, delivery);
            assert!(twice.is_none(), "was in flight already: {twice:?}");
        }
    }

    fn end_one(&mut self, client: &mut Client) {
        let nth = fastrand::usize(..self.held.len().max(1));
        let Some((key, delivery)) = self.held.iter().nth(nth) else { return };
        let (key, ack_id) = (key.clone(), [delivery.ack_id]);
        self.held.remove(&key);
        if fastrand::u8(..4) == 0 {
            let delay = ["NULL", "'0'", "'300 ms'"][fastrand::usize(..3)];
            let nack = format!("SELECT sequin.nack('c', $1, delay => {delay})");
            let count: i32 = client.query_one(&nack, &[&ack_id.as_slice()]).unwrap().get(0);
            assert_eq!(count, 1, "the lease of {key} was lost");
        } else {
            assert_eq!(client.ack("c", &ack_id), 1, "the lease of {key} was lost");
            *self.finished.entry(key).or_default() += 1;
        }
    }

    /// Works off all that is left. What a crash left in flight without an ack_id that anybody knows is given back
    /// by way of `sequin.in_flight`.
    fn finish(mut self, client: &mut Client) {
        let known: Vec<i64> = self.held.values().map(|delivery| delivery.ack_id).collect();
        let nack = "SELECT sequin.nack('c', array(SELECT ack_id FROM sequin.in_flight('c')
                         WHERE ack_id <> ALL ($1)))";
        client.execute(nack, &[&known]).unwrap();
        let total: usize = self.published.values().map(Vec::len).sum();
        wait_until("all is finished", seconds(60), || {
            self.receive(client, millis(300));
            while !self.held.is_empty() {
                self.end_one(client);
            }
            self.finished.values().sum::<usize>() == total
        });
        assert_eq!(client.receive("c", 10, millis(500)).len(), 0, "a finished message came again");
    }
}
