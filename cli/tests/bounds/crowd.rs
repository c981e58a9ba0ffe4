//! Ten thousand connections that never authenticate, from two processes: of all kinds together, then of each.

use std::{process::Stdio, time::Duration};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines},
    net::TcpStream,
    process::{Child, ChildStdin, ChildStdout, Command},
    task::JoinSet,
};

use crate::{support::Sim, tell};

/// Connections of each of the two processes.
const EACH: usize = 5_000;
/// Descriptors that such a process and the server need.
const DESCRIPTORS: u64 = 6_000;
/// Longer than anything takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);
/// What the crowd may cost the server: the connections that it holds at once, and room for their requests.
const MOST_MIB: u64 = 256;
/// How often the good one must at least be served while the crowd comes, and while it stays.
const LEAST_GOOD: u32 = 2;
/// How many answers somebody good must at least get while a crowd of one kind comes, and while it stands.
const GOOD_ANSWERS: u32 = 50;
/// How many of such a crowd stand at least: fewer than what the server holds, but more than the last of a crowd that comes only as
/// the server gives up those before, which would be what is left over its 4,096 twice.
const STANDING: usize = 2_500;
/// Names the server to a process of the crowd.
const ADDRESS: &str = "SIDEBAND_TEST_CROWD";
/// Names the kind of its connections, if they are all alike.
const KIND: &str = "SIDEBAND_TEST_CROWD_KIND";

/// What a connection of the crowd sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Nothing,
    HalfAHeader,
    /// A whole request that is refused; the connection then stays.
    Refused,
    HalfABody,
}

impl Kind {
    const ALL: [Self; 4] = [Self::Nothing, Self::HalfAHeader, Self::Refused, Self::HalfABody];

    fn words(self) -> &'static [u8] {
        match self {
            Self::Nothing => b"",
            Self::HalfAHeader => b"GET /relay HTTP/1.1\r\nhost: x\r\nx-slow: ",
            Self::Refused => {
                b"GET /relay?token=nobody HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
                  sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
            }
            Self::HalfABody => b"POST /api/trpc/daemon.renewToken HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\n{",
        }
    }
}

/// Raises the limit of this process, which its children inherit; false if that is not allowed.
fn has_descriptors() -> bool {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let enough = |limit: Option<u64>| limit.is_none_or(|limit| limit >= DESCRIPTORS);
    enough(current)
        || enough(maximum) && setrlimit(Resource::Nofile, Rlimit { current: Some(DESCRIPTORS), maximum }).is_ok()
}

/// A number of `/proc/PID/status` in MiB; none where there is no such file.
fn mib(pid: u32, member: &str) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(member))?;
    let kib: u64 = line.trim_matches(|c: char| !c.is_ascii_digit()).parse().ok()?;
    Some(kib / 1_024)
}

fn descriptors(pid: u32) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count)
}

/// A process of the crowd.
struct Crowd {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    _until: ChildStdin,
}

impl Crowd {
    /// Connections of one kind, or of all in turn.
    fn start(address: &str, kind: Option<Kind>) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        if let Some(kind) = kind {
            command.env(KIND, format!("{kind:?}"));
        }
        let mut child = command
            .args(["--exact", "crowd::is_a_crowd", "--nocapture"])
            .env(ADDRESS, address)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let until = child.stdin.take().unwrap();
        Self { child, lines, _until: until }
    }

    /// Waits until all its connections have been opened. Of those that ask, half at least must have been answered: the others may
    /// have been cut before.
    async fn has_come(&mut self) {
        let [came, refused, cut] = self.said().await;
        tell(&format!("{came} came, {refused} were refused, {cut} cut before their answer"));
        assert_eq!(came, EACH);
        assert!(refused >= cut, "{refused} of {} that asked were answered", refused + cut);
    }

    /// How many came, how many of them were refused, how many cut.
    async fn said(&mut self) -> [usize; 3] {
        let said = async {
            while let Some(line) = self.lines.next_line().await.unwrap() {
                if let Some((_, said)) = line.split_once("crowd: ") {
                    let mut numbers = said.split_whitespace().map(|number| number.parse().unwrap());
                    return [(); 3].map(|()| numbers.next().unwrap());
                }
            }
            panic!("it ended before all had come");
        };
        tokio::time::timeout(PATIENCE, said).await.expect("the crowd does not come")
    }
}

/// One of the crowd: it stays for as long as it can, and is slow. Its answer's status, if there is one.
async fn stays(address: &str, kind: Kind) -> (TcpStream, Option<String>) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    // The server may have had enough of it.
    let _ = stream.write_all(kind.words()).await;
    if kind != Kind::Refused {
        return (stream, None);
    }
    let mut head = [0; 12];
    let answered = stream.read_exact(&mut head).await.is_ok();
    (stream, answered.then(|| String::from_utf8_lossy(&head[9..]).into_owned()))
}

/// A crowd of its own process if it is told whose; else a small one, to see that it is one.
#[tokio::test]
async fn is_a_crowd() {
    let Ok(address) = std::env::var(ADDRESS) else {
        let sim = Sim::up(&[]).await;
        let address = sim.get("apiUrl").strip_prefix("http://").unwrap().to_owned();
        let (_silent, none) = stays(&address, Kind::Nothing).await;
        let (_refused, status) = stays(&address, Kind::Refused).await;
        assert_eq!((none, status.as_deref()), (None, Some("401")));
        return;
    };
    let kinds: Vec<Kind> = match std::env::var(KIND) {
        Ok(name) => Kind::ALL.into_iter().filter(|kind| format!("{kind:?}") == name).collect(),
        Err(_) => Kind::ALL.to_vec(),
    };
    let (mut streams, mut refused, mut cut) = (Vec::new(), 0, 0);
    let mut coming = JoinSet::new();
    for number in 0..EACH {
        let (address, kind) = (address.clone(), kinds[number % kinds.len()]);
        coming.spawn(async move { (kind, stays(&address, kind).await) });
        if coming.len() >= 200 {
            take_in(coming.join_next().await.unwrap().unwrap(), &mut streams, &mut refused, &mut cut);
        }
    }
    while let Some(one) = coming.join_next().await {
        take_in(one.unwrap(), &mut streams, &mut refused, &mut cut);
    }
    tell(&format!("crowd: {} {refused} {cut}", streams.len()));
    // It goes when its stdin ends.
    let _ = tokio::io::stdin().read(&mut [0]).await;
}

fn take_in(
    (kind, (stream, status)): (Kind, (TcpStream, Option<String>)),
    streams: &mut Vec<TcpStream>,
    refused: &mut usize,
    cut: &mut usize,
) {
    streams.push(stream);
    match status.as_deref() {
        Some("401") => *refused += 1,
        Some(other) => panic!("answered {other}"),
        None if kind == Kind::Refused => *cut += 1,
        None => {}
    }
}

/// Ends crowds, and waits until the server has let go of them.
async fn go(crowds: [Crowd; 2], pid: u32, before: usize) {
    for mut crowd in crowds {
        crowd.child.kill().await.unwrap();
    }
    let gone = async {
        // The echo daemon's socket and a connection of the last call may come and go.
        while descriptors(pid) > before + 8 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, gone).await.expect("the server does not let go of them");
}

/// Somebody good, who comes with a new connection: whether it is served.
async fn renews(address: &str, key: &str) -> bool {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!(
        "POST /api/trpc/daemon.renewToken HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\nconnection: close\r\n\
         content-length: 4\r\n\r\nnull"
    );
    let mut answer = Vec::new();
    let exchange = async {
        stream.write_all(request.as_bytes()).await?;
        stream.read_to_end(&mut answer).await
    };
    let ended = tokio::time::timeout(PATIENCE, exchange).await.expect("no answer");
    ended.is_ok() && answer.starts_with(b"HTTP/1.1 200 ")
}

/// A crowd of one kind, of which the server holds as many as it may: somebody good is served while they stand, not when it has
/// given them up.
async fn stands(sim: &Sim, kind: Kind) {
    let (pid, key) = (sim.id(), sim.get("apiKey"));
    let address = sim.get("apiUrl").strip_prefix("http://").unwrap().to_owned();
    let before = descriptors(pid);
    let (mut one, mut two) = (Crowd::start(&address, Some(kind)), Crowd::start(&address, Some(kind)));
    let mut meanwhile = 0_u32;
    let good = async {
        loop {
            assert!(renews(&address, key).await, "{kind:?}: refused after {meanwhile} good answers");
            meanwhile += 1;
        }
    };
    tokio::select! {
        _ = async { tokio::join!(one.has_come(), two.has_come()) } => {}
        () = good => {}
    }
    assert!(meanwhile >= GOOD_ANSWERS, "{kind:?}: {meanwhile} good answers while they came");
    for good in 0..GOOD_ANSWERS {
        let standing = descriptors(pid).saturating_sub(before);
        assert!(standing >= STANDING, "{kind:?}: {standing} stand after {good} good answers");
        assert!(renews(&address, key).await, "{kind:?}: refused after {good} good answers");
    }
    let standing = descriptors(pid).saturating_sub(before);
    tell(&format!("{kind:?}: {meanwhile} good answers while they came, {GOOD_ANSWERS} while {standing} stand"));
    go([one, two], pid, before).await;
}

#[tokio::test]
async fn ten_thousand_connections_that_never_authenticate_disturb_nobody() {
    if !has_descriptors() {
        tell(&format!("SKIPPED (1 test): a process here may not have {DESCRIPTORS} descriptors"));
        return;
    }
    let sim = Sim::up(&["--daemon"]).await;
    let pid = sim.id();
    let (before, descriptors_before) = (mib(pid, "VmRSS:"), descriptors(pid));
    if before.is_none() {
        tell("SKIPPED (the memory of 1 test): no /proc/PID/status here");
    }
    let address = sim.get("apiUrl").strip_prefix("http://").unwrap().to_owned();
    let (mut one, mut two) = (Crowd::start(&address, None), Crowd::start(&address, None));
    let come = async {
        tokio::join!(one.has_come(), two.has_come());
    };
    // Somebody good all the while, by new connections each time.
    let mut good = 0_u32;
    let good_calls = async {
        loop {
            let ended = sim.call(&["ping"]).await;
            assert_eq!((ended.code, ended.stdout.contains("pong")), (Some(0), true), "{ended:?}");
            good += 1;
        }
    };
    tokio::select! {
        () = come => {}
        () = good_calls => {}
    }
    assert!(good >= LEAST_GOOD, "{good} good calls while the crowd came");
    for _ in 0..LEAST_GOOD {
        let ended = sim.call(&["ping"]).await;
        assert_eq!(ended.code, Some(0), "{ended:?}");
    }
    let (during, descriptors_during) = (mib(pid, "VmRSS:"), descriptors(pid));
    go([one, two], pid, descriptors_before).await;
    if descriptors_before == 0 {
        tell("SKIPPED (the crowds of one kind of 1 test): no /proc/PID/fd here");
    } else {
        for kind in Kind::ALL {
            stands(&sim, kind).await;
        }
    }
    let most = mib(pid, "VmHWM:");
    let after = mib(pid, "VmRSS:");
    tell(&format!(
        "{} connections, {good} good calls meanwhile; server's MiB {before:?} before, {during:?} with them, {most:?} at most, {after:?} \
         after; descriptors {descriptors_before}, {descriptors_during}, {}",
        2 * EACH,
        descriptors(pid),
    ));
    if let (Some(before), Some(most)) = (before, most) {
        assert!(most < before + MOST_MIB, "{before} MiB, then {most} MiB");
    }
    assert_eq!(sim.stop().await.code, Some(0));
}
