//! What tables take on disk, and the dead rows in them.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use postgres::Client;

use sequin_testkit::cluster::wait_until;

/// Bytes on disk, with indexes and TOAST.
#[derive(Clone, Copy)]
pub struct Space {
    /// All that is in the schema sequin.
    pub journals: i64,
    pub stream: i64,
}

impl Space {
    pub fn of(client: &mut Client) -> Self {
        let query = "SELECT coalesce(sum(pg_total_relation_size(oid)), 0)::bigint FROM pg_class
                     WHERE relkind = 'r' AND relnamespace = $1::text::regnamespace";
        let mut bytes = |schema: &str| client.query_one(query, &[&schema]).unwrap().get(0);
        Self { journals: bytes("sequin"), stream: bytes("sequin_stream") }
    }
}

/// Dead rows of sequin's tables and of streams that VACUUM can't remove now: it has counted them itself.
pub fn dead_after_vacuum(client: &mut Client) -> BTreeMap<String, i64> {
    /// Before PostgreSQL 15, what VACUUM has counted is known a little later.
    const DEADLINE: Duration = Duration::from_secs(10);
    let now: SystemTime = client.query_one("SELECT now()", &[]).unwrap().get(0);
    client.batch_execute("VACUUM").unwrap();
    let unknown = "SELECT count(*) FROM pg_stat_user_tables
                   WHERE schemaname LIKE 'sequin%' AND (last_vacuum < $1) IS NOT FALSE";
    wait_until("VACUUM has told what it found", DEADLINE, || {
        client.query_one(unknown, &[&now]).unwrap().get::<_, i64>(0) == 0
    });
    let dead = "SELECT c.relname::text, c.dead FROM (
                    SELECT relname, relnamespace,
                        pg_stat_get_dead_tuples(oid) + pg_stat_get_dead_tuples(reltoastrelid) AS dead
                    FROM pg_class WHERE relkind = 'r') c
                WHERE relnamespace::regnamespace::text LIKE 'sequin%' AND dead > 0";
    client.query(dead, &[]).unwrap().iter().map(|row| (row.get(0), row.get(1))).collect()
}
