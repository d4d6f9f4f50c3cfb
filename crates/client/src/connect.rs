//! Connecting: one host after the other, by what each wants.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use tokio_postgres::Config;
use tokio_postgres::config::{ChannelBinding, SslMode as Negotiation};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::conninfo::Options;
use crate::error::{Error, ErrorKind, Result, causes};
use crate::pgpass;
use crate::session::Session;
use crate::settings::{self, Environment, Host, SessionAttrs, Settings, SslMode};
use crate::tls;

/// The folders where servers have their sockets, Debian's first.
const SOCKET_FOLDERS: [&str; 2] = ["/var/run/postgresql", "/tmp"];

/// Reads the settings from what is given and from the process' surroundings.
pub fn settings(given: Options, environment: &Environment) -> Result<Settings> {
    let folder = SOCKET_FOLDERS.iter().find(|folder| Path::new(folder).exists());
    let socket = folder.unwrap_or(&SOCKET_FOLDERS[0]);
    settings::resolve(given, environment, socket, |file| fs::read_to_string(file))
}

/// Connects to the first host that is there and is what target_session_attrs asks for. `note` gets warnings.
pub async fn connect(
    settings: &Settings,
    environment: &Environment,
    note: &mut dyn FnMut(&str),
) -> Result<Session> {
    let mut hosts: Vec<&Host> = settings.hosts.iter().collect();
    if settings.shuffles_hosts {
        // A seed from the clock: this spreads clients over servers, nothing more.
        let nanos = std::time::UNIX_EPOCH.elapsed().map_or(0, |time| time.subsec_nanos() as usize);
        hosts.rotate_left(nanos / 1000 % settings.hosts.len());
    }
    let tls = match settings.ssl_mode {
        SslMode::Disable => None,
        _ if hosts.iter().all(|host| host.is_socket()) => None,
        _ => Some(MakeRustlsConnect::new(tls::client_config(settings, environment)?)),
    };
    let passwords = password_file(settings, note);
    let rounds: &[SessionAttrs] = match settings.session_attrs {
        SessionAttrs::PreferStandby => &[SessionAttrs::Standby, SessionAttrs::Any],
        other => &[other],
    };
    let mut errors: Vec<Error> = Vec::new();
    for wanted in rounds {
        for host in &hosts {
            match connect_to(settings, host, passwords.as_deref(), tls.as_ref(), *wanted).await {
                Ok(session) => return Ok(session),
                Err(error) => errors.push(error),
            }
        }
    }
    let last = errors.pop().unwrap_or_else(|| Error::new(ErrorKind::Connection, "no host"));
    let others: Vec<String> = errors.into_iter().map(|error| error.message).collect();
    Err(match others.is_empty() {
        true => last,
        false => Error { message: format!("{}; {}", others.join("; "), last.message), ..last },
    })
}

fn password_file(settings: &Settings, note: &mut dyn FnMut(&str)) -> Option<String> {
    if settings.password.is_some() {
        return None;
    }
    let file = settings.password_file.as_ref()?;
    let metadata = fs::metadata(file).ok()?;
    if !metadata.is_file() {
        note(&format!("password file \"{}\" is not a plain file", file.display()));
        return None;
    }
    if pgpass::is_too_open(metadata.permissions().mode()) {
        note(&format!(
            "password file \"{0}\" has group or world access and is ignored; run: chmod 0600 {0}",
            file.display()
        ));
        return None;
    }
    fs::read_to_string(file).ok()
}

async fn connect_to(
    settings: &Settings,
    host: &Host,
    passwords: Option<&str>,
    tls: Option<&MakeRustlsConnect>,
    wanted: SessionAttrs,
) -> Result<Session> {
    let password = settings.password.clone().or_else(|| {
        let port = host.port.to_string();
        pgpass::find(passwords?, &host.name, &port, &settings.database, &settings.user)
    });
    let config = config(settings, host, password.as_deref())?;
    let session = open(settings, host, config, tls).await?;
    if fits(&session, wanted).await? {
        return Ok(session);
    }
    let (name, port) = (&host.name, host.port);
    let what = match wanted {
        SessionAttrs::ReadWrite => "is read-only",
        SessionAttrs::ReadOnly => "is not read-only",
        SessionAttrs::Primary => "is a standby",
        _ => "is not a standby",
    };
    Err(Error::new(ErrorKind::Connection, format!("the server at {name}:{port} {what}"))
        .with_hint("target_session_attrs asks for another one. Name all hosts of the cluster."))
}

fn config(settings: &Settings, host: &Host, password: Option<&str>) -> Result<Config> {
    let mut config = Config::new();
    config.host(&host.name).port(host.port).user(&settings.user).dbname(&settings.database);
    if let Some(address) = &host.address {
        let address = address.parse().map_err(|_| {
            Error::usage(format!("\"{address}\" is not an IP address"))
                .with_hint("hostaddr takes addresses; names belong into host.")
        })?;
        config.hostaddr(address);
    }
    config.application_name(&settings.application_name);
    if let Some(password) = password {
        config.password(password);
    }
    if let Some(options) = &settings.options {
        config.options(options);
    }
    config.channel_binding(match settings.channel_binding.as_deref() {
        Some("disable") => ChannelBinding::Disable,
        Some("require") => ChannelBinding::Require,
        _ => ChannelBinding::Prefer,
    });
    if let Some(timeout) = settings.connect_timeout {
        config.connect_timeout(timeout);
    }
    Ok(config)
}

/// Opens a connection by the rules of sslmode: "prefer" goes on without TLS where that fails, "allow" the other way
/// round. Never over a socket.
async fn open(
    settings: &Settings,
    host: &Host,
    mut config: Config,
    tls: Option<&MakeRustlsConnect>,
) -> Result<Session> {
    let plain = Negotiation::Disable;
    let Some(tls) = tls.filter(|_| !host.is_socket()) else {
        config.ssl_mode(plain);
        return attempt(settings, host, &config, None).await;
    };
    let (first, second) = match settings.ssl_mode {
        SslMode::Allow => (plain, Some(Negotiation::Require)),
        SslMode::Prefer => (Negotiation::Prefer, Some(plain)),
        _ => (Negotiation::Require, None),
    };
    config.ssl_mode(first);
    match attempt(settings, host, &config, Some(tls)).await {
        Err(error) if may_try_again(&error) => match second {
            Some(second) => {
                config.ssl_mode(second);
                attempt(settings, host, &config, Some(tls)).await.map_err(|_| error)
            }
            None => Err(error),
        },
        other => other,
    }
}

/// A failure that another kind of encryption may mend: not a server that isn't there, nor a wrong password.
fn may_try_again(error: &Error) -> bool {
    error.is("28000") || error.kind == ErrorKind::Connection && error.message.contains("TLS")
}

/// The longest wait for a server that answers nothing, where connect_timeout says nothing.
const PATIENCE: Duration = Duration::from_secs(60);

async fn attempt(
    settings: &Settings,
    host: &Host,
    config: &Config,
    tls: Option<&MakeRustlsConnect>,
) -> Result<Session> {
    let patience = settings.connect_timeout.unwrap_or(PATIENCE);
    let opening = Session::open(config, tls, host.is_socket());
    match tokio::time::timeout(patience, opening).await {
        Ok(Ok(session)) => Ok(session),
        Ok(Err(error)) => Err(explain(settings, host, error)),
        Err(_) => Err(Error::new(
            ErrorKind::Connection,
            format!("{} did not answer within {} s", place(host), patience.as_secs()),
        )
        .with_hint("Look at host, port, and what is in between; connect_timeout sets the time.")),
    }
}

fn place(host: &Host) -> String {
    match host.is_socket() {
        true => format!("the server at socket \"{}/.s.PGSQL.{}\"", host.name, host.port),
        false => format!("the server at {}:{}", host.name, host.port),
    }
}

/// A failure to connect, with the fix.
fn explain(settings: &Settings, host: &Host, error: tokio_postgres::Error) -> Error {
    let text = causes(&error);
    if error.as_db_error().is_some() {
        let mut error = Error::from(error);
        let hint = match error.code.as_deref().unwrap_or_default() {
            "28P01" => {
                "The password is wrong. It comes from PGPASSWORD, the connection string, or ~/.pgpass."
            }
            "28000" => {
                "pg_hba.conf on the server decides who may connect from where, with which sslmode."
            }
            "3D000" => {
                "Choose a database by -d or PGDATABASE; the name of the user is the default."
            }
            "53300" => "The server has no connection left: raise max_connections, or end some.",
            "57P03" => "The server is starting up or shutting down. Try again.",
            _ => return error,
        };
        error.hint.get_or_insert(hint.into());
        return error;
    }
    let at = place(host);
    let failed = |message: String| Error::new(ErrorKind::Connection, message);
    if text.contains("password missing") {
        return Error::new(
            ErrorKind::PasswordMissing,
            format!("{at} asks for the password of user \"{}\", and none was given", settings.user),
        )
        .with_hint("Set PGPASSWORD, or add a line to ~/.pgpass (chmod 0600).");
    }
    if text.contains("certificate") || text.contains("UnknownIssuer") {
        return failed(format!("the certificate of {at} is not good: {text} (TLS)")).with_hint(
            "sslrootcert names the file of the authority that signed it; verify-full also wants the host's name in it.",
        );
    }
    if text.contains("server does not support TLS") {
        return failed(format!("{at} does not support TLS, which sslmode asks for"))
            .with_hint("Set ssl = on in its postgresql.conf, or use sslmode=prefer.");
    }
    if text.contains("TLS") {
        return failed(format!("no TLS with {at}: {text}"))
            .with_hint("Look at sslmode and the server's log.");
    }
    failed(format!("could not connect to {at}: {text}")).with_hint(format!(
        "Is it running there, and does it accept connections? Host and port come from -h, a context, or PGHOST and PGPORT; now: {}:{}.",
        host.name, host.port
    ))
}

async fn fits(session: &Session, wanted: SessionAttrs) -> Result<bool> {
    if matches!(wanted, SessionAttrs::Any | SessionAttrs::PreferStandby) {
        return Ok(true);
    }
    let sql = "SELECT pg_catalog.pg_is_in_recovery(), pg_catalog.current_setting('transaction_read_only') = 'on'";
    let row = session.first_row(sql).await?;
    let is = |at: usize| row.get(at).and_then(|value| value.as_deref()) == Some("t");
    Ok(match wanted {
        SessionAttrs::ReadWrite => !is(0) && !is(1),
        SessionAttrs::ReadOnly => is(0) || is(1),
        SessionAttrs::Primary => !is(0),
        _ => is(0),
    })
}
