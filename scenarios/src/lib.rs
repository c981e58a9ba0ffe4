//! Deterministic Sideband scenarios: the production SDK, relay and control plane inside turmoil, on virtual time.
//!
//! | module | what |
//! |---|---|
//! | [`scenario`] | scenario files: hosts, steps, faults, expectations; `docs/scenarios.md` is their reference |
//! | [`sim`] | runs them: turmoil's clock, the network's faults, what is looked at; and scenarios in Rust |
//! | [`check`] | what must hold in every run |
//! | [`builtin`] | the scenarios that come with the crate |
//! | [`trace`] | what happened, as NDJSON, as an order, as a hash |
//! | [`net`] | the network, HTTP and clock seams inside turmoil |
//! | [`cloud`] | relay, control plane and admin API on one address, over any world |
//! | [`state`] | what a cloud or a part of it starts with: in memory, or from a file |
//! | [`ndjson`], [`diff`] | traces read from files, and two traces compared |
//! | [`picture`] | runs as sequence diagrams: SVG, Mermaid, HTML |
//! | [`situation`] | situations that a sweep ought to reach |
//! | [`from_trace`] | a trace from the field as a scenario |
//! | [`swarm`] | trouble and load that each seed draws |
//! | [`sweep`](mod@sweep), [`merge`](mod@merge) | many seeds with one report, and the reports of shards joined |
//! | [`shrink`](mod@shrink) | a small scenario out of one that fails |
//! | [`world`] | one proven world: a daemon, two clients, a cut and a partition |
//!
//! ```
//! use sideband_scenarios::{builtin, sim};
//!
//! let scenario = builtin::find("quick-connect-race").unwrap().scenario()?;
//! let run = sim::run(&scenario, 7, &sim::RunOptions::default())?;
//! assert!(run.is_good(), "{:?}\n{}", run.failures, run.trace.story());
//! # Ok::<_, Box<dyn std::error::Error>>(())
//! ```
//!
//! # Determinism
//!
//! Scenario and seed fix everything: the same trace, byte for byte, in every process and on every machine. What that takes:
//!
//! * **Time** is turmoil's. Every host has a tokio runtime whose clock stands still but for the tick; all timers, in the SDK and in the
//!   sims, are tokio's. Wall clocks are a fixed date plus virtual time. Nothing reads the machine's clock: `clippy.toml` bans it.
//! * **Randomness** is ChaCha12 from the seed and a label: each host has its own, and a new one in each life, so that what one host draws
//!   changes nothing elsewhere. Latencies are drawn by turmoil from the seed, losses by the network, and draws of the fault plan from seed,
//!   rule and the event's number. `--cfg tokio_unstable` lets turmoil seed tokio's own randomness.
//! * **Order**: one thread; hosts take their turns in the order of the file; every `select!` is biased; nothing iterates a hash map. The
//!   runner acts between ticks only: steps, cuts and restarts happen at whole ticks, in the order of their times and, where these are the
//!   same, of the file.
//!   When a host's process is gone, tokio ends its tasks in an order that depends on how many tasks the whole program ever had; so the
//!   network keeps their streams, and closes the oldest first.
//! * **Traces** hold lengths and decoded frames, never raw bytes. HTTP answers carry no `Date`.
//!
//! # Speed
//!
//! A tick costs about as much as there are hosts, whether anything happens or not: turmoil steps each host's runtime once a tick. So
//! the number of hosts and the length of the tick dominate; frames, events and invariants hardly show. A scenario that says
//! `tick = "20ms"` runs about twice as fast as one with the default of 10 ms; a `cloud` in place of `api` and `relay` saves a host. Runs end as
//! soon as all that is expected has come about. Key exchange dominates in runs of many short sessions. The example `run` measures:
//! `cargo run --release -p sideband-scenarios --example run -- FILE 0 99`.

pub mod builtin;
pub mod check;
pub mod cloud;
pub mod diff;
pub mod from_trace;
pub mod merge;
pub mod ndjson;
pub mod net;
pub mod picture;
pub mod scenario;
pub mod shrink;
pub mod sim;
pub mod situation;
pub mod state;
pub mod swarm;
pub mod sweep;
pub mod trace;
pub mod world;
