//! A service described once, answered by a daemon and called by a client, with types on both sides.
//!
//! Needs SIDEBAND_API_URL, SIDEBAND_RELAY_URL, SIDEBAND_API_KEY and SIDEBAND_ACCESS_TOKEN, as `sideband-sim up` prints them.
#![allow(clippy::print_stdout)]

use sideband::{Account, Context, Daemon, HandlerError};

sideband::service! {
    /// A notebook.
    pub trait Notebook, client NotebookClient {
        /// Adds a note; how many there are now.
        "notes.add" => fn add(title: String, text: String) -> usize;
        /// The titles of all notes.
        "notes.titles" => fn titles() -> Vec<String>;
    }
}

#[derive(Default)]
struct InMemory(std::sync::Mutex<Vec<String>>);

impl Notebook for InMemory {
    async fn add(&self, title: String, _text: String, _: Context) -> Result<usize, HandlerError> {
        if title.is_empty() {
            return Err(HandlerError::new(2_001, "a note needs a title"));
        }
        let mut titles = self.0.lock().map_err(|_| HandlerError::new(2_000, "the notebook is broken"))?;
        titles.push(title);
        Ok(titles.len())
    }

    async fn titles(&self, _: Context) -> Result<Vec<String>, HandlerError> {
        Ok(self.0.lock().map_err(|_| HandlerError::new(2_000, "the notebook is broken"))?.clone())
    }
}

fn env(name: &str) -> Result<String, String> {
    std::env::var(name).map_err(|_| format!("set {name}; `sideband-sim up` prints it"))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let api = env("SIDEBAND_API_URL")?;
    let server = Daemon::new(&api, &env("SIDEBAND_RELAY_URL")?, env("SIDEBAND_API_KEY")?)?
        .serve(NotebookClient::handlers(InMemory::default()))?
        .listen()
        .await?;
    let client = Account::with_token(&api, server.daemon_id(), env("SIDEBAND_ACCESS_TOKEN")?)?.connect()?;
    let notes = NotebookClient::new(&client);
    println!("{} note", notes.add("milk".to_owned(), "two litres".to_owned()).await?);
    println!("{:?}", notes.titles().await?);
    if let Err(error) = notes.add(String::new(), String::new()).await {
        println!("refused: {error}");
    }
    client.close().await;
    server.close().await;
    Ok(())
}
