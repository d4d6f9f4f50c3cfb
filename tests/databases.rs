//! Databases come and go while the extension works in them.

use libtest_mimic::Trial;

use crate::cluster::{Cluster, Stop};
use crate::harness::{shared_cluster, trials};

pub fn tests() -> Vec<Trial> {
    trials![smoke]
}

fn smoke() {
    let own = Cluster::start_with("shared_preload_libraries = ''");
    let mut client = own.connect("postgres");
    let row = client.query_one("select 1 + 1", &[]).unwrap();
    assert_eq!(row.get::<_, i32>(0), 2);
    own.kill_9();
    own.boot();
    own.restart();
    own.stop(Stop::Immediate);
    own.boot();
    own.connect("postgres").batch_execute("checkpoint").unwrap();
    let _ = shared_cluster;
}
