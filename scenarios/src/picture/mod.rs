//! Runs as pictures: a sequence diagram as SVG, as Mermaid text, and as one HTML page with filter and zoom.
//!
//! | module | what |
//! |---|---|
//! | [`who`] | which host a connection belongs to |
//! | [`model`] | the picture before it has a language: columns, rows, bars |
//! | [`svg`], [`mermaid`], [`html`] | the picture in a language |
//!
//! All of it is a function of the events: the same trace gives the same bytes. A trace may be anybody's, so every text of it is
//! escaped where it enters a language.

mod build;
mod fold;
pub mod html;
mod layout;
pub mod mermaid;
pub mod model;
mod style;
pub mod svg;
pub mod who;
mod words;

#[cfg(test)]
mod tests;

pub use model::{Model, Options};
