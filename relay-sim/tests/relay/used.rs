//! REL-10 over lives: session ids that are kept beyond the relay's process.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use sideband_protocol::{SessionId, relay::TOKEN_LIFE, token::Limits};
use sideband_relay_sim::{KeepSessions, KeepSessionsError, UsedSessions};

use crate::support::*;

/// Keeps ids with the times of their tokens, or fails.
#[derive(Debug, Default)]
struct Book {
    used: Mutex<BTreeMap<SessionId, u64>>,
    fails: bool,
}

impl Book {
    fn used(&self) -> Vec<SessionId> {
        self.used.lock().unwrap().keys().copied().collect()
    }
}

impl KeepSessions for Book {
    fn used(
        &self,
        session: SessionId,
        token_dies: u64,
        forgotten: &[SessionId],
        _now: u64,
    ) -> Result<(), KeepSessionsError> {
        if self.fails {
            return Err(KeepSessionsError("disk full".to_owned()));
        }
        let mut used = self.used.lock().unwrap();
        used.retain(|id, _| !forgotten.contains(id));
        used.insert(session, token_dies);
        Ok(())
    }

    fn not_used(&self, session: SessionId) -> Result<(), KeepSessionsError> {
        self.used.lock().unwrap().remove(&session);
        Ok(())
    }
}

async fn start_on(book: &Arc<Book>, before: Vec<(SessionId, u64)>) -> Server {
    start_with(|config| config.used_sessions = UsedSessions::new(book.clone(), before)).await
}

#[tokio::test]
async fn rel_10_a_session_id_that_was_used_is_refused_by_the_next_process() {
    let book = Arc::new(Book::default());
    let server = start_on(&book, Vec::new()).await;
    let token = server.client_token(id(1));
    let dies = server.client_claims(id(1)).exp + 30;
    assert!(server.connect(&token).await.is_ok());
    assert_eq!(book.used(), [id(1)], "before the upgrade was answered");
    let kept = book.used.lock().unwrap()[&id(1)];
    assert!(kept.abs_diff(dies) <= 1, "kept until the token is no longer accepted: {kept}, {dies}");
    drop(server);

    // As if it had been killed: nothing was said of the session's end.
    let next = start_on(&book, vec![(id(1), kept + TOKEN_LIFE.as_secs())]).await;
    assert_eq!(next.connect(&token).await.err(), Some(409));
    assert!(next.connect(&next.client_token(id(2))).await.is_ok(), "another id is free");
    assert_eq!(book.used(), [id(1), id(2)]);
}

#[tokio::test]
async fn rel_10_an_id_whose_time_is_over_is_crossed_out_with_the_next_that_is_used() {
    let book = Arc::new(Book::default());
    book.used.lock().unwrap().insert(id(1), 5);
    let server = start_on(&book, vec![(id(1), 0)]).await;
    assert!(server.connect(&server.client_token(id(2))).await.is_ok());
    assert_eq!(book.used(), [id(2)]);
}

#[tokio::test]
async fn rel_23_an_id_that_was_refused_for_the_number_of_sessions_is_given_back() {
    let book = Arc::new(Book::default());
    let server = start_on(&book, Vec::new()).await;
    let _daemon = server.daemon().await;
    let limited = |n| {
        let mut claims = server.client_claims(id(n));
        claims.lim = Some(Limits { concurrent_sessions: 1 });
        server.signer.sign(&claims)
    };
    let _first = server.connect(&limited(1)).await.unwrap();
    assert_eq!(server.connect(&limited(2)).await.err(), Some(429));
    assert_eq!(book.used(), [id(1)]);
}

#[tokio::test]
async fn rel_10_who_has_no_good_token_adds_nothing() {
    let book = Arc::new(Book::default());
    let server = start_on(&book, Vec::new()).await;
    let mut expired = server.client_claims(id(1));
    (expired.iat, expired.exp) = (expired.iat - 200, expired.exp - 200);
    let expired = server.signer.sign(&expired);
    for n in 0..100 {
        let token = if n % 2 == 0 { expired.clone() } else { format!("rubbish-{n}") };
        assert_eq!(server.connect(&token).await.err(), Some(401));
    }
    assert_eq!(book.used(), []);
}

#[tokio::test]
async fn rel_10_an_id_that_cannot_be_kept_is_503_and_free_afterwards() {
    let book = Arc::new(Book { fails: true, ..Book::default() });
    let server = start_on(&book, Vec::new()).await;
    let token = server.client_token(id(1));
    for _ in 0..2 {
        let answer = server.ask_upgrade(&format!("/?token={token}"), &[]).await;
        assert_eq!((answer.status, answer.code().as_str()), (503, "unavailable"), "not 409");
        assert!(!answer.body.contains("disk full"), "{}", answer.body);
    }
}
