//! Runs of small scenarios.
