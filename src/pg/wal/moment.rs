//! What the catalogs said of a table at the moment of a decoded change. Runs in callbacks of decoding, in which catalog
//! lookups see the catalogs as they were then.
//!
//! The descriptions are written in pgoutput's format. `crates/capture/src/decoded.rs` reads them and has the same
//! letters.

use crate::error::Error;
use crate::pg::exec::memory;
use pgrx::pg_sys::{self, Oid};
use std::cell::RefCell;
use std::collections::HashSet;
use std::ffi::{CStr, c_char, c_int};

const DESCRIBED: u8 = b'#';
const ARRAY: u8 = b'a';
const COMPOSITE: u8 = b'c';
const DOMAIN: u8 = b'd';
const OTHER: u8 = b'o';

/// pg_attribute.attgenerated of a generated column that is stored.
pub(in crate::pg) const STORED: u8 = b's';

#[derive(Default)]
struct Known {
    /// Tables that have not changed since they were described.
    tables: HashSet<u32>,
    /// The relations of the composite types that have been in a description.
    composites: HashSet<u32>,
}

thread_local! {
    static KNOWN: RefCell<Known> = RefCell::default();
}

/// Registers the callbacks that make tables be described again after a change. Called once in a process.
pub fn watch() {
    // SAFETY: the callbacks are functions of this library, which is never unloaded.
    unsafe {
        pg_sys::CacheRegisterRelcacheCallback(Some(relation_changed), pg_sys::Datum::null());
        // For renamed schemas: pgoutput watches them since version 16 only.
        pg_sys::CacheRegisterSyscacheCallback(
            pg_sys::SysCacheIdentifier::NAMESPACEOID as c_int,
            Some(schema_changed),
            pg_sys::Datum::null(),
        );
    }
}

#[pgrx::pg_guard]
unsafe extern "C-unwind" fn relation_changed(_arg: pg_sys::Datum, relation: Oid) {
    KNOWN.with_borrow_mut(|known| {
        if relation == pg_sys::InvalidOid || known.composites.contains(&relation.to_u32()) {
            *known = Known::default();
        } else {
            known.tables.remove(&relation.to_u32());
        }
    });
}

#[pgrx::pg_guard]
unsafe extern "C-unwind" fn schema_changed(_arg: pg_sys::Datum, _cache: c_int, _hash: u32) {
    KNOWN.with_borrow_mut(|known| *known = Known::default());
}

/// Descriptions of the tables that a message of pgoutput names, as far as they are needed. They precede the message.
pub fn descriptions(message: &[u8]) -> Vec<Vec<u8>> {
    let Some((&letter, rest)) = message.split_first() else { return Vec::new() };
    // A truncation has two fields before the tables: their number, and its options.
    let oids = match letter {
        b'R' | b'I' | b'U' | b'D' => rest.get(..4),
        b'T' => rest.get(5..),
        _ => None,
    };
    let (oids, _) = oids.unwrap_or_default().as_chunks::<4>();
    let oids = oids.iter().map(|oid| u32::from_be_bytes(*oid));
    if letter == b'R' {
        // pgoutput describes the table anew: the publication may have changed.
        KNOWN.with_borrow_mut(|known| {
            known.tables.retain(|known| !oids.clone().any(|oid| oid == *known))
        });
        return Vec::new();
    }
    // Noted as described before that is done: if the table changes meanwhile, the callback removes it again.
    oids.filter(|oid| KNOWN.with_borrow_mut(|known| known.tables.insert(*oid)))
        .map(|oid| memory::scoped(|| described(oid)))
        .collect()
}

fn described(oid: u32) -> Vec<u8> {
    let mut out = vec![DESCRIBED];
    out.extend(oid.to_be_bytes());
    // SAFETY: pgoutput has just had the same relation open, and a snapshot of the catalogs is set up.
    unsafe {
        let relation = pg_sys::RelationIdGetRelation(Oid::from(oid));
        if relation.is_null() {
            Error::Internal("a decoded table is not in the catalogs".into()).raise();
            return out;
        }
        push_text(&mut out, pg_sys::get_namespace_name((*(*relation).rd_rel).relnamespace));
        push_key(&mut out, relation);
        push_columns(&mut out, (*relation).rd_att);
        pg_sys::RelationClose(relation);
    }
    out
}

/// The names of the columns that identify a row.
unsafe fn push_key(out: &mut Vec<u8>, relation: pg_sys::Relation) {
    // SAFETY: an open relation; its indexes are there as long as it is, and have a descriptor.
    unsafe {
        let by_index = (*(*relation).rd_rel).relreplident as u8 == b'i';
        let (mut primary, mut identity) = (None, None);
        let list = pg_sys::RelationGetIndexList(relation);
        for oid in pgrx::PgList::<Oid>::from_pg(list).iter_oid() {
            let index = pg_sys::RelationIdGetRelation(oid);
            if index.is_null() {
                continue;
            }
            let form = &*(*index).rd_index;
            let numbers = form.indkey.values.as_slice(form.indnkeyatts as usize);
            if form.indisprimary {
                primary = Some(numbers.to_vec());
            }
            if by_index && form.indisreplident {
                identity = Some(numbers.to_vec());
            }
            pg_sys::RelationClose(index);
        }
        let descriptor = pgrx::PgTupleDesc::from_pg_unchecked((*relation).rd_att);
        let key = identity.or(primary).unwrap_or_default();
        push_count(out, key.len());
        for number in key {
            let at = usize::try_from(number - 1).unwrap_or(usize::MAX);
            match descriptor.get(at) {
                Some(column) => push_text(out, column.attname.data.as_ptr()),
                None => out.push(0),
            }
        }
    }
}

/// The columns, their types, and the types that these are made of.
unsafe fn push_columns(out: &mut Vec<u8>, descriptor: pg_sys::TupleDesc) {
    // SAFETY: the descriptor of an open relation.
    unsafe {
        let descriptor = pgrx::PgTupleDesc::from_pg_unchecked(descriptor);
        let columns: Vec<_> = descriptor.iter().filter(|column| !column.attisdropped).collect();
        push_count(out, columns.len());
        for column in &columns {
            push_text(out, column.attname.data.as_ptr());
            out.extend(column.attnum.to_be_bytes());
            out.extend(column.atttypid.to_u32().to_be_bytes());
            out.push(u8::from(column.attgenerated as u8 == STORED));
        }
        let (mut types, mut seen) = (Vec::new(), HashSet::new());
        let mut open: Vec<Oid> = columns.iter().map(|column| column.atttypid).collect();
        while let Some(oid) = open.pop() {
            if seen.insert(oid) {
                types.extend(oid.to_u32().to_be_bytes());
                push_type(&mut types, oid, &mut open);
            }
        }
        push_count(out, seen.len());
        out.extend(types);
    }
}

/// Describes a type, and adds the types that it is made of to `open`.
unsafe fn push_type(out: &mut Vec<u8>, oid: Oid, open: &mut Vec<Oid>) {
    // SAFETY: looks up the catalog's caches; a type that isn't there is of no kind and has no element. A row type's
    // descriptor is reference-counted, and released.
    unsafe {
        let kind = pg_sys::get_typtype(oid) as u8;
        let element = pg_sys::get_element_type(oid);
        if kind == pg_sys::TYPTYPE_DOMAIN {
            let base = pg_sys::getBaseType(oid);
            out.push(DOMAIN);
            out.extend(base.to_u32().to_be_bytes());
            open.push(base);
        } else if element != pg_sys::InvalidOid {
            out.push(ARRAY);
            out.extend(element.to_u32().to_be_bytes());
            out.push(delimiter(element));
            open.push(element);
        } else if kind == pg_sys::TYPTYPE_COMPOSITE {
            let descriptor = pg_sys::lookup_rowtype_tupdesc_noerror(oid, -1, true);
            out.push(COMPOSITE);
            if descriptor.is_null() {
                return push_count(out, 0);
            }
            let fields = pgrx::PgTupleDesc::from_pg(descriptor);
            let fields: Vec<_> = fields.iter().filter(|field| !field.attisdropped).collect();
            let composite = pg_sys::get_typ_typrelid(oid).to_u32();
            KNOWN.with_borrow_mut(|known| known.composites.insert(composite));
            push_count(out, fields.len());
            for field in fields {
                push_text(out, field.attname.data.as_ptr());
                out.extend(field.atttypid.to_u32().to_be_bytes());
                open.push(field.atttypid);
            }
        } else {
            out.push(OTHER);
        }
    }
}

unsafe fn delimiter(element: Oid) -> u8 {
    let (mut length, mut by_value, mut align, mut delimiter) = (0, false, 0, 0);
    let (mut param, mut function) = (pg_sys::InvalidOid, pg_sys::InvalidOid);
    // SAFETY: a type that is the element of another, and places for all that is returned.
    unsafe {
        pg_sys::get_type_io_data(
            element,
            pg_sys::IOFuncSelector::IOFunc_output,
            &mut length,
            &mut by_value,
            &mut align,
            &mut delimiter,
            &mut param,
            &mut function,
        );
    }
    delimiter as u8
}

pub(in crate::pg) fn push_count(out: &mut Vec<u8>, count: usize) {
    // No table has more columns or types than 16 bits can count.
    out.extend(u16::try_from(count).unwrap_or(u16::MAX).to_be_bytes());
}

/// A text with a zero at its end; an empty one if there is none.
pub(in crate::pg) unsafe fn push_text(out: &mut Vec<u8>, text: *const c_char) {
    if !text.is_null() {
        // SAFETY: zero-terminated, and not changed while it is copied.
        out.extend(unsafe { CStr::from_ptr(text) }.to_bytes());
    }
    out.push(0);
}
