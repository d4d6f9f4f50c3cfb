//! Types: values from their text, and how they are ordered.

use super::spi::Arg;
use crate::error::{Error, Result};
use pgrx::pg_sys;
use std::ffi::CString;

/// The type that a domain is made of in the end; any other type is itself.
pub fn base_type(type_oid: pg_sys::Oid) -> pg_sys::Oid {
    // SAFETY: looks the type up in the catalog cache.
    unsafe { pg_sys::getBaseType(type_oid) }
}

/// The value that the type's input function makes of a text; an ERROR if it refuses the text. This may run users' code:
/// a type can contain domains, whose checks call functions.
pub fn value(type_oid: pg_sys::Oid, text: &str) -> Result<Arg> {
    let text = CString::new(text).map_err(|_| Error::Internal("a zero byte in a value".into()))?;
    let (mut function, mut param) = (pg_sys::InvalidOid, pg_sys::InvalidOid);
    // SAFETY: the type's own input function, which copies what it needs of the text.
    unsafe {
        pg_sys::getTypeInputInfo(type_oid, &mut function, &mut param);
        Ok(Some(pg_sys::OidInputFunctionCall(function, text.as_ptr().cast_mut(), param, -1)))
    }
}

/// The operators "greater" and "equal" of the order in which ORDER BY puts values; `InvalidOid` if there is none.
pub fn order(type_oid: pg_sys::Oid) -> (pg_sys::Oid, pg_sys::Oid) {
    let wanted = (pg_sys::TYPECACHE_GT_OPR | pg_sys::TYPECACHE_EQ_OPR).cast_signed();
    // SAFETY: an entry of the type cache is never freed.
    unsafe {
        let entry = &*pg_sys::lookup_type_cache(type_oid, wanted);
        (entry.gt_opr, entry.eq_opr)
    }
}
