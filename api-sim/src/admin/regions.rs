//! The relays of regions below `/__sim` (TOK-08).

use axum::{
    Json,
    body::Bytes,
    extract::{Path, State},
};
use sideband_sim_kit::{
    admin::{
        ADMIN_PATH, ErrorAnswer,
        regions::{MAX_REGIONS, RegionSettings, Regions},
    },
    guard::AdminToken,
};
use tracing::info;
use url::Url;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::accounts::{Answer, Wrong, body, check_region};
use crate::Api;

/// Most bytes of a URL.
const MAX_URL: usize = 2_048;

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::default().routes(routes!(list)).routes(routes!(set, remove))
}

/// A URL without user name, password, query and fragment.
fn url(member: &str, text: &str, schemes: [&str; 2]) -> Result<Url, Wrong> {
    let [plain, secure] = schemes;
    let plainly = |url: &Url| {
        let bare = url.username().is_empty() && url.password().is_none();
        bare && url.has_host() && url.query().is_none() && url.fragment().is_none() && schemes.contains(&url.scheme())
    };
    let url = Url::parse(text).ok().filter(|url| text.len() <= MAX_URL && plainly(url));
    url.ok_or_else(|| Wrong::Body(format!("`{member}` is a URL such as {plain}://host:port or {secure}://host:port")))
}

fn regions(api: &Api) -> Json<Regions> {
    Json(Regions { default_region: api.shared.config.region.clone(), regions: api.regions().list() })
}

/// List the regions with relays of their own.
#[utoipa::path(get, path = "/regions", operation_id = "regions", responses((status = 200, description = "Now", body = Regions)))]
async fn list(State(api): State<Api>) -> Json<Regions> {
    regions(&api)
}

/// Name the relay of a region, for every token that is given from now on.
#[utoipa::path(
    put,
    path = "/regions/{region}",
    operation_id = "setRegion",
    params(("region" = String, Path, description = "The region")),
    request_body = RegionSettings,
    responses(
        (status = 200, description = "Done", body = Regions),
        (status = 400, description = "The body makes no sense", body = ErrorAnswer),
        (status = 409, description = "There are as many regions as can be", body = ErrorAnswer),
    )
)]
async fn set(State(api): State<Api>, Path(region): Path<String>, bytes: Bytes) -> Answer<Regions> {
    let RegionSettings { relay_url, relay_admin_url, relay_admin_token } = body(&bytes)?;
    check_region(Some(&region))?;
    let relay_url = url("relayUrl", &relay_url, ["ws", "wss"])?.to_string();
    let admin = match relay_admin_url.map(|text| url("relayAdminUrl", &text, ["http", "https"])).transpose()? {
        Some(mut admin) => {
            // A server's URL will do.
            if admin.path() == "/" {
                admin.set_path(ADMIN_PATH);
            }
            Some((admin, relay_admin_token.and_then(|token| AdminToken::new(&token))))
        }
        None if relay_admin_token.is_some() => {
            return Err(Wrong::Body("`relayAdminToken` is for a `relayAdminUrl`, which is not there".to_owned()));
        }
        None => None,
    };
    info!(region, relay_url, "a region has a relay");
    let full = format!("there are {MAX_REGIONS} regions, which is the most");
    api.regions().set(region, relay_url, admin, api.env()).map_err(|_| Wrong::Conflict(full))?;
    Ok(regions(&api))
}

/// Take a region's relay away.
#[utoipa::path(
    delete,
    path = "/regions/{region}",
    operation_id = "removeRegion",
    params(("region" = String, Path, description = "The region")),
    responses(
        (status = 200, description = "Done", body = Regions),
        (status = 404, description = "It has no relay of its own", body = ErrorAnswer),
    )
)]
async fn remove(State(api): State<Api>, Path(region): Path<String>) -> Answer<Regions> {
    if !api.regions().remove(&region) {
        return Err(Wrong::NotThere("region"));
    }
    info!(region, "a region has no relay any more");
    Ok(regions(&api))
}
