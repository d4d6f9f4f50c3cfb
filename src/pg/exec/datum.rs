//! Values that sequin hands on without unpacking them: a payload goes from caller to table, and from table to caller,
//! as the same datum.

use pgrx::callconv::{Arg, ArgAbi, BoxRet, FcInfo};
use pgrx::datum::{Datum as BorrowedDatum, FromDatum, IntoDatum};
use pgrx::pg_sys;
use pgrx::pgrx_sql_entity_graph::metadata::{
    ArgumentError, ReturnsError, ReturnsRef, SqlMappingRef, SqlTranslatable, TypeOrigin,
};
use sequin_engine::key::{self, KeyId};

/// The length of an interval, in which a month has 30 days.
pub fn micros(interval: pgrx::datum::Interval) -> sequin_engine::settings::Micros {
    i64::try_from(interval.as_micros()).unwrap_or(i64::MAX)
}

macro_rules! opaque {
    ($(#[$doc:meta])* $name:ident, $sql:literal, $oid:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy)]
        pub struct $name(pg_sys::Datum);

        impl $name {
            #[allow(dead_code)]
            pub(crate) fn datum(self) -> pg_sys::Datum {
                self.0
            }
        }

        impl FromDatum for $name {
            unsafe fn from_polymorphic_datum(
                datum: pg_sys::Datum,
                is_null: bool,
                _type: pg_sys::Oid,
            ) -> Option<Self> {
                (!is_null).then_some($name(datum))
            }
        }

        impl IntoDatum for $name {
            fn into_datum(self) -> Option<pg_sys::Datum> {
                Some(self.0)
            }
            fn type_oid() -> pg_sys::Oid {
                $oid
            }
        }

        // SAFETY: the SQL type named is the one whose datums the newtype holds.
        unsafe impl SqlTranslatable for $name {
            const TYPE_IDENT: &'static str = pgrx::pgrx_resolved_type!($name);
            const TYPE_ORIGIN: TypeOrigin = TypeOrigin::External;
            const ARGUMENT_SQL: Result<SqlMappingRef, ArgumentError> =
                Ok(SqlMappingRef::literal($sql));
            const RETURN_SQL: Result<ReturnsRef, ReturnsError> =
                Ok(ReturnsRef::One(SqlMappingRef::literal($sql)));
        }

        // SAFETY: hands the argument's datum on as it is.
        unsafe impl<'fcx> ArgAbi<'fcx> for $name {
            unsafe fn unbox_arg_unchecked(arg: Arg<'_, 'fcx>) -> Self {
                // SAFETY: any datum is valid for the newtype; NULLs come as Option.
                unsafe { arg.unbox_arg_using_from_datum() }
                    .unwrap_or($name(pg_sys::Datum::null()))
            }
        }

        // SAFETY: returns a datum of the type that SqlTranslatable names.
        unsafe impl BoxRet for $name {
            unsafe fn box_into<'fcx>(self, fcinfo: &mut FcInfo<'fcx>) -> BorrowedDatum<'fcx> {
                // SAFETY: as above.
                unsafe { fcinfo.return_raw_datum(self.0) }
            }
        }
    };
}

opaque!(
    /// A jsonb.
    Jsonb, "jsonb", pg_sys::JSONBOID
);
opaque!(
    /// A text.
    Text, "text", pg_sys::TEXTOID
);
opaque!(
    /// A jsonb[].
    JsonbArray, "jsonb[]", pg_sys::JSONBARRAYOID
);
opaque!(
    /// A text[].
    TextArray, "text[]", pg_sys::TEXTARRAYOID
);
opaque!(
    /// A regclass.
    RegClass, "regclass", pg_sys::REGCLASSOID
);
opaque!(
    /// A regclass[].
    RegClassArray, "regclass[]", pg_sys::REGCLASSARRAYOID
);
opaque!(
    /// A regproc.
    RegProc, "regproc", pg_sys::REGPROCOID
);

opaque!(
    /// A regrole.
    RegRole, "regrole", pg_sys::REGROLEOID
);

opaque!(
    /// A timestamptz.
    Timestamptz, "timestamptz", pg_sys::TIMESTAMPTZOID
);

impl Text {
    /// The identity of a key.
    pub fn id(self) -> KeyId {
        self.with_str(key::key_id)
    }

    /// Calls `f` with the text. The database is in UTF-8, as CREATE EXTENSION has checked.
    pub fn with_str<R>(self, f: impl FnOnce(&str) -> R) -> R {
        // SAFETY: a text; if it is compressed or TOASTed, its plain copy is in the current memory context. The server
        // has checked its encoding.
        unsafe {
            let text = pg_sys::pg_detoast_datum_packed(self.0.cast_mut_ptr());
            f(pgrx::text_to_rust_str_unchecked(text))
        }
    }
}

impl From<&str> for Text {
    /// Allocated in the current memory context.
    fn from(text: &str) -> Text {
        Text(text.into_datum().unwrap_or(pg_sys::Datum::null()))
    }
}

impl Jsonb {
    /// What jsonb's input function makes of a text, in the current memory context.
    pub fn parse(text: &mut String) -> Jsonb {
        // The input function needs a zero at the end. Appended in place, which saves a copy.
        text.push('\0');
        // SAFETY: a zero-terminated string.
        let value = unsafe {
            let text = pg_sys::Datum::from(text.as_ptr());
            pgrx::direct_function_call_as_datum(pg_sys::jsonb_in, &[Some(text)])
        };
        text.pop();
        Jsonb(value.unwrap_or(pg_sys::Datum::null()))
    }
}

impl From<i64> for Timestamptz {
    fn from(micros: i64) -> Timestamptz {
        Timestamptz(pg_sys::Datum::from(micros))
    }
}

impl From<pg_sys::Oid> for RegClass {
    fn from(oid: pg_sys::Oid) -> RegClass {
        RegClass(pg_sys::Datum::from(oid))
    }
}

impl From<RegClass> for pg_sys::Oid {
    fn from(class: RegClass) -> pg_sys::Oid {
        // An OID is the low half of its datum.
        pg_sys::Oid::from(class.0.value() as u32)
    }
}

impl From<RegRole> for pg_sys::Oid {
    fn from(role: RegRole) -> pg_sys::Oid {
        pg_sys::Oid::from(role.0.value() as u32)
    }
}

/// Copies a varlena into the current memory context.
pub(in crate::pg) fn copy_varlena(datum: pg_sys::Datum) -> pg_sys::Datum {
    // SAFETY: called with non-NULL varlena datums of a live tuple only, whose header says their size. A TOAST pointer
    // is copied as a pointer: the caller's snapshot keeps the chunks from being vacuumed, and a lock keeps the table.
    unsafe {
        let size = pgrx::varsize_any(datum.cast_mut_ptr());
        let copy = pg_sys::palloc(size);
        std::ptr::copy_nonoverlapping(datum.cast_mut_ptr::<u8>(), copy.cast(), size);
        pg_sys::Datum::from(copy)
    }
}
