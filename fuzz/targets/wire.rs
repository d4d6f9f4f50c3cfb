//! Whatever lies in a session's entry is a request or an answer, or is none. What is one can be written again, in hardly more
//! bytes, and is the same then.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sequin_engine::dispatcher::{Answer, Request};
use sequin_engine::wire::MAX_BYTES;

fuzz_target!(|bytes: &[u8]| {
    let mut again = [0; MAX_BYTES];
    if let Some(request) = Request::decode(bytes) {
        let len = request.encode(&mut again).expect("no longer than it was");
        assert!(len <= bytes.len());
        assert_eq!(Request::decode(&again[..len]), Some(request));
    }
    let Some(answer) = Answer::decode(bytes) else { return };
    // A text may have been cut where it is none: each such byte becomes a sign of three.
    let is_text = matches!(answer, Answer::Text(_) | Answer::Damaged(_));
    let Some(len) = answer.encode(&mut again) else {
        return assert!(bytes.len() + SLACK > MAX_BYTES);
    };
    assert!(len <= bytes.len() + SLACK || is_text);
    match Answer::decode(&again[..len]) {
        Some(_) if is_text => {}
        read => assert_eq!(read, Some(answer)),
    }
});

/// What the distance of the first ack_id is from is written as short as can be here, and may have been any number.
const SLACK: usize = 20;
