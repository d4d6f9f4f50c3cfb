//! Numbers as bytes: seven bits to a byte, the lowest first (LEB128).

/// Hands out the bytes of a number.
pub fn put(mut number: u64, mut byte: impl FnMut(u8)) {
    while number >= 0x80 {
        byte(number as u8 | 0x80);
        number >>= 7;
    }
    byte(number as u8);
}

/// Takes a number from the front of some bytes; `None` if there is none.
pub fn take(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..u64::BITS).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(number);
        }
    }
    None
}
