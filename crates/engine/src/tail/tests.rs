use super::*;
use std::time::{Duration, Instant};

fn publisher(session: u32, transaction: u64, bound: Seq) -> Publisher {
    Publisher { session, transaction, bound }
}

fn all(seqs: &[Seq]) -> Seen<'_> {
    Seen { seqs, reached: Reached::End }
}

fn part(seqs: &[Seq]) -> Seen<'_> {
    Seen { seqs, reached: seqs.last().map_or(Reached::Nowhere, |&seq| Reached::UpTo(seq)) }
}

/// A look that offers `last`, with `open` publishers, and finds `rows`.
fn scan(tail: &mut Tail, last: Seq, open: &[Publisher], rows: &[Seq]) {
    let plan = tail.plan_read(last, open.to_vec(), 1000);
    assert_eq!(plan.recheck, []);
    tail.apply_read(plan, all(&[]), all(rows));
}

#[test]
fn the_start_is_below_whatever_may_still_come() {
    assert_eq!(Tail::new(10, &[]).pos(), 10);
    assert_eq!(Tail::new(10, &[publisher(1, 1, 8), publisher(2, 1, 5)]).pos(), 4);
    assert_eq!(Tail::new(10, &[publisher(1, 1, 15)]).pos(), 10);
}

#[test]
fn a_gap_below_the_floor_is_final() {
    let mut tail = Tail::new(0, &[]);
    scan(&mut tail, 6, &[publisher(1, 1, 4)], &[2, 5]);
    assert_eq!((tail.pos(), tail.lowest_hole(), tail.hole_ranges()), (6, Some(4), 2));
    assert!(!tail.is_hole(1) && !tail.is_hole(3) && !tail.is_hole(5));
    assert!(tail.is_hole(4) && tail.is_hole(6));
}

#[test]
fn with_no_publisher_open_every_gap_is_final() {
    let mut tail = Tail::new(0, &[]);
    scan(&mut tail, 5, &[], &[2]);
    assert_eq!((tail.pos(), tail.lowest_hole()), (5, None));
    assert_eq!(tail.plan_read(5, vec![], 1000).scan, None);
}

#[test]
fn it_is_outdated_once_somebody_has_ended_who_may_have_filled_a_hole() {
    let (a, b, late) = (publisher(1, 1, 1), publisher(2, 1, 9), publisher(3, 1, 10));
    let mut tail = Tail::new(0, &[]);
    scan(&mut tail, 8, &[a, b], &[2, 3, 4, 5, 6, 7, 8]);
    assert!(!tail.is_outdated(vec![a, b]));
    // What b may have taken is above all that was found, and so is what a newer publisher takes.
    assert!(!tail.is_outdated(vec![a]));
    assert!(!tail.is_outdated(vec![a, late]));
    assert!(tail.is_outdated(vec![b]));
    // Another transaction of the same process.
    assert!(tail.is_outdated(vec![publisher(1, 2, 9), b]));
    // A look that did not get to the hole changes nothing.
    let plan = tail.plan_read(8, vec![b], 1000);
    tail.apply_read(plan, Seen::UNREAD, Seen::UNREAD);
    assert!(tail.is_outdated(vec![b]));
    let plan = tail.plan_read(8, vec![b], 1000);
    tail.apply_read(plan, all(&[1]), Seen::UNREAD);
    assert!(!tail.is_outdated(vec![]));
}

#[test]
fn holes_are_looked_at_again_when_a_publisher_ends_and_not_before() {
    let (a, b) = (publisher(1, 1, 1), publisher(2, 1, 3));
    let mut tail = Tail::new(0, &[]);
    scan(&mut tail, 6, &[a, b], &[2, 4]);
    scan(&mut tail, 7, &[a, b], &[7]);
    // b ends: 3, 5 and 6 may be its seqs, 1 is not. a may still fill those that stay empty.
    let plan = tail.plan_read(7, vec![a], 1000);
    assert_eq!((&plan.recheck[..], plan.scan), (&[(3, 3), (5, 6)][..], None));
    tail.apply_read(plan, all(&[5]), Seen::UNREAD);
    assert_eq!(tail.holes.to_pairs(), [1, 1, 3, 3, 6, 6]);
    // a ends: the rest is final.
    let plan = tail.plan_read(7, vec![], 1000);
    assert_eq!(plan.recheck, [(1, 1), (3, 3), (6, 6)]);
    tail.apply_read(plan, all(&[6]), Seen::UNREAD);
    assert!(tail.holes.is_empty() && !tail.pending());
}

#[test]
fn the_next_transaction_of_an_entry_is_another_publisher() {
    let mut tail = Tail::new(0, &[]);
    scan(&mut tail, 2, &[publisher(1, 1, 1)], &[2]);
    let plan = tail.plan_read(3, vec![publisher(1, 2, 3)], 1000);
    assert_eq!((&plan.recheck[..], plan.scan), (&[(1, 1)][..], Some((2, 3))));
    tail.apply_read(plan, all(&[1]), all(&[]));
    assert_eq!(tail.holes.to_pairs(), [3, 3]);
}

#[test]
fn a_scan_that_stops_at_its_limit_goes_on_from_there() {
    let mut tail = Tail::new(0, &[]);
    let plan = tail.plan_read(9, vec![publisher(1, 1, 1)], 1000);
    tail.apply_read(plan, all(&[]), part(&[2, 4]));
    assert_eq!((tail.pos(), tail.holes.to_pairs()), (4, vec![1, 1, 3, 3]));
    let plan = tail.plan_read(9, vec![publisher(1, 1, 1)], 1000);
    assert_eq!(plan.scan, Some((4, 9)));
    tail.apply_read(plan, all(&[]), Seen::UNREAD);
    assert_eq!(tail.pos(), 4);
}

#[test]
fn no_new_row_is_read_before_the_filled_holes() {
    let mut tail = Tail::new(0, &[]);
    scan(&mut tail, 9, &[publisher(1, 1, 1)], &[2, 4, 6, 8]);
    let plan = tail.plan_read(20, vec![], 2);
    assert_eq!((&plan.recheck[..], plan.scan), (&[(1, 1), (3, 3)][..], None));
    tail.apply_read(plan, all(&[3]), Seen::UNREAD);
    assert!(tail.pending());
    let plan = tail.plan_read(20, vec![], 3);
    assert_eq!((&plan.recheck[..], plan.scan), (&[(5, 5), (7, 7), (9, 9)][..], Some((9, 20))));
    tail.apply_read(plan, all(&[5, 7, 9]), all(&[20]));
    assert!(!tail.pending());
    assert_eq!((tail.pos(), tail.hole_ranges()), (20, 0));
}

#[test]
fn a_bulk_commit_is_found_in_parts() {
    let mut tail = Tail::new(0, &[]);
    scan(&mut tail, 1001, &[publisher(1, 1, 1)], &[1001]);
    let plan = tail.plan_read(2000, vec![], 1000);
    assert_eq!((&plan.recheck[..], plan.scan), (&[(1, 1000)][..], Some((1001, 2000))));
    let first: Vec<Seq> = (1..=100).collect();
    // Rows that were read in spite of that are ignored.
    tail.apply_read(plan, part(&first), all(&[2000]));
    assert_eq!((tail.pos(), tail.lowest_hole(), tail.pending()), (1001, Some(101), true));
    let plan = tail.plan_read(2000, vec![], 1000);
    assert_eq!(plan.recheck, [(101, 1000)]);
    tail.apply_read(plan, part(&[]), Seen::UNREAD);
    assert_eq!((tail.lowest_hole(), tail.pending()), (Some(101), true));
}

#[test]
fn what_shows_nothing_is_stepped_over_in_parts() {
    let mut tail = Tail::new(0, &[]);
    let upto = |seq| Seen { seqs: &[], reached: Reached::UpTo(seq) };
    let plan = tail.plan_read(3000, vec![publisher(1, 1, 501)], 1000);
    tail.apply_read(plan, all(&[]), upto(1000));
    // Below the floor it never comes; above it may.
    assert_eq!((tail.pos(), tail.lowest_hole()), (1000, Some(501)));
    let plan = tail.plan_read(3000, vec![], 1000);
    assert_eq!((&plan.recheck[..], plan.scan), (&[(501, 1000)][..], Some((1000, 3000))));
    tail.apply_read(plan, upto(700), Seen::UNREAD);
    assert_eq!((tail.pos(), tail.lowest_hole(), tail.pending()), (1000, Some(701), true));
    let plan = tail.plan_read(3000, vec![], 1000);
    assert_eq!((&plan.recheck[..], plan.scan), (&[(701, 1000)][..], Some((1000, 3000))));
    tail.apply_read(plan, all(&[]), upto(2000));
    assert_eq!((tail.pos(), tail.hole_ranges(), tail.pending()), (2000, 0, false));
}

#[test]
fn a_look_that_failed_is_offered_again_and_is_void_itself() {
    let mut tail = Tail::new(0, &[]);
    scan(&mut tail, 2, &[publisher(1, 1, 1)], &[2]);
    let failed = tail.plan_read(3, vec![publisher(2, 1, 3)], 1000);
    let plan = tail.plan_read(4, vec![], 1000);
    assert_eq!((&plan.recheck[..], plan.scan), (&failed.recheck[..], Some((2, 4))));
    tail.apply_read(failed, all(&[]), all(&[]));
    assert_eq!((tail.pos(), tail.lowest_hole()), (2, Some(1)));
    tail.apply_read(plan, all(&[1]), all(&[3, 4]));
    assert_eq!((tail.pos(), tail.lowest_hole()), (4, None));
}

#[test]
fn too_many_holes_stop_the_scan_until_they_shrink() {
    let long = publisher(1, 1, 1);
    let mut tail = Tail::new(0, &[]);
    tail.max_holes = 3;
    scan(&mut tail, 6, &[long], &[2, 4, 6]);
    assert!(tail.is_full());
    assert_eq!(tail.plan_read(9, vec![long], 1000).scan, None);
    let plan = tail.plan_read(9, vec![], 1000);
    assert_eq!((plan.recheck.len(), plan.scan), (3, None));
    tail.apply_read(plan, all(&[1]), Seen::UNREAD);
    assert_eq!(tail.plan_read(9, vec![], 1000).scan, Some((6, 9)));
}

#[test]
fn holes_cost_nothing_while_their_publisher_stays_open() {
    let mut open: Vec<_> = (0..100).map(|session| publisher(session, 1, 1)).collect();
    let mut tail = Tail::new(0, &[]);
    let start = Instant::now();
    let rows: Vec<Seq> = (1..=100_000).map(|n| n * 2).collect();
    scan(&mut tail, 200_000, &open, &rows);
    assert_eq!(tail.hole_ranges(), 100_000);
    // A short publisher at the end begins, rolls back, and leaves one more hole, again and again.
    let mut seq = 200_000;
    for transaction in 2..2_002 {
        seq += 2;
        open.push(publisher(100, transaction, seq - 1));
        let plan = tail.plan_read(seq, open.clone(), 1000);
        assert!(plan.recheck.len() <= 1);
        tail.apply_read(plan, all(&[]), all(&[seq]));
        open.pop();
    }
    assert_eq!(tail.hole_ranges(), 102_000);
    // One of the long ones ends: now they are looked at, so many at a time.
    open.pop();
    let mut looks = 0;
    loop {
        let plan = tail.plan_read(seq, open.clone(), 1000);
        assert!(plan.recheck.len() <= 1000);
        tail.apply_read(plan, all(&[]), Seen::UNREAD);
        looks += 1;
        if !tail.pending() {
            break;
        }
    }
    assert_eq!((looks, tail.hole_ranges()), (102, 102_000));
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
}
