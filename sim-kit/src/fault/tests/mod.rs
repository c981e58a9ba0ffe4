mod admin;
mod draws;
mod engine;
mod errors;
mod filters;
mod keep;
mod presets;
mod round_trip;
mod rules;

use super::*;
