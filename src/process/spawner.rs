//! The threads that start every child. `PR_SET_PDEATHSIG` is sent when the *thread* that forked ends. A thread of the
//! runtime may end before the daemon does; these threads never end.
//!
//! A program on a disk that does not answer holds up its thread for as long as the disk does. So does a file that the
//! daemon has open on a disk in user space (FUSE), or has written to on NFS: the child closes its copy when it executes
//! the program, and waits for that disk. So a start has a deadline, there are further threads, and a program whose start
//! hangs gets no more of them.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::process::{Child, Command};
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use crate::codes;
use crate::process::programs::find_program;

/// A start takes milliseconds, and seconds on a machine that swaps.
pub const START_LIMIT: Duration = Duration::from_secs(10);
/// A program that is open for writing is tried again for a second.
const BUSY_TRIES: u32 = 20;
const BUSY_WAIT: Duration = Duration::from_millis(50);
/// Threads at most. Each start that hangs keeps one.
const MAX_THREADS: usize = 32;
/// Threads that one program may have, so that a program that hangs leaves some for the others.
const MAX_THREADS_OF_PROGRAM: usize = 4;

static SPAWNER: Spawner = Spawner {
    starts: Mutex::new(Starts { queue: VecDeque::new(), running: Vec::new(), threads: 0, idle: 0 }),
    added: Condvar::new(),
};

struct Spawner {
    starts: Mutex<Starts>,
    /// Wakes the threads.
    added: Condvar,
}

#[derive(Default)]
struct Starts {
    queue: VecDeque<Start>,
    /// The programs that are being started, and since when.
    running: Vec<(PathBuf, Instant)>,
    threads: usize,
    idle: usize,
}

struct Start {
    /// The program that is looked at first: where a disk hangs, it hangs there.
    program: PathBuf,
    command: Command,
    runtime: Handle,
    answer: oneshot::Sender<io::Result<Child>>,
}

/// Starts a child. `program`: what the command executes at last, also where a wrapper such as nice(1) does that.
///
/// # Errors
/// Where the program cannot be executed, or its start takes longer than [`START_LIMIT`].
pub(super) async fn spawn(program: &Path, command: Command) -> io::Result<Child> {
    let (answer, started) = oneshot::channel();
    let start = Start { program: program.to_owned(), command, runtime: Handle::current(), answer };
    SPAWNER.push(start)?;
    match tokio::time::timeout(START_LIMIT, started).await {
        Ok(started) => started.unwrap_or_else(|_| Err(io::Error::other("the thread that starts processes has failed"))),
        Err(_) => Err(SPAWNER.lock().hang(program)),
    }
}

impl Spawner {
    fn lock(&self) -> MutexGuard<'_, Starts> {
        // The lists are consistent at every point that could panic.
        self.starts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&'static self, start: Start) -> io::Result<()> {
        let mut starts = self.lock();
        if starts.running.iter().any(|(program, since)| *program == start.program && since.elapsed() >= START_LIMIT) {
            return Err(starts.hang(&start.program));
        }
        starts.queue.push_back(start);
        if starts.queue.len() > starts.idle && starts.threads < MAX_THREADS {
            match std::thread::Builder::new().name("spawner".to_owned()).spawn(|| self.run()) {
                Ok(_) => starts.threads += 1,
                // The others do it.
                Err(_) if starts.threads > 0 => {}
                Err(error) => {
                    starts.queue.pop_back();
                    return Err(error);
                }
            }
        }
        drop(starts);
        self.added.notify_one();
        Ok(())
    }

    /// A thread; never ends.
    fn run(&self) {
        loop {
            let Start { program, mut command, runtime, answer } = self.next();
            look_at(&program, &command);
            // Whoever has given the start up must not get the program's work done all the same, and much later.
            if !answer.is_closed() {
                let _guard = runtime.enter();
                // If the caller is gone by now, `kill_on_drop` kills the child.
                let _ = answer.send(spawn_free(&mut command));
            }
            self.ended(&program);
        }
    }

    fn next(&self) -> Start {
        let mut starts = self.lock();
        starts.idle += 1;
        loop {
            starts.queue.retain(|start| !start.answer.is_closed());
            if let Some(start) = starts.take() {
                starts.idle -= 1;
                return start;
            }
            starts = self.added.wait(starts).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn ended(&self, program: &Path) {
        let mut starts = self.lock();
        let Some(at) = starts.running.iter().position(|(running, _)| running == program) else { return };
        let (_, since) = starts.running.swap_remove(at);
        drop(starts);
        if since.elapsed() >= START_LIMIT {
            let took_s = since.elapsed().as_secs();
            tracing::warn!(
                code = %codes::START_HELD_UP, program = %program.display(), took_s,
                "a start of this program was held up by a disk that answers again; it was given up meanwhile"
            );
        }
        // A start may have waited for this one's thread.
        self.added.notify_all();
    }
}

impl Starts {
    /// The first start whose program has threads left.
    fn take(&mut self) -> Option<Start> {
        let threads = |of: &Path| self.running.iter().filter(|(program, _)| program == of).count();
        let at = self.queue.iter().position(|start| threads(&start.program) < MAX_THREADS_OF_PROGRAM)?;
        let start = self.queue.remove(at)?;
        self.running.push((start.program.clone(), Instant::now()));
        Some(start)
    }

    /// The error of a start that took too long, which names what hangs.
    fn hang(&self, program: &Path) -> io::Error {
        let mut why = match self.running.iter().find(|(running, _)| running == program) {
            Some((_, since)) => format!(
                "a start of it has hung for {} s: the disk that holds it, or one on which the recorder has a file open, does not answer; remount that disk, or put the program on a local one",
                since.elapsed().as_secs()
            ),
            None => format!("it was not started within {} s, as no thread is free", START_LIMIT.as_secs()),
        };
        let others =
            self.running.iter().filter(|(running, since)| running != program && since.elapsed() >= START_LIMIT);
        for (other, since) in others {
            // A String takes everything.
            let _ = write!(why, "; the start of {} has hung for {} s", other.display(), since.elapsed().as_secs());
        }
        io::Error::new(io::ErrorKind::TimedOut, why)
    }
}

/// Starts a program that may be open for writing still: it was just written, and a child that another thread is starting
/// has a copy of the descriptor until it runs its own program; or somebody is copying a new version of a script.
fn spawn_free(command: &mut Command) -> io::Result<Child> {
    for _ in 0..BUSY_TRIES {
        match command.spawn() {
            Err(error) if error.kind() == io::ErrorKind::ExecutableFileBusy => std::thread::sleep(BUSY_WAIT),
            started => return started,
        }
    }
    command.spawn()
}

/// Reads the first bytes of the program, and looks at the directory that it is to run in. A child that hangs between
/// fork and exec would keep a copy of every open file, and so hold up the end of other children's pipes.
fn look_at(program: &Path, command: &Command) {
    let read = |path: PathBuf| std::fs::File::open(path)?.read(&mut [0; 4]);
    // An error is found again, and told, by the start itself.
    let _ = find_program(program).map(read);
    let _ = command.as_std().get_current_dir().map(std::fs::metadata);
}
