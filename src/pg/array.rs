//! Arrays that pass through as the datum they are: only their length and NULLs are looked at.

use super::datum::{JsonbArray, RegClassArray, TextArray};
use pgrx::pg_sys;

/// Elements of a one-dimensional or empty array, and whether one of them is NULL.
fn inspect(datum: pg_sys::Datum) -> (usize, bool) {
    // SAFETY: the newtypes only ever hold array datums that PostgreSQL passed in. Detoasting gives an aligned header, in
    // the caller's memory context, which lives as long as the call; behind it are as many dimensions as `ndim` says
    // (ARR_DIMS), of which ArrayGetNItems reads none in an empty array.
    unsafe {
        let array = pg_sys::pg_detoast_datum(datum.cast_mut_ptr()).cast::<pg_sys::ArrayType>();
        let dims = array.cast::<u8>().add(size_of::<pg_sys::ArrayType>()).cast::<i32>();
        let len = pg_sys::ArrayGetNItems((*array).ndim, dims);
        (usize::try_from(len).unwrap_or(0), pg_sys::array_contains_nulls(array))
    }
}

impl TextArray {
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
    pub fn len(&self) -> usize {
        inspect(self.datum()).0
    }

    pub fn has_null(&self) -> bool {
        inspect(self.datum()).1
    }
}
