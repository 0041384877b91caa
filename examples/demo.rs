//! A CAN bus crosses TCP, the network is cut, and no frame is missing afterwards. No CAN hardware,
//! no CAN in the kernel, no privileges.
//!
//! ```text
//! cargo run --release --example demo
//!
//!                 +---------> reader beside the board (dump)
//! board (serve) --+
//!                 +--[cut]--> reader on the PC (dump)
//!                 +--[cut]--- PC that sends (connect)
//! ```
//!
//! Every box is a process of its own that runs the canspan program's code. The board has two
//! simulated buses: `can0` plays the trace of an invented vehicle, `can1` numbers its frames. The
//! reader beside the board is never cut, and so is the witness of what was on the buses.

use core::error::Error;
use core::net::{Ipv4Addr, SocketAddr};
use core::time::Duration;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle, sleep};
use std::time::{Instant, SystemTime};

use canspan::cli::{self, Request};
use canspan::{commands, logging, text};
use rustix::process::{Pid, Signal, kill_process};

type Failure = Box<dyn Error + Send + Sync>;

/// First argument of the processes the demo starts: what follows is a canspan command line.
const AS_CANSPAN: &str = "as-canspan";
const TRACE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/vehicle.log");
/// How long the network works before the cut, and again after it.
const BEFORE: Duration = Duration::from_secs(3);
const CUT: Duration = Duration::from_secs(4);
const AFTER: Duration = Duration::from_secs(2);
/// How long anything may take that is waited for: the longest pause between two attempts to dial.
const PATIENCE: Duration = Duration::from_secs(6);

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    if arguments.first().is_some_and(|first| first == AS_CANSPAN) {
        return canspan(arguments.into_iter().skip(1));
    }
    match demo() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => {
            println!("\nFAILED: the account above does not add up.");
            ExitCode::FAILURE
        }
        Err(error) => {
            println!("\nFAILED: {error}");
            ExitCode::FAILURE
        }
    }
}

/// What the canspan program does.
fn canspan(arguments: impl Iterator<Item = std::ffi::OsString>) -> ExitCode {
    let done = match cli::parse(arguments) {
        Ok(Request::Run { command, verbose }) => {
            logging::init_logging(verbose);
            commands::run(*command).map_err(|failure| failure.to_string())
        }
        Ok(Request::Print(_)) => Ok(()),
        Err(error) => Err(error.to_string()),
    };
    done.map_or_else(
        |error| {
            eprintln!("canspan: {error}");
            ExitCode::FAILURE
        },
        |()| ExitCode::SUCCESS,
    )
}

fn demo() -> Result<bool, Failure> {
    let story = Story(Instant::now());
    let trace = format!("sim:can0?trace={TRACE}");
    let serve = ["serve", &trace, "sim:can1?rate=1000", "--listen=127.0.0.1:0", "--max-age=500ms"];
    let board = Process::start(story, "board", &serve)?;
    let listening = board.wait_for_log("listening on ")?;
    let address: SocketAddr = listening.split(' ').next_back().unwrap_or("").parse()?;
    story.tell("board", "can0 plays a vehicle's trace, can1 has 1,000 numbered frames a second");
    let network = Network::start(address)?;
    let (direct, through) = (address.to_string(), network.address.to_string());
    let witness = Process::start(story, "witness", &["dump", &direct, "--last=30s"])?;
    let reader = Process::start(story, "reader", &["dump", &through, "--last=30s"])?;
    let sender = Process::start(story, "sender", &["connect", &through, "can0:sim:pc?rate=50"])?;
    reader.wait(|reader| reader.lines().len() > 100, "the reader gets nothing")?;
    story.tell("sender", "sends 50 numbered commands a second to can0");
    sleep(BEFORE);
    story.count(&witness, &reader);

    network.cut();
    let cut_at = SystemTime::now();
    story.tell("network", "CUT: connections are dropped, new ones go nowhere");
    sleep(CUT / 2);
    story.count(&witness, &reader);
    sleep(CUT / 2);
    let missed = witness.lines().len().saturating_sub(reader.lines().len());
    let healed_at = (SystemTime::now(), Instant::now());
    network.heal();
    story.tell("network", &format!("HEALED after {CUT:?}; the reader is {missed} frames behind"));
    let behind = |witness: usize, reader: usize| witness.saturating_sub(reader);
    reader
        .wait(|r| behind(witness.lines().len(), r.lines().len()) < 200, "it does not catch up")?;
    let is_up_again = |sender: &Process| sender.log_lines("link up").count() >= 2;
    sender.wait(is_up_again, "the sender does not come back")?;
    sleep(AFTER);
    story.count(&witness, &reader);

    let sender = sender.end()?;
    let board = board.end()?;
    let (witness, reader) = (witness.end()?, reader.end()?);
    story.tell("demo", "everything has ended; the account:\n");
    Ok(Account { board, sender, witness, reader, cut: (cut_at, healed_at) }.check())
}

/// Tells what happens, with the time since the beginning.
#[derive(Clone, Copy)]
struct Story(Instant);

impl Story {
    fn tell(self, who: &str, what: &str) {
        println!("{:5.1} s  {who:8} {what}", self.0.elapsed().as_secs_f64());
    }

    fn count(self, witness: &Process, reader: &Process) {
        let (on_bus, received) = (witness.lines().len(), reader.lines().len());
        self.tell("frames", &format!("on the buses {on_bus}, received on the PC {received}"));
    }
}

/// A line of output and when it came.
type Line = (Instant, String);

/// A canspan process, and what it has said so far.
struct Process {
    child: Child,
    output: Arc<Mutex<Vec<Line>>>,
    log: Arc<Mutex<Vec<Line>>>,
    readers: Vec<JoinHandle<()>>,
}

impl Process {
    fn start(story: Story, name: &'static str, arguments: &[&str]) -> Result<Self, Failure> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg(AS_CANSPAN).args(arguments).env_remove("RUST_LOG").stdin(Stdio::null());
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let (output, log) = (Arc::default(), Arc::default());
        let mut readers = Vec::new();
        if let Some(pipe) = child.stdout.take() {
            readers.push(collect(pipe, &output, |_| {}));
        }
        if let Some(pipe) = child.stderr.take() {
            readers.push(collect(pipe, &log, move |line| {
                // The PC's links coming and going; the rest of the log is for the account.
                let line = line.trim_start_matches("canspan: ");
                let is_link = line.contains(": link up") || line.contains(": link down");
                if is_link && ["reader", "sender"].contains(&name) && !line.contains("peer has") {
                    story.tell(name, line);
                }
            }));
        }
        Ok(Self { child, output, log, readers })
    }

    fn lines(&self) -> MutexGuard<'_, Vec<Line>> {
        self.output.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait(&self, done: impl Fn(&Self) -> bool, otherwise: &str) -> Result<(), Failure> {
        let begun = Instant::now();
        while !done(self) {
            if begun.elapsed() > PATIENCE {
                return Err(otherwise.into());
            }
            sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    /// The lines of the log with these words.
    fn log_lines(&self, words: &'static str) -> impl Iterator<Item = String> + use<> {
        let log = self.log.lock().unwrap_or_else(PoisonError::into_inner).clone();
        log.into_iter().map(|(_, line)| line).filter(move |line| line.contains(words))
    }

    fn wait_for_log(&self, words: &'static str) -> Result<String, Failure> {
        let find = |process: &Self| process.log_lines(words).next();
        self.wait(|process| find(process).is_some(), &format!("nothing is {words}"))?;
        find(self).ok_or_else(|| "the log is gone".into())
    }

    /// Asks the process to end, and waits until it has.
    fn end(mut self) -> Result<Said, Failure> {
        kill_process(Pid::from_child(&self.child), Signal::TERM)?;
        let status = self.child.wait()?;
        for reader in self.readers.drain(..) {
            let _ = reader.join();
        }
        if !status.success() {
            return Err(format!("a process ended with {status}").into());
        }
        let take = |lines: &Mutex<Vec<Line>>| {
            core::mem::take(&mut *lines.lock().unwrap_or_else(PoisonError::into_inner))
        };
        Ok(Said { output: take(&self.output), log: take(&self.log) })
    }
}

impl Drop for Process {
    /// Whatever happens, nothing of the demo goes on running.
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn collect(
    pipe: impl Read + Send + 'static,
    lines: &Arc<Mutex<Vec<Line>>>,
    each: impl Fn(&str) + Send + 'static,
) -> JoinHandle<()> {
    let lines = Arc::clone(lines);
    thread::spawn(move || {
        for line in BufReader::new(pipe).lines().map_while(Result::ok) {
            each(&line);
            lines.lock().unwrap_or_else(PoisonError::into_inner).push((Instant::now(), line));
        }
    })
}

/// A network between the PC and the board that can be cut: a relay of TCP connections.
struct Network {
    address: SocketAddr,
    cable: Arc<Mutex<Cable>>,
}

#[derive(Default)]
struct Cable {
    is_cut: bool,
    ends: Vec<TcpStream>,
}

impl Network {
    fn start(board: SocketAddr) -> Result<Self, Failure> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let (address, cable) = (listener.local_addr()?, Arc::<Mutex<Cable>>::default());
        let network = Self { address, cable: Arc::clone(&cable) };
        thread::spawn(move || {
            for pc in listener.incoming().map_while(Result::ok) {
                let mut cable = cable.lock().unwrap_or_else(PoisonError::into_inner);
                if !cable.is_cut
                    && let Ok(board) = TcpStream::connect(board)
                {
                    let _ = join(&mut cable.ends, pc, board);
                }
            }
        });
        Ok(network)
    }

    fn cut(&self) {
        let mut cable = self.cable.lock().unwrap_or_else(PoisonError::into_inner);
        cable.is_cut = true;
        for end in cable.ends.drain(..) {
            let _ = end.shutdown(Shutdown::Both);
        }
    }

    fn heal(&self) {
        self.cable.lock().unwrap_or_else(PoisonError::into_inner).is_cut = false;
    }
}

/// Copies both ways between two connections.
fn join(ends: &mut Vec<TcpStream>, a: TcpStream, b: TcpStream) -> std::io::Result<()> {
    for (from, to) in [(&a, &b), (&b, &a)] {
        let (mut from, mut to) = (from.try_clone()?, to.try_clone()?);
        to.set_nodelay(true)?;
        ends.push(from.try_clone()?);
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = from.read(&mut buffer) {
                if buffer.get(..count).is_none_or(|bytes| to.write_all(bytes).is_err()) {
                    break;
                }
            }
            let _ = to.shutdown(Shutdown::Both);
        });
    }
    Ok(())
}

/// What a process said from its start to its end.
struct Said {
    output: Vec<Line>,
    log: Vec<Line>,
}

impl Said {
    /// A counter of the last line of the log with these words.
    fn counter(&self, words: &str, name: &str) -> Option<u64> {
        let line = self.log.iter().rev().find(|(_, line)| line.contains(words))?;
        let value = line.1.split(' ').find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
        value?.parse().ok()
    }

    /// The lines of one bus.
    fn bus(&self, bus: &str) -> Vec<&str> {
        let is_its = |line: &&str| line.split(' ').nth(1) == Some(bus);
        self.output.iter().map(|(_, line)| line.as_str()).filter(is_its).collect()
    }
}

/// The number a simulated bus with a rate gives its frames.
fn number(line: &str) -> Option<u64> {
    let frame = text::parse_log_line(line).ok()??.frame;
    Some(u64::from_be_bytes(frame.data().try_into().ok()?))
}

/// The identifiers of such frames; the vehicle has none of them.
fn is_command(line: &&&str) -> bool {
    ["0C9#", "18FEF100#", "3D1#", "0CF00400#"].iter().any(|id| line.contains(id))
}

struct Account {
    board: Said,
    sender: Said,
    witness: Said,
    reader: Said,
    /// When it began, and when it was over.
    cut: (SystemTime, (SystemTime, Instant)),
}

impl Account {
    /// Prints the account; whether it adds up.
    fn check(&self) -> bool {
        let mut right = self.bus_to_pc("can0") & self.bus_to_pc("can1");
        let numbers: Vec<_> = self.reader.bus("can1").into_iter().map(number).collect();
        let in_order = (0..).zip(&numbers).all(|(expected, number)| *number == Some(expected));
        right &= judge(
            in_order && !numbers.is_empty(),
            &format!("can1 on the PC counts 0 to {} without a gap", numbers.len().max(1) - 1),
        );
        let (during, after) = self.during_the_cut();
        right &= judge(
            during > 0 && during == after,
            &format!("{during} frames were on the buses during the cut; {after} came afterwards"),
        );
        right & self.pc_to_bus()
    }

    fn bus_to_pc(&self, bus: &str) -> bool {
        let counted = self.board.counter(&format!("bus {bus} "), "frames").unwrap_or(0);
        let (witness, reader) = (self.witness.bus(bus), self.reader.bus(bus));
        judge(
            witness == reader && reader.len() as u64 == counted && counted > 0,
            &format!(
                "{bus}: {counted} frames on the bus, {} received on the PC; each line the same \
                 as the witness's: {}",
                reader.len(),
                if witness == reader { "yes" } else { "no" }
            ),
        )
    }

    /// How many frames were on the buses during the cut, and how many of them came when it was over.
    fn during_the_cut(&self) -> (usize, usize) {
        let (cut, (healed, healed_at)) = self.cut;
        let micros = |time: SystemTime| {
            let time = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
            u64::try_from(time.as_micros()).unwrap_or(0)
        };
        let cut = micros(cut)..micros(healed);
        let is_in = |line: &&Line| {
            let line = text::parse_log_line(&line.1).ok().flatten();
            line.is_some_and(|line| cut.contains(&line.stamp_us))
        };
        let during = self.witness.output.iter().filter(is_in).count();
        let after = self.reader.output.iter().filter(is_in).filter(|(at, _)| *at > healed_at);
        (during, after.count())
    }

    /// Commands are never late: the bus takes none older than half a second, and both ends know
    /// how many that were.
    fn pc_to_bus(&self) -> bool {
        let of_sender = |name| self.sender.counter("link pc ", name).unwrap_or(0);
        let (sent, stale) = (of_sender("sent"), of_sender("stale"));
        let on_bus = self.sender.counter("bus pc ", "frames").unwrap_or(0);
        let made = on_bus.saturating_sub(of_sender("received"));
        let numbers: Vec<_> =
            self.witness.bus("can0").iter().filter(is_command).map(|l| number(l)).collect();
        let in_order = numbers.is_sorted_by(|a, b| a < b) && numbers.iter().all(Option::is_some);
        let is_its = |(_, line): &&Line| {
            line.contains("link can0 ")
                && line.contains(&format!(" received={sent} "))
                && line.contains(&format!(" stale={stale} "))
        };
        let agreed = self.board.log.iter().any(|line| is_its(&line));
        judge(
            in_order && numbers.len() as u64 == sent && made == sent + stale && sent > 0,
            &format!(
                "the PC made {made} commands: {sent} are on can0, once and in order; {stale} grew \
                 older than 500 ms in the cut"
            ),
        ) & judge(agreed, "the board's counters say the same numbers")
    }
}

fn judge(is_right: bool, what: &str) -> bool {
    println!("  {} {what}", if is_right { "ok   " } else { "WRONG" });
    is_right
}
