//! pg_service.conf: named sets of settings.

use crate::conninfo::Options;
use crate::error::{Error, Result};

/// The settings of a service in the text of a service file; None if it is not in there.
pub fn find(text: &str, name: &str, file: &str) -> Result<Option<Options>> {
    let mut found: Option<Options> = None;
    let mut is_inside = false;
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(section) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            if found.is_some() {
                break;
            }
            is_inside = section == name;
            if is_inside {
                found = Some(Options::new());
            }
            continue;
        }
        let Some((keyword, value)) = line.split_once('=') else {
            let at = number + 1;
            return Err(Error::usage(format!(
                "syntax error in service file \"{file}\", line {at}"
            ))
            .with_hint("A line is [service], keyword=value, or a comment that begins with #."));
        };
        if let Some(options) = found.as_mut().filter(|_| is_inside) {
            options.entry(keyword.trim().to_owned()).or_insert(value.trim().to_owned());
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn the_section_of_the_service_counts() {
        let text = "# shops\n[a]\nhost=x\n\n[b]\nhost=y\nport=1\nport=2\n[b]\nhost=z\n";
        let options = find(text, "b", "f").unwrap().unwrap();
        assert_eq!(options["host"], "y");
        assert_eq!(options["port"], "1");
        assert_eq!(find(text, "c", "f").unwrap(), None);
        assert!(find("[a]\nhost", "a", "f").unwrap_err().message.contains("line 2"));
    }
}
