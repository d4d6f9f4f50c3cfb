//! Which kind of JSON a type's values become, by the rules of json_categorize_type() in PostgreSQL's json.c.

use std::collections::HashMap;

/// How the text of a type's output function becomes JSON. A domain has the kind of its base type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Type {
    Bool,
    Number,
    /// A string with the text as it is. Dates are among these, since JSON uses their ISO text.
    Text,
    Timestamp,
    TimestampTz,
    /// json and jsonb.
    Json,
    Array {
        element: u32,
        /// pg_type.typdelim of the element: `,` but for box.
        delimiter: u8,
    },
    /// int2vector and oidvector: arrays to PostgreSQL, with a text of their own.
    Vector {
        element: u32,
    },
    /// The fields by name, without those that were dropped.
    Composite {
        fields: Vec<(String, u32)>,
    },
    /// A type with a cast to json, such as hstore. Only the server can convert it.
    Cast,
}

/// All types that are known, by OID.
#[derive(Debug, Default)]
pub struct Types {
    loaded: HashMap<u32, Type>,
}

impl Types {
    /// A type that isn't known counts as text: to_jsonb() too makes a string of any type without a rule of its own.
    pub fn get(&self, oid: u32) -> &Type {
        builtin(oid).or_else(|| self.loaded.get(&oid)).unwrap_or(&Type::Text)
    }

    pub fn knows(&self, oid: u32) -> bool {
        builtin(oid).is_some() || self.loaded.contains_key(&oid)
    }

    pub fn insert(&mut self, oid: u32, known: Type) {
        self.loaded.insert(oid, known);
    }
}

/// The OID of jsonb. Its text needs no check before it becomes jsonb again.
pub(super) const JSONB: u32 = 3802;

const fn array(element: u32) -> Type {
    Type::Array { element, delimiter: b',' }
}

/// The most common types, for which no catalog needs to be read. Their OIDs are the same in every server.
fn builtin(oid: u32) -> Option<&'static Type> {
    Some(match oid {
        16 => &Type::Bool,
        // int8, int2, int4, float4, float8, numeric
        20 | 21 | 23 | 700 | 701 | 1700 => &Type::Number,
        // text, varchar, bpchar, name, "char", bytea, uuid, oid
        25 | 1043 | 1042 | 19 | 18 | 17 | 2950 | 26 => &Type::Text,
        // date, time, timetz, interval, inet, cidr, money, xml
        1082 | 1083 | 1266 | 1186 | 869 | 650 | 790 | 142 => &Type::Text,
        1114 => &Type::Timestamp,
        1184 => &Type::TimestampTz,
        114 | JSONB => &Type::Json,
        22 => &Type::Vector { element: 21 },
        30 => &Type::Vector { element: 26 },
        1000 => const { &array(16) },
        1016 => const { &array(20) },
        1005 => const { &array(21) },
        1007 => const { &array(23) },
        1021 => const { &array(700) },
        1022 => const { &array(701) },
        1231 => const { &array(1700) },
        1009 => const { &array(25) },
        1015 => const { &array(1043) },
        1014 => const { &array(1042) },
        2951 => const { &array(2950) },
        1182 => const { &array(1082) },
        1115 => const { &array(1114) },
        1185 => const { &array(1184) },
        199 => const { &array(114) },
        3807 => const { &array(JSONB) },
        603 => &Type::Text,
        1020 => &Type::Array { element: 603, delimiter: b';' },
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_that_is_not_known_is_text_until_it_is_loaded() {
        let mut types = Types::default();
        assert_eq!((types.get(99_999), types.knows(99_999)), (&Type::Text, false));
        types.insert(99_999, Type::Cast);
        assert_eq!((types.get(99_999), types.knows(99_999)), (&Type::Cast, true));
        assert!(types.knows(25));
    }
}
