//! Where the slow work is done: names, dialling, accepting, signals.
//!
//! smol runs all that may take its time, as tasks on this thread. The frames' way waits in one
//! `epoll_wait` instead: a reactor's bookkeeping costs several system calls for every wake-up, which on
//! a small board is more than moving the frame. When a task can go on, the reactor's idle helper
//! wakes that wait through an event descriptor.

use core::cell::RefCell;
use core::future::Future;
use core::net::SocketAddr;
use core::pin::Pin;
use core::task::{Context, Waker};
use std::collections::VecDeque;
use std::io;
use std::net::TcpStream;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;
use std::sync::Arc;
use std::task::Wake;

use rustix::event::{EventfdFlags, eventfd};
use smol::LocalExecutor;

/// What the slow work brings.
#[derive(Debug)]
pub enum Input {
    /// Somebody dialled us.
    Accepted(TcpStream, SocketAddr),
    /// What became of an attempt to dial, by the dialler's number.
    Dialled(usize, Result<(TcpStream, SocketAddr), String>),
    /// A listener is not able to accept, which it will try again.
    NotAccepted(String),
    /// Prometheus wants the numbers.
    Scraped(crate::net::metrics::Reply),
    /// A signal arrived.
    Signal(Signal),
}

/// The signals the gateway knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// SIGTERM, SIGINT or SIGHUP: end.
    End,
    /// SIGUSR1: print the counters.
    Report,
}

/// Where tasks put what they bring.
#[derive(Clone, Default)]
pub struct Inbox(Rc<RefCell<VecDeque<Input>>>);

impl Inbox {
    /// Puts something in.
    pub fn put(&self, input: Input) {
        self.0.borrow_mut().push_back(input);
    }
}

struct WakeFd(OwnedFd);

impl Wake for WakeFd {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // It can only fail when the counter is full, and then the reader is awake already.
        let _ = rustix::io::write(&self.0, &1_u64.to_ne_bytes());
    }
}

/// The tasks, and what they brought.
pub struct Runtime {
    executor: Rc<LocalExecutor<'static>>,
    driver: Pin<Box<dyn Future<Output = ()>>>,
    wake: Arc<WakeFd>,
    waker: Waker,
    /// Where tasks put what they bring.
    pub inbox: Inbox,
}

impl Runtime {
    /// A runtime without tasks.
    pub fn new() -> io::Result<Self> {
        let wake = Arc::new(WakeFd(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?));
        let executor = Rc::new(LocalExecutor::new());
        let tasks = Rc::clone(&executor);
        let driver = Box::pin(async move { tasks.run(core::future::pending::<()>()).await });
        let waker = Waker::from(Arc::clone(&wake));
        Ok(Self { executor, driver, wake, waker, inbox: Inbox::default() })
    }

    /// Starts a task that runs on its own, from the next [`Runtime::run`] on.
    pub fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        self.executor.spawn(task).detach();
        self.waker.wake_by_ref();
    }

    /// Runs every task that can go on.
    pub fn run(&mut self) {
        let mut counter = [0; 8];
        let _ = rustix::io::read(&self.wake.0, &mut counter);
        // It never ends: it waits for ever beside the tasks.
        let _ = self.driver.as_mut().poll(&mut Context::from_waker(&self.waker));
    }

    /// The next thing a task brought.
    pub fn next_input(&self) -> Option<Input> {
        self.inbox.0.borrow_mut().pop_front()
    }
}

impl AsFd for Runtime {
    /// Readable when a task can go on.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.wake.0.as_fd()
    }
}
