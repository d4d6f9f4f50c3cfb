//! A standby that is made, and takes over, in the middle of a load.

use libtest_mimic::Trial;

use super::load::{self, SMALL};
use crate::calls::{Calls, seconds, seqs, sqlstate};
use crate::harness::trials;
use sequin_testkit::cluster::{Cluster, Stop, wait_until};

pub fn tests() -> Vec<Trial> {
    trials![
        what_was_acked_and_replicated_outlives_a_failover_under_load,
        a_failover_without_synchronous_replication_is_consistent,
    ]
}

const BROKEN: &str = "";
const CRASH_SHUTDOWN: &str = "57P02";
const READ_ONLY: &str = "25006";

/// What must be processed in each phase of a load before the next begins.
const SOME: usize = 200;

fn what_was_acked_and_replicated_outlives_a_failover_under_load() {
    fail_over(true);
}

/// What the standby hasn't got is as if it had never been: the standby's tables say what was.
fn a_failover_without_synchronous_replication_is_consistent() {
    fail_over(false);
}

fn fail_over(synchronous: bool) {
    let primary = Cluster::start();
    let database = primary.database("failover");
    let mut client = database.connect();
    load::prepare(&mut client);
    let (standby, mut known) = load::during(&database, SMALL, |load| {
        load.wait_for_more(SOME);
        let standby = primary.standby();
        if synchronous {
            let names = "ALTER SYSTEM SET synchronous_standby_names = '*'";
            client.batch_execute(names).unwrap();
            client.batch_execute("SELECT pg_reload_conf()").unwrap();
            let sync = "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'";
            wait_until("the standby is synchronous", seconds(30), || client.number(sync) == 1);
        }
        load.wait_for_more(SOME);
        let mut replica = standby.connect("failover");
        assert_eq!(sqlstate(replica.try_receive("ordered", 1, seconds(10))), READ_ONLY);
        primary.stop(Stop::Immediate);
        standby
    });
    known.assert_failed_only_with(&[BROKEN, CRASH_SHUTDOWN]);

    let mut replica = standby.connect("failover");
    replica.batch_execute("SELECT pg_promote()").unwrap();
    wait_until("the standby is promoted", seconds(60), || {
        replica.number("SELECT pg_is_in_recovery()::int::bigint") == 0
    });
    if !synchronous {
        known.published.clear();
        known.processed.clear();
    }
    load::settle(&mut replica, &known);
    let seq = replica.publish("s", "new", "1");
    assert_eq!(seqs(&replica.receive("ordered", 1, seconds(10))), [seq]);
}
