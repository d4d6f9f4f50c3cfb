//! What may come next on a command line: commands, options, and names from the database.

use clap::{Arg, Args, CommandFactory};
use sequin_client::sql::Noun;
use sequin_client::{Result, calls};

use crate::app::{App, Exit};
use crate::args::Sequin;

#[derive(Args)]
pub struct Complete {
    /// The words so far; the last one is being typed
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    words: Vec<String>,
}

/// What kind of word comes next.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    Words(Vec<String>),
    Names(Noun),
    Contexts,
}

impl Complete {
    pub async fn run(self, app: &mut App) -> Result<Exit> {
        let (last, before) = match self.words.split_last() {
            Some((last, before)) => (last.clone(), before),
            None => (String::new(), &[][..]),
        };
        connect_like(app, before);
        let candidates = match next(before, &last) {
            Next::Words(words) => words,
            Next::Contexts => app.contexts()?.names()?,
            // Without a connection there are no names: no reason to write over the command line.
            Next::Names(noun) => match app.query(&calls::names(noun)).await {
                Ok(rows) => rows.all("name").map(str::to_owned).collect(),
                Err(_) => Vec::new(),
            },
        };
        for candidate in candidates.iter().filter(|candidate| candidate.starts_with(&last)) {
            println!("{candidate}");
        }
        Ok(Exit::Done)
    }
}

/// Takes over the options of the connection. Who completes waits for no server.
fn connect_like(app: &mut App, words: &[String]) {
    let value = |long: &str, short: &str| {
        let with_equals = words.iter().find_map(|word| word.strip_prefix(&format!("{long}=")));
        let after = words.iter().position(|word| word == long || word == short);
        with_equals
            .or(after.and_then(|at| words.get(at + 1)).map(String::as_str))
            .map(str::to_owned)
    };
    app.options.dbname = value("--dbname", "-d");
    app.options.host = value("--host", "");
    app.options.port = value("--port", "-p");
    app.options.username = value("--username", "-U");
    app.options.context = value("--context", "").or(app.options.context.take());
    app.options.no_input = true;
    app.environment.variables.entry("PGCONNECT_TIMEOUT".into()).or_insert("2".into());
}

/// Walks down the commands along the words, and looks what may follow.
fn next(before: &[String], last: &str) -> Next {
    let mut root = Sequin::command();
    root.build();
    let mut command = &root;
    let mut positionals = 0;
    let mut words = before.iter();
    while let Some(word) = words.next() {
        if let Some(option) = option_of(command, word) {
            if takes_value(option) && !word.contains('=') {
                match words.next() {
                    Some(_) => {}
                    None => return value_of(option),
                }
            }
        } else if let Some(sub) = command.find_subcommand(word) {
            command = sub;
            positionals = 0;
        } else if !word.starts_with('-') {
            positionals += 1;
        }
    }
    if last.starts_with('-') {
        let visible = command.get_arguments().filter(|arg| !arg.is_hide_set());
        let longs = visible.filter_map(|arg| arg.get_long());
        return Next::Words(longs.map(|long| format!("--{long}")).collect());
    }
    let subs: Vec<String> = command
        .get_subcommands()
        .filter(|sub| !sub.is_hide_set() && sub.get_name() != "help")
        .map(|sub| sub.get_name().to_owned())
        .collect();
    if !subs.is_empty() {
        return Next::Words(subs);
    }
    match command.get_positionals().nth(positionals).or(command.get_positionals().last()) {
        Some(arg) => value_of(arg),
        None => Next::Words(Vec::new()),
    }
}

fn option_of<'a>(command: &'a clap::Command, word: &str) -> Option<&'a Arg> {
    let name = word.split('=').next().unwrap_or(word);
    command.get_arguments().find(|arg| {
        let long = name.strip_prefix("--");
        let short = name.strip_prefix('-').and_then(|rest| rest.chars().next());
        match long {
            Some(long) => arg.get_long() == Some(long),
            None => short.is_some() && arg.get_short() == short,
        }
    })
}

fn takes_value(arg: &Arg) -> bool {
    arg.get_action().takes_values()
}

/// The values that an argument may have, by its name for them.
fn value_of(arg: &Arg) -> Next {
    let name = arg.get_value_names().and_then(|names| names.first()).map(|name| name.as_str());
    match name.unwrap_or_default() {
        "STREAM" => Next::Names(Noun::Stream),
        "SOURCE" => Next::Names(Noun::Source),
        "CONTEXT" => Next::Contexts,
        "NAME" if arg.get_long() == Some("context") => Next::Contexts,
        "FORMAT" if arg.get_long() == Some("output") => Next::Words(
            ["table", "json", "jsonl", "yaml", "csv"].iter().map(|name| name.to_string()).collect(),
        ),
        name if name.contains("CONSUMER") => Next::Names(Noun::Consumer),
        _ => Next::Words(
            arg.get_possible_values().iter().map(|value| value.get_name().to_owned()).collect(),
        ),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::panic)]

    use super::*;

    fn after(line: &str) -> Next {
        let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        match words.split_last() {
            Some((last, before)) => next(before, last),
            None => panic!("no word"),
        }
    }

    #[test]
    fn commands_options_and_names_follow() {
        assert!(matches!(after(""), Next::Words(words) if words.contains(&"stream".into())));
        assert!(
            matches!(after("consumer re"), Next::Words(words) if words.contains(&"receive".into()))
        );
        assert_eq!(after("stream info "), Next::Names(Noun::Stream));
        assert_eq!(after("con receive "), Next::Names(Noun::Consumer));
        assert_eq!(after("consumer rewind x --like "), Next::Names(Noun::Consumer));
        assert_eq!(after("-d shop consumer add "), Next::Names(Noun::Stream));
        assert_eq!(after("source info "), Next::Names(Noun::Source));
        assert_eq!(after("context info "), Next::Contexts);
        assert!(
            matches!(after("stream rm x --"), Next::Words(words) if words.contains(&"--force".into()))
        );
        assert!(
            matches!(after("stream ls -o "), Next::Words(words) if words.contains(&"jsonl".into()))
        );
    }
}
