mod engine;
mod errors;
mod rules;

use super::*;
