use crate::pg::capturers::Capturer;
pub fn run(_e: &'static Capturer) {}
