use crate::capture::types::Types;
use crate::error::Result;
pub fn load(_types: &mut Types, _wanted: &[u32]) -> Result<()> {
    Ok(())
}
