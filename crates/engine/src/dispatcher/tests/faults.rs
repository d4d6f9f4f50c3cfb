//! What is wrong is told: to who asks, in the views, and in the log once.

use super::*;
use crate::fault::Fault;

const DAMAGED: Failure = Failure::Damaged(Fault::Trigger);

fn text(name: &str) -> String {
    Fault::Trigger.of(name)
}

#[test]
fn a_damaged_stream_is_told_to_its_receivers_and_shown_by_its_consumers_until_it_is_mended() {
    let mut rig = Rig::new();
    rig.insert(S, &["a"]);
    rig.insert(T, &["a"]);
    assert_eq!(rig.receive(1, ONE).len(), 1);
    rig.failing = Some((S, DAMAGED));
    rig.insert(S, &["b"]);
    let waiting = rig.wait(2, ONE, 60 * SECOND);
    let log = rig.publish(S, &["c"]);
    assert_eq!(rig.answer_to(waiting), Some(&Answer::Damaged(Fault::Trigger.to_string())));
    // Told at once, and logged by the look that has found it.
    let again = rig.wait(3, TWO, 60 * SECOND);
    assert_eq!(rig.answer_to(again), Some(&Answer::Damaged(Fault::Trigger.to_string())));
    assert_eq!(log.len(), 0, "{log:?}");
    for consumer in [ONE, TWO] {
        assert_eq!(rig.last_error(consumer), Some(text("s")));
        assert!(rig.stats(consumer).is_damaged && rig.stats(consumer).has_error);
    }
    assert_eq!(rig.last_error(THREE), None);
    assert!(!rig.stats(THREE).is_damaged);
    assert_eq!(rig.receive(4, THREE).len(), 1);
    rig.failing = None;
    assert_eq!(rig.receive(5, ONE).len(), 2);
    for consumer in [ONE, TWO] {
        assert_eq!(rig.last_error(consumer), None);
        assert!(!rig.stats(consumer).is_damaged);
    }
}
