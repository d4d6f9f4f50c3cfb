//! Which settings count: what is given, then the service file, then the environment, then the defaults, as in libpq.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::conninfo::Options;
use crate::error::{Error, Result};
use crate::service;

/// libpq's keywords that mean something here, with their environment variables.
const KEYWORDS: [(&str, &str); 18] = [
    ("host", "PGHOST"),
    ("hostaddr", "PGHOSTADDR"),
    ("port", "PGPORT"),
    ("dbname", "PGDATABASE"),
    ("user", "PGUSER"),
    ("password", "PGPASSWORD"),
    ("passfile", "PGPASSFILE"),
    ("sslmode", "PGSSLMODE"),
    ("sslrootcert", "PGSSLROOTCERT"),
    ("sslcert", "PGSSLCERT"),
    ("sslkey", "PGSSLKEY"),
    ("channel_binding", "PGCHANNELBINDING"),
    ("connect_timeout", "PGCONNECT_TIMEOUT"),
    ("application_name", "PGAPPNAME"),
    ("options", "PGOPTIONS"),
    ("target_session_attrs", "PGTARGETSESSIONATTRS"),
    ("load_balance_hosts", "PGLOADBALANCEHOSTS"),
    ("gssencmode", "PGGSSENCMODE"),
];

/// Keywords that change nothing here: texts are UTF-8, and TCP's own timers do for a short session.
const IGNORED: [&str; 9] = [
    "client_encoding",
    "fallback_application_name",
    "keepalives",
    "keepalives_idle",
    "keepalives_interval",
    "keepalives_count",
    "tcp_user_timeout",
    "sslcompression",
    "sslsni",
];

/// What the process was started with.
#[derive(Clone, Debug, Default)]
pub struct Environment {
    pub variables: std::collections::BTreeMap<String, String>,
    pub home: Option<PathBuf>,
    /// The operating system's name of the user.
    pub user: String,
}

impl Environment {
    pub fn of_process() -> Self {
        let variables: std::collections::BTreeMap<String, String> = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        let home = std::env::home_dir();
        let user = system_user().or_else(|| variables.get("USER").cloned()).unwrap_or_default();
        Self { variables, home, user }
    }

    pub fn get(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// A file of the user's, such as ~/.pgpass.
    pub fn home_file(&self, name: &str) -> Option<PathBuf> {
        Some(self.home.as_ref()?.join(name))
    }
}

/// The name of the process' user in /etc/passwd.
fn system_user() -> Option<String> {
    use std::os::unix::fs::MetadataExt;
    let uid = std::fs::metadata("/proc/self").ok()?.uid().to_string();
    let passwd = std::fs::read_to_string("/etc/passwd").ok()?;
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)? == uid).then(|| name.to_owned())
    })
}

/// In the order of what they ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SslMode {
    Disable,
    Allow,
    Prefer,
    Require,
    VerifyCa,
    VerifyFull,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionAttrs {
    Any,
    ReadWrite,
    ReadOnly,
    Primary,
    Standby,
    PreferStandby,
}

/// One server to try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// A name, an address, or the folder of a socket.
    pub name: String,
    /// Where to connect to, if the name is not to be looked up.
    pub address: Option<String>,
    pub port: u16,
}

impl Host {
    pub fn is_socket(&self) -> bool {
        self.address.is_none() && (self.name.starts_with('/') || self.name.starts_with('@'))
    }
}

/// Where and how to connect: everything but the password of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    pub hosts: Vec<Host>,
    pub user: String,
    pub database: String,
    pub password: Option<String>,
    pub password_file: Option<PathBuf>,
    pub ssl_mode: SslMode,
    /// "system" or a file; None is the default file.
    pub root_certificates: Option<String>,
    pub certificate: Option<PathBuf>,
    pub key: Option<PathBuf>,
    pub channel_binding: Option<String>,
    pub connect_timeout: Option<Duration>,
    pub application_name: String,
    pub options: Option<String>,
    pub session_attrs: SessionAttrs,
    pub shuffles_hosts: bool,
}

/// Adds what the service file and the environment say to what was given, and reads it all. `read` gives a file's text.
pub fn resolve(
    given: Options,
    environment: &Environment,
    default_socket: &str,
    read: impl Fn(&Path) -> std::io::Result<String>,
) -> Result<Settings> {
    let mut options = given;
    let service = options.remove("service");
    if let Some(name) = service.or_else(|| environment.get("PGSERVICE").map(str::to_owned)) {
        for (keyword, value) in service_options(&name, environment, read)? {
            options.entry(keyword).or_insert(value);
        }
    }
    for keyword in options.keys() {
        let is_known = KEYWORDS.iter().any(|(known, _)| known == keyword);
        if !is_known && !IGNORED.contains(&keyword.as_str()) {
            return Err(unknown_keyword(keyword));
        }
    }
    for (keyword, variable) in KEYWORDS {
        if let Some(value) = environment.get(variable) {
            options.entry(keyword.to_owned()).or_insert(value.to_owned());
        }
    }
    read_options(&options, environment, default_socket)
}

fn unknown_keyword(keyword: &str) -> Error {
    let known: Vec<&str> = KEYWORDS.iter().map(|(known, _)| *known).collect();
    Error::usage(format!("invalid connection option \"{keyword}\""))
        .with_hint(format!("Known are: {}, service.", known.join(", ")))
}

fn service_options(
    name: &str,
    environment: &Environment,
    read: impl Fn(&Path) -> std::io::Result<String>,
) -> Result<Options> {
    let own = environment.get("PGSERVICEFILE").map(PathBuf::from);
    let own = own.or_else(|| environment.home_file(".pg_service.conf"));
    let folder = environment.get("PGSYSCONFDIR").unwrap_or("/etc/postgresql-common");
    let shared = Path::new(folder).join("pg_service.conf");
    for file in own.into_iter().chain([shared]) {
        if let Ok(text) = read(&file)
            && let Some(options) = service::find(&text, name, &file.display().to_string())?
        {
            return Ok(options);
        }
    }
    Err(Error::usage(format!("definition of service \"{name}\" not found"))
        .with_hint("It is looked for in PGSERVICEFILE or ~/.pg_service.conf, then in pg_service.conf of PGSYSCONFDIR."))
}

fn read_options(
    options: &Options,
    environment: &Environment,
    default_socket: &str,
) -> Result<Settings> {
    let get = |keyword: &str| options.get(keyword).map(String::as_str).filter(|v| !v.is_empty());
    let user = get("user").unwrap_or(&environment.user).to_owned();
    if let Some(mode) = get("gssencmode").filter(|mode| *mode == "require") {
        return Err(bad_value("gssencmode", mode, "disable, prefer"));
    }
    let session_attrs = match get("target_session_attrs").unwrap_or("any") {
        "any" => SessionAttrs::Any,
        "read-write" => SessionAttrs::ReadWrite,
        "read-only" => SessionAttrs::ReadOnly,
        "primary" => SessionAttrs::Primary,
        "standby" => SessionAttrs::Standby,
        "prefer-standby" => SessionAttrs::PreferStandby,
        other => {
            let good = "any, read-write, read-only, primary, standby, prefer-standby";
            return Err(bad_value("target_session_attrs", other, good));
        }
    };
    let shuffles_hosts = match get("load_balance_hosts").unwrap_or("disable") {
        "disable" => false,
        "random" => true,
        other => return Err(bad_value("load_balance_hosts", other, "disable, random")),
    };
    let connect_timeout = match get("connect_timeout") {
        None => None,
        Some(text) => {
            let seconds: i64 =
                text.trim().parse().map_err(|_| bad_value("connect_timeout", text, "seconds"))?;
            // As in libpq: 0 and less wait for ever, 1 is 2.
            u64::try_from(seconds).ok().filter(|s| *s > 0).map(|s| Duration::from_secs(s.max(2)))
        }
    };
    let root_certificates = get("sslrootcert").map(str::to_owned);
    let ssl_mode = match (get("sslmode"), root_certificates.as_deref()) {
        (None, Some("system")) => SslMode::VerifyFull,
        (mode, _) => ssl_mode(mode.unwrap_or("prefer"))?,
    };
    Ok(Settings {
        hosts: hosts(get("host"), get("hostaddr"), get("port"), default_socket)?,
        database: get("dbname").unwrap_or(&user).to_owned(),
        user,
        password: get("password").map(str::to_owned),
        password_file: get("passfile")
            .map(PathBuf::from)
            .or_else(|| environment.home_file(".pgpass")),
        ssl_mode,
        root_certificates,
        certificate: get("sslcert").map(PathBuf::from),
        key: get("sslkey").map(PathBuf::from),
        channel_binding: get("channel_binding").map(str::to_owned),
        connect_timeout,
        application_name: get("application_name").unwrap_or("sequin").to_owned(),
        options: get("options").map(str::to_owned),
        session_attrs,
        shuffles_hosts,
    })
}

fn bad_value(keyword: &str, value: &str, good: &str) -> Error {
    Error::usage(format!("invalid {keyword} value: \"{value}\""))
        .with_hint(format!("It may be: {good}."))
}

fn ssl_mode(text: &str) -> Result<SslMode> {
    Ok(match text {
        "disable" => SslMode::Disable,
        "allow" => SslMode::Allow,
        "prefer" => SslMode::Prefer,
        "require" => SslMode::Require,
        "verify-ca" => SslMode::VerifyCa,
        "verify-full" => SslMode::VerifyFull,
        other => {
            let good = "disable, allow, prefer, require, verify-ca, verify-full";
            return Err(bad_value("sslmode", other, good));
        }
    })
}

/// The default port of PostgreSQL.
const PORT: u16 = 5432;

fn hosts(
    names: Option<&str>,
    addresses: Option<&str>,
    ports: Option<&str>,
    default_socket: &str,
) -> Result<Vec<Host>> {
    let list = |text: Option<&str>| -> Vec<String> {
        text.map(|text| text.split(',').map(|part| part.trim().to_owned()).collect())
            .unwrap_or_default()
    };
    let (names, addresses) = (list(names), list(addresses));
    if !names.is_empty() && !addresses.is_empty() && names.len() != addresses.len() {
        let (a, b) = (names.len(), addresses.len());
        return Err(Error::usage(format!("could not match {a} host names to {b} hostaddr values"))
            .with_hint("Give one hostaddr for each host."));
    }
    let count = names.len().max(addresses.len()).max(1);
    let ports = list(ports);
    if ports.len() > 1 && ports.len() != count {
        let given = ports.len();
        return Err(Error::usage(format!("could not match {given} port numbers to {count} hosts"))
            .with_hint("Give one port for all hosts, or one for each."));
    }
    let mut hosts = Vec::new();
    for at in 0..count {
        let port = match ports.get(at).or(ports.first()).map(String::as_str) {
            None | Some("") => PORT,
            Some(text) => match text.parse() {
                Ok(port) if port > 0 => port,
                _ => return Err(bad_value("port", text, "1 to 65535")),
            },
        };
        let address = addresses.get(at).filter(|a| !a.is_empty()).cloned();
        let name = match names.get(at).filter(|name| !name.is_empty()) {
            Some(name) => name.clone(),
            None => address.clone().unwrap_or(default_socket.to_owned()),
        };
        hosts.push(Host { name, address, port });
    }
    Ok(hosts)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::conninfo;

    fn environment(variables: &[(&str, &str)]) -> Environment {
        Environment {
            variables: variables.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect(),
            home: Some("/home/alice".into()),
            user: "alice".into(),
        }
    }

    fn settings(given: &str, variables: &[(&str, &str)]) -> Result<Settings> {
        let files = |file: &Path| match file.to_str() {
            Some("/home/alice/.pg_service.conf") => Ok("[s]\nhost=fromfile\nport=7\n".to_owned()),
            _ => Err(std::io::ErrorKind::NotFound.into()),
        };
        resolve(conninfo::parse(given).unwrap(), &environment(variables), "/run/pg", files)
    }

    #[test]
    fn without_anything_it_is_the_local_socket_and_the_user() {
        let settings = settings("", &[]).unwrap();
        assert_eq!(settings.hosts, [Host { name: "/run/pg".into(), address: None, port: 5432 }]);
        assert_eq!((settings.user.as_str(), settings.database.as_str()), ("alice", "alice"));
        assert_eq!(settings.ssl_mode, SslMode::Prefer);
        assert_eq!(settings.password_file.unwrap(), Path::new("/home/alice/.pgpass"));
    }

    #[test]
    fn what_is_given_goes_before_the_service_and_that_before_the_environment() {
        let variables = [("PGHOST", "fromenv"), ("PGPORT", "8"), ("PGUSER", "bob")];
        let all = settings("port=9 service=s", &variables).unwrap();
        assert_eq!(all.hosts[0].name, "fromfile");
        assert_eq!(all.hosts[0].port, 9);
        assert_eq!(all.user, "bob");
        let by_variable = settings("", &[("PGSERVICE", "s")]).unwrap();
        assert_eq!(by_variable.hosts[0].port, 7);
        assert!(settings("service=t", &[]).unwrap_err().message.contains("\"t\" not found"));
    }

    #[test]
    fn hosts_and_ports_are_matched() {
        let all = settings("host=a,b port=1,2", &[]).unwrap();
        let ports: Vec<_> = all.hosts.iter().map(|h| (h.name.as_str(), h.port)).collect();
        assert_eq!(ports, [("a", 1), ("b", 2)]);
        assert!(settings("host=a,b,c port=1,2", &[]).is_err());
        assert!(settings("host=a hostaddr=1.1.1.1,2.2.2.2", &[]).is_err());
        assert!(settings("port=0", &[]).is_err());
    }

    #[test]
    fn bad_values_name_the_good_ones() {
        for (given, good) in [
            ("sslmode=on", "verify-full"),
            ("target_session_attrs=rw", "read-write"),
            ("load_balance_hosts=1", "random"),
            ("connect_timeout=x", "seconds"),
            ("hots=x", "hostaddr"),
        ] {
            assert!(settings(given, &[]).unwrap_err().hint.unwrap().contains(good), "{given}");
        }
        assert_eq!(settings("sslrootcert=system", &[]).unwrap().ssl_mode, SslMode::VerifyFull);
        let timeout = settings("connect_timeout=1", &[]).unwrap().connect_timeout;
        assert_eq!(timeout, Some(Duration::from_secs(2)));
    }
}
