//! The names and ids on a command line: `CONSUMER`, or `STREAM CONSUMER` as Sequin 0.3.7 has it, then ack_ids.

use sequin_client::rows::Rows;
use sequin_client::{Error, Result};

use crate::app::{App, Exit};

/// The consumer of `[STREAM] CONSUMER`: its name is unique in the database.
pub fn consumer(mut names: Vec<String>) -> String {
    names.pop().unwrap_or_default()
}

/// The consumer and the ids of `[STREAM] CONSUMER ID..`.
pub fn consumer_and_ids(words: &[String]) -> Result<(String, Vec<i64>)> {
    let names = match words.get(1).map(|word| word.parse::<i64>()) {
        Some(Err(_)) => 2,
        _ => 1,
    };
    let (names, ids) = words.split_at(names.min(words.len()));
    let Some(name) = names.last() else {
        return Err(Error::usage("no consumer is named"));
    };
    let id = |word: &String| {
        word.parse::<i64>().map_err(|_| {
            Error::usage(format!("\"{word}\" is no id"))
                .with_hint("ack_ids are the numbers that sequin consumer receive prints.")
        })
    };
    let ids = ids.iter().map(id).collect::<Result<Vec<_>>>()?;
    if ids.is_empty() {
        return Err(Error::usage("no ack_id is given")
            .with_hint("sequin consumer receive and sequin consumer peek print them."));
    }
    Ok((name.clone(), ids))
}

/// How it ends when some of the ids may have been late.
pub fn exit_of(app: &App, rows: Option<Rows>, column: &str, asked: usize) -> Exit {
    let Some(count) = rows.and_then(|rows| rows.first_number(column)) else { return Exit::Done };
    if count as usize >= asked {
        return Exit::Done;
    }
    app.say(&format!("{count} of {asked} {column}; the others came too late, or were repeated"));
    Exit::Late
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn a_stream_may_be_named_first() {
        assert_eq!(consumer_and_ids(&words("c 1 2")).unwrap(), ("c".into(), vec![1, 2]));
        assert_eq!(consumer_and_ids(&words("s c 1")).unwrap(), ("c".into(), vec![1]));
        assert!(consumer_and_ids(&words("c")).is_err());
        assert!(consumer_and_ids(&words("s c x")).is_err());
        assert_eq!(consumer(words("s c")), "c");
    }
}
