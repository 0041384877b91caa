//! A CAN interface of the kernel, through everything that happens to it: absent, down, up, gone and
//! back with another index.

mod attach;
mod look;
mod losses;
mod mode;
mod read;
mod write;

use core::time::Duration;
use std::os::fd::{AsFd, BorrowedFd};
use std::rc::Rc;

use super::memory::Heap;
use super::state_log::StateLog;
use super::status::Rates;
use crate::bus::{self, CanInterface, Namespace, Settings};
use crate::cli::MaxAge;
use crate::protocol::Hub;
use crate::protocol::time::Instant;
use losses::{Account, Losses};
pub use mode::Mode;
use write::Watch;

/// When to look at an interface again though nothing was heard of it.
const RECHECK: Duration = Duration::from_millis(50);
/// How soon to try again what the kernel refused.
const RETRY: Duration = Duration::from_secs(1);

/// An interface, present or not.
pub struct Interface {
    name: String,
    /// The network namespace it is in, when that is not the process' own.
    namespace: Option<Rc<Namespace>>,
    can: Option<CanInterface>,
    /// How often it was opened.
    opened: u32,
    max_age: MaxAge,
    /// How its controller is to be set, the index of the interface for which that is settled, and
    /// whether it was set so.
    settings: Option<Settings>,
    settled: Option<u32>,
    has_set: bool,
    is_set_otherwise: bool,
    /// Whether to make it, as a virtual one, when it is not there; and whether canspan did.
    create: bool,
    created: bool,
    retry_at: Option<Instant>,
    recheck_at: Option<Instant>,
    /// Whether its owner lets nobody send to it, whatever its controller allows.
    is_read_only: bool,
    mode: Mode,
    /// How many frames were read since none waited.
    waited: usize,
    losses: Losses,
    account: Account,
    watch: Watch,
    /// Until when the state that error frames told of a virtual bus is shown.
    hearsay_until: Option<Instant>,
    /// The last problem told, so that it is told once.
    told: String,
    states: StateLog,
}

impl Interface {
    /// The interface `name`, wherever it is now.
    #[must_use]
    pub fn new(name: String, max_age: MaxAge, create: bool) -> Self {
        Self {
            name,
            namespace: None,
            can: None,
            opened: 0,
            max_age,
            settings: None,
            settled: None,
            has_set: false,
            is_set_otherwise: false,
            create,
            created: false,
            retry_at: None,
            recheck_at: None,
            is_read_only: false,
            mode: Mode::default(),
            waited: 0,
            losses: Losses::default(),
            account: Account::default(),
            watch: Watch::default(),
            hearsay_until: None,
            told: String::new(),
            states: StateLog::default(),
        }
    }

    /// Sets its controller so and switches it on, now and whenever it comes back.
    #[must_use]
    pub fn with_settings(self, settings: Option<Settings>) -> Self {
        Self { settings, ..self }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Opens it in this namespace, or says why that cannot be now nor by waiting.
    pub fn start(
        &mut self,
        now: Instant,
        hub: &mut Hub<Heap>,
        namespace: Option<Rc<Namespace>>,
    ) -> Result<(), String> {
        self.namespace.clone_from(&namespace);
        self.is_read_only = hub.policy().read_only;
        match bus::inside(namespace.as_deref(), || self.attach(now, hub)) {
            Ok(attached) => attached.map_err(|problem| problem.to_string()),
            Err(problem) => {
                self.tell(&problem);
                Ok(())
            }
        }
    }

    /// Lets go of everything that is in the namespace: it is gone, or another one now.
    pub(super) fn leave(&mut self, now: Instant, hub: &mut Hub<Heap>) {
        self.detach(now, hub);
        // It goes with the namespace; one of its name in the next was made by somebody else.
        self.created = false;
    }

    pub(super) fn descriptor(&self) -> Option<(BorrowedFd<'_>, u32)> {
        self.can.as_ref().map(|can| (can.as_fd(), self.opened))
    }

    pub(super) fn poll_timeout(&self, hub: &Hub<Heap>) -> Option<Instant> {
        let retry = self.retry_at.filter(|_| hub.is_busy());
        [retry, self.recheck_at, self.account.due, self.hearsay_until, self.watch.due]
            .into_iter()
            .fold(self.states.poll_timeout(), Instant::earliest)
    }

    /// Looks at the interface again: it may have come, gone, or been switched on or off.
    pub(super) fn check(&mut self, now: Instant, hub: &mut Hub<Heap>) {
        self.recheck_at = None;
        let namespace = self.namespace.clone();
        if let Err(problem) = bus::inside(namespace.as_deref(), || self.check_here(now, hub)) {
            self.tell(&problem);
            self.recheck_at = Some(now + RETRY);
        }
    }

    fn recheck_by(&mut self, at: Instant) {
        self.recheck_at = Instant::earliest(self.recheck_at, Some(at));
    }

    /// What of its controller and driver matters to those who send, as it was last known.
    #[must_use]
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Its bit rates, where it has any, which a virtual one has not. Asks the kernel.
    pub(super) fn rates(&self) -> Rates {
        let Some(can) = self.can.as_ref().filter(|can| !can.is_virtual()) else {
            return Rates::default();
        };
        let controller = can.link().ok().and_then(|link| link.controller).unwrap_or_default();
        let known = |rate: u32| Some(rate).filter(|rate| *rate > 0);
        Rates {
            nominal: known(controller.timing.bitrate),
            data: known(controller.data_timing.bitrate),
        }
    }

    /// The process ends. An interface that other processes have open is left to them.
    pub(super) fn close(&mut self, is_shared: bool) {
        self.can = None;
        if self.created
            && !is_shared
            && let Ok(Err(problem)) =
                bus::inside(self.namespace.as_deref(), || bus::delete(&self.name))
        {
            log::warn!("{problem}");
        }
    }

    fn tell(&mut self, problem: &str) {
        if self.told != problem {
            log::warn!("{problem}");
            problem.clone_into(&mut self.told);
        }
    }
}
