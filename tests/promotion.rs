//! A standby that is promoted goes on where the primary was.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use libtest_mimic::Trial;
use postgres::Client;

use crate::calls::{Calls, ack_ids, millis, seconds, seqs, sqlstate};
use crate::harness::trials;
use sequin_testkit::cluster::{Cluster, Stop, wait_until};

pub fn tests() -> Vec<Trial> {
    trials![a_promoted_standby_goes_on_where_the_primary_was]
}

const READ_ONLY: &str = "25006";
/// Far beyond the test, and short enough to wait for.
const LONG: &str = "'10 min'";
const SHORT: Duration = seconds(10);

fn a_promoted_standby_goes_on_where_the_primary_was() {
    let primary = Cluster::start();
    let mut client = primary.connect("postgres");
    client.batch_execute("CREATE EXTENSION sequin").unwrap();
    client.create("s", "c", &format!("ack_wait => {LONG}"));
    client.publish_numbers("s", 50, 50);
    let acked_before = client.receive("c", 10, seconds(10));
    assert_eq!(client.ack("c", &ack_ids(&acked_before)), 10);
    let standby = primary.standby();

    // From here on, by streaming.
    for n in 0..50 {
        client.publish("s", &format!("streamed.{n}"), "1");
    }
    let acked = client.receive("c", 10, seconds(10));
    assert_eq!(client.ack("c", &ack_ids(&acked)), 10);
    let held = client.receive("c", 10, seconds(10));
    let short = "SELECT ack_id, seq, key, data::text, deliver_count
                 FROM sequin.receive('c', 5, ack_wait => $1::text::interval)";
    let leased = Instant::now();
    let ack_wait = format!("{} s", SHORT.as_secs());
    let ends: Vec<i64> =
        client.query(short, &[&ack_wait]).unwrap().iter().map(|r| r.get(1)).collect();
    assert_eq!(ends.len(), 5);
    let mut replica = standby.connect("postgres");
    wait_for_replay(&mut client, &mut replica, &ends);
    refuses(&mut replica, &ack_ids(&held));

    primary.stop(Stop::Immediate);
    replica.batch_execute("SELECT pg_promote()").unwrap();
    wait_until("the standby is promoted", seconds(60), || {
        replica.number("SELECT pg_is_in_recovery()::int::bigint") == 0
    });
    let mut used: HashSet<i64> = ack_ids(&acked_before).into_iter().collect();
    used.extend(ack_ids(&acked).iter().chain(&ack_ids(&held)));

    // The session that was refused, and another one, get what was not acked, and not what is in flight.
    let mut other = standby.connect("postgres");
    let mut rest = Vec::new();
    let expected = 100 - 20 - held.len() - ends.len();
    wait_until("what was unacked comes", seconds(60), || {
        for client in [&mut replica, &mut other] {
            let batch = client.receive("c", 7, millis(100));
            assert_eq!(client.ack("c", &ack_ids(&batch)), batch.len() as i32);
            rest.extend(batch);
        }
        rest.iter().filter(|delivery| !ends.contains(&delivery.seq)).count() >= expected
    });
    for delivery in &rest {
        assert!(used.insert(delivery.ack_id), "ack_id was used before: {delivery:?}");
        assert!(!seqs(&acked).contains(&delivery.seq), "acked, and came back: {delivery:?}");
        assert!(!seqs(&acked_before).contains(&delivery.seq), "acked, and came: {delivery:?}");
        assert!(!seqs(&held).contains(&delivery.seq), "its lease was lost: {delivery:?}");
        let early = ends.contains(&delivery.seq) && leased.elapsed() < SHORT;
        assert!(!early, "before its deadline: {delivery:?}");
    }
    let missing = ends.iter().filter(|&seq| !seqs(&rest).contains(seq)).count();
    let late = replica.receive("c", missing.max(1) as i32, seconds(20));
    assert_eq!(late.len(), missing, "what was in flight is lost");
    assert!(leased.elapsed() >= SHORT, "before its deadline: {late:?}");
    assert!(late.iter().all(|delivery| delivery.deliver_count == 2), "{late:?}");
    assert!(ack_ids(&late).iter().all(|ack_id| used.insert(*ack_id)));
    assert_eq!(replica.ack("c", &ack_ids(&late)) as usize, missing);
    // A lease of before is as good as ever.
    assert_eq!(replica.ack("c", &ack_ids(&held)), 10);
    assert_eq!(replica.ack("c", &ack_ids(&acked)), 0, "an ack took effect twice");

    let last = replica.number("SELECT max(seq) FROM sequin_stream.s");
    let seq = replica.publish("s", "new", "1");
    assert!(seq > last, "{seq} after {last}");
    let got = other.receive("c", 10, seconds(10));
    assert_eq!(seqs(&got), [seq]);
    assert!(used.insert(got[0].ack_id));
    assert_eq!(other.ack("c", &ack_ids(&got)), 1);
    assert_eq!(other.receive("c", 10, millis(500)).len(), 0);
}

/// Until the standby knows all that the primary has done, and the leases of these messages.
fn wait_for_replay(primary: &mut Client, standby: &mut Client, leased: &[i64]) {
    let lsn: String =
        primary.query_one("SELECT pg_current_wal_insert_lsn()::text", &[]).unwrap().get(0);
    let replayed = "SELECT coalesce(pg_last_wal_replay_lsn() >= $1::text::pg_lsn, false)";
    wait_until("the standby has replayed all", seconds(60), || {
        standby.query_one(replayed, &[&lsn]).unwrap().get(0)
    });
    // The dispatcher writes its journal a few milliseconds later.
    let journal = "SELECT EXISTS (SELECT FROM sequin.outbox WHERE kind = 'd' AND seqs @> $1)
                       OR EXISTS (SELECT FROM sequin.checkpoints WHERE seqs @> $1)";
    wait_until("the standby knows the leases", seconds(60), || {
        standby.query_one(journal, &[&leased]).unwrap().get(0)
    });
}

/// Consumers work on the primary only; looking is allowed.
fn refuses(standby: &mut Client, ack_ids: &[i64]) {
    assert_eq!(sqlstate(standby.try_receive("c", 1, seconds(10))), READ_ONLY);
    assert_eq!(sqlstate(standby.try_ack("c", ack_ids)), READ_ONLY);
    assert_eq!(sqlstate(standby.try_nack("c", ack_ids)), READ_ONLY);
    assert_eq!(sqlstate(standby.try_publish("s", "a", "1")), READ_ONLY);
    assert_eq!(sqlstate(standby.batch_execute("SELECT sequin.rewind('c')")), READ_ONLY);
    assert_eq!(standby.number("SELECT count(*) FROM sequin.messages('s')"), 100);
    assert_eq!(standby.number("SELECT count(*) FROM sequin.consumers"), 1);
    assert!(standby.number("SELECT messages FROM sequin.stream_stats") >= 100);
    assert_eq!(standby.number("SELECT count(*) FROM sequin.consumer_stats"), 1);
}
