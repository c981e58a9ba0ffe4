//! Reading, writing and telling scenarios.
