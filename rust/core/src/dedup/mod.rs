//! Which rows say what other rows say.

pub mod exact;
pub mod near;
