//! The errors of the extension: for each its message, SQLSTATE, HINT and DETAIL.

use pgrx::PgSqlErrorCode::{self, *};
use pgrx::pg_sys::panic::ErrorReport;
use sequin_capture::key_format::FormatError;
use sequin_engine::filter::FilterError;
use sequin_engine::key::KeyError;

pub type Result<T, E = Error> = std::result::Result<T, E>;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    // ---- the caller ----
    #[error("argument \"{0}\" must not be NULL")]
    Null(&'static str),
    #[error("{0}")]
    Key(#[from] KeyError),
    #[error("{0}")]
    Filter(#[from] FilterError),
    #[error("{0}")]
    KeyFormat(#[from] FormatError),
    #[error("invalid name for a {0}: \"{1}\"")]
    Name(&'static str, String),
    #[error("{what} must be {range}, not {value}")]
    Range { what: &'static str, range: &'static str, value: String },
    #[error("arrays \"keys\", \"data\" and \"headers\" must have the same length")]
    ArrayLengths { keys: usize, data: usize, headers: Option<usize> },
    #[error("array \"{0}\" must not contain NULL")]
    NullElement(&'static str),
    #[error("a consumer needs at least one filter")]
    NoFilter,
    #[error("a consumer starts at one place")]
    TwoStarts,
    #[error("a consumer is rewound to one place")]
    TwoTargets,
    #[error("row-level security would hide messages of stream \"{0}\" from this consumer")]
    RowSecurity(String),
    #[error("stream \"{0}\" does not exist")]
    NoStream(String),
    #[error("table \"{0}\" is not a stream any more")]
    NotAStream(String),
    #[error("sequin.{function}() cannot be a trigger of table \"{table}\"")]
    ForeignTrigger { table: String, function: &'static str },
    #[error("stream \"{0}\" is damaged")]
    Damaged(String, String),
    #[error("stream \"{0}\" cannot be repaired")]
    BeyondRepair(String, String),
    #[error("cannot restart the sequence of stream \"{0}\"")]
    Restart(String),
    #[error("stream \"{0}\" already exists")]
    StreamExists(String),
    #[error("cannot drop stream \"{stream}\" because it has consumers")]
    StreamInUse { stream: String, consumers: String },
    #[error("consumer \"{0}\" does not exist")]
    NoConsumer(String),
    #[error("consumer \"{0}\" already exists")]
    ConsumerExists(String),
    #[error("must be owner of stream \"{0}\"")]
    NotStreamOwner(String),
    #[error("permission denied for consumer \"{consumer}\"")]
    NotConsumerOwner { consumer: String, owner: String },
    #[error("the role that owned {what} \"{name}\" is gone")]
    OwnerGone { what: &'static str, name: String },
    #[error("must be able to act as role \"{0}\"")]
    NotNewOwner(String),
    #[error("role {0} does not exist")]
    NoRole(u32),
    #[error("permission denied for stream \"{0}\"")]
    NoSelect(String),
    #[error("permission denied for schema sequin_stream")]
    NoSchemaUsage,
    #[error("source \"{0}\" does not exist")]
    NoSource(String),
    #[error("source \"{0}\" already exists")]
    SourceExists(String),
    #[error("permission denied for source \"{source_name}\"")]
    NotSourceOwner { source_name: String, owner: String },
    #[error("cannot drop stream \"{stream}\" because sources feed it")]
    StreamFed { stream: String, sources: String },
    #[error("a source has tables or a publication, not both")]
    TwoPublications,
    #[error("array \"tables\" must not be empty")]
    NoTables,
    #[error("cannot capture {table}")]
    NotCapturable { table: String, fault: String },
    #[error("table {0} has no replica identity")]
    NoIdentity(String),
    #[error("must be owner of table {0}")]
    NotTableOwner(String),
    #[error("only a superuser may capture all tables")]
    AllTables,
    #[error("permission denied to publish to stream \"{0}\"")]
    NoInsert(String),
    #[error("publication \"{0}\" does not exist")]
    NoPublication(String),
    #[error("publication \"{0}\" already exists")]
    PublicationExists(String),
    #[error("publication \"{publication}\" of source \"{source_name}\" does not exist any more")]
    PublicationGone { source_name: String, publication: String },
    #[error("must be owner of publication \"{publication}\"")]
    NotPublicationOwner { publication: String, owner: String },
    #[error("source \"{source_name}\" does not own its publication")]
    NotOwnPublication { source_name: String, publication: String },
    #[error("table {table} is not captured by source \"{source_name}\"")]
    NotPublished { source_name: String, table: String },
    #[error("table {0} has no key to read it by")]
    NoBackfillKey(String),
    #[error("permission denied for table {0}")]
    NoTableSelect(String),
    #[error("row-level security would hide rows of table {0}")]
    TableRowSecurity(String),
    #[error("not a condition: {0}")]
    Condition(String),
    #[error("backfill {0} does not exist")]
    NoBackfill(i64),
    #[error("cannot create or resume a source in a read-only transaction")]
    ReadOnly,
    #[error("{0} is not supported yet")]
    NotYet(&'static str),
    #[error("cannot redeliver more than {0} messages of a consumer at a time")]
    TooManyRedelivered(usize),
    #[error("cannot PREPARE a transaction that has used sequin")]
    CannotPrepare,

    // ---- the server ----
    #[error("sequin must be loaded via shared_preload_libraries")]
    NotPreloaded,
    #[error("too many databases use sequin")]
    TooManyDatabases,
    #[error("open transactions publish to too many streams")]
    TooManyPublished,
    #[error("the session before this one has not been dealt with yet")]
    Uncollected,
    #[error("consumer \"{0}\" is not active yet")]
    ConsumerUncommitted(String),
    #[error("schema \"{schema}\" cannot be taken for the extension sequin")]
    SchemaTaken { schema: &'static str, fault: String },
    #[error("schema \"sequin\" is not that of the extension sequin")]
    NotOurSchema,
    #[error("sequin.{0} is not part of the extension sequin")]
    NotAMember(String),
    #[error("the dispatcher of this database is not running")]
    NoDispatcher(Option<String>),
    #[error("the dispatcher cannot read the stream")]
    NotReady(Option<String>),
    #[error("could not commit because the dispatcher was restarted during the transaction")]
    DispatcherRestarted,
    #[error(
        "messages of stream \"{0}\" are newer than what the statement sees in the tables it reads"
    )]
    TooNew(String),
    #[error("sources need the server to run with wal_level logical")]
    WalLevel,
    #[error(
        "could not make a replication slot in {0} s, since tables are being made or changed all the time"
    )]
    TablesChange(u64),
    #[error("sequin needs a database in UTF8")]
    NotUtf8,
    #[error("cannot use consumers during recovery")]
    InRecovery,
    #[error("backfill {0} is not running any more")]
    BackfillCancelled(i64),
    #[error("cannot write a temporary file: {0}")]
    Spool(String),

    // ---- an invariant ----
    #[error("unexpected result of an internal query")]
    Internal(String),
}

impl Error {
    /// Raises it as an ERROR: for functions that PostgreSQL calls directly, and that can't return a Result.
    pub fn raise(self) {
        ErrorReport::from(self).report(pgrx::PgLogLevel::ERROR);
    }

    /// Message and DETAIL in one line, for places that take a text and not an ERROR.
    pub fn describe(&self) -> String {
        match self.detail() {
            Some(detail) => format!("{self} ({detail})"),
            None => self.to_string(),
        }
    }

    fn sqlstate(&self) -> PgSqlErrorCode {
        match self {
            Error::Null(_) | Error::NullElement(_) => ERRCODE_NULL_VALUE_NOT_ALLOWED,
            Error::Name(..) => ERRCODE_INVALID_NAME,
            Error::Key(_)
            | Error::Filter(_)
            | Error::KeyFormat(_)
            | Error::Range { .. }
            | Error::ArrayLengths { .. }
            | Error::NoFilter
            | Error::TwoStarts
            | Error::TwoTargets
            | Error::TwoPublications
            | Error::NoTables
            | Error::NotCapturable { .. }
            | Error::NotOwnPublication { .. }
            | Error::NotPublished { .. }
            | Error::Condition(_) => ERRCODE_INVALID_PARAMETER_VALUE,
            Error::NoStream(_)
            | Error::NoConsumer(_)
            | Error::NoSource(_)
            | Error::NoPublication(_)
            | Error::NoRole(_)
            | Error::NoBackfill(_) => ERRCODE_UNDEFINED_OBJECT,
            Error::StreamExists(_)
            | Error::ConsumerExists(_)
            | Error::SourceExists(_)
            | Error::PublicationExists(_) => ERRCODE_DUPLICATE_OBJECT,
            Error::NotAStream(_) | Error::ForeignTrigger { .. } | Error::BeyondRepair(..) => {
                ERRCODE_WRONG_OBJECT_TYPE
            }
            Error::Restart(_) => ERRCODE_FEATURE_NOT_SUPPORTED,
            Error::StreamInUse { .. } | Error::StreamFed { .. } => {
                ERRCODE_DEPENDENT_OBJECTS_STILL_EXIST
            }
            Error::NotStreamOwner(_)
            | Error::NotConsumerOwner { .. }
            | Error::NotSourceOwner { .. }
            | Error::NotTableOwner(_)
            | Error::NotPublicationOwner { .. }
            | Error::AllTables
            | Error::NoSelect(_)
            | Error::NoSchemaUsage
            | Error::OwnerGone { .. }
            | Error::NotNewOwner(_)
            | Error::NoInsert(_)
            | Error::NoTableSelect(_)
            | Error::TableRowSecurity(_)
            | Error::RowSecurity(_) => ERRCODE_INSUFFICIENT_PRIVILEGE,
            Error::NotYet(_) | Error::CannotPrepare | Error::NotUtf8 => {
                ERRCODE_FEATURE_NOT_SUPPORTED
            }
            Error::TooManyRedelivered(_) => ERRCODE_PROGRAM_LIMIT_EXCEEDED,
            Error::NotPreloaded
            | Error::SchemaTaken { .. }
            | Error::NotOurSchema
            | Error::NotAMember(_)
            | Error::Damaged(..)
            | Error::ConsumerUncommitted(_)
            | Error::NoDispatcher(_)
            | Error::Uncollected
            | Error::NoIdentity(_)
            | Error::NoBackfillKey(_)
            | Error::PublicationGone { .. }
            | Error::WalLevel
            | Error::NotReady(_) => ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
            Error::TooManyDatabases | Error::TooManyPublished => {
                ERRCODE_CONFIGURATION_LIMIT_EXCEEDED
            }
            Error::TablesChange(_) => ERRCODE_OBJECT_IN_USE,
            Error::DispatcherRestarted | Error::TooNew(_) => ERRCODE_T_R_SERIALIZATION_FAILURE,
            Error::InRecovery | Error::ReadOnly => ERRCODE_READ_ONLY_SQL_TRANSACTION,
            Error::BackfillCancelled(_) => ERRCODE_QUERY_CANCELED,
            Error::Spool(_) => ERRCODE_IO_ERROR,
            Error::Internal(_) => ERRCODE_INTERNAL_ERROR,
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Error::Null(name @ ("ack_ids" | "seqs")) => format!(
                "Pass array(SELECT ...) for \"{name}\": unlike array_agg(), it is empty where there are no rows."
            ),
            Error::Null(name) => format!("Pass a value for \"{name}\"."),
            Error::NullElement(name) => format!("Remove the NULLs from \"{name}\"."),
            Error::Key(error) => error.hint().into(),
            Error::Filter(error) => error.hint().into(),
            Error::KeyFormat(error) => error.hint().into(),
            Error::Name(..) => "Use 1 to 48 letters of A-Z and a-z, digits, and underscores.".into(),
            Error::Range { what, range, .. } => format!("Pass a value for {what} that is {range}."),
            Error::ArrayLengths { .. } => "Pass one element of each for every message.".into(),
            Error::Internal(_) => "Please report this as a bug.".into(),
            Error::NoFilter => "Use '{>}' to receive every message.".into(),
            Error::TwoStarts => "Pass only one of start_seq, start_time and new_only.".into(),
            Error::TwoTargets => "Pass to_seq, or to_time, or neither for the beginning.".into(),
            Error::RowSecurity(_) => {
                "Receive as a role with BYPASSRLS, or select messages with the consumer's filters.".into()
            }
            Error::NoStream(_) => {
                "See sequin.streams for those there are, or create it with sequin.create_stream()."
                    .into()
            }
            Error::NotAStream(_) => {
                "Its first columns must be seq, key, data, headers and inserted_at as sequin.create_stream() made them, with the primary key on seq. See sequin.repair_stream()."
                    .into()
            }
            Error::ForeignTrigger { .. } => {
                "It is for the tables that sequin makes. Drop the trigger from this one.".into()
            }
            Error::Damaged(stream, _) => {
                format!("Have the owner of its table, or a superuser, run: SELECT * FROM sequin.repair_stream('{stream}')")
            }
            Error::BeyondRepair(..) => {
                "Create another stream, publish to it what is left, and drop this one.".into()
            }
            Error::Restart(_) => {
                "Its seqs are used once only. Leave RESTART out; sequin.rewind() has consumers start again.".into()
            }
            Error::StreamExists(_) => "Choose another name, or drop the stream first.".into(),
            Error::StreamInUse { .. } => {
                "Drop the consumers first, or pass force => true to drop them too.".into()
            }
            Error::NoConsumer(_) => {
                "See sequin.consumers for those there are, or create it with sequin.create_consumer()."
                    .into()
            }
            Error::ConsumerExists(_) => {
                "Consumer names are unique in a database. Choose another name, or use sequin.alter_consumer()."
                    .into()
            }
            Error::NotStreamOwner(_) => "Only the owner of its table may alter or drop a stream.".into(),
            Error::NotConsumerOwner { owner, .. } => {
                format!("It belongs to role \"{owner}\" and is for members of that role.")
            }
            Error::OwnerGone { what, name } => format!(
                "Have a superuser run: SELECT sequin.alter_{what}('{name}', owner => 'ROLE')."
            ),
            Error::NotNewOwner(_) => "Give it to a role that you are a member of.".into(),
            Error::NoRole(_) => "See pg_roles for those there are.".into(),
            Error::NoSelect(stream) => {
                format!("Have its owner run: GRANT SELECT ON sequin_stream.\"{stream}\" TO the role.")
            }
            Error::NoSchemaUsage => {
                "Have its owner run: GRANT USAGE ON SCHEMA sequin_stream TO the role.".into()
            }
            Error::NoSource(_) => {
                "See sequin.sources for those there are, or create it with sequin.create_source().".into()
            }
            Error::SourceExists(_) => "Choose another name, or use sequin.alter_source().".into(),
            Error::NotSourceOwner { owner, .. } => {
                format!("It belongs to role \"{owner}\" and is for members of that role.")
            }
            Error::StreamFed { .. } => {
                "Drop the sources first, or pass force => true to drop them too.".into()
            }
            Error::TwoPublications => "Pass only one of tables and publication.".into(),
            Error::NoTables => {
                "Name the tables, or leave the argument out to capture all tables.".into()
            }
            Error::NotCapturable { .. } => {
                "Pass ordinary or partitioned tables of your own.".into()
            }
            Error::NoIdentity(table) => format!(
                "Add a primary key, or run ALTER TABLE {table} REPLICA IDENTITY FULL, or pass a publication with publish = 'insert'."
            ),
            Error::NotTableOwner(_) => {
                "Only the owner of a table may capture it. Have the owner, or a superuser, create the source."
                    .into()
            }
            Error::AllTables => "Name the tables, or pass a publication that you own.".into(),
            Error::NoInsert(stream) => {
                format!("Have its owner run: GRANT INSERT ON sequin_stream.\"{stream}\" TO the role.")
            }
            Error::NoPublication(_) => {
                "See pg_publication for those there are, or pass tables to have one made.".into()
            }
            Error::PublicationExists(name) => {
                format!("Choose another name for the source, or run DROP PUBLICATION \"{name}\".")
            }
            Error::PublicationGone { .. } => {
                "Create the publication again, or name the tables with sequin.alter_source() if sequin made it, or drop the source."
                    .into()
            }
            Error::NotPublicationOwner { owner, .. } => {
                format!("It belongs to role \"{owner}\" and is for members of that role.")
            }
            Error::NotOwnPublication { publication, .. } => {
                format!("Use ALTER PUBLICATION \"{publication}\" instead.")
            }
            Error::NotPublished { .. } => {
                "Add it with sequin.alter_source() or ALTER PUBLICATION. A partitioned table is captured as its root, unless the publication says otherwise."
                    .into()
            }
            Error::NoBackfillKey(_) => "Add a primary key.".into(),
            Error::NoTableSelect(table) => {
                format!("Have its owner run: GRANT SELECT ON {table} TO the role.")
            }
            Error::TableRowSecurity(_) => {
                "Have a role with BYPASSRLS do it, or leave the backfill out.".into()
            }
            Error::Condition(_) => "Pass one boolean expression over the table's columns.".into(),
            Error::NoBackfill(_) => "See sequin.backfills for those there are.".into(),
            Error::ReadOnly => "Run it on the primary, in a transaction that may write.".into(),
            Error::WalLevel => "Set wal_level = logical and restart the server.".into(),
            Error::NotUtf8 => "Create the database with ENCODING 'UTF8'.".into(),
            Error::NotYet(_) => "Leave this argument at its default in this version.".into(),
            Error::TooManyRedelivered(_) => {
                "Redeliver fewer messages, or use sequin.rewind() to replay a range.".into()
            }
            Error::CannotPrepare => {
                "Use COMMIT, or leave sequin's functions and streams out of two-phase transactions."
                    .into()
            }
            Error::SchemaTaken { schema, .. } => {
                format!("Rename or drop schema \"{schema}\", then create the extension, which makes it anew.")
            }
            Error::NotOurSchema => {
                "Rename this schema, and give the one that the extension was created in its name back."
                    .into()
            }
            Error::NotAMember(name) => {
                format!("Run ALTER EXTENSION sequin ADD for sequin.{name}, if it is the extension's own.")
            }
            Error::NotPreloaded => "Add sequin to shared_preload_libraries and restart the server.".into(),
            Error::TooManyDatabases => {
                "Raise sequin.max_databases, and max_worker_processes with it, and restart the server."
                    .into()
            }
            Error::TooManyPublished => {
                "Publish to fewer streams in a transaction, or raise max_locks_per_transaction and restart the server."
                    .into()
            }
            Error::Uncollected => {
                "A dispatcher of another database does not answer: see the server log, and try again."
                    .into()
            }
            Error::ConsumerUncommitted(_) => {
                "Commit the transaction that creates the consumer before using it.".into()
            }
            Error::NotReady(_) | Error::NoDispatcher(Some(_)) => "See sequin.workers and the server log for the reason.".into(),
            Error::NoDispatcher(None) => {
                "See sequin.workers and the server log for the reason; max_worker_processes may be too low."
                    .into()
            }
            Error::TablesChange(_) => {
                "Try again when for a moment no CREATE, ALTER or TRUNCATE TABLE is committed meanwhile.".into()
            }
            Error::DispatcherRestarted => "Run the transaction again.".into(),
            Error::TooNew(_) => {
                "Run the transaction again, or better receive in a statement of its own, and read other tables in those that follow it."
                    .into()
            }
            Error::InRecovery => "Use consumers on the primary.".into(),
            Error::BackfillCancelled(_) => "Start another with sequin.backfill().".into(),
            Error::Spool(_) => "Make room on the disk of the data directory.".into(),
        })
    }

    fn detail(&self) -> Option<String> {
        match self {
            Error::ArrayLengths { keys, data, headers } => {
                let headers = headers.map_or("no".into(), |n| n.to_string());
                Some(format!("There are {keys} keys, {data} data, and {headers} headers."))
            }
            Error::SchemaTaken { fault, .. } => Some(fault.clone()),
            Error::StreamInUse { consumers, .. } => Some(format!("Its consumers: {consumers}.")),
            Error::StreamFed { sources, .. } => Some(format!("Its sources: {sources}.")),
            Error::NotCapturable { fault, .. } => Some(fault.clone()),
            Error::NoIdentity(_) => {
                Some("Its updates and deletes could not say which row they change.".into())
            }
            Error::NoDispatcher(Some(error)) | Error::NotReady(Some(error)) => {
                Some(format!("Its last error: {error}"))
            }
            Error::Damaged(_, fault) | Error::BeyondRepair(_, fault) => {
                Some(format!("What was found: {fault}."))
            }
            Error::Internal(facts) => Some(facts.clone()),
            _ => None,
        }
    }
}

impl From<Error> for ErrorReport {
    fn from(error: Error) -> ErrorReport {
        let mut report = ErrorReport::new(error.sqlstate(), error.to_string(), "sequin");
        if let Some(detail) = error.detail() {
            report = report.set_detail(detail);
        }
        if let Some(hint) = error.hint() {
            report = report.set_hint(hint);
        }
        report
    }
}
