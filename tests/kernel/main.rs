//! The product as its users see it: the binary, real CAN interfaces, real TCP, the everyday CAN tools.
//!
//! These tests need CAN in the kernel and root in it: `tests/run kernel [NAME]` builds them and runs them in the lab
//! (`tests/lab/run`). A board and a PC are network namespaces joined by a cable ([`lab::Pair`]); nothing but the
//! command line of `canspan` is used. They run one at a time, because many measure time.
//!
//! Environment: `CANSPAN_LAB` (set by the lab) is a scratch folder; `CANSPAN` names the binary, the test
//! profile's own when unset; `CANSPAN_PYTHON` names a Python that has python-can and can-isotp.

#[allow(dead_code, reason = "the chaos test uses the rest")]
mod clock;
#[allow(dead_code, reason = "the chaos test uses the rest")]
mod controller;
mod cutter;
#[path = "../benchmark/forwarder.rs"]
mod forwarder;
mod lab;
#[path = "../benchmark/measure.rs"]
#[allow(dead_code, reason = "the benchmark uses the rest")]
mod measure;
mod numbered;
mod plain;
mod process;
mod stranger;
mod sys;
#[path = "../field/talk.rs"]
mod talk;

mod backlog;
mod bursts;
mod busoff;
mod chains;
mod clients;
mod commands;
mod dump;
mod filter;
mod isotp;
mod kinds;
mod latency;
mod lifecycle;
mod limits;
mod loops;
mod lossy;
mod metrics;
mod outage;
mod overload;
mod pauses;
mod relay;
mod send;
mod silence;
mod speed;
mod state;
mod status;
mod strangers;
mod tools;
mod topology;
