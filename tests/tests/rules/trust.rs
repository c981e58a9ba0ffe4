//! (to be written)
use crate::witness::witnesses;
witnesses! {}
