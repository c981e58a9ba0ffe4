//! The daemon: DMN-01 to DMN-16.

use sideband_tests::script::World;

use crate::{endpoints::listen, witness::witnesses};

witnesses! {
    /// Frames of a session that is not there change nothing.
    async fn dmn_06_frames_of_unknown_sessions_are_ignored(quirks) breaks_with [] {
        let (mut world, env) = World::new(6);
        let _server = listen(&env, quirks);
        let mut link = world.go_online(true).await;
        let id = world.meet(&mut link).await;
        link.is_alive_on(id).await;
    }
}
