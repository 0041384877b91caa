//! A process under test: its output is collected while it runs, and it never outlives the test.

use core::time::Duration;
use std::{
    io::Read,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Condvar, Mutex},
    thread,
    time::Instant,
};

use crate::{
    lab::{Namespace, eventually},
    sys,
};

/// How long a condition that should hold at once may take on a busy machine.
pub(crate) const SOON: Duration = Duration::from_secs(10);

/// What a pipe has brought so far.
#[derive(Default)]
struct Collected {
    text: Mutex<(String, bool)>,
    changed: Condvar,
}

impl Collected {
    fn from(mut pipe: impl Read + Send + 'static) -> Arc<Self> {
        let collected = Arc::new(Self::default());
        let into = Arc::clone(&collected);
        thread::spawn(move || {
            let mut buffer = vec![0; 1 << 16];
            loop {
                let count = pipe.read(&mut buffer).unwrap_or(0);
                let mut text = into.text.lock().unwrap();
                text.0.push_str(&String::from_utf8_lossy(&buffer[..count]));
                text.1 = count == 0;
                into.changed.notify_all();
                if count == 0 {
                    return;
                }
            }
        });
        collected
    }

    fn text(&self) -> String {
        self.text.lock().unwrap().0.clone()
    }

    /// Whether `holds` came true of the text in time; the end of the output settles it at once.
    fn wait(&self, patience: Duration, holds: impl Fn(&str) -> bool) -> bool {
        let text = self.text.lock().unwrap();
        let (text, _) = self
            .changed
            .wait_timeout_while(text, patience, |(text, ended)| !holds(text) && !*ended)
            .unwrap();
        holds(&text.0)
    }

    /// The whole text, once the other end is closed.
    fn all(&self, patience: Duration) -> String {
        let text = self.text.lock().unwrap();
        let (text, _) =
            self.changed.wait_timeout_while(text, patience, |(_, ended)| !*ended).unwrap();
        text.0.clone()
    }
}

/// A running process; killed when dropped.
pub(crate) struct Process {
    name: String,
    child: Child,
    out: Arc<Collected>,
    err: Arc<Collected>,
}

/// A process that has ended.
#[derive(Debug)]
pub(crate) struct Finished {
    /// How it ended.
    pub(crate) status: ExitStatus,
    /// All of its standard output.
    pub(crate) out: String,
    /// All of its standard error.
    pub(crate) err: String,
}

impl Finished {
    /// The exit code; panics, with the output, when a signal ended it.
    pub(crate) fn code(&self) -> i32 {
        self.status.code().unwrap_or_else(|| panic!("a signal ended it: {self:?}"))
    }

    /// Asserts exit code 0.
    pub(crate) fn succeeded(self) -> Self {
        assert_eq!(self.code(), 0, "{self:?}");
        self
    }
}

impl Process {
    /// Starts a program in a namespace.
    pub(crate) fn start(namespace: &Namespace, program: &str, arguments: &[&str]) -> Self {
        Self::start_fed(namespace, program, arguments, Stdio::null())
    }

    /// Starts a program in a namespace with `input` as its standard input.
    pub(crate) fn start_fed(
        namespace: &Namespace,
        program: &str,
        arguments: &[&str],
        input: Stdio,
    ) -> Self {
        // `ip netns exec` becomes the program, so the child's id is the program's.
        let mut child = Command::new("ip")
            .args(["netns", "exec", namespace.name(), program])
            .args(arguments)
            .stdin(input)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|e| panic!("ip netns exec {program}: {e}"));
        let out = Collected::from(child.stdout.take().unwrap());
        let err = Collected::from(child.stderr.take().unwrap());
        let name = format!("{} {}", program.rsplit('/').next().unwrap(), arguments.join(" "));
        Self { name, child, out, err }
    }

    /// Starts `canspan`.
    pub(crate) fn canspan(namespace: &Namespace, arguments: &[&str]) -> Self {
        Self::start(namespace, &canspan(), arguments)
    }

    /// Starts `candump` and returns once it listens. Interfaces as on its command line.
    pub(crate) fn candump(namespace: &Namespace, arguments: &[&str]) -> Self {
        let before = namespace.listeners();
        let process = Self::start(namespace, "candump", arguments);
        eventually("candump listens", SOON, || namespace.listeners() > before);
        process
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its standard input, if it was asked for; dropping that ends the input.
    pub(crate) fn input(&mut self) -> std::process::ChildStdin {
        self.child.stdin.take().expect("started with a piped input")
    }

    /// What it has written to standard output so far.
    pub(crate) fn out(&self) -> String {
        self.out.text()
    }

    /// What it has written to standard error so far.
    pub(crate) fn err(&self) -> String {
        self.err.text()
    }

    /// Waits until its standard error holds `words`, `times` times.
    pub(crate) fn says_times(&self, words: &str, times: usize, patience: Duration) {
        let said = self.err.wait(patience, |text| text.matches(words).count() >= times);
        assert!(said, "`{}` did not say {words:?} {times} times in {patience:?}", self.name);
    }

    /// Waits until its standard error holds `words`.
    pub(crate) fn says(&self, words: &str) {
        self.says_times(words, 1, SOON);
    }

    /// Waits until its standard output has this many lines.
    pub(crate) fn prints_lines(&self, count: usize, patience: Duration) -> Vec<String> {
        let printed = self.out.wait(patience, |text| text.matches('\n').count() >= count);
        let lines: Vec<String> = self.out().lines().map(str::to_owned).collect();
        assert!(
            printed,
            "`{}` printed {} lines and not {count} in {patience:?}, the last {:?}",
            self.name,
            lines.len(),
            lines.last()
        );
        lines
    }

    /// Sends it a signal.
    pub(crate) fn signal(&mut self, number: libc::c_int) {
        assert!(self.is_running(), "`{}` has ended already", self.name);
        sys::signal(self.pid(), number);
    }

    /// Whether it has not ended.
    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Waits for its end.
    pub(crate) fn finish(mut self, patience: Duration) -> Finished {
        let deadline = Instant::now() + patience;
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(Instant::now() < deadline, "`{}` has not ended in {patience:?}", self.name);
            thread::sleep(Duration::from_millis(2));
        };
        Finished { status, out: self.out.all(SOON), err: self.err.all(SOON) }
    }

    /// Sends SIGTERM and waits for its end, which every command owes within a second.
    pub(crate) fn stop(mut self) -> Finished {
        self.signal(libc::SIGTERM);
        // The promise is 1 s of its own time; starting to look at it takes some of a busy machine's.
        self.finish(Duration::from_millis(1500))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if thread::panicking() {
            // What a failed test's processes had to say, and no more than fits a screen.
            let text = self.err();
            let lines: Vec<&str> = text.lines().collect();
            let last = lines.len().saturating_sub(40);
            eprintln!("--- `{}` said:", self.name);
            lines[last..].iter().for_each(|line| eprintln!("    {line}"));
        }
        if self.is_running() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

thread_local! {
    static STATIC: core::cell::Cell<bool> = const { core::cell::Cell::new(false) };
}

/// While it lives, the static binary is under test: the form that boards get, in which the C
/// library is not counted for every process anew.
pub(crate) struct StaticBinary(());

impl StaticBinary {
    pub(crate) fn chosen() -> Self {
        STATIC.set(true);
        Self(())
    }
}

impl Drop for StaticBinary {
    fn drop(&mut self) {
        STATIC.set(false);
    }
}

/// The binary under test.
pub(crate) fn canspan() -> String {
    if STATIC.get() {
        return std::env::var("CANSPAN_STATIC")
            .expect("CANSPAN_STATIC names no static binary; tests/run builds one");
    }
    std::env::var("CANSPAN").unwrap_or_else(|_| env!("CARGO_BIN_EXE_canspan").to_owned())
}
