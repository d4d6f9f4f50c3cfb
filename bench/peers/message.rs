//! The messages that peers get: the same for all.

use std::error::Error;
use std::sync::OnceLock;

use bytes::{BufMut, BytesMut};
use postgres::types::{FromSql, IsNull, ToSql, Type, accepts, to_sql_checked};

use super::peer::SMALL;
use crate::messages::{KEYS, PAYLOAD};

#[derive(Clone, Copy)]
pub struct Message<'a> {
    pub key: &'a str,
    pub data: &'a str,
}

/// A batch, with keys drawn anew.
pub fn draw(count: usize, bytes: usize) -> Vec<Message<'static>> {
    let (keys, data) = (keys(), data(bytes));
    let any = |of: &'static [String]| of[fastrand::usize(..of.len())].as_str();
    (0..count).map(|_| Message { key: any(keys), data: any(data) }).collect()
}

fn keys() -> &'static [String] {
    static KEYS_DRAWN_FROM: OnceLock<Vec<String>> = OnceLock::new();
    KEYS_DRAWN_FROM.get_or_init(|| (0..KEYS).map(|n| format!("orders.{n}")).collect())
}

fn data(bytes: usize) -> &'static [String] {
    /// So that no two neighbours are alike.
    const LARGE_ONES: usize = 64;
    static SMALL_DATA: OnceLock<Vec<String>> = OnceLock::new();
    static LARGE_DATA: OnceLock<Vec<String>> = OnceLock::new();
    if bytes == SMALL {
        SMALL_DATA.get_or_init(|| vec![PAYLOAD.into()])
    } else {
        LARGE_DATA
            .get_or_init(|| (0..LARGE_ONES).map(|n| numbered("id", n as u64, bytes)).collect())
    }
}

/// An object of so many bytes that has a number of this name. What fills it up doesn't compress.
pub fn numbered(name: &str, number: u64, bytes: usize) -> String {
    let head = format!(r#"{{"{name}": {number}, "filling": ""#);
    let filling = (head.len() + 2..bytes).map(|_| fastrand::alphanumeric());
    format!("{head}{}\"}}", filling.collect::<String>())
}

/// The number of that name, in JSON as PostgreSQL or `numbered` writes it.
pub fn number(name: &str, data: &str) -> u64 {
    let (_, rest) = data.split_once(&format!("\"{name}\": ")).expect("a number of this name");
    let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    rest[..end].parse().unwrap()
}

/// A jsonb by its text, in both directions.
#[derive(Debug)]
pub struct Json<'a>(pub &'a str);

/// Of jsonb's binary format: text follows.
const VERSION: u8 = 1;

impl ToSql for Json<'_> {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        out.put_u8(VERSION);
        out.put_slice(self.0.as_bytes());
        Ok(IsNull::No)
    }

    accepts!(JSONB);
    to_sql_checked!();
}

impl<'a> FromSql<'a> for Json<'a> {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        let text = raw.strip_prefix(&[VERSION]).ok_or("unknown version of jsonb")?;
        Ok(Self(std::str::from_utf8(text)?))
    }

    accepts!(JSONB);
}
