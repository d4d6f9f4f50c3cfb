//! The HINT of each error: what to do about it.

use super::Error;

impl Error {
    pub(super) fn hint(&self) -> Option<String> {
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
            Error::PartitionLocked(_) => "Try again when nobody has it locked.".into(),
            Error::NotPartitionable { .. } => {
                "Drop these, set retention, and make them anew; or create another stream with retention, and publish to that.".into()
            }
            Error::RetentionPerKey(stream) => {
                format!("It keeps the last message of each key: sequin.delete_key('{stream}', key) removes a key.")
            }
            Error::Damaged(stream, _) => {
                format!("Have the owner of its table, or a superuser, run: SELECT * FROM sequin.repair_stream('{stream}')")
            }
            Error::BeyondRepair(..) => {
                "Delete messages that have seqs which its sequence has not given, or create another stream, publish to it what is left, and drop this one.".into()
            }
            Error::Relative(_) => {
                "Rows would get past its trigger or into other tables, and would not be delivered. Have a consumer move them."
                    .into()
            }
            Error::LeftOut { stream, .. } => {
                format!("A trigger or a rule on sequin_stream.\"{stream}\" keeps rows out or changes their seq. Drop it, or INSERT into the table, which says how many rows were inserted.")
            }
            Error::ScheduledOnce => "Leave out dedup_id or deliver_at.".into(),
            Error::NotScheduler { owner, .. } => format!("It is for members of role \"{owner}\"."),
            Error::NoSetting(_) => "Name settings that have a default, such as dedup_window.".into(),
            Error::NoBound => "Pass one of them; before_time => 'infinity' deletes all.".into(),
            Error::NotOnePerKey(_) => {
                "DELETE the messages from its table, or create the stream with one_message_per_key => true.".into()
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
            Error::NotUpdatable(table) => format!(
                "Run ALTER TABLE {table} REPLICA IDENTITY DEFAULT, make the columns STORED, or pass a publication with publish = 'insert'."
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
            Error::Outdated => "Run: ALTER EXTENSION sequin UPDATE".into(),
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
                "The dispatcher of that database does not answer: see the server log, and try again."
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
            Error::Spool(_) => "See whether the disk of the data directory is full or damaged.".into(),
        })
    }
}
