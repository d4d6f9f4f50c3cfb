//! Encoding and decoding the items of requests and answers. A signed number has its sign in the lowest bit (zigzag), so
//! that it is short if it is near 0.

use crate::varint;

/// Writes into a slice of bytes. Bytes that don't fit are counted and left out.
pub(super) struct Writer<'a> {
    bytes: &'a mut [u8],
    len: usize,
}

impl<'a> Writer<'a> {
    pub fn new(bytes: &'a mut [u8]) -> Writer<'a> {
        Writer { bytes, len: 0 }
    }

    /// How many bytes were written; `None` if there was no room for all.
    pub fn finish(&self) -> Option<usize> {
        (self.len <= self.bytes.len()).then_some(self.len)
    }

    pub fn byte(&mut self, byte: u8) {
        if let Some(place) = self.bytes.get_mut(self.len) {
            *place = byte;
        }
        self.len += 1;
    }

    pub fn unsigned(&mut self, number: u64) {
        varint::put(number, |byte| self.byte(byte));
    }

    pub fn signed(&mut self, number: i64) {
        self.unsigned((number << 1 ^ number >> 63).cast_unsigned());
    }

    pub fn option(&mut self, number: Option<i64>) {
        self.byte(number.is_some().into());
        if let Some(number) = number {
            self.signed(number);
        }
    }

    pub fn count(&mut self, count: usize) {
        self.unsigned(count as u64);
    }

    pub fn text(&mut self, text: &[u8]) {
        self.count(text.len());
        text.iter().for_each(|&byte| self.byte(byte));
    }
}

/// Reads what a [`Writer`] has written. Other bytes give arbitrary values, or `None`.
pub(super) struct Reader<'a>(pub &'a [u8]);

impl Reader<'_> {
    pub fn is_at_end(&self) -> bool {
        self.0.is_empty()
    }

    pub fn byte(&mut self) -> Option<u8> {
        let (&byte, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(byte)
    }

    #[inline]
    pub fn unsigned(&mut self) -> Option<u64> {
        // Most are small.
        if let [byte @ ..0x80, rest @ ..] = self.0 {
            self.0 = rest;
            return Some(u64::from(*byte));
        }
        varint::take(&mut self.0)
    }

    pub fn signed(&mut self) -> Option<i64> {
        let number = self.unsigned()?;
        Some((number >> 1).cast_signed() ^ -(number & 1).cast_signed())
    }

    /// A signed number of a smaller type.
    pub fn small<T: TryFrom<i64>>(&mut self) -> Option<T> {
        T::try_from(self.signed()?).ok()
    }

    pub fn option(&mut self) -> Option<Option<i64>> {
        match self.byte()? {
            0 => Some(None),
            1 => Some(Some(self.signed()?)),
            _ => None,
        }
    }

    pub fn flag(&mut self) -> Option<bool> {
        Some(self.byte()? != 0)
    }

    pub fn count(&mut self) -> Option<usize> {
        usize::try_from(self.unsigned()?).ok()
    }

    /// Reads a count, and as many items. Each item takes a byte at least, so a count beyond the bytes that are left is
    /// refused, and no more memory is allocated than they need.
    pub fn list<T>(&mut self, item: impl FnMut(&mut Self) -> Option<T>) -> Option<Vec<T>> {
        let count = self.count()?;
        self.items(count, item)
    }

    pub fn items<T>(
        &mut self,
        count: usize,
        mut item: impl FnMut(&mut Self) -> Option<T>,
    ) -> Option<Vec<T>> {
        if count > self.0.len() {
            return None;
        }
        let mut items = Vec::with_capacity(count);
        for _ in 0..count {
            items.push(item(self)?);
        }
        Some(items)
    }

    pub fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (array, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*array)
    }

    pub fn text(&mut self) -> Option<String> {
        let len = self.count()?;
        let (text, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(String::from_utf8_lossy(text).into_owned())
    }
}
