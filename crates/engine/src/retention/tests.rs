use super::*;

const SECOND: Micros = 1_000_000;

fn partition(table: u32, from: Seq, upto: Seq, bytes: u64) -> Partition {
    Partition { table, from, upto, bytes }
}

fn cuts(limits: &Limits, facts: &Facts) -> bool {
    steps(limits, facts).iter().any(|step| matches!(step, Step::Cut { .. }))
}

fn age(seconds: i64) -> Limits {
    Limits { age: Some(seconds * SECOND), ..Limits::default() }
}

/// Two full partitions, one that is written to, and two ahead.
fn facts() -> Facts {
    Facts {
        now: 1000 * SECOND,
        last: 2500,
        partitions: vec![
            partition(1, Seq::MIN, 1000, 8000),
            partition(2, 1001, 2000, 8000),
            partition(3, 2001, 3000, 4000),
            partition(4, 3001, 4000, 0),
            partition(5, 4001, 5000, 0),
        ],
        oldest_ended: Some(900 * SECOND),
        current_began: Some(999 * SECOND),
        ..Facts::default()
    }
}

#[test]
fn a_partition_goes_when_its_last_message_is_too_old() {
    assert_eq!(steps(&age(99), &facts()), [Step::Cut { table: 1 }]);
    assert_eq!(steps(&age(100), &facts()), []);
    assert_eq!(steps(&age(101), &facts()), []);
}

#[test]
fn none_goes_with_which_somebody_may_still_publish() {
    for (open, is_cut) in [(Some(1), false), (Some(1000), false), (Some(1001), true), (None, true)]
    {
        let facts = Facts { open, ..facts() };
        assert_eq!(cuts(&age(9), &facts), is_cut, "{open:?}");
    }
    let facts = Facts { last: 999, current_began: None, ..facts() };
    assert!(!cuts(&age(9), &facts));
}

#[test]
fn a_number_of_messages_and_a_size_stay() {
    let messages = |most| Limits { messages: Some(most), ..Limits::default() };
    let bytes = |most| Limits { bytes: Some(most), ..Limits::default() };
    let facts = Facts { messages_behind: 1500, ..facts() };
    let cut = [Step::Cut { table: 1 }];
    assert_eq!(steps(&messages(1500), &facts), cut);
    assert_eq!(steps(&messages(1501), &facts), []);
    assert_eq!(steps(&bytes(12000), &facts), cut);
    assert_eq!(steps(&bytes(12001), &facts), []);
}

#[test]
fn nothing_goes_before_all_consumers_have_finished_it() {
    let until_acked = Limits { until_acked: true, ..Limits::default() };
    for limits in [until_acked, Limits { until_acked: true, ..age(9) }] {
        for (acked, is_cut) in [(None, false), (Some(999), false), (Some(1000), true)] {
            let facts = Facts { acked, ..facts() };
            assert_eq!(cuts(&limits, &facts), is_cut, "{acked:?}");
        }
    }
    // Too young.
    let limits = Limits { until_acked: true, ..age(500) };
    assert_eq!(steps(&limits, &Facts { acked: Some(1000), ..facts() }), []);
}

#[test]
fn without_a_limit_everything_stays() {
    assert_eq!(steps(&Limits::default(), &facts()), []);
}

#[test]
fn the_partition_that_is_written_to_is_closed_after_a_tenth_of_the_time() {
    let facts =
        |seconds: Micros| Facts { current_began: Some((1000 - seconds) * SECOND), ..facts() };
    let closes = |step: &Step| matches!(step, Step::Close { upto: 3000 });
    assert!(!steps(&age(1000), &facts(99)).iter().any(closes));
    assert!(steps(&age(1000), &facts(100)).iter().any(closes));
    // Not one that has no messages.
    let empty = Facts { current_began: None, ..facts(100) };
    assert!(!steps(&age(1000), &empty).iter().any(closes));
}

#[test]
fn a_partition_that_is_too_wide_is_closed_when_a_new_one_would_be_full() {
    let limits = Limits { messages: Some(20_000), ..Limits::default() };
    let mut facts = facts();
    facts.partitions.truncate(3);
    facts.partitions[2].upto = 100_000;
    for (last, closes) in [(4000, false), (4001, true), (90_000, false)] {
        facts.last = last;
        let close = steps(&limits, &facts).contains(&Step::Close { upto: 100_000 });
        assert_eq!(close, closes, "{last}");
    }
}

#[test]
fn partitions_are_ready_for_an_hour() {
    let mut facts = Facts { partitions: vec![partition(1, Seq::MIN, 1000, 0)], last: 0, ..facts() };
    facts.current_began = None;
    let extends = |facts: &Facts, limits: &Limits| -> Vec<(Seq, Seq)> {
        let mut facts = facts.clone();
        let mut made = Vec::new();
        while let Some(&Step::Extend { from, upto }) = steps(limits, &facts).first() {
            facts.partitions.push(partition(2, from, upto, 0));
            made.push((from, upto));
        }
        made
    };
    assert_eq!(extends(&facts, &age(30)), [(1001, 2000), (2001, 3000)]);
    // 3 s at a time, at most twelve.
    facts.rate = 10_000.0;
    let ahead = extends(&facts, &age(30));
    assert_eq!((ahead.len(), ahead[0]), (12, (1001, 31_000)));
    // Six minutes at a time, and ten of them are an hour.
    facts.rate = 10.0;
    assert_eq!(extends(&facts, &age(3600)).len(), 11);
    // A tenth of the messages; of the bytes.
    facts.rate = 0.0;
    let limits = Limits { messages: Some(50_000), ..Limits::default() };
    assert_eq!(extends(&facts, &limits)[0], (1001, 6000));
    let limits = Limits { bytes: Some(50_000_000), ..Limits::default() };
    assert_eq!(extends(&facts, &limits)[0], (1001, 11_000));
}

#[test]
fn a_rest_with_messages_becomes_a_partition() {
    let facts = Facts { rest_is_used: true, last: 7000, ..facts() };
    let first = steps(&Limits::default(), &facts).swap_remove(0);
    assert_eq!(first, Step::Adopt { from: 5001, upto: 7000 + BEYOND });
    // Also if its messages are only about to come.
    let facts = Facts { rest_is_used: false, ..facts };
    assert!(matches!(steps(&Limits::default(), &facts)[0], Step::Adopt { from: 5001, .. }));
}

#[test]
fn empty_partitions_are_dropped_a_few_at_a_time() {
    let mut facts = facts();
    facts.partitions =
        (0..8).map(|n| partition(n, 100 * Seq::from(n), 100 * Seq::from(n) + 99, 0)).collect();
    facts.oldest_ended = None;
    for (last, dropped) in [(399, 4), (398, 0), (750, 4)] {
        facts.last = last;
        let drops = steps(&Limits::default(), &facts);
        let drop = drops.iter().find_map(|step| match step {
            Step::Drop { tables } => Some(tables.len()),
            _ => None,
        });
        assert_eq!(drop.unwrap_or(0), dropped, "{last}");
    }
    // Behind one with messages none is.
    facts.partitions[0].bytes = 1;
    assert!(!steps(&Limits::default(), &facts).iter().any(|s| matches!(s, Step::Drop { .. })));
}

mod simulation {
    use super::*;

    struct Rng(u64);
    impl Rng {
        fn below(&mut self, n: u64) -> u64 {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            self.0 % n
        }
    }

    /// What is published, and by what it is kept.
    struct Stream {
        partitions: Vec<Partition>,
        /// Seq and time of each message that is there.
        messages: Vec<(Seq, Micros)>,
        last: Seq,
        now: Micros,
        acked: Option<Seq>,
        tables: u32,
    }

    impl Stream {
        /// The messages of these seqs.
        fn of(&self, from: Seq, upto: Seq) -> &[(Seq, Micros)] {
            let first = self.messages.partition_point(|(seq, _)| *seq < from);
            let end = self.messages.partition_point(|(seq, _)| *seq <= upto);
            &self.messages[first..end]
        }

        fn count(&self, from: Seq, upto: Seq) -> u64 {
            self.of(from, upto).len() as u64
        }

        fn facts(&self, rate: f64) -> Facts {
            let sized =
                |it: &Partition| Partition { bytes: 100 * self.count(it.from, it.upto), ..*it };
            let partitions: Vec<Partition> = self.partitions.iter().map(sized).collect();
            let end = partitions.last().map_or(0, |it| it.upto);
            let mut facts = Facts {
                now: self.now,
                last: self.last,
                rest_is_used: self.count(end + 1, Seq::MAX) > 0,
                rate,
                acked: self.acked,
                partitions,
                ..Facts::default()
            };
            facts.oldest_ended =
                facts.oldest().and_then(|it| self.of(it.from, it.upto).last().map(|it| it.1));
            facts.messages_behind =
                facts.oldest().map_or(0, |it| self.count(it.upto + 1, Seq::MAX));
            facts.current_began =
                facts.current().and_then(|it| self.of(it.from, it.upto).first().map(|it| it.1));
            facts
        }

        fn carry_out(&mut self, limits: &Limits, step: &Step) {
            match step {
                Step::Adopt { from, upto } | Step::Extend { from, upto } => {
                    assert_eq!(self.partitions.last().map_or(1, |it| it.upto + 1), *from);
                    assert!(from < upto);
                    if matches!(step, Step::Extend { .. }) {
                        assert_eq!(self.count(*from, Seq::MAX), 0, "a message would move");
                    }
                    self.tables += 1;
                    self.partitions.push(Partition {
                        table: self.tables,
                        from: *from,
                        upto: *upto,
                        bytes: 0,
                    });
                }
                Step::Close { upto } => {
                    assert!(*upto > self.last, "seqs would be given twice");
                    self.last = *upto;
                }
                Step::Cut { table } => {
                    let cut = *self.partitions.iter().find(|it| it.table == *table).unwrap();
                    let behind = self.count(cut.upto + 1, Seq::MAX);
                    for &(seq, at) in self.of(cut.from, cut.upto) {
                        let too_old = limits.age.is_some_and(|age| self.now - at > age);
                        let too_many = limits.messages.is_some_and(|most| behind >= most);
                        let too_large = limits.bytes.is_some_and(|most| behind * 100 >= most);
                        let acked = self.acked.is_some_and(|acked| acked >= seq);
                        assert!(!limits.until_acked || acked, "{seq} is not acked");
                        assert!(
                            too_old || too_many || too_large || !limits.has_limit(),
                            "{seq} is to be kept"
                        );
                    }
                    self.messages.retain(|(seq, _)| !(cut.from..=cut.upto).contains(seq));
                }
                Step::Drop { tables } => {
                    for table in tables {
                        let first = self.partitions.remove(0);
                        assert_eq!(first.table, *table, "a gap between partitions");
                        assert_eq!(self.count(first.from, first.upto), 0, "messages would be lost");
                    }
                }
            }
        }
    }

    /// Publishers at changing rates, steps that fail at times, and consumers that lag: what must be kept is kept, and the
    /// rest goes as soon as nothing is in the way.
    #[test]
    fn what_is_to_be_kept_is_kept_and_nothing_else() {
        for seed in 1..=300u64 {
            let mut rng = Rng(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
            let mut limits = Limits::default();
            if rng.below(2) == 0 {
                limits.age = Some((1 + rng.below(60) as i64) * SECOND);
            }
            if rng.below(3) == 0 {
                limits.messages = Some(rng.below(5000));
            }
            if rng.below(3) == 0 {
                limits.bytes = Some(rng.below(500_000));
            }
            limits.until_acked = rng.below(3) == 0;
            let mut stream = Stream {
                partitions: vec![Partition { table: 0, from: Seq::MIN, upto: 1000, bytes: 0 }],
                messages: Vec::new(),
                last: 0,
                now: 0,
                acked: None,
                tables: 0,
            };
            let (mut rate, mut blocked) = (0u64, 0);
            let mut calm = 0;
            for _ in 0..400 {
                stream.now += SECOND / 2;
                if rng.below(30) == 0 {
                    rate = [0, 1, 20, 300, 3000][rng.below(5) as usize];
                }
                if blocked == 0 && rng.below(40) == 0 {
                    blocked = rng.below(30);
                }
                for _ in 0..rate / 2 {
                    stream.last += 1;
                    if rng.below(20) > 0 {
                        stream.messages.push((stream.last, stream.now));
                    }
                }
                if rng.below(4) == 0 {
                    stream.acked = Some(stream.last - (rng.below(100) as Seq).min(stream.last));
                }
                for step in steps(&limits, &stream.facts(rate as f64)) {
                    // Each may fail, whatever becomes of the others.
                    if blocked == 0 || rng.below(3) == 0 {
                        stream.carry_out(&limits, &step);
                    }
                }
                blocked = u64::saturating_sub(blocked, 1);
                calm = if blocked > 0 { 0 } else { calm + 1 };
            }
            // Nobody publishes any more, and consumers finish.
            stream.acked = Some(Seq::MAX);
            for _ in 0..400 {
                stream.now += SECOND / 2;
                for step in steps(&limits, &stream.facts(0.0)) {
                    stream.carry_out(&limits, &step);
                }
            }
            let left = stream.messages.len() as u64;
            if limits.age.is_some() || (limits.until_acked && !limits.has_limit()) {
                assert_eq!(left, 0, "seed {seed}: {limits:?}");
            }
            assert!(
                stream.partitions.len() < 40,
                "seed {seed}: {} partitions",
                stream.partitions.len()
            );
        }
    }
}
