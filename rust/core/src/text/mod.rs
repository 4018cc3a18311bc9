//! What is done to the text of one message.

pub mod key;
pub mod truecase;
