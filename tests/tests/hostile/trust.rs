//! Accepts of a relay that would like to be the daemon: nothing is pinned, whatever the policy.

use std::collections::BTreeMap;

use sideband_protocol::{client::State, crypto::IdentityKey, wire::Frame};
use sideband_tests::script::{
    DAEMON, FarDaemon, World,
    hostile::{ClientFate, accepts::accepts, throw},
};

use crate::{
    client::{each, fate, is_over},
    victims::{ClientVictim, Count, Pins, account, entropy},
};

#[derive(Debug, Clone, Copy, PartialEq)]
enum Policy {
    Auto,
    Yes,
    No,
    PinnedOnly,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Pinned {
    Nothing,
    Genuine,
    Other,
}

const POLICIES: [Policy; 4] = [Policy::Auto, Policy::Yes, Policy::No, Policy::PinnedOnly];
const PINNED: [Pinned; 3] = [Pinned::Nothing, Pinned::Genuine, Pinned::Other];

struct Case {
    victim: ClientVictim,
    asked: Count,
    before: BTreeMap<String, IdentityKey>,
}

impl Case {
    fn new(policy: Policy, pinned: Pinned) -> Self {
        let mut victim = ClientVictim::new(24, false);
        let (world, env) = World::new(25);
        let (pins, asked) = (Pins::default(), Count::default());
        match pinned {
            Pinned::Nothing => {}
            Pinned::Genuine => pins.set(DAEMON, world.daemon.identity.public()),
            Pinned::Other => pins.set(DAEMON, IdentityKey::from_bytes([5; 32])),
        }
        let before = pins.all();
        let builder = account(&env).identity_store(pins.clone());
        let (first, again) = (asked.clone(), asked.clone());
        let yes = policy == Policy::Yes;
        let builder = match policy {
            Policy::Auto => builder,
            Policy::PinnedOnly => builder.pinned_only(),
            Policy::Yes | Policy::No => builder.prompt(
                move |_| {
                    first.add();
                    std::future::ready(yes)
                },
                move |_, _| {
                    again.add();
                    std::future::ready(yes)
                },
            ),
        };
        victim.client = builder.connect().unwrap();
        victim.events = victim.client.events();
        (victim.world, victim.pins) = (world, pins);
        Self { victim, asked, before }
    }
}

/// CRY-02, CRY-03, TRU-03: before any trust decision, so under every policy and whatever is pinned.
#[test]
fn accepts_that_are_wrong_pin_nothing_and_ask_nobody() {
    let count = {
        let (mut world, _) = World::new(26);
        let init = Frame::HandshakeInit { session: world.new_session(), client_ephemeral: [9; 32] };
        accepts(&world.daemon, &init, &mut *entropy(1)).len()
    };
    let cases = (0..count).flat_map(|at| POLICIES.map(|policy| PINNED.map(|pinned| (at, policy, pinned)))).flatten();
    each(cases, |(at, policy, pinned)| {
        Some((format!("{at}, {policy:?}, pinned: {pinned:?}"), async move {
            let Case { mut victim, asked, before } = Case::new(*policy, *pinned);
            let (_, mut socket) = victim.world.client_socket().await;
            let init = socket.frame().await;
            let bad = accepts(&victim.world.daemon, &init, &mut *entropy(2)).remove(*at);
            let mut socket = Some(socket);
            for what in bad.throws {
                let Some(open) = socket.take() else { break };
                socket = throw(open, what).await;
            }
            let ClientFate::Closed(cause) = bad.fate else { panic!("no such fate") };
            let became = fate(&mut victim).await;
            // A good Accept that came first counts, by the policy's table.
            let twice = bad.name == "a good Accept twice";
            if !twice {
                assert_eq!(became, Err(cause.to_owned()), "{}", bad.name);
                assert_eq!(asked.get(), 0, "{}: nobody is asked", bad.name);
                assert_eq!(victim.pins.all(), before, "{}: nothing is pinned", bad.name);
            } else {
                assert!(became.is_err());
            }
            is_over(&mut victim).await;
        }))
    });
}

/// The table of `2-crypto.md`, with an Accept from another identity whose signature is good.
#[test]
fn accept_of_another_identity_follows_the_table() {
    let cases = POLICIES.into_iter().flat_map(|policy| PINNED.map(|pinned| (policy, pinned)));
    each(cases, |(policy, pinned)| {
        Some((format!("{policy:?}, pinned: {pinned:?}"), async move {
            let Case { mut victim, asked, before } = Case::new(*policy, *pinned);
            let impostor = FarDaemon::new(DAEMON, &mut *entropy(3));
            let received = impostor.identity.public();
            victim.world.daemon = impostor;
            let due = match (policy, pinned) {
                (Policy::Auto | Policy::Yes, _) => None,
                (Policy::No | Policy::PinnedOnly, Pinned::Nothing) => Some("handshake_failed"),
                (Policy::No | Policy::PinnedOnly, Pinned::Genuine | Pinned::Other) => Some("identity_key_changed"),
            };
            let asks = usize::from(matches!(policy, Policy::Yes | Policy::No));
            match due {
                None => {
                    let mut link = victim.world.join().await;
                    victim.reaches(State::Active).await;
                    link.is_alive().await;
                    assert_eq!(victim.pins.all(), BTreeMap::from([(DAEMON.to_owned(), received)]));
                    victim.closes().await;
                }
                Some(cause) => {
                    let _link = victim.world.client_keys().await;
                    assert_eq!(fate(&mut victim).await, Err(cause.to_owned()));
                    assert_eq!(victim.pins.all(), before, "what was pinned stays");
                    is_over(&mut victim).await;
                }
            }
            assert_eq!(asked.get(), asks, "how often the user was asked");
        }))
    });
}
