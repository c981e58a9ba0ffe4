//! Asks a sim's admin API about its fault plan.

use bytes::Bytes;
use http::{HeaderValue, Method};

use super::{
    FaultPlan, FaultRule, Format,
    admin::{FaultList, FaultReport, FaultsRemoved},
};
use crate::admin::{AdminClient, AdminError};

impl Format {
    /// The content type.
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Toml => "application/toml",
            Self::Json => "application/json",
        }
    }
}

impl AdminClient {
    /// The rules in force, and what they did.
    ///
    /// # Errors
    /// Every [`AdminError`].
    pub async fn faults(&self) -> Result<FaultList, AdminError> {
        self.get(&["faults"]).await
    }

    /// Puts a plan in place of the one there is.
    ///
    /// # Errors
    /// Every [`AdminError`].
    pub async fn set_faults(&self, plan: &FaultPlan) -> Result<FaultList, AdminError> {
        self.set_faults_text(plan.to_json(), Format::Json).await
    }

    /// Puts a plan, as it is written, in place of the one there is.
    ///
    /// # Errors
    /// Every [`AdminError`]; a plan that is wrong is [`AdminError::Refused`], and the message names the line.
    pub async fn set_faults_text(&self, plan: impl Into<Bytes>, format: Format) -> Result<FaultList, AdminError> {
        self.send_as(Method::PUT, &["faults"], plan.into(), HeaderValue::from_static(format.content_type())).await
    }

    /// Adds a rule behind the others; the answer has its name.
    ///
    /// # Errors
    /// Every [`AdminError`].
    pub async fn add_fault(&self, rule: &FaultRule) -> Result<FaultReport, AdminError> {
        let body = serde_json::to_vec(rule).map_err(|_| AdminError::Unreadable)?;
        self.send(Method::POST, &["faults"], body.into()).await
    }

    /// Takes a rule away; false if there is none of this name.
    ///
    /// # Errors
    /// Every [`AdminError`].
    pub async fn remove_fault(&self, id: &str) -> Result<bool, AdminError> {
        match self.send::<FaultsRemoved>(Method::DELETE, &["faults", id], Bytes::new()).await {
            Ok(FaultsRemoved { removed }) => Ok(removed > 0),
            Err(AdminError::Refused { status: 404, .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Takes all rules away; how many there were.
    ///
    /// # Errors
    /// Every [`AdminError`].
    pub async fn clear_faults(&self) -> Result<usize, AdminError> {
        self.send::<FaultsRemoved>(Method::DELETE, &["faults"], Bytes::new()).await.map(|gone| gone.removed)
    }
}
