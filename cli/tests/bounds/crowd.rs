//! Ten thousand connections that never authenticate, from two processes.

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
/// How many of a process's connections that asked must at least have been answered: the others may have been cut before.
const LEAST_REFUSED: usize = EACH / 6;
/// Names the server to a process of the crowd.
const ADDRESS: &str = "SIDEBAND_TEST_CROWD";

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
    fn start(address: &str) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
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

    /// What it says once all its connections have been opened: how many came, how many of them were refused, how many cut.
    async fn has_come(&mut self) -> [usize; 3] {
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

/// What a connection of the crowd sends: nothing, the beginning of a request, or one that is refused.
fn words(number: usize) -> &'static [u8] {
    match number % 3 {
        0 => b"",
        1 => b"GET /relay HTTP/1.1\r\nhost: x\r\nx-slow: ",
        _ => {
            b"GET /relay?token=nobody HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
              sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        }
    }
}

/// One of the crowd: it stays for as long as it can, and is slow. Its answer's status, if there is one.
async fn stays(address: &str, number: usize) -> (TcpStream, Option<String>) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    // The server may have had enough of it.
    let _ = stream.write_all(words(number)).await;
    if number % 3 != 2 {
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
        let (_silent, none) = stays(&address, 0).await;
        let (_refused, status) = stays(&address, 2).await;
        assert_eq!((none, status.as_deref()), (None, Some("401")));
        return;
    };
    let (mut streams, mut refused, mut cut) = (Vec::new(), 0, 0);
    let mut coming = JoinSet::new();
    for number in 0..EACH {
        let address = address.clone();
        coming.spawn(async move { (number, stays(&address, number).await) });
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
    (number, (stream, status)): (usize, (TcpStream, Option<String>)),
    streams: &mut Vec<TcpStream>,
    refused: &mut usize,
    cut: &mut usize,
) {
    streams.push(stream);
    match status.as_deref() {
        Some("401") => *refused += 1,
        Some(other) => panic!("answered {other}"),
        None if number % 3 == 2 => *cut += 1,
        None => {}
    }
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
    let (mut one, mut two) = (Crowd::start(&address), Crowd::start(&address));
    let come = async {
        let (one, two) = tokio::join!(one.has_come(), two.has_come());
        for [came, refused, cut] in [one, two] {
            tell(&format!("{came} came, {refused} were refused, {cut} cut before their answer"));
            assert_eq!(came, EACH);
            assert!(refused >= LEAST_REFUSED, "{refused} of {} that asked were answered", refused + cut);
        }
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
    let most = mib(pid, "VmHWM:");
    for mut crowd in [one, two] {
        crowd.child.kill().await.unwrap();
    }
    let gone = async {
        // The echo daemon's socket and a connection of the last call may come and go.
        while descriptors(pid) > descriptors_before + 8 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, gone).await.expect("the server does not let go of them");
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
