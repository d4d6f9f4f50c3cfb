//! pg_upgrade: a cluster's files go to a new one, with sequin preloaded in both.

use std::path::PathBuf;

use libtest_mimic::Trial;

use super::load::{self, SMALL};
use crate::calls::{Calls, ack_ids, seconds, seqs};
use crate::harness::trials;
use sequin_testkit::cluster::{Cluster, Database, Stop, wait_until};
use sequin_testkit::process::{as_server_user, programs_of, succeed};

pub fn tests() -> Vec<Trial> {
    trials![an_upgraded_cluster_goes_on_where_the_old_one_was]
}

/// What must be processed before and after.
const SOME: usize = 200;

/// Of `stopped`, beside what the load is about.
const MESSAGES: i32 = 50;

/// OLD_PG_CONFIG names a server of an older major version with sequin in it, as scripts/test_versions.sh has one;
/// without it, the upgrade is from the version that is tested to itself.
fn an_upgraded_cluster_goes_on_where_the_old_one_was() {
    let new = Cluster::start();
    let old = match std::env::var_os("OLD_PG_CONFIG") {
        Some(pg_config) => Cluster::stopped_of(programs_of(&PathBuf::from(pg_config))),
        None => Cluster::stopped(),
    };
    old.create("");
    let database = old.database("upgraded");
    let mut client = database.connect();
    load::prepare(&mut client);
    let (_, known) = load::during(&database, SMALL, |load| load.wait_for_more(SOME));
    known.assert_failed_only_with(&[]);

    // One message each is leased, delayed, and a dead letter; ten are acked, the others have not been handed out.
    client.create("stopped", "c", "ack_wait => '1 h'");
    client.publish_numbers("stopped", MESSAGES, MESSAGES);
    let held = client.receive("c", 13, seconds(10));
    let [leased, delayed, dead, acked @ ..] = &*ack_ids(&held) else { panic!("{held:?}") };
    assert_eq!(client.ack("c", acked), 10);
    client
        .execute("SELECT sequin.nack('c', array[$1::bigint], delay => '1 h')", &[delayed])
        .unwrap();
    client.execute("SELECT sequin.reject('c', array[$1::bigint], 'of old')", &[dead]).unwrap();

    drop(client);
    for cluster in [&old, &new] {
        cluster.stop(Stop::Fast);
    }
    for check in [true, false] {
        pg_upgrade(&old, &new, check);
    }
    new.boot();
    let mut client = new.connect("upgraded");
    load::settle(&mut client, &known);
    let upgraded = Database { cluster: &new, name: "upgraded".into() };
    let (_, more) = load::during(&upgraded, SMALL, |load| load.wait_for_more(SOME));
    more.assert_failed_only_with(&[]);
    assert!(more.ack_ids.is_disjoint(&known.ack_ids), "an ack_id came again");
    load::settle(&mut client, &more);

    let state = "SELECT array[in_flight, delayed, dead_total] FROM sequin.consumer_stats WHERE consumer = 'c'";
    wait_until("what was in flight is known again", seconds(60), || {
        client.query_one(state, &[]).unwrap().get::<_, Vec<Option<i64>>>(0)
            == [Some(1), Some(1), Some(1)]
    });
    let reason = "SELECT reason FROM sequin.dead_letters WHERE consumer = 'c' AND seq = $1";
    let reason: String = client.query_one(reason, &[&held[2].seq]).unwrap().get(0);
    assert_eq!(reason, "of old");
    let rest = client.receive("c", 1000, seconds(10));
    let never: Vec<i64> = (14..=i64::from(MESSAGES)).collect();
    assert_eq!(seqs(&rest), never, "what the old server had not handed out");
    assert_eq!(client.ack("c", acked), 0, "acked in the old server");
    assert_eq!(client.ack("c", &[*leased]), 1, "the lease is still good");
    assert_eq!(client.ack("c", &[*leased]), 0);
}

fn pg_upgrade(old: &Cluster, new: &Cluster, check: bool) {
    let folder = |program: PathBuf| program.parent().unwrap().to_owned();
    let mut upgrade = as_server_user(&new.program("pg_upgrade"));
    // It writes its reports, and makes its sockets, where it is.
    upgrade.current_dir(folder(new.data())).args(["--username", "postgres", "--jobs", "2"]);
    upgrade.arg("--old-datadir").arg(old.data()).arg("--new-datadir").arg(new.data());
    upgrade.arg("--old-bindir").arg(folder(old.program("postgres")));
    upgrade.arg("--new-bindir").arg(folder(new.program("postgres")));
    upgrade.args(check.then_some("--check"));
    succeed(&mut upgrade);
}
