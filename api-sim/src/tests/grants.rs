//! Several users, daemons and grants: who may use what, and what tokens then say.

use serde_json::json;

use super::*;
use crate::DaemonChange;

impl World {
    async fn session_of(&self, credential: &str, daemon: &str) -> Answer {
        self.call("relay.createSession", credential, json!({"daemonId": daemon})).await
    }

    async fn listed(&self, credential: &str) -> Vec<String> {
        let list = self.call("daemon.listAccessible", credential, json!(null)).await;
        let ids = list.data().as_array().unwrap().iter().map(|daemon| daemon["id"].as_str().unwrap().to_owned());
        ids.collect()
    }
}

async fn a_grant_lets_another_user_in(world: World) {
    let other = world.add_strange_daemon();
    assert_eq!(world.create_session(other).await.failure(), (403, "FORBIDDEN".into()));
    assert_eq!(world.store.add_grant(&world.boot.user_id, other).unwrap(), Added::Yes);
    let token = world.create_session(other).await.text("token");
    assert_eq!(claims(&token)["sub"], json!(world.boot.user_id), "in the user's own name");
    let mut both = vec![world.boot.daemon_id.clone(), other.to_owned()];
    both.sort();
    assert_eq!(world.listed(world.user()).await, both);
    assert_eq!(world.listed("other-token").await, [other], "a grant is one way");
    let back = world.session_of("other-token", &world.boot.daemon_id).await;
    assert_eq!(back.failure(), (403, "FORBIDDEN".into()));
    assert!(world.store.remove_grant(&world.boot.user_id, other).unwrap());
    assert_eq!(world.create_session(other).await.failure(), (403, "FORBIDDEN".into()));
    assert_eq!(world.listed(world.user()).await, [world.boot.daemon_id.as_str()]);
}

#[tokio::test]
async fn api_09_a_grant_lets_another_user_in() {
    a_grant_lets_another_user_in(world(config())).await;
    let (world, _folder) = on_file(config());
    a_grant_lets_another_user_in(world).await;
}

#[tokio::test]
async fn api_01_a_removed_user_is_401_and_its_daemons_are_gone() {
    let world = world(config());
    let other = world.add_strange_daemon();
    world.store.add_grant(&world.boot.user_id, other).unwrap();
    world.set_online(&world.boot.daemon_id);
    let code = world.call("quickConnect.create", world.key(), json!({})).await.text("code");
    assert_eq!(world.store.remove_user(&world.boot.user_id).unwrap(), Some(vec![world.boot.daemon_id.clone()]));
    for (procedure, credential) in [
        ("relay.createSession", world.user()),
        ("daemon.listAccessible", world.user()),
        ("daemon.register", world.user()),
        ("daemon.renewToken", world.key()),
        ("quickConnect.create", world.key()),
    ] {
        let answer = world.call(procedure, credential, json!({"daemonId": other})).await;
        assert_eq!(answer.failure(), (401, "UNAUTHORIZED".into()), "{procedure}");
    }
    let gone = world.session_of("other-token", &world.boot.daemon_id).await;
    assert_eq!(gone.failure(), (404, "NOT_FOUND".into()));
    let answer = world.call("quickConnect.redeem", "", json!({"code": code})).await;
    assert_eq!(answer.failure(), (404, "NOT_FOUND".into()), "its codes too");
    world.session_of("other-token", other).await.data();
}

#[tokio::test]
async fn api_02_every_api_key_of_a_daemon_is_good_until_it_is_revoked() {
    let world = world(config());
    let further = "sbnd_dak_further";
    assert_eq!(world.store.add_api_key(Digest::of(further), &world.boot.daemon_id).unwrap(), Added::Yes);
    for key in [world.key(), further] {
        let token = world.call("daemon.renewToken", key, json!(null)).await.text("presenceToken");
        assert_eq!(world.check(&token).unwrap().daemon_id, world.boot.daemon_id);
    }
    world.store.revoke_api_key(Digest::of(world.key()).id()).unwrap();
    for procedure in ["daemon.renewToken", "quickConnect.create"] {
        assert_eq!(world.call(procedure, world.key(), json!({})).await.failure(), (401, "UNAUTHORIZED".into()));
        world.call(procedure, further, json!({})).await.data();
    }
}

/// Region and limit of a client token, and of a presence token, of the first daemon: both say the same.
async fn region_and_limit(world: &World) -> (Value, Value) {
    let session = claims(&world.create_session(&world.boot.daemon_id).await.text("token"));
    let presence = claims(&world.call("daemon.renewToken", world.key(), json!(null)).await.text("presenceToken"));
    let of = |claims: &Value| (claims["region"].clone(), claims["lim"]["concurrent_sessions"].clone());
    assert_eq!(of(&session), of(&presence));
    of(&session)
}

#[tokio::test]
async fn api_01_region_and_limit_are_the_daemons_before_its_owners_before_the_configured() {
    let world = world(ApiConfig { region: Some("all".into()), concurrent_sessions: Some(50), ..config() });
    let (user, daemon) = (world.boot.user_id.clone(), world.boot.daemon_id.clone());
    assert_eq!(region_and_limit(&world).await, (json!("all"), json!(50)));
    world.store.set_user_region(&user, Some("users")).unwrap();
    assert_eq!(region_and_limit(&world).await, (json!("users"), json!(50)));
    let change = DaemonChange { region: Some(Some("daemons".into())), concurrent_sessions: Some(Some(2)) };
    world.store.change_daemon(&daemon, change).unwrap();
    assert_eq!(region_and_limit(&world).await, (json!("daemons"), json!(2)));
    // A user with a grant is sent where the daemon is.
    world.add_strange_daemon();
    world.store.set_user_region("u_other", Some("elsewhere")).unwrap();
    world.store.add_grant("u_other", &daemon).unwrap();
    let token = world.session_of("other-token", &daemon).await.text("token");
    assert_eq!(claims(&token)["region"], json!("daemons"));
}

/// A client is sent to the relay of its daemon's region, by account and by code; where a region has none of its own, to the
/// common one.
#[tokio::test]
async fn tok_08_a_client_is_sent_to_the_relay_of_the_daemons_region() {
    let region_relays = [("eu".to_owned(), "ws://eu.test/relay".to_owned())].into();
    let world = world(ApiConfig { region_relays, ..config() });
    let daemon = world.boot.daemon_id.clone();
    world.presence.online.lock().unwrap().insert(daemon.clone());
    let common = world.create_session(&daemon).await.text("relayUrl");
    for (region, wanted) in [(Some("eu"), "ws://eu.test/relay"), (Some("us"), &*common), (None, &*common)] {
        let change = DaemonChange { region: Some(region.map(str::to_owned)), ..DaemonChange::default() };
        world.store.change_daemon(&daemon, change).unwrap();
        assert_eq!(world.create_session(&daemon).await.text("relayUrl"), wanted, "{region:?}");
        let code = world.call("quickConnect.create", world.key(), json!({})).await.text("code");
        let redeemed = world.call("quickConnect.redeem", "", json!({ "code": code })).await;
        assert_eq!(redeemed.text("relayUrl"), wanted, "{region:?}");
    }
}
