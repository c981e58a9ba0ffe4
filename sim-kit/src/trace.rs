//! Events as NDJSON in a file, one a line. Nothing is left out: if the file takes no more, what happens waits for it.

use std::{
    fs::File,
    io::{self, BufWriter, Write},
    path::Path,
    sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel},
    thread::JoinHandle,
};

use crate::event::{Event, EventSink};

/// Lines that may wait for the file.
const WAITING: usize = 16_384;

/// A trace that is being written. Dropping it writes what is left and ends it.
#[derive(Debug)]
pub struct TraceFile {
    lines: Option<SyncSender<Line>>,
    writer: Option<JoinHandle<io::Result<u64>>>,
}

#[derive(Debug)]
enum Line {
    Event(Box<Event>),
    End,
}

impl TraceFile {
    /// Writes every event from now on to a file, which is made anew.
    ///
    /// # Errors
    /// The file cannot be made.
    pub fn create(path: &Path, events: &EventSink) -> io::Result<Self> {
        Self::start(File::create(path)?, events)
    }

    fn start(file: impl Write + Send + 'static, events: &EventSink) -> io::Result<Self> {
        let (lines, waiting) = sync_channel(WAITING);
        let writer = std::thread::Builder::new().name("trace".to_owned()).spawn(move || write(file, &waiting))?;
        let sender = lines.clone();
        events.tap(move |event| {
            // A writer that has ended has said why.
            let _ = sender.send(Line::Event(Box::new(event.clone())));
        });
        Ok(Self { lines: Some(lines), writer: Some(writer) })
    }

    /// Writes what is left and ends; how many lines were written.
    ///
    /// # Errors
    /// Not everything could be written.
    pub fn finish(mut self) -> io::Result<u64> {
        self.end()
    }

    fn end(&mut self) -> io::Result<u64> {
        if let Some(lines) = self.lines.take() {
            // A writer that has ended needs no word.
            let _ = lines.send(Line::End);
        }
        match self.writer.take() {
            Some(writer) => writer.join().unwrap_or_else(|_| Err(io::Error::other("the writer panicked"))),
            None => Ok(0),
        }
    }
}

impl Drop for TraceFile {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            tracing::warn!(%error, "the trace is not whole");
        }
    }
}

/// Writes lines until the end; what waits is written together, and then is in the file.
fn write(file: impl Write, lines: &Receiver<Line>) -> io::Result<u64> {
    let mut file = BufWriter::with_capacity(64 << 10, file);
    let mut count = 0;
    loop {
        let line = match lines.try_recv() {
            Ok(line) => line,
            Err(TryRecvError::Empty) => {
                file.flush()?;
                let Ok(line) = lines.recv() else { break };
                line
            }
            Err(TryRecvError::Disconnected) => break,
        };
        let Line::Event(event) = line else { break };
        serde_json::to_writer(&mut file, &event)?;
        file.write_all(b"\n")?;
        count += 1;
    }
    file.flush()?;
    Ok(count)
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::event::EventKind;

    #[derive(Clone, Default)]
    struct Shared(Arc<Mutex<Vec<u8>>>);

    impl Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    struct Full;

    impl Write for Full {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::StorageFull.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn step(sink: &EventSink, n: usize) {
        sink.emit(None, None, EventKind::Step { what: n.to_string() });
    }

    #[test]
    fn every_event_is_a_line_however_many_come_at_once() {
        let (sink, file) = (EventSink::with_time(|| 7, "test", 0), Shared::default());
        let trace = TraceFile::start(file.clone(), &sink).unwrap();
        (0..50_000).for_each(|n| step(&sink, n));
        assert_eq!(trace.finish().unwrap(), 50_000);
        let text = String::from_utf8(file.0.lock().unwrap().clone()).unwrap();
        for (n, line) in text.lines().enumerate() {
            let event: Event = serde_json::from_str(line).unwrap();
            assert_eq!(event.kind, EventKind::Step { what: n.to_string() });
        }
        assert_eq!(text.lines().count(), 50_000);
    }

    #[test]
    fn a_file_that_takes_no_more_is_told_and_stops_nothing() {
        let sink = EventSink::with_time(|| 7, "test", 0);
        let trace = TraceFile::start(Full, &sink).unwrap();
        (0..50_000).for_each(|n| step(&sink, n));
        assert_eq!(trace.finish().unwrap_err().kind(), io::ErrorKind::StorageFull);
        step(&sink, 0);
    }
}
