//! Brings a stream and its consumer into the state that is to be measured.

use postgres::Client;

use super::State;
use crate::backlog::stats;
use crate::messages::{self, PAYLOAD, create_stream};

pub const STREAM: &str = "stream";
pub const CONSUMER: &str = "consumer";

/// A batch of `receive` at the most.
const MAX_BATCH: usize = 1000;

/// The publisher that holds the holes open is returned.
pub fn prepare(
    state: &State,
    client: &mut Client,
    connect: impl FnOnce() -> Client,
) -> Option<Client> {
    let settings = ", ack_wait => '12 h', max_ack_pending => 20000";
    create_stream(client, STREAM, &[CONSUMER.into()], settings);
    let open = (state.holes > 0).then(|| {
        let mut open = connect();
        make_holes(&mut open, client, state.holes);
        open
    });
    hold(client, state.in_flight);
    messages::publish(client, STREAM, "orders", state.waiting);
    client.batch_execute("VACUUM ANALYZE").unwrap();
    check(state, client);
    open
}

/// Messages that the consumer doesn't count, of publishers that were open when the dispatcher last looked.
const OVERLOOKED: usize = 100;

/// Checks that the state is what it is to be.
pub fn check(state: &State, client: &mut Client) {
    let stats = stats(client, CONSUMER);
    assert_eq!(stats.in_flight as usize, state.in_flight);
    assert!(
        stats.waiting as usize + OVERLOOKED >= state.waiting,
        "{} messages wait",
        stats.waiting
    );
    let holes = "SELECT open_publishers::bigint FROM sequin.stream_stats";
    let open = client.query_one(holes, &[]).unwrap().get::<_, i64>(0);
    assert_eq!(open > 0, state.holes > 0, "a publisher is open");
}

/// Publishers that roll back, in turn with others that commit, while one is open that came first: none of the
/// gaps is known to stay one. What the others published is received and acked.
fn make_holes(open: &mut Client, client: &mut Client, count: usize) {
    let first = format!("BEGIN; SELECT sequin.publish('{STREAM}', 'orders.0', '{PAYLOAD}')");
    open.batch_execute(&first).unwrap();
    let one = format!("sequin.publish('{STREAM}', 'orders.' || n, '{PAYLOAD}')");
    // A commit now and then, because a transaction of 100,000 subtransactions would be a burden of its own.
    let publish = format!(
        "DO $$ BEGIN
             FOR n IN 1..{count} LOOP
                 BEGIN
                     PERFORM {one};
                     RAISE EXCEPTION 'rolled back';
                 EXCEPTION WHEN raise_exception THEN NULL;
                 END;
                 PERFORM {one};
                 IF n % 50 = 0 THEN COMMIT; END IF;
             END LOOP;
         END $$"
    );
    client.batch_execute(&publish).unwrap();
    let mut left = count;
    let receive = format!("SELECT ack_id FROM sequin.receive('{CONSUMER}', {MAX_BATCH}, '30 s')");
    while left > 0 {
        let rows = client.query(&receive, &[]).unwrap();
        assert!(!rows.is_empty(), "{left} messages are missing");
        let ack_ids: Vec<i64> = rows.iter().map(|row| row.get(0)).collect();
        client.execute("SELECT sequin.ack($1, $2)", &[&CONSUMER, &ack_ids]).unwrap();
        left -= rows.len();
    }
}

/// Messages that were received, and not acked.
fn hold(client: &mut Client, count: usize) {
    messages::publish(client, STREAM, "held", count);
    let receive = format!("SELECT ack_id FROM sequin.receive('{CONSUMER}', $1, '30 s')");
    let mut left = count;
    while left > 0 {
        let batch = left.min(MAX_BATCH) as i32;
        left -= client.query(&receive, &[&batch]).unwrap().len();
    }
}
