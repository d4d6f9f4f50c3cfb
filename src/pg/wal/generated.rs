//! The values of stored generated columns in decoded rows, which pgoutput leaves out.
//!
//! They are written in pgoutput's format. `crates/capture/src/decoded.rs` reads it.

use super::moment::{STORED, push_count, push_text};
use crate::pg::exec::memory;
use pgrx::pg_sys;
use std::ffi::CStr;

/// The letter before them: `GENERATED` in `crates/capture/src/decoded.rs`.
const GENERATED: u8 = b'+';

/// The values of a change's generated columns, if the table has any. They precede the change in its message.
///
/// # Safety
/// The arguments of a callback for a change of a table.
pub unsafe fn values(
    relation: pg_sys::Relation,
    change: *mut pg_sys::ReorderBufferChange,
) -> Vec<u8> {
    // SAFETY: as the caller has it; the tuples are of the relation's descriptor.
    unsafe {
        let descriptor = (*relation).rd_att;
        if (*descriptor).constr.is_null() || !(*(*descriptor).constr).has_generated_stored {
            return Vec::new();
        }
        memory::scoped(|| {
            let columns = pgrx::PgTupleDesc::from_pg_unchecked(descriptor);
            let is_stored = |column: &&pg_sys::FormData_pg_attribute| {
                column.attgenerated as u8 == STORED && !column.attisdropped
            };
            let columns: Vec<_> = columns.iter().filter(is_stored).collect();
            let mut out = vec![GENERATED];
            push_count(&mut out, columns.len());
            for column in &columns {
                push_text(&mut out, column.attname.data.as_ptr());
            }
            let rows = &(*change).data.tp;
            for row in [tuple(rows.newtuple), tuple(rows.oldtuple)] {
                push_count(&mut out, columns.len());
                for column in &columns {
                    push_value(&mut out, row, column, descriptor);
                }
            }
            out
        })
    }
}

#[cfg(any(feature = "pg14", feature = "pg15", feature = "pg16"))]
unsafe fn tuple(row: *mut pg_sys::ReorderBufferTupleBuf) -> pg_sys::HeapTuple {
    // SAFETY: null, or a tuple that is valid as long as the change.
    unsafe { if row.is_null() { std::ptr::null_mut() } else { &raw mut (*row).tuple } }
}

#[cfg(any(feature = "pg17", feature = "pg18"))]
unsafe fn tuple(row: pg_sys::HeapTuple) -> pg_sys::HeapTuple {
    row
}

/// Writes a value as pgoutput does; as an unchanged one if there is no row.
unsafe fn push_value(
    out: &mut Vec<u8>,
    row: pg_sys::HeapTuple,
    column: &pg_sys::FormData_pg_attribute,
    descriptor: pg_sys::TupleDesc,
) {
    if row.is_null() {
        return out.push(b'u');
    }
    // SAFETY: a row of the descriptor, and a column of it; a value that isn't NULL is of the column's type.
    unsafe {
        let mut is_null = false;
        let value = pg_sys::heap_getattr(row, column.attnum.into(), descriptor, &mut is_null);
        if is_null {
            return out.push(b'n');
        }
        if column.attlen == -1 && is_on_disk(value) {
            return out.push(b'u');
        }
        let (mut function, mut is_varlena) = (pg_sys::InvalidOid, false);
        pg_sys::getTypeOutputInfo(column.atttypid, &mut function, &mut is_varlena);
        let text = CStr::from_ptr(pg_sys::OidOutputFunctionCall(function, value)).to_bytes();
        out.push(b't');
        out.extend(u32::try_from(text.len()).unwrap_or(u32::MAX).to_be_bytes());
        out.extend(text);
    }
}

/// True for a TOASTed value that is not in WAL.
unsafe fn is_on_disk(value: pg_sys::Datum) -> bool {
    // SAFETY: a value of variable length.
    unsafe {
        let value = value.cast_mut_ptr::<pg_sys::varlena>();
        pgrx::varatt_is_1b_e(value)
            && u32::from((*value.cast::<pg_sys::varattrib_1b_e>()).va_tag)
                == pg_sys::vartag_external::VARTAG_ONDISK
    }
}
