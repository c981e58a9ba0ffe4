mod engine;
mod errors;
mod presets;
mod rules;

use super::*;
