//! The SQLSTATE of each error.

use super::Error;
use pgrx::PgSqlErrorCode::{self, *};

impl Error {
    pub(super) fn sqlstate(&self) -> PgSqlErrorCode {
        match self {
            Error::Null(_) | Error::NullElement(_) | Error::NoBound => {
                ERRCODE_NULL_VALUE_NOT_ALLOWED
            }
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
            | Error::NotOnePerKey(_)
            | Error::NoSetting(_)
            | Error::ScheduledOnce
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
            Error::Restart(_) | Error::Relative(_) => ERRCODE_FEATURE_NOT_SUPPORTED,
            Error::LeftOut { .. } => ERRCODE_TRIGGERED_ACTION_EXCEPTION,
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
            | Error::NotScheduler { .. }
            | Error::NoInsert(_)
            | Error::NoTableSelect(_)
            | Error::TableRowSecurity(_)
            | Error::RowSecurity(_) => ERRCODE_INSUFFICIENT_PRIVILEGE,
            Error::NotYet(_)
            | Error::CannotPrepare
            | Error::NotUtf8
            | Error::RetentionPerKey(_) => ERRCODE_FEATURE_NOT_SUPPORTED,
            Error::PartitionLocked(_) => ERRCODE_LOCK_NOT_AVAILABLE,
            Error::TooManyRedelivered(_) => ERRCODE_PROGRAM_LIMIT_EXCEEDED,
            Error::NotPreloaded
            | Error::SchemaTaken { .. }
            | Error::NotOurSchema
            | Error::NotAMember(_)
            | Error::Outdated
            | Error::Damaged(..)
            | Error::NotPartitionable { .. }
            | Error::ConsumerUncommitted(_)
            | Error::NoDispatcher(_)
            | Error::Uncollected
            | Error::NoIdentity(_)
            | Error::NotUpdatable(_)
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
}
