use crate::witness::witnesses;
witnesses! {}
