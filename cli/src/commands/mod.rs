//! One module a command.

pub(crate) mod accounts;
pub(crate) mod admin;
pub(crate) mod api;
pub(crate) mod call;
pub(crate) mod daemon;
pub(crate) mod demo;
pub(crate) mod fault;
pub(crate) mod limits;
pub(crate) mod regions;
pub(crate) mod relay;
pub(crate) mod scenario;
pub(crate) mod status;
pub(crate) mod up;
