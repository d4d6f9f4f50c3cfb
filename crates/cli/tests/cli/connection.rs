//! What goes wrong on the way to the server is said in a sentence, with the remedy.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use libtest_mimic::Trial;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use sequin_testkit::cluster::{Cluster, wait_until};
use sequin_testkit::process::{server_user, succeed};

use crate::harness::tempdir::Directory;
use crate::harness::{Fixture, PATIENCE, Run, bare, cluster, run, trials};

pub fn tests() -> Vec<Trial> {
    trials![
        certificates_are_verified_as_sslmode_says,
        passwords_come_from_where_psql_looks_for_them,
        a_missing_extension_is_named,
        an_old_schema_is_named,
        a_standby_is_named_and_the_primary_is_found,
        a_server_that_is_not_there_is_named,
    ]
}

/// A server that wants passwords and has TLS, on an address of its own: sockets of others have the same port.
struct Secured {
    cluster: Cluster,
    address: String,
    directory: Directory,
}

fn write_for_server(secured: &Cluster, name: &str, text: &str) {
    let file = secured.data().join(name);
    fs::write(&file, text).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    if let Some(user) = server_user() {
        succeed(Command::new("chown").arg(user).arg(&file));
    }
}

fn secured() -> Secured {
    static NUMBER: AtomicU32 = AtomicU32::new(1);
    let (pid, number) = (std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
    let address = format!("127.{number}.{}.{}", pid / 250 % 250, 1 + pid % 250);
    let config = format!("listen_addresses = '{address}'\npassword_encryption = 'scram-sha-256'");
    let cluster = Cluster::start_with(&config);
    let directory = Directory::new(&format!("secured{number}"));

    let mut authority = CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let server = CertificateParams::new(vec!["db.example".into()]).unwrap();
    let server = server.signed_by(&key, &authority).unwrap();
    write_for_server(&cluster, "server.crt", &server.pem());
    write_for_server(&cluster, "server.key", &key.serialize_pem());
    fs::write(directory.path().join("root.crt"), authority.pem()).unwrap();
    let mut other = CertificateParams::new(Vec::new()).unwrap();
    other.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let other = CertifiedIssuer::self_signed(other, KeyPair::generate().unwrap()).unwrap();
    fs::write(directory.path().join("other.crt"), other.pem()).unwrap();

    let rules = "local all all trust\nhostssl all all 127.0.0.0/8 scram-sha-256\n";
    write_for_server(&cluster, "pg_hba.conf", rules);
    let mut client = cluster.connect("postgres");
    client
        .batch_execute("CREATE EXTENSION sequin; CREATE ROLE alice LOGIN PASSWORD 'se:cret'")
        .unwrap();
    client.batch_execute("ALTER SYSTEM SET ssl = on").unwrap();
    client.batch_execute("SELECT pg_reload_conf()").unwrap();
    wait_until("the server has TLS", PATIENCE, || {
        let mut client = cluster.connect("postgres");
        client.query_one("SHOW ssl", &[]).unwrap().get::<_, String>(0) == "on"
    });
    Secured { cluster, address, directory }
}

impl Secured {
    fn run(&self, connection: &str, password: Option<&str>) -> Run {
        let mut command = bare();
        command.env("HOME", self.directory.path());
        if let Some(password) = password {
            command.env("PGPASSWORD", password);
        }
        let base = format!("hostaddr={} user=alice dbname=postgres {connection}", self.address);
        run(command.args(["-d", &base, "stream", "ls"]), b"")
    }
}

fn certificates_are_verified_as_sslmode_says() {
    let secured = secured();
    let folder = secured.directory.path().display();
    let good = format!("sslrootcert={folder}/root.crt");
    let wrong = format!("sslrootcert={folder}/other.crt");
    let cases = [
        ("sslmode=require".to_owned(), None),
        ("sslmode=prefer".into(), None),
        (format!("host=db.example sslmode=verify-full {good}"), None),
        (format!("host=other.example sslmode=verify-ca {good}"), None),
        (format!("host=other.example sslmode=verify-full {good}"), Some("certificate")),
        (format!("host=db.example sslmode=verify-full {wrong}"), Some("certificate")),
        (format!("sslmode=verify-ca {wrong}"), Some("certificate")),
        // As libpq: with root certificates, it verifies the chain.
        (format!("sslmode=require {wrong}"), Some("certificate")),
        ("sslmode=verify-full".into(), Some("sslrootcert=FILE")),
        (format!("sslmode=verify-ca sslrootcert={folder}/none.crt"), Some("none.crt")),
        ("sslmode=disable".into(), Some("pg_hba.conf")),
    ];
    for (connection, complaint) in cases {
        let run = secured.run(&connection, Some("se:cret"));
        match complaint {
            None => assert_eq!(run.code, 0, "{connection}: {run:?}"),
            Some(complaint) => {
                assert_ne!(run.code, 0, "{connection}: {run:?}");
                let is_said = run.err.contains(complaint) && run.err.contains("hint: ");
                assert!(is_said, "{connection}: {run:?}");
            }
        }
    }
    drop(secured.cluster);
}

fn passwords_come_from_where_psql_looks_for_them() {
    let secured = secured();
    let wrong = secured.run("", Some("wrong"));
    assert!(
        wrong.code == 1 && wrong.err.contains("28P01") && wrong.err.contains("~/.pgpass"),
        "{wrong:?}"
    );
    let none = secured.run("", None);
    assert!(none.code == 1 && none.err.contains("none was given"), "{none:?}");
    assert!(none.err.contains("PGPASSWORD"), "{none:?}");
    let file = secured.directory.path().join(".pgpass");
    fs::write(&file, format!("{}:5432:postgres:alice:se\\:cret\n", secured.address)).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    let open = secured.run("", None);
    assert!(open.code == 1 && open.err.contains("chmod 0600"), "{open:?}");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(secured.run("", None).code, 0);
    let service = "[here]\npassword=se:cret\n";
    fs::remove_file(&file).unwrap();
    fs::write(secured.directory.path().join(".pg_service.conf"), service).unwrap();
    assert_eq!(secured.run("service=here", None).code, 0);
}

fn a_missing_extension_is_named() {
    let fixture = Fixture::without_extension("no_extension");
    for arguments in [
        &["stream", "ls"][..],
        &["message", "send", "s", "k", "1"],
        &["consumer", "receive", "c"],
        &["doctor"],
    ] {
        let run = fixture.run(arguments);
        assert_eq!(run.code, 1, "{arguments:?}: {run:?}");
        assert!(
            run.err.contains("the extension sequin is not installed"),
            "{arguments:?}: {run:?}"
        );
        assert!(run.err.contains("CREATE EXTENSION sequin"), "{run:?}");
    }
}

fn an_old_schema_is_named() {
    let fixture = Fixture::without_extension("old_schema");
    fixture.sql("CREATE EXTENSION sequin VERSION '0.1.0'; SELECT sequin.create_stream('orders')");
    let run = fixture.run(&["stream", "info", "orders"]);
    assert_eq!(run.code, 1, "{run:?}");
    assert!(run.err.contains("of version 0.1.0"), "{run:?}");
    assert!(run.err.contains("ALTER EXTENSION sequin UPDATE"), "{run:?}");
    fixture.sql("ALTER EXTENSION sequin UPDATE");
    fixture.ok(&["stream", "info", "orders"]);
}

fn a_standby_is_named_and_the_primary_is_found() {
    let fixture = Fixture::new("standby");
    fixture.sql("SELECT sequin.create_stream('orders')");
    let standby = cluster().standby();
    let folder = |cluster: &Cluster| cluster.data().parent().unwrap().display().to_string();
    let send = ["message", "send", "orders", "k", "1"];
    wait_until("the standby has the stream", PATIENCE, || {
        let mut command = fixture.command();
        run(command.env("PGHOST", folder(&standby)).args(["stream", "ls"]), b"")
            .out
            .contains("orders")
    });
    let on_standby = run(fixture.command().env("PGHOST", folder(&standby)).args(send), b"");
    assert!(on_standby.code == 1 && on_standby.err.contains("25006"), "{on_standby:?}");
    assert!(on_standby.err.contains("hint: "), "{on_standby:?}");
    let both = format!("{},{}", folder(&standby), folder(cluster()));
    let found = |attrs: &str| {
        let mut command = fixture.command();
        run(command.env("PGHOST", &both).env("PGTARGETSESSIONATTRS", attrs).args(send), b"")
    };
    assert_eq!(found("read-write").out, "1\n");
    assert_eq!(found("primary").out, "2\n");
    assert_eq!(found("standby").code, 1);
    let alone = run(
        fixture
            .command()
            .env("PGHOST", folder(&standby))
            .env("PGTARGETSESSIONATTRS", "read-write")
            .args(send),
        b"",
    );
    assert!(alone.err.contains("is read-only") && alone.err.contains("hint: "), "{alone:?}");
}

fn a_server_that_is_not_there_is_named() {
    let fixture = Fixture::without_extension("not_there");
    let run = fixture.run(&["--host", "/nowhere", "stream", "ls"]);
    assert_eq!(run.code, 1);
    assert!(
        run.err.contains("\"/nowhere/.s.PGSQL.5432\"") && run.err.contains("hint: "),
        "{run:?}"
    );
    let run = fixture.run(&["-d", "nope", "stream", "ls"]);
    assert!(run.err.contains("3D000") && run.err.contains("hint: "), "{run:?}");
    let run = fixture.run(&["-d", "hots=x", "stream", "ls"]);
    assert!(run.code == 2 && run.err.contains("\"hots\""), "{run:?}");
}
