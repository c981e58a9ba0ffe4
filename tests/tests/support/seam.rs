//! Worlds that are real but for one thing.

use std::{io, net::SocketAddr, sync::Arc};

use sideband_env::{BoxFuture, BoxStream, Env, Listener, Network, Target};

type Before = Arc<dyn Fn() -> BoxFuture<'static, ()> + Send + Sync>;

struct BeforeDial {
    inner: Arc<dyn Network>,
    before: Before,
}

impl Network for BeforeDial {
    fn connect<'a>(&'a self, target: &'a Target) -> BoxFuture<'a, io::Result<BoxStream>> {
        Box::pin(async move {
            (self.before)().await;
            self.inner.connect(target).await
        })
    }

    fn bind(&self, addr: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Listener>>> {
        self.inner.bind(addr)
    }
}

/// A world in which something happens between the API's answer and the dial to the relay. HTTP does not go through it.
pub(crate) fn before_dial<F, Fut>(env: &Env, before: F) -> Env
where
    F: Fn() -> Fut + Send + Sync + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    let before: Before = Arc::new(move || Box::pin(before()));
    Env { network: Arc::new(BeforeDial { inner: env.network.clone(), before }), ..env.clone() }
}
