
pub mod filter;
pub mod id_map;
pub mod key;
pub mod ranges;
pub mod router;
pub mod tail;
#[cfg(test)]
mod tests { #[test] fn one() { assert_eq!(1+1, 2); } }
