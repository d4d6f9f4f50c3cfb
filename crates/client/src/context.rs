//! Contexts: names for connections, a file each in ~/.sequin/contexts, as Sequin 0.3.7 kept them.

use std::path::{Path, PathBuf};
use std::{fs, io};

use serde::{Deserialize, Serialize};

use crate::conninfo::{self, Options};
use crate::error::{Error, Result};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Context {
    pub name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// A connection string: pairs, or a URL.
    #[serde(default)]
    pub connection: String,
}

/// The folder of the contexts.
pub struct Contexts {
    folder: PathBuf,
}

impl Contexts {
    pub fn new(home: &Path) -> Self {
        Self { folder: home.join(".sequin") }
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.join("contexts").join(format!("{name}.json"))
    }

    fn default_file(&self) -> PathBuf {
        self.folder.join(".default_context")
    }

    /// All names, sorted.
    pub fn names(&self) -> Result<Vec<String>> {
        let entries = match fs::read_dir(self.folder.join("contexts")) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other?,
        };
        let mut names = Vec::new();
        for entry in entries {
            let name = entry?.file_name().to_string_lossy().into_owned();
            names.extend(name.strip_suffix(".json").map(str::to_owned));
        }
        names.sort();
        Ok(names)
    }

    /// The name of the context that counts where none is named.
    pub fn selected(&self) -> Option<String> {
        let text = fs::read_to_string(self.default_file()).ok()?;
        Some(text.trim().to_owned()).filter(|name| !name.is_empty())
    }

    pub fn read(&self, name: &str) -> Result<Context> {
        let file = self.file(name);
        let text = fs::read_to_string(&file).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => Error::usage(format!("context \"{name}\" does not exist"))
                .with_hint("List the contexts: sequin context ls"),
            _ => Error::local(format!("could not read {}: {error}", file.display())),
        })?;
        let context: Context = serde_json::from_str(&text)
            .map_err(|error| Error::local(format!("{}: {error}", file.display())))?;
        if context.connection.is_empty() {
            return Err(Error::usage(format!("context \"{name}\" has no connection string"))
                .with_hint("It may be one of Sequin 0.3.7, which had an HTTP address. Give it one: sequin context edit"));
        }
        Ok(context)
    }

    /// Writes it, for the user alone to read.
    pub fn write(&self, context: &Context) -> Result<()> {
        check_name(&context.name)?;
        conninfo::parse(&context.connection)?;
        let file = self.file(&context.name);
        fs::create_dir_all(self.folder.join("contexts"))?;
        let text = serde_json::to_string_pretty(context)
            .map_err(|error| Error::local(error.to_string()))?;
        write_privately(&file, &format!("{text}\n"))
    }

    pub fn remove(&self, name: &str) -> Result<()> {
        self.read_or_old(name)?;
        fs::remove_file(self.file(name))?;
        if self.selected().as_deref() == Some(name) {
            fs::remove_file(self.default_file())?;
        }
        Ok(())
    }

    fn read_or_old(&self, name: &str) -> Result<()> {
        match self.file(name).exists() {
            true => Ok(()),
            false => self.read(name).map(|_| ()),
        }
    }

    pub fn select(&self, name: &str) -> Result<()> {
        self.read(name)?;
        write_privately(&self.default_file(), name)
    }
}

fn check_name(name: &str) -> Result<()> {
    let is_good = |c: char| c.is_ascii_alphanumeric() || "_-".contains(c);
    match !name.is_empty() && name.chars().all(is_good) {
        true => Ok(()),
        false => Err(Error::usage(format!("\"{name}\" is no name for a context"))
            .with_hint("Use letters, digits, _ and -.")),
    }
}

fn write_privately(file: &Path, text: &str) -> Result<()> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let fresh = file.with_extension("new");
    let mut open = fs::OpenOptions::new();
    open.write(true).create(true).truncate(true).mode(0o600);
    let mut out = open.open(&fresh)?;
    out.write_all(text.as_bytes())?;
    fs::rename(fresh, file)?;
    Ok(())
}

/// A connection string without its password.
pub fn without_password(text: &str) -> Result<(String, bool)> {
    let mut options = conninfo::parse(text)?;
    let had_one = options.remove("password").is_some();
    Ok(if had_one { (to_pairs(&options), true) } else { (text.to_owned(), false) })
}

/// Settings as pairs.
pub fn to_pairs(options: &Options) -> String {
    let pair = |(keyword, value): (&String, &String)| {
        let is_plain = |c: char| !c.is_whitespace() && c != '\'' && c != '\\';
        match !value.is_empty() && value.chars().all(is_plain) {
            true => format!("{keyword}={value}"),
            false => {
                format!("{keyword}='{}'", value.replace('\\', "\\\\").replace('\'', "\\'"))
            }
        }
    };
    options.iter().map(pair).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_password_is_taken_out() {
        let (text, had_one) =
            without_password("postgresql://a:secret@h/db?sslmode=require").unwrap();
        assert_eq!(text, "dbname=db host=h sslmode=require user=a");
        assert!(had_one);
        assert_eq!(without_password("host=x").unwrap(), ("host=x".into(), false));
    }

    #[test]
    fn settings_come_back_from_their_pairs() {
        let options: Options = [("a", "it's \\ x"), ("b", ""), ("c", "d")]
            .map(|(k, v)| (k.to_owned(), v.to_owned()))
            .into();
        assert_eq!(conninfo::parse_pairs(&to_pairs(&options)).unwrap(), options);
    }
}
