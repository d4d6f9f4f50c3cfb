//! `pg_type`: which kind of JSON the values of each type become, for [`Types`].

use super::statement;
use crate::error::Result;
use crate::pg::exec::spi::{Access, Row, arg};
use pgrx::pg_sys;
use sequin_capture::types::{Type, Types};
use std::collections::HashMap;

// As json_categorize_type() in PostgreSQL's json.c and get_element_type() have it: domains are as their base type; then
// come arrays, rows, and casts to json. A cast counts only for a type that a user has created: OIDs of built-in types
// are below 16384 (FirstNormalObjectId).
statement!(
    FIND,
    "SELECT t.oid, \
        CASE WHEN t.typtype OPERATOR(pg_catalog.=) 'd' THEN t.typbasetype END, \
        CASE WHEN t.typsubscript OPERATOR(pg_catalog.=) 'pg_catalog.array_subscript_handler'::pg_catalog.regproc \
            AND t.typelem OPERATOR(pg_catalog.<>) 0::pg_catalog.oid THEN t.typelem END, \
        (SELECT pg_catalog.ascii(e.typdelim::pg_catalog.text) FROM pg_catalog.pg_type e \
            WHERE e.oid OPERATOR(pg_catalog.=) t.typelem), \
        t.typtype OPERATOR(pg_catalog.=) 'c', \
        ARRAY(SELECT a.attname::pg_catalog.text FROM pg_catalog.pg_attribute a \
            WHERE a.attrelid OPERATOR(pg_catalog.=) t.typrelid AND a.attnum OPERATOR(pg_catalog.>) 0 \
            AND NOT a.attisdropped ORDER BY a.attnum USING OPERATOR(pg_catalog.<)), \
        ARRAY(SELECT a.atttypid FROM pg_catalog.pg_attribute a \
            WHERE a.attrelid OPERATOR(pg_catalog.=) t.typrelid AND a.attnum OPERATOR(pg_catalog.>) 0 \
            AND NOT a.attisdropped ORDER BY a.attnum USING OPERATOR(pg_catalog.<)), \
        t.oid OPERATOR(pg_catalog.>=) 16384::pg_catalog.oid AND EXISTS (SELECT FROM pg_catalog.pg_cast c \
            WHERE c.castsource OPERATOR(pg_catalog.=) t.oid AND c.casttarget OPERATOR(pg_catalog.=) 114::pg_catalog.oid \
            AND c.castmethod OPERATOR(pg_catalog.=) 'f') \
     FROM pg_catalog.pg_type t WHERE t.oid OPERATOR(pg_catalog.=) ANY ($1)",
    [OIDARRAYOID]
);

/// What a row of `pg_type` says.
enum Found {
    Domain { base: u32 },
    Type(Type),
}

impl Found {
    /// The types that it is made of.
    fn parts(&self) -> Vec<u32> {
        match self {
            Found::Domain { base } => vec![*base],
            Found::Type(Type::Array { element, .. }) => vec![*element],
            Found::Type(Type::Composite { fields }) => fields.iter().map(|field| field.1).collect(),
            Found::Type(_) => Vec::new(),
        }
    }
}

/// Loads the wanted types, and all that they are made of, into `types`. A type that doesn't exist any more counts as
/// text.
pub fn load(types: &mut Types, wanted: &[u32]) -> Result<()> {
    let mut domains = HashMap::new();
    let mut wanted = wanted.to_vec();
    loop {
        wanted.retain(|oid| !types.knows(*oid) && !domains.contains_key(oid));
        if wanted.is_empty() {
            break;
        }
        let found = find(&wanted)?;
        for oid in wanted.drain(..).filter(|oid| !found.contains_key(oid)) {
            types.insert(oid, Type::Text);
        }
        for (oid, found) in found {
            wanted.extend(found.parts());
            match found {
                Found::Domain { base } => {
                    domains.insert(oid, base);
                }
                Found::Type(known) => types.insert(oid, known),
            }
        }
    }
    for &domain in domains.keys() {
        let mut base = domain;
        while let Some(&next) = domains.get(&base) {
            base = next;
        }
        types.insert(domain, types.get(base).clone());
    }
    Ok(())
}

fn find(oids: &[u32]) -> Result<HashMap<u32, Found>> {
    let oids: Vec<pg_sys::Oid> = oids.iter().map(|&oid| pg_sys::Oid::from(oid)).collect();
    FIND.with(|s| s.run(Access::Latest, &[arg(oids)], |rows| rows.iter().map(read).collect()))
}

fn read(row: Row) -> Result<(u32, Found)> {
    let oid = |column| row.get::<pg_sys::Oid>(column).map(|oid| oid.map(pg_sys::Oid::to_u32));
    let is_row: bool = row.need(5)?;
    let is_cast: bool = row.need(8)?;
    let found = if let Some(base) = oid(2)? {
        Found::Domain { base }
    } else if let Some(element) = oid(3)? {
        let delimiter = row.get::<i32>(4)?.and_then(|letter| u8::try_from(letter).ok());
        Found::Type(Type::Array { element, delimiter: delimiter.unwrap_or(b',') })
    } else if is_row {
        let names: Vec<String> = row.need(6)?;
        let oids: Vec<pg_sys::Oid> = row.need(7)?;
        let fields = names.into_iter().zip(oids.into_iter().map(pg_sys::Oid::to_u32)).collect();
        Found::Type(Type::Composite { fields })
    } else if is_cast {
        Found::Type(Type::Cast)
    } else {
        Found::Type(Type::Text)
    };
    Ok((row.need::<pg_sys::Oid>(1)?.to_u32(), found))
}
