//! A machine's clock that can stand, as that of a virtual machine does while it is paused.
//!
//! `CLOCK_BOOTTIME` does not count such a pause, and the machine knows nothing of it. Here the process is stopped, and the
//! clock that it reads is set back by as much before it goes on. Only the binary that is built with the tests can have
//! its clock moved.

use core::time::Duration;
use std::{
    fs::{self, File},
    os::unix::fs::FileExt,
    thread,
    time::Instant,
};

use crate::{
    lab::{Namespace, scratch},
    process::Process,
};

/// The clock of one machine, over all processes that run there.
pub(crate) struct Clock {
    path: String,
    file: File,
    shift_us: i64,
}

impl Clock {
    /// Of the machine that a namespace is.
    pub(crate) fn of(namespace: &Namespace) -> Self {
        let path = scratch().join(format!("clock-{}", namespace.name()));
        fs::write(&path, "").expect("a file for the clock");
        let file = File::options().write(true).open(&path).expect("a file for the clock");
        Self { path: path.to_string_lossy().into_owned(), file, shift_us: 0 }
    }

    /// Starts the `canspan` that reads this clock.
    pub(crate) fn canspan(&self, namespace: &Namespace, arguments: &[&str]) -> Process {
        let variable = format!("CANSPAN_TEST_CLOCK={}", self.path);
        let program = env!("CARGO_BIN_EXE_canspan");
        Process::start(namespace, "env", &[&[variable.as_str(), program], arguments].concat())
    }

    /// Moves it. The text has one length, so that no half of it is read.
    pub(crate) fn shift(&mut self, us: i64) {
        self.shift_us += us;
        let text = format!("{:<20}", self.shift_us);
        self.file.write_all_at(text.as_bytes(), 0).expect("the clock is moved");
    }

    /// It stands for so long, and its process with it.
    pub(crate) fn stands(&mut self, process: &mut Process, length: Duration) {
        self.stands_while(process, || thread::sleep(length));
    }

    /// It stands while `meanwhile` runs, and its process with it.
    pub(crate) fn stands_while(&mut self, process: &mut Process, meanwhile: impl FnOnce()) {
        process.signal(libc::SIGSTOP);
        let begin = Instant::now();
        meanwhile();
        let us = i64::try_from(begin.elapsed().as_micros()).expect("a short time");
        self.shift(-us);
        process.signal(libc::SIGCONT);
    }
}
