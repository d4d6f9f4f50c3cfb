//! A statement that receives, and what it sees of other tables: nothing that was committed after it had begun.

use std::thread;

use libtest_mimic::Trial;
use postgres::Client;

use crate::calls::{Calls, seconds, seqs, sqlstate};
use crate::harness::{database, trials};
use sequin_testkit::cluster::{Database, wait_until};

pub fn tests() -> Vec<Trial> {
    trials![
        a_statement_that_joins_messages_to_rows_it_cannot_see_loses_no_work,
        work_that_reads_no_table_is_done_in_the_statement_that_receives,
        statements_after_the_one_that_receives_see_what_came_with_the_messages,
    ]
}

const SERIALIZATION_FAILURE: &str = "40001";

fn prepare(client: &mut Client) {
    client.create("s", "c", "ordered => false");
    let tables = "CREATE TABLE orders (id int PRIMARY KEY, done bool NOT NULL DEFAULT false);
                  CREATE TABLE ledger (seq bigint PRIMARY KEY, key text)";
    client.batch_execute(tables).unwrap();
}

/// The answer to a statement that waits for a message, which is committed meanwhile together with an order.
fn answer_to(database: &Database, statement: &str) -> Result<u64, postgres::Error> {
    let (mut worker, mut client) = (database.connect(), database.connect());
    thread::scope(|scope| {
        let working = scope.spawn(move || worker.execute(statement, &[]));
        wait_until("it waits", seconds(30), || {
            client.number("SELECT coalesce(sum(waiting), 0)::bigint FROM sequin.consumer_stats")
                == 1
        });
        client
            .batch_execute(
                "BEGIN; INSERT INTO orders VALUES (1);
                 SELECT sequin.publish('s', 'order.1', '{\"id\": 1}'); COMMIT",
            )
            .unwrap();
        working.join().unwrap()
    })
}

fn a_statement_that_joins_messages_to_rows_it_cannot_see_loses_no_work() {
    const WORK: &str = "WITH got AS (SELECT * FROM sequin.receive('c', 10, wait => '30 s')),
              work AS (UPDATE orders SET done = true FROM got WHERE id = (data->>'id')::int)
         SELECT sequin.ack('c', array(SELECT ack_id FROM got))";
    let database = database("snapshots_join");
    let mut client = database.connect();
    prepare(&mut client);
    assert_eq!(sqlstate(answer_to(&database, WORK)), SERIALIZATION_FAILURE);
    // As every worker does after that.
    assert_eq!(client.query_one(WORK, &[]).unwrap().get::<_, i32>(0), 1);
    assert_eq!(client.number("SELECT count(*) FROM orders WHERE done"), 1);
}

fn work_that_reads_no_table_is_done_in_the_statement_that_receives() {
    let database = database("snapshots_alone");
    let mut client = database.connect();
    prepare(&mut client);
    for work in [
        "SELECT * FROM sequin.receive('c', 10, wait => '30 s')",
        "SELECT * FROM sequin.receive('c', 10, wait => '30 s') JOIN sequin.consumers ON name = 'c'",
        "WITH got AS (SELECT * FROM sequin.receive('c', 10, wait => '30 s')),
              work AS (INSERT INTO ledger SELECT seq, key FROM got)
         SELECT sequin.ack('c', array(SELECT ack_id FROM got))",
        "WITH got AS (SELECT * FROM sequin.receive('c', 10, wait => '30 s')),
              work AS (INSERT INTO ledger SELECT seq, key FROM got ON CONFLICT (seq) DO NOTHING)
         SELECT sequin.ack('c', array(SELECT ack_id FROM got))",
        "INSERT INTO ledger SELECT seq, key FROM sequin.receive('c', 10, wait => '30 s')",
    ] {
        assert_eq!(answer_to(&database, work).unwrap(), 1, "{work}");
        client.batch_execute("DELETE FROM orders").unwrap();
    }
}

fn statements_after_the_one_that_receives_see_what_came_with_the_messages() {
    let database = database("snapshots_after");
    let (mut client, mut worker) = (database.connect(), database.connect());
    prepare(&mut client);
    thread::scope(|scope| {
        let working = scope.spawn(move || {
            let mut transaction = worker.transaction().unwrap();
            let got = transaction.receive("c", 10, seconds(30));
            let update = "UPDATE orders SET done = true WHERE id = 1";
            assert_eq!(transaction.execute(update, &[]).unwrap(), 1);
            transaction.commit().unwrap();
            got
        });
        wait_until("it waits", seconds(30), || {
            client.number("SELECT coalesce(sum(waiting), 0)::bigint FROM sequin.consumer_stats")
                == 1
        });
        client.batch_execute("BEGIN; INSERT INTO orders VALUES (1)").unwrap();
        let seq = client.publish("s", "order.1", "1");
        client.batch_execute("COMMIT").unwrap();
        assert_eq!(seqs(&working.join().unwrap()), [seq]);
    });
}
