//! Whatever lies in a session's entry is a request or an answer, or is none. What is one can be written again, in no more bytes,
//! and is the same then.
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
    let len = answer.encode(&mut again).expect("no longer than it was");
    assert!(len <= bytes.len() || matches!(answer, Answer::Text(_) | Answer::Damaged(_)));
    match &answer {
        Answer::Text(_) | Answer::Damaged(_) => assert!(Answer::decode(&again[..len]).is_some()),
        _ => assert_eq!(Answer::decode(&again[..len]), Some(answer)),
    }
});
