//! What operators see: counters and spans, under names that do not change.
