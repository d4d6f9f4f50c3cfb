//! A role that only makes backups, as a member of pg_read_all_data.

use std::io::Write;
use std::process::Stdio;

use libtest_mimic::Trial;

use crate::calls::{Calls, ack_ids, seconds};
use crate::harness::{database, shared_cluster, trials};
use sequin_testkit::process::succeed;

pub fn tests() -> Vec<Trial> {
    trials![
        a_member_of_pg_read_all_data_dumps_all_there_is,
        dead_letters_are_shown_to_members_of_the_consumers_owner,
    ]
}

fn a_member_of_pg_read_all_data_dumps_all_there_is() {
    let (from, into) =
        (database("backup_from"), shared_cluster().database_without_extension("backup_into"));
    let mut client = from.connect();
    client
        .batch_execute("CREATE ROLE backup_maker LOGIN IN ROLE pg_read_all_data NOBYPASSRLS")
        .unwrap();
    client.create("s", "c", "");
    client.publish_numbers("s", 10, 10);
    let held = client.receive("c", 10, seconds(20));
    client.query_one("SELECT sequin.reject('c', $1)", &[&&ack_ids(&held)[..4]]).unwrap();
    client.ack("c", &ack_ids(&held)[4..7]);

    let mut dump = shared_cluster().client_program("pg_dump");
    let dump = succeed(dump.args(["--username", "backup_maker", "--dbname", &from.name]));
    let mut psql = shared_cluster().client_program("psql");
    psql.args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "--dbname", &into.name]);
    let mut psql = psql.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    psql.stdin.take().unwrap().write_all(&dump.stdout).unwrap();
    assert!(psql.wait().unwrap().success());

    let mut copy = into.connect();
    assert_eq!(copy.number("SELECT count(*) FROM sequin.dead_letters"), 4);
    assert_eq!(copy.number("SELECT count(*) FROM sequin_stream.s"), 10);
    assert_eq!(copy.number("SELECT sequin.redrive('c')::bigint"), 4);
    client.batch_execute("DROP OWNED BY backup_maker; DROP ROLE backup_maker").unwrap();
}

fn dead_letters_are_shown_to_members_of_the_consumers_owner() {
    let database = database("dead_shown");
    let mut client = database.connect();
    client
        .batch_execute(
            "CREATE ROLE dead_owner; CREATE ROLE dead_member IN ROLE dead_owner; CREATE ROLE dead_stranger;
             SELECT sequin.create_stream('s');
             GRANT SELECT ON sequin_stream.s TO dead_owner;
             SET ROLE dead_owner;
             SELECT sequin.create_consumer('s', 'theirs');
             RESET ROLE;
             SELECT sequin.create_consumer('s', 'ours')",
        )
        .unwrap();
    client.publish_numbers("s", 3, 3);
    for consumer in ["theirs", "ours"] {
        let held = client.receive(consumer, 2, seconds(20));
        client.query_one("SELECT sequin.reject($1, $2)", &[&consumer, &ack_ids(&held)]).unwrap();
    }
    for (role, theirs, ours) in
        [("dead_owner", 2, 0), ("dead_member", 2, 0), ("dead_stranger", 0, 0), ("postgres", 2, 2)]
    {
        client.batch_execute(&format!("SET ROLE {role}")).unwrap();
        let mut shown = |consumer: &str| {
            client.number(&format!(
                "SELECT count(*) FROM sequin.dead_letters WHERE consumer = '{consumer}'"
            ))
        };
        assert_eq!((shown("theirs"), shown("ours")), (theirs, ours), "{role}");
        client.batch_execute("RESET ROLE").unwrap();
    }
    // A condition that tells what it is asked about is not asked about what is hidden.
    client
        .batch_execute(
            "CREATE FUNCTION public.tell(text) RETURNS boolean LANGUAGE plpgsql COST 0.0001 AS
                 $$ BEGIN RAISE EXCEPTION 'told: %', $1; END $$;
             SET ROLE dead_stranger",
        )
        .unwrap();
    assert_eq!(client.number("SELECT count(*) FROM sequin.dead_letters WHERE public.tell(key)"), 0);
    client
        .batch_execute("RESET ROLE; DELETE FROM sequin.dead_letters WHERE consumer = 'ours'")
        .unwrap();
    assert_eq!(client.number("SELECT count(*) FROM sequin.dead_letters"), 2);
}
