//! A typed service in a crate that knows the SDK as `line` and has no serde of its own: that it compiles shows that
//! [`line::service!`] needs neither name.

use line::{Context, HandlerError};

line::service! {
    /// Sums of numbers.
    pub trait Sums, client SumsClient {
        /// The sum of two numbers.
        "sums.add" => fn add(a: i64, b: i64) -> i64;
        /// The sum of the numbers that are there.
        "sums.some" => fn some(a: Option<i64>, b: Option<i64>) -> i64;
        /// The sum of nothing.
        "sums.zero" => fn zero() -> i64;
    }
}

/// The usual sums.
#[derive(Debug)]
pub struct Usual;

impl Sums for Usual {
    async fn add(&self, a: i64, b: i64, _: Context) -> Result<i64, HandlerError> {
        a.checked_add(b).ok_or_else(|| HandlerError::new(2_001, "too much"))
    }

    async fn some(&self, a: Option<i64>, b: Option<i64>, _: Context) -> Result<i64, HandlerError> {
        Ok(a.unwrap_or(0).saturating_add(b.unwrap_or(0)))
    }

    async fn zero(&self, _: Context) -> Result<i64, HandlerError> {
        Ok(0)
    }
}
