//! Each invariant catches a doctored stream of events.
