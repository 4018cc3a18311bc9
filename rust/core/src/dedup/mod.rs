//! Which rows say what other rows say.

pub mod contamination;
pub mod exact;
pub mod near;
