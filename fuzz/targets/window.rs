//! What pg_current_snapshot() says, and which transactions it sees.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sequin_capture::window::{Chunk, Row, Snapshot};

fuzz_target!(|input: (&str, u32, Vec<Vec<String>>)| {
    let (text, xid, keys) = input;
    let Some(snapshot) = Snapshot::parse(text) else { return };
    let mut parts = text.splitn(3, ':');
    let mut number = || parts.next().unwrap().parse::<u64>().unwrap();
    let (xmin, xmax) = (number(), number());
    assert!(xmin <= xmax);
    let in_progress: Vec<u64> = parts.next().unwrap().split(',').flat_map(str::parse).collect();
    // The whole id with this lower half that is nearest to xmax.
    let all = [0, 1 << 32, 2 << 32]
        .map(|epoch| (xmax >> 32 << 32).wrapping_add(epoch).wrapping_sub(1 << 32) | u64::from(xid));
    let near = all.into_iter().min_by_key(|full| full.abs_diff(xmax)).unwrap();
    let sees = near < xmin || near < xmax && !in_progress.contains(&near);
    // At both ends of 64 bits nothing is nearest; no server gets there.
    if (1 << 33..1 << 62).contains(&xmax) {
        assert_eq!(snapshot.sees(xid), sees, "{snapshot:?} {xid}");
    }
    let sees = snapshot.sees(xid);
    let row = |key: &Vec<String>| Row { key: key.clone(), ..Row::default() };
    let mut chunk = Chunk::new(snapshot, keys.iter().map(row).collect());
    if let Some(key) = keys.first() {
        chunk.changed(xid, &key.iter().map(String::as_str).collect::<Vec<_>>());
        let left = chunk.into_rows().len();
        assert!(if sees { left == keys.len() } else { left < keys.len() });
    }
});
