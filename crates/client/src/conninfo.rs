//! Connection strings as libpq reads them: `key=value` pairs, and URLs.

use std::collections::BTreeMap;

use crate::error::{Error, Result};

/// Settings by libpq's keywords.
pub type Options = BTreeMap<String, String>;

/// What is a connection string, rather than the name of a database.
pub fn is_conninfo(text: &str) -> bool {
    is_url(text) || text.contains('=')
}

fn is_url(text: &str) -> bool {
    text.starts_with("postgres://") || text.starts_with("postgresql://")
}

/// Reads a connection string of either form.
pub fn parse(text: &str) -> Result<Options> {
    if is_url(text) { parse_url(text) } else { parse_pairs(text) }
}

fn bad(text: impl Into<String>) -> Error {
    Error::usage(text)
        .with_hint("See \"Connection Strings\" in PostgreSQL's documentation of libpq.")
}

/// `host=a port=5432 password='it''s'`, with backslashes as in libpq.
pub fn parse_pairs(text: &str) -> Result<Options> {
    let mut options = Options::new();
    let mut chars = text.chars().peekable();
    loop {
        while chars.next_if(|c| c.is_whitespace()).is_some() {}
        if chars.peek().is_none() {
            return Ok(options);
        }
        let mut keyword = String::new();
        while let Some(c) = chars.next_if(|c| *c != '=' && !c.is_whitespace()) {
            keyword.push(c);
        }
        while chars.next_if(|c| c.is_whitespace()).is_some() {}
        if chars.next() != Some('=') {
            return Err(bad(format!("missing \"=\" after \"{keyword}\" in the connection string")));
        }
        while chars.next_if(|c| c.is_whitespace()).is_some() {}
        let value = match chars.next_if_eq(&'\'') {
            Some(_) => quoted(&mut chars)?,
            None => plain(&mut chars),
        };
        options.insert(keyword, value);
    }
}

type Chars<'a> = std::iter::Peekable<std::str::Chars<'a>>;

fn plain(chars: &mut Chars) -> String {
    let mut value = String::new();
    while let Some(c) = chars.next_if(|c| !c.is_whitespace()) {
        match c {
            '\\' => value.extend(chars.next()),
            c => value.push(c),
        }
    }
    value
}

fn quoted(chars: &mut Chars) -> Result<String> {
    let mut value = String::new();
    loop {
        match chars.next() {
            Some('\'') => return Ok(value),
            Some('\\') => value.extend(chars.next()),
            Some(c) => value.push(c),
            None => return Err(bad("unterminated quoted string in the connection string")),
        }
    }
}

/// `postgresql://user:password@host:port,host2:port2/dbname?keyword=value`
fn parse_url(text: &str) -> Result<Options> {
    let mut options = Options::new();
    let rest = text.split_once("://").map_or(text, |(_, rest)| rest);
    let (rest, query) = match rest.split_once('?') {
        Some((rest, query)) => (rest, Some(query)),
        None => (rest, None),
    };
    let (authority, database) = match rest.split_once('/') {
        Some((authority, database)) => (authority, Some(database)),
        None => (rest, None),
    };
    let hosts = match authority.rsplit_once('@') {
        Some((user, hosts)) => {
            let (user, password) = match user.split_once(':') {
                Some((user, password)) => (user, Some(password)),
                None => (user, None),
            };
            insert(&mut options, "user", &decode(user)?);
            if let Some(password) = password {
                insert(&mut options, "password", &decode(password)?);
            }
            hosts
        }
        None => authority,
    };
    parse_hosts(hosts, &mut options)?;
    if let Some(database) = database {
        insert(&mut options, "dbname", &decode(database)?);
    }
    for pair in query.into_iter().flat_map(|query| query.split('&')).filter(|p| !p.is_empty()) {
        let Some((keyword, value)) = pair.split_once('=') else {
            return Err(bad(format!("missing \"=\" after \"{pair}\" in the URL")));
        };
        // As libpq does for JDBC's sake.
        match (decode(keyword)?, decode(value)?) {
            (keyword, value) if keyword == "ssl" && value == "true" => {
                options.insert("sslmode".into(), "require".into());
            }
            (keyword, value) => {
                options.insert(keyword, value);
            }
        }
    }
    Ok(options)
}

fn insert(options: &mut Options, keyword: &str, value: &str) {
    if !value.is_empty() {
        options.insert(keyword.into(), value.into());
    }
}

fn parse_hosts(text: &str, options: &mut Options) -> Result<()> {
    let (mut hosts, mut ports) = (Vec::new(), Vec::new());
    for part in text.split(',') {
        let (host, port) = if let Some(rest) = part.strip_prefix('[') {
            let Some((host, rest)) = rest.split_once(']') else {
                return Err(bad("missing \"]\" after an IPv6 address in the URL"));
            };
            (host.to_owned(), rest.strip_prefix(':').unwrap_or_default())
        } else {
            match part.rsplit_once(':') {
                Some((host, port)) => (decode(host)?, port),
                None => (decode(part)?, ""),
            }
        };
        hosts.push(host);
        ports.push(port);
    }
    if hosts.iter().any(|host| !host.is_empty()) {
        options.insert("host".into(), hosts.join(","));
    }
    if ports.iter().any(|port| !port.is_empty()) {
        options.insert("port".into(), ports.join(","));
    }
    Ok(())
}

/// `%2F` and the like.
fn decode(text: &str) -> Result<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
        match (digit(rest.next()), digit(rest.next())) {
            (Some(high), Some(low)) if high + low > 0 => bytes.push((high * 16 + low) as u8),
            _ => return Err(bad(format!("invalid percent-encoded token: \"{text}\""))),
        }
    }
    String::from_utf8(bytes).map_err(|_| bad(format!("\"{text}\" is not UTF-8 when decoded")))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn options(text: &str) -> Vec<(String, String)> {
        parse(text).unwrap().into_iter().collect()
    }

    fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
        expected.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect()
    }

    #[test]
    fn pairs_may_have_blanks_quotes_and_backslashes() {
        assert_eq!(
            options(r"host = a  password='it\'s \\ x' dbname=a\ b user=''"),
            pairs(&[("dbname", "a b"), ("host", "a"), ("password", r"it's \ x"), ("user", "")])
        );
        assert!(parse("host").unwrap_err().message.contains("missing \"=\""));
        assert!(parse("host='a").unwrap_err().message.contains("unterminated"));
    }

    #[test]
    fn urls_have_several_hosts_and_escapes() {
        assert_eq!(
            options("postgresql://al%40ice:p%3Aw@h1:5433,[::1]:5434,h3/shop?sslmode=require"),
            pairs(&[
                ("dbname", "shop"),
                ("host", "h1,::1,h3"),
                ("password", "p:w"),
                ("port", "5433,5434,"),
                ("sslmode", "require"),
                ("user", "al@ice"),
            ])
        );
        assert_eq!(options("postgres://%2Ftmp/x"), pairs(&[("dbname", "x"), ("host", "/tmp")]));
        assert_eq!(
            options("postgresql:///shop?host=/tmp&ssl=true"),
            pairs(&[("dbname", "shop"), ("host", "/tmp"), ("sslmode", "require")])
        );
        assert!(parse("postgresql://h/%zz").is_err());
        assert!(parse("postgresql://[::1").is_err());
    }
}
