//! `GET events` of `/__sim`: what happens, as server-sent events.
//!
//! Each has the event as JSON in `data`, the vocabulary's name in `event`, and its number in `id`: a reader that comes again
//! with `Last-Event-ID`, as browsers do by themselves, goes on behind it. `?recent=N` begins with the newest `N` that are
//! kept, and `?follow=false` ends with them. A reader that is too slow misses events; one of name `missed` with `{"count":n}` then says how many.

use std::{collections::VecDeque, convert::Infallible, time::Duration};

use axum::{
    Router,
    extract::{Query, State},
    http::{HeaderMap, StatusCode},
    response::{
        IntoResponse, Response,
        sse::{Event as Sse, Sse as Answer},
    },
};
use futures_util::Stream;
use serde::Deserialize;
use tokio::{
    sync::broadcast::{self, error::RecvError},
    time,
};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    admin::{AdminClient, AdminError, AdminRoutes, ErrorAnswer, error_response},
    event::{Event, EventSink, Following},
};

/// How often a silent stream says that it is there, so that proxies and readers do not give it up.
pub const KEEP_ALIVE: Duration = Duration::from_secs(15);

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    #[serde(default)]
    recent: usize,
    #[serde(default = "yes")]
    follow: bool,
}

fn yes() -> bool {
    true
}

/// The route `events`, to be nested at [`ADMIN_PATH`](crate::admin::ADMIN_PATH) and guarded there.
pub fn events_router(events: EventSink) -> Router {
    events_routes(events).into()
}

/// [`events_router`], with its description.
pub fn events_routes(events: EventSink) -> AdminRoutes {
    OpenApiRouter::default().routes(routes!(stream)).with_state(events)
}

/// Stream what happens, as server-sent events.
#[utoipa::path(
    get,
    path = "/events",
    operation_id = "events",
    params(
        ("recent" = Option<u64>, Query, description = "Begin with so many of the newest events that are kept"),
        ("follow" = Option<bool>, Query, description = "Whether to wait for what is to come; true if absent"),
        ("last-event-id" = Option<u64>, Header, description = "Go on behind the event of this number"),
    ),
    responses(
        (
            status = 200,
            description = "Each event as JSON in `data`, its kind in `event`, its number in `id`",
            content((Event = "text/event-stream"))
        ),
        (status = 400, description = "A parameter is wrong", body = ErrorAnswer),
    )
)]
async fn stream(
    State(events): State<EventSink>,
    wanted: Result<Query<Wanted>, axum::extract::rejection::QueryRejection>,
    headers: HeaderMap,
) -> Response {
    let Wanted { recent, follow } = match wanted {
        Ok(Query(wanted)) => wanted,
        Err(error) => return error_response(StatusCode::BAD_REQUEST, "bad_request", error.body_text()),
    };
    let last = match headers.get("last-event-id").map(|id| id.to_str().ok().and_then(|id| id.parse().ok())) {
        None => None,
        Some(Some(id)) => Some(id),
        Some(None) => {
            return error_response(StatusCode::BAD_REQUEST, "bad_request", "Last-Event-ID is the number of an event");
        }
    };
    let (after, following) = match last {
        Some(id) => (Some(id), events.follow_after(id)),
        None => (None, events.follow(recent)),
    };
    let mut reader = Reader { follow, ..Reader::new(following, after) };
    // At once, so that whoever waits for the head of the answer gets it.
    reader.waiting.push_front(Sse::default().comment("what happens from here on"));
    Answer::new(read(reader)).into_response()
}

struct Reader {
    waiting: VecDeque<Sse>,
    next: broadcast::Receiver<Event>,
    number: u64,
    /// Whether it waits for what is to come.
    follow: bool,
}

impl Reader {
    /// `after` is the number of the last one that was heard before.
    fn new(following: Following, after: Option<u64>) -> Self {
        let Following { first, kept, next } = following;
        let mut reader = Self { waiting: VecDeque::new(), next, number: first - 1, follow: true };
        if let Some(lost) = after.map(|after| (first - 1).saturating_sub(after)).filter(|&lost| lost > 0) {
            reader.waiting.push_back(missed(lost));
        }
        for event in kept {
            let event = reader.numbered(&event);
            reader.waiting.push_back(event);
        }
        reader
    }

    fn numbered(&mut self, event: &Event) -> Sse {
        self.number += 1;
        // Text and numbers only: it always becomes JSON.
        let text = serde_json::to_string(event).unwrap_or_default();
        let kind = serde_json::to_value(&event.kind).unwrap_or_default();
        Sse::default().id(self.number.to_string()).event(kind["kind"].as_str().unwrap_or_default()).data(text)
    }

    async fn next(&mut self) -> Option<Sse> {
        if let Some(event) = self.waiting.pop_front() {
            return Some(event);
        }
        if !self.follow {
            return None;
        }
        match time::timeout(KEEP_ALIVE, self.next.recv()).await {
            Ok(Ok(event)) => Some(self.numbered(&event)),
            Ok(Err(RecvError::Lagged(count))) => {
                self.number += count;
                Some(missed(count))
            }
            Ok(Err(RecvError::Closed)) => None,
            Err(_) => Some(Sse::default().comment("still here")),
        }
    }
}

impl AdminClient {
    /// The newest `newest` of the events that the process keeps, oldest first.
    ///
    /// # Errors
    /// Every [`AdminError`].
    pub async fn recent_events(&self, newest: usize) -> Result<Vec<Event>, AdminError> {
        let text = self.get_text(&["events"], Some(&format!("recent={newest}&follow=false"))).await?;
        let data = text.lines().filter_map(|line| line.strip_prefix("data:"));
        data.map(|data| serde_json::from_str(data).map_err(|_| AdminError::Unreadable)).collect()
    }
}

fn missed(count: u64) -> Sse {
    Sse::default().event("missed").data(format!(r#"{{"count":{count}}}"#))
}

fn read(reader: Reader) -> impl Stream<Item = Result<Sse, Infallible>> {
    futures_util::stream::unfold(reader, |mut reader| async move { Some((Ok(reader.next().await?), reader)) })
}

#[cfg(test)]
mod tests {
    use axum::{body::Body, http::Request};
    use http_body_util::BodyExt;
    use tower::ServiceExt;

    use super::*;
    use crate::event::EventKind;

    fn step(sink: &EventSink, n: u64) {
        sink.emit(None, None, EventKind::Step { what: n.to_string() });
    }

    async fn ask(sink: &EventSink, uri: &str, last: Option<&str>) -> Response {
        let mut request = Request::get(uri);
        if let Some(last) = last {
            request = request.header("last-event-id", last);
        }
        events_router(sink.clone()).oneshot(request.body(Body::empty()).unwrap()).await.unwrap()
    }

    /// What comes until this stands in it.
    async fn until(body: &mut Body, last: &str) -> String {
        let mut text = String::new();
        while !text.contains(last) {
            let frame = body.frame().await.expect("it ended").unwrap();
            text.push_str(std::str::from_utf8(frame.data_ref().unwrap()).unwrap());
        }
        text
    }

    #[tokio::test(start_paused = true)]
    async fn events_come_with_number_name_and_json() {
        let sink = EventSink::with_time(|| 7, "test", 10);
        (1..=3).for_each(|n| step(&sink, n));
        let answer = ask(&sink, "/events?recent=1", None).await;
        assert_eq!(answer.headers()["content-type"], "text/event-stream");
        let mut body = answer.into_body();
        step(&sink, 4);
        let text = until(&mut body, "id: 4\n").await;
        let wanted = "id: 3\nevent: step\ndata: {\"at\":7,\"host\":\"test\",\"kind\":\"step\",\"what\":\"3\"}\n\n";
        assert!(text.contains(wanted), "{text}");
        assert!(!text.contains("id: 2\n"), "{text}");
        // Nothing happens: it still says that it is there.
        until(&mut body, ": still here\n\n").await;
    }

    #[tokio::test(start_paused = true)]
    async fn who_comes_again_goes_on_where_it_was_and_hears_what_is_lost() {
        let sink = EventSink::with_time(|| 7, "test", 2);
        (1..=4).for_each(|n| step(&sink, n));
        let text = until(&mut ask(&sink, "/events", Some("1")).await.into_body(), "id: 4\n").await;
        assert!(text.contains("event: missed\ndata: {\"count\":1}\n\nid: 3\n"), "{text}");
        let mut behind = ask(&sink, "/events", Some("4")).await.into_body();
        (5..=2_000).for_each(|n| step(&sink, n));
        let text = until(&mut behind, "id: 2000\n").await;
        assert!(text.contains("event: missed"), "a reader that is too slow is told: {text}");
        let count = |text: &str| text.split("\"count\":").nth(1).and_then(|rest| rest.split('}').next()?.parse().ok());
        let lost: u64 = count(&text).unwrap();
        assert!(text.contains(&format!("id: {}\n", 5 + lost)), "numbers have no gap but what was missed");
    }

    #[tokio::test]
    async fn wrong_wishes_are_refused() {
        let sink = EventSink::with_time(|| 7, "test", 2);
        for (uri, last) in [("/events?recent=x", None), ("/events?resent=1", None), ("/events", Some("x"))] {
            assert_eq!(ask(&sink, uri, last).await.status(), 400, "{uri} {last:?}");
        }
    }
}
