//! pg_upgrade: a cluster's files go to a new one, with sequin preloaded in both.

use std::path::Path;

use libtest_mimic::Trial;

use super::load::{self, SMALL};
use crate::harness::trials;
use sequin_testkit::cluster::{Cluster, Stop};
use sequin_testkit::process::{as_server_user, program, succeed};

pub fn tests() -> Vec<Trial> {
    trials![an_upgraded_cluster_goes_on_where_the_old_one_was]
}

/// What must be processed before and after.
const SOME: usize = 200;

/// To the same major version, which is what there is here.
fn an_upgraded_cluster_goes_on_where_the_old_one_was() {
    let (old, new) = (Cluster::start(), Cluster::start());
    let database = old.database("upgraded");
    load::prepare(&mut database.connect());
    let (_, known) = load::during(&database, SMALL, |load| load.wait_for_more(SOME));
    known.assert_failed_only_with(&[]);
    for cluster in [&old, &new] {
        cluster.stop(Stop::Fast);
    }
    for check in [true, false] {
        let mut upgrade = as_server_user(&program("pg_upgrade"));
        // It writes its reports, and makes its sockets, where it is.
        let directory = new.data().parent().map(Path::to_owned).unwrap();
        upgrade.current_dir(&directory).args(["--username", "postgres", "--jobs", "2"]);
        upgrade.arg("--old-datadir").arg(old.data()).arg("--new-datadir").arg(new.data());
        let binaries = program("postgres").parent().map(Path::to_owned).unwrap();
        upgrade.arg("--old-bindir").arg(&binaries).arg("--new-bindir").arg(&binaries);
        upgrade.args(check.then_some("--check"));
        succeed(&mut upgrade);
    }
    new.boot();
    let mut client = new.connect("upgraded");
    load::settle(&mut client, &known);
    let upgraded = sequin_testkit::cluster::Database { cluster: &new, name: "upgraded".into() };
    let (_, more) = load::during(&upgraded, SMALL, |load| load.wait_for_more(SOME));
    more.assert_failed_only_with(&[]);
    assert!(more.ack_ids.is_disjoint(&known.ack_ids), "an ack_id came again");
    load::settle(&mut client, &more);
}
