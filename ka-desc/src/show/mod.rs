//! A plan as text: for sfdisk, for people, for programs. Pure.

pub mod json;
mod picture;
mod script;
mod table;

pub(crate) use picture::is_frame;
pub use picture::{Stretch, after, bar, before};
pub(crate) use script::attribute_bits;
pub use script::script;
pub use table::{before_table, plan_table};
