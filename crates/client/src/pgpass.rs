//! ~/.pgpass: `host:port:database:user:password` lines.

/// The password of the first line that matches. A `*` matches anything; `\:` and `\\` stand for themselves.
pub fn find(text: &str, host: &str, port: &str, database: &str, user: &str) -> Option<String> {
    // libpq looks for a socket in its default directory as "localhost".
    let host = if host.starts_with('/') && is_default_socket(host) { "localhost" } else { host };
    let wanted = [host, port, database, user];
    text.lines().filter(|line| !line.starts_with('#')).find_map(|line| {
        let fields = fields(line);
        let is_match = fields.len() == 5
            && wanted.iter().zip(&fields).all(|(wanted, field)| field == "*" || field == wanted);
        is_match.then(|| fields[4].clone())
    })
}

fn is_default_socket(host: &str) -> bool {
    host == "/var/run/postgresql" || host == "/tmp"
}

fn fields(line: &str) -> Vec<String> {
    let mut fields = vec![String::new()];
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match c {
            ':' if fields.len() < 5 => fields.push(String::new()),
            '\\' => fields.last_mut().into_iter().for_each(|field| field.extend(chars.next())),
            c => fields.last_mut().into_iter().for_each(|field| field.push(c)),
        }
    }
    fields
}

/// Whether others may read a file of this mode: then libpq ignores it, and so do we.
pub fn is_too_open(mode: u32) -> bool {
    mode & 0o077 != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_that_matches_counts() {
        let text = "# x\nh:5432:shop:alice:one\n*:*:shop:bob:t\\:w\\\\o\n*:*:*:*:any:thing\nbad";
        let find = |host, database, user| find(text, host, "5432", database, user);
        assert_eq!(find("h", "shop", "alice").as_deref(), Some("one"));
        assert_eq!(find("i", "shop", "bob").as_deref(), Some("t:w\\o"));
        assert_eq!(find("i", "x", "y").as_deref(), Some("any:thing"));
        assert_eq!(super::find("localhost:*:*:*:s", "/tmp", "1", "d", "u").as_deref(), Some("s"));
        assert_eq!(super::find("a:*:*:*:s", "b", "1", "d", "u"), None);
    }

    #[test]
    fn a_file_that_others_may_read_is_too_open() {
        assert!(!is_too_open(0o100600));
        assert!(is_too_open(0o100640));
        assert!(is_too_open(0o100604));
    }
}
