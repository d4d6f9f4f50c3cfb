//! The errors of the extension: for each its message and DETAIL here, its SQLSTATE and HINT in files of their own.

mod hint;
mod sqlstate;

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
    #[error("arrays \"keys\", \"data\", \"headers\" and \"dedup_ids\" must have the same length")]
    ArrayLengths { keys: usize, data: usize, headers: Option<usize>, dedup_ids: Option<usize> },
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
    #[error("partition {0} is locked")]
    PartitionLocked(String),
    #[error("stream \"{stream}\" cannot be given retention as its table is now")]
    NotPartitionable { stream: String, reasons: Vec<String> },
    #[error("retention of a stream with one message per key is not supported")]
    RetentionPerKey(String),
    #[error("stream \"{0}\" is damaged")]
    Damaged(String, String),
    #[error("stream \"{0}\" cannot be repaired")]
    BeyondRepair(String, String),
    #[error("cannot restart the sequence of stream \"{0}\"")]
    Restart(String),
    #[error("cannot make a parent or a partition of stream \"{0}\"")]
    Relative(String),
    #[error(
        "{left_out} of {count} messages were not inserted into stream \"{stream}\" as they were published"
    )]
    LeftOut { stream: String, left_out: usize, count: usize },
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
    #[error("table {0} has virtual generated columns and REPLICA IDENTITY FULL")]
    NotUpdatable(String),
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
    #[error("neither before_seq nor before_time says which messages to delete")]
    NoBound,
    #[error("stream \"{0}\" keeps all messages of a key")]
    NotOnePerKey(String),
    #[error("a message with a dedup_id cannot be scheduled")]
    ScheduledOnce,
    #[error("permission denied for schedule {id}")]
    NotScheduler { id: i64, owner: String },
    #[error("there is no setting \"{0}\" to reset")]
    NoSetting(String),
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
    #[error("the end of an earlier session, of another database, has not been dealt with yet")]
    Uncollected,
    #[error("consumer \"{0}\" is not active yet")]
    ConsumerUncommitted(String),
    #[error("schema \"{schema}\" cannot be taken for the extension sequin")]
    SchemaTaken { schema: &'static str, fault: String },
    #[error("schema \"sequin\" is not that of the extension sequin")]
    NotOurSchema,
    #[error(
        "the extension sequin of this database is of an older version than the server's library"
    )]
    Outdated,
    #[error("sequin.{0} is not part of the extension sequin")]
    NotAMember(String),
    #[error("the dispatcher of this database is not running")]
    NoDispatcher(Option<String>),
    #[error("the dispatcher cannot hand out messages of the stream now")]
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
    #[error("cannot write or read a temporary file: {0}")]
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

    fn detail(&self) -> Option<String> {
        match self {
            Error::ArrayLengths { keys, data, headers, dedup_ids } => {
                let count = |count: &Option<usize>| count.map_or("no".into(), |n| n.to_string());
                let (headers, ids) = (count(headers), count(dedup_ids));
                let all = format!("{keys} keys, {data} data, {headers} headers, {ids} dedup_ids");
                Some(format!("There are {all}."))
            }
            Error::SchemaTaken { fault, .. } => Some(fault.clone()),
            Error::NotPartitionable { reasons, .. } => {
                Some(format!("In the way: {}.", reasons.join(", ")))
            }
            Error::StreamInUse { consumers, .. } => Some(format!("Its consumers: {consumers}.")),
            Error::StreamFed { sources, .. } => Some(format!("Its sources: {sources}.")),
            Error::NotCapturable { fault, .. } => Some(fault.clone()),
            Error::NoIdentity(_) => {
                Some("Its updates and deletes could not say which row they change.".into())
            }
            Error::NotUpdatable(_) => Some(
                "PostgreSQL would refuse its updates and deletes while a publication has it."
                    .into(),
            ),
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
