//! ALTER EXTENSION sequin UPDATE, from each version that was released.

use libtest_mimic::Trial;

use crate::calls::{Calls, ack_ids, seconds, seqs, sqlstate};
use crate::harness::{shared_cluster, trials};
use sequin_testkit::cluster::{Database, wait_until};
use sequin_testkit::process::succeed;

pub fn tests() -> Vec<Trial> {
    trials![an_updated_extension_is_as_a_fresh_one_and_keeps_its_messages]
}

fn an_updated_extension_is_as_a_fresh_one_and_keeps_its_messages() {
    let fresh = database("updated_never", "");
    let expected = schema(&fresh);
    let has = |text: &str| expected.iter().any(|line| line.contains(text));
    assert!(has("CREATE FUNCTION sequin.receive(") && has("COMMENT ON FUNCTION sequin.receive("));
    let released = released();
    assert!(!released.is_empty());
    for version in released {
        let name = format!("updated_{}", version.replace('.', "_"));
        let old = database(&name, &format!("VERSION '{version}'"));
        let mut client = old.connect();
        client.create("s", "c", "ack_wait => '1 h'");
        client.publish_numbers("s", 30, 30);
        let held = client.receive("c", 10, seconds(10));
        assert_eq!(client.ack("c", &ack_ids(&held)[..5]), 5);

        // Its schema lacks what these need.
        let helpers = "SELECT count(*) FROM sequin.workers WHERE process IN ('janitor', 'scheduler') AND database = current_database()";
        assert_eq!(client.number(helpers), 0, "from {version}");
        let once = "SELECT sequin.publish('s', 'k', '1', dedup_id => 'x')";
        assert_eq!(sqlstate(client.query_one(once, &[])), "55000", "from {version}");

        client.batch_execute("ALTER EXTENSION sequin UPDATE").unwrap();
        let once = "SELECT sequin.publish('unused', 'k', '1', dedup_id => 'x')";
        client.batch_execute("SELECT sequin.create_stream('unused')").unwrap();
        assert_eq!((client.number(once), client.number(once)), (1, 1));
        client.batch_execute("SELECT sequin.schedule('unused', 'k', '2', now())").unwrap();
        let scheduled = "SELECT count(*) FROM sequin_stream.unused WHERE data = '2'";
        wait_until("it is published", seconds(60), || client.number(scheduled) == 1);
        client.batch_execute("SELECT sequin.drop_stream('unused')").unwrap();
        client.publish_numbers("s", 10, 10);
        let mut other = old.connect();
        assert_eq!(other.ack("c", &ack_ids(&held)[5..]), 5, "leased before, from {version}");
        let rest = other.receive("c", 100, seconds(10));
        assert_eq!(seqs(&rest), (11..=40).collect::<Vec<_>>(), "from {version}");
        assert_eq!(other.ack("c", &ack_ids(&rest)), 30);
        let trigger = "SELECT pg_get_triggerdef(oid) || tgenabled::text FROM pg_trigger WHERE tgname = 'on_publish' AND NOT tgisinternal";
        let updated: String = other.query_one(trigger, &[]).unwrap().get(0);
        let mut fresh = fresh.connect();
        fresh.execute("SELECT sequin.create_stream('s')", &[]).unwrap();
        assert_eq!(updated, fresh.query_one(trigger, &[]).unwrap().get::<_, String>(0));
        for client in [&mut other, &mut fresh] {
            client.execute("SELECT sequin.drop_stream('s', true)", &[]).unwrap();
        }
        for (updated, fresh) in schema(&old).iter().zip(&expected) {
            assert_eq!(updated, fresh, "from {version}");
        }
    }
}

/// The versions whose scripts are installed and that can be updated from.
fn released() -> Vec<String> {
    let paths = "SELECT source FROM pg_extension_update_paths('sequin') JOIN pg_available_extensions ON name = 'sequin'
                 WHERE target = default_version AND path IS NOT NULL";
    let rows = shared_cluster().connect("postgres").query(paths, &[]).unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

fn database(name: &str, version: &str) -> Database<'static> {
    let database = shared_cluster().database_without_extension(name);
    database.connect().batch_execute(&format!("CREATE EXTENSION sequin {version}")).unwrap();
    database
}

/// All that belongs to the extension, as pg_dump has it for pg_upgrade: each object, its owner, rights and comment.
fn schema(database: &Database) -> Vec<String> {
    // The numbers of tables and types are the database's own, so are values of sequences; newer pg_dumps put a password
    // into each dump. The last line, which is the same in all dumps, keeps one from being the beginning of another.
    const OWN: [&str; 5] =
        ["binary_upgrade", "restrict", "relfrozenxid", "WHERE oid = ", ".setval("];
    let mut dump = shared_cluster().client_program("pg_dump");
    let dump = succeed(dump.args(["--schema-only", "--binary-upgrade", &database.name]));
    let text = String::from_utf8(dump.stdout).unwrap();
    let is_ours = |line: &&str| !OWN.iter().any(|word| line.contains(word));
    let lines: Vec<String> = text.lines().filter(is_ours).map(str::to_owned).collect();
    assert!(lines.iter().any(|line| line.contains("PostgreSQL database dump complete")));
    lines
}
