//! Whatever is read back from sequin.checkpoints, outbox and acks: a consumer comes up with it, delivers all that is
//! not finished, and nothing that is.
#![no_main]

use std::collections::{BTreeMap, BTreeSet};

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use sequin_engine::consumer_state::{ConsumerState, Hold};
use sequin_engine::dispatcher::{Found, Lease, Reached, Row};
use sequin_engine::event::{Change, Item};
use sequin_engine::filter::Filter;
use sequin_engine::fuzzing::{StepContext, Stream};
use sequin_engine::ids::{AckId, ConsumerId, Ids};
use sequin_engine::ranges::RangeSet;
use sequin_engine::settings::Settings;

/// Rows of the stream: seqs 1 to this.
const LAST: i64 = 24;

const ID: ConsumerId = ConsumerId(1);

/// A number as a row may have it: mostly one that means something.
#[derive(Arbitrary, Debug, Clone, Copy)]
enum Number {
    Small(u8),
    Any(i64),
}

impl From<Number> for i64 {
    fn from(number: Number) -> i64 {
        match number {
            Number::Small(n) => i64::from(n % 32),
            Number::Any(n) => n,
        }
    }
}

#[derive(Arbitrary, Debug)]
struct Active {
    seq: Number,
    key: u8,
    deliveries: i32,
    ack_id: Number,
    due: Number,
}

impl Active {
    fn item(&self) -> Item {
        let deliveries = self.deliveries.cast_unsigned();
        Item { seq: self.seq.into(), key: u64::from(self.key % 4), deliveries }
    }

    fn hold(&self) -> Hold {
        match i64::from(self.ack_id) {
            0 => Hold::Until(self.due.into()),
            ack_id => {
                let ack_id = AckId(ack_id);
                Hold::InFlight(Lease { ack_id, due: self.due.into(), holder: 0, pinned: false })
            }
        }
    }
}

#[derive(Arbitrary, Debug)]
enum Entry {
    Delivered(Vec<Active>),
    Returned(Active),
    Extended(Active),
    Finished(Vec<Number>),
    Redelivered(Vec<Number>),
    Dead(Active),
}

impl Entry {
    fn change(&self) -> Option<Change> {
        let seqs = |numbers: &[Number]| numbers.iter().map(|&n| n.into()).collect();
        Some(match self {
            Entry::Delivered(items) => {
                let first = items.first()?;
                let items = items.iter().map(Active::item).collect();
                Change::Delivered {
                    first_ack_id: AckId(first.ack_id.into()),
                    due: first.due.into(),
                    items,
                }
            }
            Entry::Returned(active) => {
                Change::Returned { item: active.item(), until: active.due.into() }
            }
            Entry::Extended(active) => Change::Extended {
                ack_id: AckId(active.ack_id.into()),
                seq: active.seq.into(),
                due: active.due.into(),
            },
            Entry::Finished(numbers) => Change::Finished { seqs: seqs(numbers) },
            Entry::Redelivered(numbers) => Change::Redelivered { seqs: seqs(numbers) },
            Entry::Dead(active) => Change::Dead { item: active.item() },
        })
    }
}

#[derive(Arbitrary, Debug)]
struct Input {
    floor: Number,
    done: Vec<Number>,
    active: Vec<Active>,
    totals: [i64; 3],
    journal: Vec<Entry>,
    ordered: bool,
    max_deliver: Option<u8>,
}

fuzz_target!(|input: Input| {
    let pairs: Vec<i64> = input.done.iter().map(|&n| n.into()).collect();
    let Ok(done) = RangeSet::from_pairs(&pairs) else { return };
    let active: BTreeMap<i64, (Item, Hold)> =
        input.active.iter().map(|a| (a.seq.into(), (a.item(), a.hold()))).collect();
    let [acked_total, redelivered_total, dead_total] = input.totals;
    let floor = input.floor.into();
    let mut state =
        ConsumerState { floor, done, active, acked_total, redelivered_total, dead_total };
    let journal: Vec<Change> = input.journal.iter().filter_map(Entry::change).collect();
    if !state.is_possible() || !journal.iter().all(Change::is_possible) {
        return;
    }
    journal.into_iter().for_each(|change| state.replay(change));
    let is_active = |seq: &i64| state.active.contains_key(seq);
    let wanted: BTreeSet<i64> = (1..=LAST)
        .filter(|seq| is_active(seq) || *seq > state.floor && !state.done.contains(*seq))
        .collect();
    // Nothing is delivered before all is loaded up to what had been delivered.
    let is_loadable = state.active.keys().all(|&seq| seq <= LAST);
    let settings = Settings {
        ordered: input.ordered,
        max_deliver: input.max_deliver.map(u32::from),
        ..Settings::default()
    };
    let mut stream = Stream::new(LAST, &[]);
    stream.put(ID, vec![Filter::parse(">").unwrap()], settings, state);
    let given = deliver_all(&mut stream);
    let given_here: BTreeSet<i64> = given.range(1..=LAST).copied().collect();
    assert!(given_here.is_subset(&wanted), "finished, and given again: {given_here:?} {wanted:?}");
    if input.max_deliver.is_none() && is_loadable {
        assert_eq!(given_here, wanted);
    }
});

/// Loads, lets all leases and delays run out, and finishes whatever is handed out, until nothing is.
fn deliver_all(stream: &mut Stream) -> BTreeSet<i64> {
    let mut ids = Ids::new(1 << 22).unwrap();
    let mut given = BTreeSet::new();
    loop {
        while let Some((after, upto)) = stream.behind(ID) {
            let from = after.saturating_add(1).max(1);
            let row = |seq: i64| Row { seq, key: format!("k{}", seq % 4) };
            let rows: Vec<Row> = (from..=upto.min(LAST)).map(row).collect();
            stream.catch_up(ID, &Found { rows, reached: Reached::End }, upto);
        }
        stream.state(ID).unwrap();
        let consumer = stream.consumer_mut(ID).unwrap();
        let mut context = StepContext { now: i64::MAX, wall_offset: 0, ids: &mut ids };
        consumer.tick(&mut context);
        let deliveries = consumer.grant(1000, 1, 7, &mut context);
        if deliveries.is_empty() {
            return given;
        }
        for delivery in deliveries {
            given.insert(delivery.seq);
            assert!(consumer.finish(delivery.ack_id));
        }
    }
}
