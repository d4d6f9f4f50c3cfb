//! Changes of streams and consumers, among many that stay as they are.

use libtest_mimic::Trial;

use crate::calls::{Calls, ack_ids, count_all, millis, seconds, seqs, sqlstate};
use crate::harness::{database, trials};
use sequin_testkit::cluster::{Database, wait_until};

pub fn tests() -> Vec<Trial> {
    trials![
        what_changes_among_many_consumers_holds_at_once,
        a_change_of_one_consumer_reads_no_other,
    ]
}

const MANY: i64 = 3000;

/// A stream with two messages, and consumers c1, c2, ..: more than a transaction names one by one.
fn many_consumers(database: &Database) {
    let mut client = database.connect();
    client.batch_execute("SELECT sequin.create_stream('s')").unwrap();
    let create = "SELECT sequin.create_consumer('s', 'c' || n) FROM generate_series(1, $1) n";
    client.execute(create, &[&(MANY as i32)]).unwrap();
    client.publish("s", "a", "1");
    client.publish("s", "b", "2");
}

fn what_changes_among_many_consumers_holds_at_once() {
    let database = database("config_many");
    many_consumers(&database);
    let mut client = database.connect();
    let received = |client: &mut postgres::Client, consumer: &str| {
        let got = client.receive(consumer, 10, millis(0));
        client.ack(consumer, &ack_ids(&got));
        seqs(&got)
    };
    for consumer in ["c1", "c1500", "c3000"] {
        assert_eq!(received(&mut client, consumer), [1, 2]);
    }

    client.batch_execute("SELECT sequin.alter_consumer('c2', filters => '{b}')").unwrap();
    assert_eq!(received(&mut client, "c2"), [2]);
    client.batch_execute("SELECT sequin.pause_consumer('c3')").unwrap();
    assert_eq!(received(&mut client, "c3"), [0; 0]);
    client.batch_execute("SELECT sequin.resume_consumer('c3')").unwrap();
    assert_eq!(received(&mut client, "c3"), [1, 2]);
    client.batch_execute("SELECT sequin.rewind('c3000', to_seq => 2)").unwrap();
    assert_eq!(received(&mut client, "c3000"), [2]);
    client.batch_execute("SELECT sequin.drop_consumer('c4')").unwrap();
    assert_eq!(sqlstate(client.try_receive("c4", 1, millis(0))), "42704");
    client.create_consumer("s", "c4", "start_seq => 2");
    assert_eq!(received(&mut client, "c4"), [2]);
    // Savepoints change nothing about it.
    client
        .batch_execute(
            "BEGIN; SAVEPOINT a; SELECT sequin.pause_consumer('c5'); ROLLBACK TO a;
             SAVEPOINT b; SELECT sequin.rewind('c2'); RELEASE b; COMMIT",
        )
        .unwrap();
    assert_eq!(received(&mut client, "c5"), [1, 2]);
    assert_eq!(received(&mut client, "c2"), [2]);

    // A stream that is made anew under the same name, in one transaction and in two.
    client.create("t", "of_t", "");
    client.publish("t", "a", "1");
    client.publish("t", "b", "2");
    assert_eq!(received(&mut client, "of_t"), [1, 2]);
    let drop = "SELECT sequin.drop_stream('t', force => true)";
    let create = "SELECT sequin.create_stream('t'); SELECT sequin.create_consumer('t', 'of_t')";
    client.batch_execute(&format!("BEGIN; {drop}; {create}; COMMIT")).unwrap();
    assert_eq!(received(&mut client, "of_t"), [0; 0]);
    client.publish("t", "a", "1");
    assert_eq!(received(&mut client, "of_t"), [1]);
    client.batch_execute(drop).unwrap();
    assert_eq!(sqlstate(client.try_receive("of_t", 1, millis(0))), "42704");
    client.batch_execute(create).unwrap();
    client.publish("t", "a", "1");
    assert_eq!(received(&mut client, "of_t"), [1]);

    // What can't be named.
    client.batch_execute("TRUNCATE sequin.consumers").unwrap();
    for consumer in ["c1", "of_t"] {
        assert_eq!(sqlstate(client.try_receive(consumer, 1, millis(0))), "42704");
    }
    client.create_consumer("s", "c1", "");
    assert_eq!(received(&mut client, "c1"), [1, 2]);
}

fn a_change_of_one_consumer_reads_no_other() {
    const CHANGES: i64 = 40;
    let database = database("config_reads");
    many_consumers(&database);
    let mut observer = database.connect();
    // All that a process has read is counted when it has ended.
    observer.restart_dispatcher();
    let rows = "SELECT (idx_tup_fetch + seq_tup_read)::bigint FROM pg_stat_all_tables
                WHERE schemaname = 'sequin' AND relname = 'consumers'";
    count_all(&database, &mut observer);
    let before = observer.number(rows);
    let mut client = database.connect();
    let pid = client.backend_pid();
    for n in 1..=CHANGES {
        let alter = format!("SELECT sequin.alter_consumer('c7', max_ack_pending => {n})");
        client.batch_execute(&alter).unwrap();
        assert_eq!(client.receive("c7", 10, millis(0)).len(), n.min(2) as usize);
        client.batch_execute("SELECT sequin.rewind('c7')").unwrap();
    }
    drop(client);
    let is_there = format!("SELECT count(*) FROM pg_stat_activity WHERE pid = {pid}");
    wait_until("the session is gone", seconds(30), || observer.number(&is_there) == 0);
    observer.restart_dispatcher();
    count_all(&database, &mut observer);
    let read = observer.number(rows) - before;
    // All are read a few times: by the dispatchers when they start, by the observer's own looks, and by what made them,
    // which on a busy machine is counted late.
    assert!(read >= CHANGES, "only {read} rows are counted");
    assert!(read < CHANGES / 2 * MANY, "{read} rows were read");
}
