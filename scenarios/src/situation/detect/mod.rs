//! Who sees a situation: a function each, named for it. What they mean stands in the list.

pub(super) mod api;
pub(super) mod endpoint;
pub(super) mod relay;
