//! A source beside a load: what is committed to its table comes into the load's stream, too.

use std::time::Duration;

use postgres::{Client, Error};

use crate::calls::{Calls, seconds};
use sequin_testkit::cluster::wait_until;

/// Far above what a capturer takes, also one that has failed for a while and is not tried again at once.
const DEADLINE: Duration = seconds(50);

/// The source, and its table.
pub fn capture(client: &mut Client) {
    client.batch_execute("CREATE TABLE captured (id serial PRIMARY KEY)").unwrap();
    let source = "SELECT sequin.create_source('src', 's', '{captured}', backfill => false)";
    client.batch_execute(source).unwrap();
}

pub fn change(client: &mut Client) -> Result<(), Error> {
    client.batch_execute("INSERT INTO captured DEFAULT VALUES")
}

/// Waits until each row has come, and sees that each has come once.
#[track_caller]
pub fn all_is_captured(client: &mut Client) {
    let messages =
        "SELECT count(*) FROM sequin_stream.s WHERE data->'metadata'->>'table' = 'captured'";
    let rows = client.number("SELECT count(*) FROM captured");
    wait_until("all is captured", DEADLINE, || client.number(messages) >= rows);
    let lost = "SELECT count(*) FROM captured WHERE NOT EXISTS (
                    SELECT FROM sequin_stream.s WHERE data->'record'->>'id' = captured.id::text)";
    assert_eq!((client.number(messages), client.number(lost)), (rows, 0));
}
