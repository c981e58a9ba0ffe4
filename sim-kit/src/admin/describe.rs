//! The description of the admin API in OpenAPI 3.1, made from the routes themselves: [`AdminRoutes`] has handlers with what
//! they take and answer, and becomes the router and its description at once.

use std::sync::{Arc, OnceLock};

use axum::{
    Router,
    extract::State,
    http::header::CONTENT_TYPE,
    response::{IntoResponse, Response},
};
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{
        Components, Content, Info, OpenApi, Ref, RefOr, Response as Described, ResponseBuilder, SecurityRequirement,
        Server,
        path::{Operation, PathItem},
        security::{HttpAuthScheme, HttpBuilder, SecurityScheme},
    },
};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{ADMIN_PATH, ErrorAnswer, ErrorDetail};

/// Routes of `/__sim` with their descriptions.
pub type AdminRoutes = OpenApiRouter;

/// The name of the admin token in the description.
const TOKEN: &str = "adminToken";

/// Makes routes into a router that also serves their description, `GET openapi.json`. To be called once a process, when all
/// routes are there, and to be guarded.
pub fn described(routes: AdminRoutes) -> Router {
    let text = Arc::new(OnceLock::new());
    let (router, description) = routes.merge(openapi_routes(text.clone())).split_for_parts();
    // Text, numbers and tables only: it always becomes JSON.
    let json = whole(description).to_json().unwrap_or_default();
    // It is this function's own, and set once.
    let _ = text.set(json);
    router
}

fn openapi_routes(text: Arc<OnceLock<String>>) -> AdminRoutes {
    OpenApiRouter::default().routes(routes!(openapi)).with_state(text)
}

/// This description.
#[utoipa::path(
    get,
    path = "/openapi.json",
    operation_id = "describe",
    responses((status = 200, description = "OpenAPI 3.1", body = serde_json::Value))
)]
async fn openapi(State(text): State<Arc<OnceLock<String>>>) -> Response {
    ([(CONTENT_TYPE, "application/json")], text.get().cloned().unwrap_or_default()).into_response()
}

/// Adds what all routes have in common.
fn whole(mut description: OpenApi) -> OpenApi {
    description.info = Info::new("The admin API of a Sideband simulator", env!("CARGO_PKG_VERSION"));
    description.info.description = Some(
        "Shows and changes what a simulated relay, a simulated control plane, or both in one process do. Members are in \
         camelCase and are only ever added."
            .to_owned(),
    );
    description.servers = Some(vec![Server::new(ADMIN_PATH)]);
    // With a token or, where none is set, without.
    description.security = Some(vec![SecurityRequirement::default(), token_required()]);
    let components = description.components.get_or_insert_with(Components::new);
    let mut bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build();
    bearer.description = Some("The admin token, if one is set.".to_owned());
    components.add_security_scheme(TOKEN, SecurityScheme::Http(bearer));
    components.schemas.insert(ErrorAnswer::name().into_owned(), ErrorAnswer::schema());
    components.schemas.insert(ErrorDetail::name().into_owned(), ErrorDetail::schema());
    for (path, item) in &mut description.paths.paths {
        for operation in operations(item) {
            // The health check asks for no token.
            if path != "/ready" {
                refusal(operation, "401", "An admin token is set, and the request does not have it");
            }
            refusal(operation, "403", "No admin token is set, and the request is not from this machine");
            if operation.request_body.is_some() {
                refusal(operation, "413", "The body is too long");
            }
        }
    }
    description
}

fn token_required() -> SecurityRequirement {
    SecurityRequirement::new(TOKEN, Vec::<String>::new())
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    let PathItem { get, put, post, delete, patch, .. } = item;
    [get, put, post, delete, patch].into_iter().flatten()
}

fn refusal(operation: &mut Operation, status: &str, when: &str) {
    let refusal: Described = ResponseBuilder::new()
        .description(when)
        .content("application/json", Content::new(Some(Ref::from_schema_name(ErrorAnswer::name()))))
        .build();
    operation.responses.responses.insert(status.to_owned(), RefOr::T(refusal));
}
