//! Races that were mended once, as they were found: by readers, by torture, or by the simulation.

use super::super::Dispatcher;
use super::super::exchange::{Answer, Request};
use super::Op;
use super::client::Stage;
use super::tables::Stream;
use super::world::{Numbers, SECOND, STREAMS, World};
use crate::changes::Change;
use crate::consumer::Delivery;
use crate::ids::{ConsumerId, StreamId};
use crate::key::Seq;
use crate::settings::Micros;

const S: StreamId = STREAMS[0];

/// Consumers.
const ONE: ConsumerId = ConsumerId(1);
const TWO: ConsumerId = ConsumerId(2);
const THREE: ConsumerId = ConsumerId(3);
const FOUR: ConsumerId = ConsumerId(4);

/// Sessions of the first database.
const A: usize = 0;
const B: usize = 2;
const C: usize = 4;

/// A world in which nothing happens but what is asked for.
fn world() -> World {
    let mut world = World::new();
    world.is_calm = true;
    let dispatchers = world.databases.iter_mut().filter_map(|database| database.worker.as_mut());
    dispatchers.for_each(|worker| worker.rules.set_memory_budget(usize::MAX));
    world.go();
    world
}

impl World {
    /// The first database's dispatcher does all it has to.
    fn go(&mut self) {
        self.databases[0].is_woken = true;
        for _ in 0..10 {
            self.step(0, &mut Numbers(3)).unwrap();
            self.check_wakefulness(0).unwrap();
        }
    }

    fn ask_to_receive(&mut self, c: usize, consumer: ConsumerId, batch: usize, wait: Micros) {
        let until = self.now + wait;
        self.post(c, Request::Receive { consumer, batch, ack_wait: None, until });
    }

    fn answer(&mut self, c: usize) -> Option<Answer> {
        self.take_answer(c);
        self.clients[c].last_answer.take()
    }

    fn received(&mut self, c: usize) -> Option<Vec<Seq>> {
        match self.answer(c)? {
            Answer::Deliveries { deliveries, .. } => {
                Some(deliveries.iter().map(|Delivery { seq, .. }| *seq).collect())
            }
            other => panic!("{other:?}"),
        }
    }

    fn receive_now(&mut self, c: usize, consumer: ConsumerId, batch: usize) -> Vec<Seq> {
        self.ask_to_receive(c, consumer, batch, 0);
        self.go();
        self.received(c).unwrap()
    }

    fn commit_all(&mut self, c: usize) {
        self.commit(c, &mut Numbers(0));
        self.finish_commit(c, &mut Numbers(0));
    }

    fn publish_and_commit(&mut self, c: usize, keys: &[&'static str]) {
        keys.iter().for_each(|key| self.publish_to(c, S, key));
        self.commit_all(c);
    }

    /// Asks to finish what a session has received last, whoever asks.
    fn ask_to_finish(&mut self, c: usize, consumer: ConsumerId) {
        let handed = self.databases[0].handed.iter().filter(|(of, ..)| *of == consumer);
        let ack_ids = handed.map(|&(_, ack_id, _)| ack_id).collect();
        self.post(c, Request::Finish { consumer, rejected: false, ack_ids });
        self.go();
        self.answer(c).unwrap();
    }

    fn is_done(&self, consumer: ConsumerId, seq: Seq) -> bool {
        self.databases[0].storage.now.consumers[&consumer].done.contains(&seq)
    }

    fn restart(&mut self) {
        self.stop(0, &mut Numbers(0)).unwrap();
        self.go();
    }
}

/// The second dispatcher may have written a checkpoint that knows nothing of the row: found by the simulation.
#[test]
fn an_ack_is_refused_when_there_have_been_two_dispatchers_since() {
    let mut world = world();
    world.publish_and_commit(A, &["a.x"]);
    assert_eq!(world.receive_now(A, ONE, 1), [1]);
    world.commit_all(A);
    world.ask_to_finish(B, ONE);
    world.kill(0);
    world.go();
    world.ask_to_receive(A, ONE, 1, 0);
    world.go();
    world.stop(0, &mut Numbers(0)).unwrap();
    world.commit_all(B);
    assert!(!world.is_done(ONE, 1));
    world.drain().unwrap();
}

#[test]
fn an_ack_counts_while_there_is_no_dispatcher_and_a_nack_does_not() {
    for is_ack in [true, false] {
        let mut world = world();
        world.publish_and_commit(A, &["a.x"]);
        assert_eq!(world.receive_now(A, ONE, 1), [1]);
        world.commit_all(A);
        if is_ack {
            world.ask_to_finish(B, ONE);
        } else {
            let (_, ack_id, _) = world.databases[0].handed[0];
            world.post(B, Request::Nack { consumer: ONE, delay: None, ack_ids: vec![ack_id] });
            world.go();
            world.answer(B).unwrap();
        }
        world.kill(0);
        world.commit(B, &mut Numbers(0));
        let is_refused = world.clients[B].stage == Stage::Open;
        assert_eq!(is_refused, !is_ack);
        world.finish_commit(B, &mut Numbers(0));
        world.go();
        world.drain().unwrap();
    }
}

#[test]
fn what_was_rolled_back_to_a_savepoint_dooms_nothing() {
    let mut world = world();
    world.publish_and_commit(A, &["a.x"]);
    assert_eq!(world.receive_now(A, ONE, 1), [1]);
    world.commit_all(A);
    world.client_op(Op::Savepoint, B, &mut Numbers(0));
    world.ask_to_finish(B, ONE);
    world.client_op(Op::RollBackTo, B, &mut Numbers(0));
    world.publish_to(B, S, "c");
    world.restart();
    world.commit(B, &mut Numbers(0));
    assert_eq!(world.clients[B].stage, Stage::Committing);
    world.drain().unwrap();
}

/// A session's entry goes to a process of another database, with what the last one has left for its own.
#[test]
fn what_a_session_has_left_is_collected_before_the_next_one_comes() {
    let mut world = world();
    world.publish_and_commit(A, &["a.x"]);
    assert_eq!(world.receive_now(A, ONE, 1), [1]);
    world.roll_back(A);
    world.clients[A].entry.disown();
    world.come(A, 1);
    assert!(!world.clients[A].is_there_in(1), "its rollback is not told yet");
    world.go();
    world.come(A, 1);
    assert!(world.clients[A].is_there_in(1));
    assert_eq!(world.receive_now(B, ONE, 1), [1], "given back at once");
    world.drain().unwrap();
}

#[test]
fn a_late_commit_is_not_overtaken_while_its_stream_is_locked() {
    let mut world = world();
    world.publish_to(A, S, "k");
    world.publish_and_commit(B, &["x", "k"]);
    assert_eq!(world.receive_now(C, ONE, 1), [2]);
    world.commit_all(C);
    world.databases[0].locked.insert(S);
    world.commit_all(A);
    world.ask_to_receive(C, ONE, 2, 20 * SECOND);
    world.go();
    assert_eq!(world.received(C), None, "the late one comes first");
    world.unlock(0);
    world.now += SECOND;
    world.go();
    assert_eq!(world.received(C), Some(vec![1]));
    world.drain().unwrap();
}

/// Both were read again only when the one that had tried had its turn.
#[test]
fn all_who_wait_have_their_turn_when_a_locked_stream_is_read() {
    let mut world = world();
    world.publish_and_commit(B, &["k"]);
    assert_eq!(world.receive_now(C, THREE, 1), [1]);
    world.databases[0].locked.insert(S);
    world.ask_to_receive(A, ONE, 1, 20 * SECOND);
    world.go();
    world.unlock(0);
    assert_eq!(world.receive_now(C, THREE, 1), [0; 0]);
    assert_eq!(world.received(A), Some(vec![1]));
    world.drain().unwrap();
}

#[test]
fn nobody_is_told_that_there_is_nothing_by_an_old_look() {
    let mut world = world();
    world.receive_now(A, ONE, 1);
    world.commit_all(A);
    world.ask_to_receive(A, ONE, 1, SECOND);
    world.go();
    // Its commit is visible, and has not been announced yet.
    world.publish_to(B, S, "k");
    world.commit(B, &mut Numbers(0));
    world.commit(B, &mut Numbers(1));
    assert_eq!(world.clients[B].stage, Stage::Visible);
    world.now += 2 * SECOND;
    world.go();
    assert_eq!(world.received(A), Some(vec![1]));
    world.finish_commit(B, &mut Numbers(0));
    world.drain().unwrap();
}

/// Where a lower max_deliver has made a dead letter of all that was loaded.
#[test]
fn an_empty_answer_is_true_when_what_was_there_has_died() {
    let mut world = world();
    world.publish_and_commit(A, &["a.x"]);
    assert_eq!(world.receive_now(A, ONE, 1), [1]);
    world.roll_back(A);
    world.go();
    world.databases[0].storage.write(true, |tables| {
        let consumer = tables.consumers.get_mut(&ONE).unwrap();
        consumer.config.settings.max_deliver = Some(1);
    });
    world.note_changes(0, &[Change::Consumer(ONE)]);
    world.go();
    world.publish_and_commit(B, &["b.x"]);
    assert_eq!(world.receive_now(A, ONE, 1), [2]);
    world.drain().unwrap();
}

/// What had not been written of a consumer was written as if it were of the stream that had taken the place of its own.
#[test]
fn events_are_forgotten_with_the_stream_that_they_are_of() {
    let mut world = world();
    world.publish_and_commit(A, &["a.x", "a.y", "c"]);
    assert_eq!(world.receive_now(A, ONE, 3).len(), 3);
    world.roll_back(A);
    let n = &mut Numbers(0);
    world.databases[0].storage.write(true, |tables| {
        tables.streams.remove(&S);
    });
    world.note_changes(0, &[Change::Stream(S)]);
    world.create(0, n);
    world.now += SECOND;
    world.go();
    world.restart();
    let stream = StreamId(world.databases[0].next_table);
    world.publish_to(A, stream, "a.x");
    world.commit_all(A);
    assert_eq!(world.receive_now(B, ONE, 5), [1]);
    world.drain().unwrap();
}

/// A checkpoint's contents are from before what happens while it waits its turn to be written.
#[test]
fn what_happens_while_a_checkpoint_is_written_is_not_forgotten() {
    let mut world = world();
    world.publish_and_commit(A, &["a.x"]);
    assert_eq!(world.receive_now(A, ONE, 1), [1]);
    world.commit_all(A);
    world.now += SECOND / 5;
    world.go();
    world.publish_and_commit(B, &["b.x", "b.y"]);
    world.now += 70 * SECOND;
    // One step: the checkpoint is due, and what was published is read and granted.
    world.ask_to_receive(C, ONE, 3, 0);
    world.go();
    assert_eq!(world.received(C).unwrap().len(), 3);
    world.commit_all(C);
    world.now += SECOND / 5;
    world.go();
    world.kill(0);
    world.go();
    assert_eq!(world.receive_now(A, ONE, 3), [0; 0], "their leases have outlived the dispatcher");
    world.drain().unwrap();
}

#[test]
fn what_was_acked_without_asking_outlives_its_deadline() {
    let mut world = world();
    world.publish_and_commit(A, &["a.x"]);
    assert_eq!(world.receive_now(A, ONE, 1), [1]);
    world.commit_all(A);
    world.finish_received(A, &[0]);
    world.now += 60 * SECOND;
    assert_eq!(world.receive_now(B, ONE, 1), [0; 0], "it is pinned");
    world.commit_all(A);
    assert!(world.is_done(ONE, 1));
    world.drain().unwrap();
}

/// Nor do they end early.
#[test]
fn a_step_of_the_wall_clock_ends_no_lease() {
    const HOUR: Micros = 3600 * SECOND;
    for step in [HOUR, -HOUR] {
        let mut world = world();
        world.publish_and_commit(A, &["a.x"]);
        assert_eq!(world.receive_now(A, ONE, 1), [1]);
        world.commit_all(A);
        world.wall_offset += step;
        world.now += 29 * SECOND;
        assert_eq!(world.receive_now(B, ONE, 1), [0; 0]);
        world.now += 2 * SECOND;
        assert_eq!(world.receive_now(B, ONE, 1), [1]);
        world.drain().unwrap();
    }
}

/// Each input asks for the end again then, also those that a dispatcher gets while it stops: found by reading.
#[test]
fn a_dispatcher_that_needs_an_epoch_writes_what_it_knows_before_it_ends() {
    let mut world = world();
    world.publish_and_commit(A, &["a.x"]);
    assert_eq!(world.receive_now(A, ONE, 1), [1]);
    world.commit_all(A);
    let written = |world: &World| world.databases[0].storage.now.consumers[&ONE].checkpoint.clone();
    let before = written(&world);
    world.spend_ids(0);
    world.stop(0, &mut Numbers(0)).unwrap();
    assert_ne!(written(&world).map(|c| c.id), before.map(|c| c.id));
    world.go();
    world.drain().unwrap();
}

impl World {
    fn rules(&mut self) -> &mut Dispatcher {
        &mut self.databases[0].worker.as_mut().unwrap().rules
    }

    fn is_loaded(&self, consumer: ConsumerId) -> bool {
        self.databases[0].worker.as_ref().unwrap().rules.consumer_of(consumer).is_some()
    }

    /// A lease of consumer 4 ends, and then the delay before its message comes again.
    fn end_lease_and_delay(&mut self) {
        for seconds in [31, 2] {
            self.now += seconds * SECOND;
            self.go();
        }
    }

    /// Nothing happens for some time but what the dispatcher does by itself.
    fn rest(&mut self, time: Micros) {
        for _ in 0..10 {
            self.now += time / 10;
            self.go();
        }
    }
}

#[test]
fn statistics_load_nothing() {
    let mut world = world();
    world.publish_and_commit(A, &["a.x"]);
    world.post(B, Request::Stats { after: ConsumerId(0) });
    world.go();
    let Some(Answer::Stats(stats)) = world.answer(B) else { panic!("no statistics") };
    assert_eq!(stats.iter().map(|s| s.consumer.0).collect::<Vec<_>>(), [1, 2, 3, 4]);
    assert!(stats.iter().all(|stats| !stats.is_loaded));
    assert!((1..=4).all(|consumer| !world.is_loaded(ConsumerId(consumer))));
}

#[test]
fn a_consumer_that_nobody_asks_for_is_unloaded_and_comes_back_as_it_was() {
    let mut world = world();
    world.publish_and_commit(A, &["a.x", "a.y", "b.x"]);
    assert_eq!(world.receive_now(A, ONE, 2), [1, 2]);
    world.ask_to_finish(A, ONE);
    world.commit_all(A);
    assert!(world.is_loaded(ONE));
    world.rest(60 * SECOND);
    assert!(!world.is_loaded(ONE));
    assert_eq!(world.databases[0].worker.as_ref().unwrap().rules.memory_taken(), 0);
    assert_eq!(world.receive_now(A, ONE, 9), [3]);
    world.drain().unwrap();
}

#[test]
fn a_consumer_stays_loaded_while_it_has_deliveries_or_somebody_waits() {
    let mut world = world();
    world.publish_and_commit(A, &["a.x"]);
    assert_eq!(world.receive_now(A, ONE, 1), [1]);
    world.commit_all(A);
    world.ask_to_receive(B, FOUR, 1, 3600 * SECOND);
    // What a session may finish without asking, too, keeps a consumer loaded: that is another one's by now.
    assert_eq!(world.receive_now(A, TWO, 1), [1]);
    world.commit_all(A);
    world.rest(20 * SECOND);
    assert!(world.is_loaded(ONE), "its message is leased");
    world.ask_to_finish(A, ONE);
    world.rest(100 * SECOND);
    assert!(world.is_loaded(ONE), "an open transaction has acked it");
    world.commit_all(A);
    world.rest(100 * SECOND);
    assert!(!world.is_loaded(ONE));
    assert!(world.is_loaded(FOUR), "a session waits for it");
    world.drain().unwrap();
}

/// What is in flight stays, with its deadline by the clock that never steps.
#[test]
fn a_consumer_that_is_trimmed_forgets_only_what_it_can_read_again() {
    let mut world = world();
    let keys = ["a.x", "a.y", "b.x", "b.y", "c"];
    world.publish_and_commit(A, &keys);
    assert_eq!(world.receive_now(A, ONE, 2), [1, 2]);
    world.commit_all(A);
    let unfinished = |world: &World| {
        let worker = world.databases[0].worker.as_ref().unwrap();
        worker.rules.consumer_of(ONE).unwrap().unfinished()
    };
    assert_eq!(unfinished(&world), 5);
    world.rules().set_memory_budget(0);
    world.rest(SECOND);
    assert_eq!(unfinished(&world), 2);
    world.wall_offset += 3600 * SECOND;
    assert_eq!(world.receive_now(B, ONE, 9), [3, 4, 5]);
    world.drain().unwrap();
}

impl World {
    /// A stream's table is dropped, and another made under its name; its consumers start anew.
    fn make_anew(&mut self, stream: StreamId) {
        self.databases[0].storage.write(true, move |tables| {
            let Some(dropped) = tables.streams.remove(&S) else { return };
            tables.streams.insert(stream, Stream { name: dropped.name, ..Stream::default() });
            for consumer in tables.consumers.values_mut().filter(|of| of.config.stream == "s") {
                consumer.config.generation.0 += 1;
                consumer.done.clear();
            }
        });
        (1..=4).for_each(|id| self.forget_promises(0, ConsumerId(id)));
    }
}

/// The second of two transactions may be the first that tells what it has done.
#[test]
fn a_stream_that_was_made_anew_is_known_before_its_predecessor_is_forgotten() {
    let mut world = world();
    world.publish_and_commit(A, &["a.x", "a.y"]);
    assert_eq!(world.receive_now(A, ONE, 2), [1, 2]);
    world.commit_all(A);
    let anew = StreamId(7);
    world.make_anew(anew);
    world.note_changes(0, &[Change::Stream(anew), Change::Consumer(ONE), Change::Consumer(TWO)]);
    world.go();
    world.publish_to(A, anew, "a.x");
    world.commit_all(A);
    assert_eq!(world.receive_now(A, ONE, 2), [1]);
    world.note_changes(0, &[Change::Stream(S), Change::Consumer(THREE), Change::Consumer(FOUR)]);
    world.go();
    world.check_config(0).unwrap();
    world.drain().unwrap();
}

/// Nobody tells of CREATE TABLE, as it is in a restore of one table.
#[test]
fn a_table_that_nobody_has_told_of_is_found_when_its_consumer_changes() {
    let mut world = world();
    let stream = StreamId(7);
    world.make_anew(stream);
    world.note_changes(0, &[Change::Stream(S)]);
    world.go();
    world.note_changes(0, &[Change::Consumer(ONE)]);
    world.go();
    world.publish_to(A, stream, "a.x");
    world.commit_all(A);
    assert_eq!(world.receive_now(A, ONE, 2), [1]);
    world.check_config(0).unwrap();
    world.drain().unwrap();
}

/// Taking account of what had happened to one consumer, which was trimmed, another's end of a lease was forgotten: found by
/// the simulation.
#[test]
fn who_waits_is_served_also_while_another_consumer_is_trimmed() {
    let mut world = world();
    world.publish_to(A, STREAMS[1], "a.x");
    world.publish_and_commit(A, &["a.x", "a.y", "b.x", "b.y"]);
    assert_eq!(world.receive_now(A, FOUR, 1), [1]);
    world.commit_all(A);
    let (ack_wait, until) = (Some(3600 * SECOND), world.now);
    world.post(C, Request::Receive { consumer: ONE, batch: 1, ack_wait, until });
    world.go();
    assert_eq!(world.received(C), Some(vec![1]));
    world.commit_all(C);
    world.ask_to_receive(B, FOUR, 1, 3600 * SECOND);
    world.go();
    world.rules().set_memory_budget(0);
    world.end_lease_and_delay();
    assert_eq!(world.received(B), Some(vec![1]));
    world.drain().unwrap();
}

#[test]
fn a_dead_letter_is_written_though_its_consumer_is_trimmed() {
    let mut world = world();
    world.publish_to(A, STREAMS[1], "a.x");
    world.publish_to(A, STREAMS[1], "b.x");
    world.commit_all(A);
    for delivery in 1..=3 {
        assert_eq!(world.receive_now(A, FOUR, 1), [1], "delivery {delivery}");
        world.commit_all(A);
        if delivery == 3 {
            world.rules().set_memory_budget(0);
        }
        world.end_lease_and_delay();
    }
    assert!(world.is_done(FOUR, 1));
    world.drain().unwrap();
}

/// The nack was part of a transaction that had kept the consumer loaded, and ended in the step that unloaded it.
#[test]
fn a_consumer_is_not_unloaded_before_what_has_just_happened_to_it_is_taken_account_of() {
    let mut world = world();
    world.publish_and_commit(A, &["a.x"]);
    assert_eq!(world.receive_now(A, ONE, 1), [1]);
    world.commit_all(A);
    let (_, ack_id, _) = world.databases[0].handed[0];
    let delay = Some(3600 * SECOND);
    world.post(B, Request::Nack { consumer: ONE, delay, ack_ids: vec![ack_id] });
    world.go();
    world.answer(B).unwrap();
    world.rest(20 * SECOND);
    world.now += 2 * SECOND;
    world.commit_all(B);
    world.go();
    world.rest(60 * SECOND);
    assert_eq!(world.receive_now(A, ONE, 1), [0; 0], "its delay is not over");
    world.drain().unwrap();
}

impl World {
    /// Nobody wakes the dispatcher, but its own time: it sleeps until there is something to do.
    fn sleep(&mut self, time: Micros) {
        let end = self.now + time;
        while let wake_at = self.rules().wake_at().max(self.now)
            && wake_at <= end
        {
            self.now = wake_at + 1;
            self.step(0, &mut Numbers(3)).unwrap();
        }
        self.now = end;
    }
}

/// Ends of transactions wake the dispatcher only while somebody waits: the row of sequin.acks stayed until the next request.
#[test]
fn an_ack_is_in_a_checkpoint_soon_though_nobody_asks_for_anything() {
    for is_fast in [false, true] {
        let mut world = world();
        world.publish_and_commit(A, &["a.x", "a.y"]);
        assert_eq!(world.receive_now(A, ONE, 1), [1]);
        world.commit_all(A);
        world.sleep(SECOND);
        match is_fast {
            true => world.finish_received(A, &[0]),
            false => world.ask_to_finish(A, ONE),
        }
        // Its transaction stays open while the dispatcher has nothing to do, and no consumer is due to be unloaded.
        world.sleep(SECOND);
        world.commit_all(A);
        assert_eq!(world.databases[0].storage.now.consumers[&ONE].acks.len(), 1);
        world.sleep(2 * SECOND);
        assert_eq!(world.databases[0].storage.now.consumers[&ONE].acks.len(), 0);
        world.drain().unwrap();
    }
}
