//! `sequin.outbox`: the dispatcher's journal of deliveries, which it alone writes and reads.

use super::{insert_rows, statement};
use crate::error::Result;
use crate::pg::exec::array;
use crate::pg::exec::spi::{Access, Arg, Row, arg, letter, timestamp};
use sequin_engine::event::{Change, Event, Item};
use sequin_engine::ids::{AckId, ConsumerId, Generation};
use sequin_engine::key::Seq;

statement!(
    INSERT,
    "INSERT INTO sequin.outbox (consumer_id, id, generation, kind, ack_id, due, seqs, keys, deliveries) \
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
    [
        INT4OID,
        INT8OID,
        INT4OID,
        CHAROID,
        INT8OID,
        TIMESTAMPTZOID,
        INT8ARRAYOID,
        INT8ARRAYOID,
        INT4ARRAYOID
    ]
);
statement!(
    OF_CONSUMER,
    "SELECT id, kind::text, ack_id, due, seqs, keys, deliveries FROM sequin.outbox \
     WHERE consumer_id = $1 AND id > $2 AND generation = $3",
    [INT4OID, INT8OID, INT4OID]
);
statement!(
    DELETE,
    "DELETE FROM sequin.outbox WHERE consumer_id = $1 AND id > $2 AND id <= $3",
    [INT4OID, INT8OID, INT8OID]
);

/// Inserts events into the journal.
pub fn insert(consumer: ConsumerId, generation: Generation, events: &[Event]) -> Result<()> {
    let rows: Vec<_> = events.iter().map(|event| row(consumer, generation, event)).collect();
    insert_rows(c"outbox", &rows, &INSERT)
}

fn row(consumer: ConsumerId, generation: Generation, event: &Event) -> [Arg; 9] {
    let (kind, ack_id, due, items): (u8, Option<i64>, Option<i64>, &[Item]) = match &event.change {
        Change::Delivered { first_ack_id, due, items } => {
            (b'd', Some(first_ack_id.0), Some(*due), items)
        }
        Change::Returned { item, until } => (b'r', None, Some(*until), std::slice::from_ref(item)),
        Change::Dead { item } => (b'x', None, None, std::slice::from_ref(item)),
        Change::Extended { ack_id, due, .. } => (b'e', Some(ack_id.0), Some(*due), &[]),
        // A redelivery is a row of sequin.acks, never an entry here.
        Change::Finished { .. } | Change::Redelivered { .. } => (b'f', None, None, &[]),
    };
    let seqs: Vec<Seq> = match &event.change {
        Change::Extended { seq, .. } => vec![*seq],
        Change::Finished { seqs } | Change::Redelivered { seqs } => seqs.clone(),
        _ => items.iter().map(|item| item.seq).collect(),
    };
    let keys: Vec<i64> = items.iter().map(|item| item.key.cast_signed()).collect();
    let deliveries: Vec<i32> = items.iter().map(|item| item.deliveries.cast_signed()).collect();
    [
        arg(consumer.0),
        arg(event.id),
        arg(generation.0),
        letter(kind),
        ack_id.and_then(arg),
        due.and_then(timestamp),
        array::bigints(&seqs),
        array::bigints(&keys),
        array::integers(&deliveries),
    ]
}

/// The events of a consumer after `id`.
pub fn of_consumer(consumer: ConsumerId, id: i64, generation: Generation) -> Result<Vec<Event>> {
    OF_CONSUMER.with(|s| {
        s.run(Access::Latest, &[arg(consumer.0), arg(id), arg(generation.0)], |rows| {
            let events: Result<Vec<Vec<Event>>> = rows.iter().map(|row| read(&row)).collect();
            Ok(events?.into_iter().flatten().collect())
        })
    })
}

/// The event of a row; none if the row makes no sense: then its messages are delivered early once more.
fn read(row: &Row) -> Result<Vec<Event>> {
    let id = row.need(1)?;
    let kind: String = row.need(2)?;
    let ack_id = AckId(row.get(3)?.unwrap_or(0));
    let due = row.micros(4).unwrap_or(0);
    let seqs: Vec<Seq> = row.need(5)?;
    let keys: Vec<i64> = row.get(6)?.unwrap_or_default();
    let deliveries: Vec<i32> = row.get(7)?.unwrap_or_default();
    let items: Vec<Item> = (seqs.iter().zip(keys).zip(deliveries))
        .map(|((&seq, key), n)| Item {
            seq,
            key: key.cast_unsigned(),
            deliveries: n.cast_unsigned(),
        })
        .collect();
    let first = items.first().copied();
    let change = match (kind.as_str(), first, seqs.first()) {
        ("d", ..) => Some(Change::Delivered { first_ack_id: ack_id, due, items }),
        ("r", Some(item), _) => Some(Change::Returned { item, until: due }),
        ("x", Some(item), _) => Some(Change::Dead { item }),
        ("e", _, Some(&seq)) => Some(Change::Extended { ack_id, seq, due }),
        ("f", ..) => Some(Change::Finished { seqs }),
        _ => None,
    };
    Ok(change.map(|change| Event { id, change }).into_iter().collect())
}

/// Deletes the events above `after` and up to `upto`, which a checkpoint contains.
pub fn delete(consumer: ConsumerId, after: i64, upto: i64) -> Result<()> {
    DELETE.with(|s| s.execute(&[arg(consumer.0), arg(after), arg(upto)])).map(drop)
}
