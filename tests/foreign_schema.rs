//! The schema sequin is the extension's own, or nothing of sequin's runs in it: its statements run as superuser.

use libtest_mimic::Trial;
use postgres::Client;

use crate::calls::{Calls, ack_ids, seconds, seqs, sqlstate};
use crate::harness::{database, shared_cluster, trials};
use sequin_testkit::cluster::wait_until;

pub fn tests() -> Vec<Trial> {
    trials![
        a_schema_that_others_rule_is_not_taken_for_the_extension,
        nothing_runs_as_superuser_in_another_schema_of_that_name,
    ]
}

fn a_schema_that_others_rule_is_not_taken_for_the_extension() {
    let database = shared_cluster().database_without_extension("foreign_schema");
    let mut client = database.connect();
    client.batch_execute("CREATE ROLE foreign_schema_owner").unwrap();
    let mut refused = |preparation: &str| {
        client.batch_execute(preparation).unwrap();
        let result = client.batch_execute("CREATE EXTENSION sequin");
        let error = result.expect_err(preparation);
        let error = error.as_db_error().unwrap_or_else(|| panic!("{error}"));
        assert_eq!(error.code().code(), "55000", "{preparation}: {error}");
        assert!(error.hint().is_some() && error.detail().is_some(), "{preparation}: {error:?}");
    };
    refused("CREATE SCHEMA sequin AUTHORIZATION foreign_schema_owner");
    refused("ALTER SCHEMA sequin OWNER TO postgres; CREATE TABLE sequin.t (n int)");
    refused(
        "DROP TABLE sequin.t;
         CREATE FUNCTION sequin.f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    );
    refused("DROP FUNCTION sequin.f; GRANT CREATE ON SCHEMA sequin TO foreign_schema_owner");
    refused(
        "REVOKE CREATE ON SCHEMA sequin FROM foreign_schema_owner; CREATE SCHEMA sequin_stream",
    );
    // An empty one of a superuser's is as good as a new one: what DROP EXTENSION leaves, and what a dump brings.
    client.batch_execute("DROP SCHEMA sequin_stream; CREATE EXTENSION sequin").unwrap();
    client.batch_execute("DROP EXTENSION sequin; CREATE EXTENSION sequin").unwrap();
    client.create("s", "c", "");
    let seq = client.publish("s", "a", "1");
    assert_eq!(seqs(&client.receive("c", 1, seconds(20))), [seq]);
    client.batch_execute("DROP ROLE foreign_schema_owner").unwrap();
}

/// Takes a number from public.evidence whenever a superuser runs it: no rollback takes that back.
const TRAP: &str = "
CREATE SCHEMA sequin AUTHORIZATION trapper;
SET ROLE trapper;
CREATE FUNCTION sequin.trap() RETURNS bigint LANGUAGE sql AS $$
    SELECT CASE WHEN (SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user)
        THEN pg_catalog.nextval('public.evidence') END $$;
CREATE SEQUENCE sequin.epoch MINVALUE 1 MAXVALUE 8388607;
CREATE VIEW sequin.streams AS SELECT sequin.trap()::text COLLATE \"C\" AS name, now() AS created_at;
CREATE VIEW sequin.consumers AS SELECT sequin.trap()::int AS id, 'c'::text AS name, 's'::text AS stream,
    10::regrole AS owner, '{>}'::text[] AS filters;
CREATE VIEW sequin.acks AS SELECT sequin.trap()::int AS consumer_id, 'g'::\"char\" AS kind;
RESET ROLE;
";

fn nothing_runs_as_superuser_in_another_schema_of_that_name() {
    let database = database("trap");
    let mut client = database.connect();
    client.create("s", "c", "");
    let seq = client.publish("s", "a", "1");
    let held = client.receive("c", 1, seconds(20));
    client
        .batch_execute(
            "DROP ROLE IF EXISTS trapper; CREATE ROLE trapper; CREATE SEQUENCE public.evidence;
             GRANT USAGE ON SEQUENCE public.evidence TO PUBLIC;
             ALTER SCHEMA sequin RENAME TO moved",
        )
        .unwrap();
    client.batch_execute(TRAP).unwrap();

    // The session that has planned its statements, and one that has not.
    for client in [&mut client, &mut database.connect()] {
        let call = |client: &mut Client, call: &str| {
            sqlstate(client.batch_execute(&format!("SELECT moved.{call}")))
        };
        assert_eq!(call(client, "receive('c')"), "55000");
        assert_eq!(call(client, &format!("ack('c', '{{{}}}')", held[0].ack_id)), "55000");
        assert_eq!(call(client, "create_consumer('s', 'other')"), "55000");
        assert_eq!(call(client, "create_stream('other')"), "55000");
    }
    // A dispatcher that runs, and one that starts.
    let dispatcher = "SELECT coalesce(max(pid), 0) FROM moved.workers
        WHERE process = 'dispatcher' AND database = current_database()";
    let pid: i32 = client.query_one(dispatcher, &[]).unwrap().get(0);
    client.terminate(pid);
    wait_until("a new dispatcher says what is wrong", seconds(60), || {
        client.number(
            "SELECT count(*) FROM moved.workers WHERE database = current_database()
             AND last_error LIKE '%is not that of the extension%'",
        ) == 1
    });
    let is_called: bool =
        client.query_one("SELECT is_called FROM public.evidence", &[]).unwrap().get(0);
    assert!(!is_called, "a superuser has run it");

    client
        .batch_execute(
            "DROP SCHEMA sequin CASCADE; ALTER SCHEMA moved RENAME TO sequin; DROP ROLE trapper",
        )
        .unwrap();
    // The delivery may not have been journalled, and then comes early; or comes at its deadline.
    wait_until("messages are delivered again", seconds(90), || {
        let again = client.try_receive("c", 1, seconds(1)).unwrap_or_default();
        seqs(&again) == [seq] && client.ack("c", &ack_ids(&again)) == 1
    });
}
