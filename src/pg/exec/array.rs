//! Arrays. Those that are only handed on are not unpacked: sequin looks at their length and for NULLs.

use super::datum::{Jsonb, JsonbArray, RegClassArray, Text, TextArray};
use super::spi::Arg;
use pgrx::datum::FromDatum;
use pgrx::pg_sys;

/// Elements of a one-dimensional or empty array, and whether one of them is NULL.
fn inspect(datum: pg_sys::Datum) -> (usize, bool) {
    // SAFETY: the newtypes only ever hold array datums that PostgreSQL passed in. Detoasting gives an aligned header,
    // in the caller's memory context, which lives as long as the call; behind it are as many dimensions as `ndim` says
    // (ARR_DIMS), of which ArrayGetNItems reads none in an empty array.
    unsafe {
        let array = pg_sys::pg_detoast_datum(datum.cast_mut_ptr()).cast::<pg_sys::ArrayType>();
        let dims = array.cast::<u8>().add(size_of::<pg_sys::ArrayType>()).cast::<i32>();
        let len = pg_sys::ArrayGetNItems((*array).ndim, dims);
        (usize::try_from(len).unwrap_or(0), pg_sys::array_contains_nulls(array))
    }
}

/// A bigint[], made in one piece: pgrx would add one element after the other.
pub fn bigints(values: &[i64]) -> Arg {
    make(values, pg_sys::INT8OID)
}

/// An integer[].
pub fn integers(values: &[i32]) -> Arg {
    make(values, pg_sys::INT4OID)
}

/// Makes an array of type `of`. `T` must be the representation of that type's values, without padding.
fn make<T: Copy>(values: &[T], of: pg_sys::Oid) -> Arg {
    // SAFETY: a header, one dimension's length and lower bound (ARR_OVERHEAD_NONULLS(1), which is aligned for T), and
    // the values, as construct_array() lays them out.
    unsafe {
        if values.is_empty() {
            return Some(pg_sys::Datum::from(pg_sys::construct_empty_array(of)));
        }
        let head = size_of::<pg_sys::ArrayType>() + 2 * size_of::<i32>();
        let size = head + size_of_val(values);
        let array = pg_sys::palloc0(size).cast::<pg_sys::ArrayType>();
        pgrx::set_varsize_4b(array.cast(), i32::try_from(size).unwrap_or(i32::MAX));
        (*array).ndim = 1;
        (*array).elemtype = of;
        let dimension = array.add(1).cast::<i32>();
        *dimension = i32::try_from(values.len()).unwrap_or(i32::MAX);
        *dimension.add(1) = 1;
        let data = array.cast::<u8>().add(head).cast::<T>();
        std::ptr::copy_nonoverlapping(values.as_ptr(), data, values.len());
        Some(pg_sys::Datum::from(array))
    }
}

/// The elements, in order, whatever the array's dimensions.
fn elements(datum: pg_sys::Datum, of: pg_sys::Oid) -> Vec<Option<pg_sys::Datum>> {
    let mut values = std::ptr::null_mut();
    let (mut nulls, mut count) = (std::ptr::null_mut(), 0);
    // SAFETY: as above; text and jsonb are both varlenas that are aligned as an int. The datums point into the array,
    // which lives as long as the call.
    unsafe {
        let array = pg_sys::pg_detoast_datum(datum.cast_mut_ptr()).cast::<pg_sys::ArrayType>();
        let align = pg_sys::TYPALIGN_INT as std::ffi::c_char;
        pg_sys::deconstruct_array(array, of, -1, false, align, &mut values, &mut nulls, &mut count);
        let at = |n| (!*nulls.add(n)).then(|| *values.add(n));
        (0..usize::try_from(count).unwrap_or(0)).map(at).collect()
    }
}

impl TextArray {
    pub fn elements(&self) -> Vec<Option<Text>> {
        let texts = elements(self.datum(), pg_sys::TEXTOID).into_iter();
        // SAFETY: what a text[] has.
        texts.map(|text| unsafe { Text::from_datum(text?, false) }).collect()
    }

    pub fn len(&self) -> usize {
        inspect(self.datum()).0
    }

    pub fn has_null(&self) -> bool {
        inspect(self.datum()).1
    }
}

impl RegClassArray {
    pub fn len(&self) -> usize {
        inspect(self.datum()).0
    }

    pub fn has_null(&self) -> bool {
        inspect(self.datum()).1
    }
}

impl JsonbArray {
    pub fn elements(&self) -> Vec<Option<Jsonb>> {
        let values = elements(self.datum(), pg_sys::JSONBOID).into_iter();
        // SAFETY: what a jsonb[] has.
        values.map(|value| unsafe { Jsonb::from_datum(value?, false) }).collect()
    }

    pub fn len(&self) -> usize {
        inspect(self.datum()).0
    }

    pub fn has_null(&self) -> bool {
        inspect(self.datum()).1
    }
}
