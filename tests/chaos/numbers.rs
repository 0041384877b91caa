//! What the processes say of themselves: `canspan status --json` of a `serve`, the metrics of a `connect`.

use core::time::Duration;
use std::{
    io::{Read, Write},
    net::TcpStream,
};

use serde_json::Value;

use crate::{lab::Namespace, process::Process};

/// How long an answer may take, on a machine that is busy elsewhere.
pub(crate) const PATIENCE: Duration = Duration::from_secs(40);
/// Where a `connect` tells its numbers; and where one beside it does.
pub(crate) const METRICS: &str = "127.0.0.1:9178";
pub(crate) const MORE_METRICS: &str = "127.0.0.1:9179";
const OUTCOMES: [&str; 7] =
    ["sent", "stale", "refused", "unsupported", "failed", "unconfirmed", "taken"];

/// One way of a link.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Way {
    pub(crate) lost: u64,
    pub(crate) done: [u64; 7],
}

impl Way {
    pub(crate) fn of(&self, outcome: &str) -> u64 {
        OUTCOMES.iter().position(|name| *name == outcome).map_or(0, |index| self.done[index])
    }

    /// Every frame meant for it.
    pub(crate) fn accounted(&self) -> u64 {
        self.lost + self.done.iter().sum::<u64>()
    }

    /// Frames of which the other bus may have had some, though they do not count as sent.
    pub(crate) fn uncertain(&self) -> u64 {
        self.of("failed") + self.of("unconfirmed") + self.of("taken")
    }

    /// Frames that a relay's bus took, and so has for its other peers.
    pub(crate) fn passed_on(&self) -> u64 {
        self.of("sent") + self.of("taken")
    }

    pub(crate) fn plus(self, other: &Self) -> Self {
        let mut sum = self;
        sum.lost += other.lost;
        sum.done.iter_mut().zip(other.done).for_each(|(a, b)| *a += b);
        sum
    }

    fn from_json(value: &Value) -> Self {
        let number = |name: &str| value[name].as_u64().unwrap_or_else(|| panic!("{name}: {value}"));
        Self { lost: number("lost"), done: OUTCOMES.map(number) }
    }
}

/// A link, or what is remembered of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) peer: String,
    pub(crate) up: bool,
    pub(crate) behind: u64,
    pub(crate) from_peer: Way,
    pub(crate) to_peer: Way,
}

impl Link {
    /// Whether the peer is at the other end of the cable with this number.
    pub(crate) fn is_over(&self, cable: usize) -> bool {
        self.peer.starts_with(&format!("10.0.{cable}."))
    }
}

/// A process' bus and links.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) state: String,
    pub(crate) overflow: u64,
    pub(crate) links: Vec<Link>,
}

/// What the board's `serve` says; `None` while it does not answer.
pub(crate) fn of_serve(board: &Namespace) -> Option<Told> {
    let run = Process::canspan(board, &["status", "127.0.0.1", "--json"]).finish(PATIENCE);
    let json: Value = serde_json::from_str(&run.out).ok()?;
    let bus = &json["buses"][0];
    let link = |link: &Value| Link {
        peer: link["peer"].as_str().unwrap().to_owned(),
        up: link["up"].as_bool().unwrap(),
        behind: link["behind"].as_u64().unwrap(),
        from_peer: Way::from_json(&link["from_peer"]),
        to_peer: Way::from_json(&link["to_peer"]),
    };
    Some(Told {
        state: bus["state"].as_str()?.to_owned(),
        overflow: bus["overflow"].as_u64()?,
        links: json["links"].as_array()?.iter().map(link).collect(),
    })
}

/// What a `connect` says; `None` while it does not answer.
pub(crate) fn of_connect(pc: &Namespace) -> Option<Told> {
    of_connect_at(pc, METRICS)
}

/// What the `connect` says that tells its numbers there.
pub(crate) fn of_connect_at(pc: &Namespace, metrics: &'static str) -> Option<Told> {
    let answer = pc.run(move || {
        let mut stream = TcpStream::connect(metrics).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).ok()?;
        stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        Some(answer)
    })?;
    let number = |series: &str| -> u64 {
        let line = answer.lines().find_map(|line| line.strip_prefix(series)?.trim().parse().ok());
        line.unwrap_or_else(|| panic!("no {series} in\n{answer}"))
    };
    let way = |way: &str| {
        Way {
        lost: number(&format!("canspan_link_lost_total{{bus=\"vcan0\",link=\"0\",way=\"{way}\"}}")),
        done: OUTCOMES.map(|outcome| {
            number(&format!(
                "canspan_link_outcomes_total{{bus=\"vcan0\",link=\"0\",way=\"{way}\",outcome=\"{outcome}\"}}"
            ))
        }),
    }
    };
    let states = ["absent", "down", "up", "error-warning", "error-passive", "bus-off"];
    let is = |state: &&str| {
        number(&format!("canspan_bus_state{{bus=\"vcan0\",state=\"{state}\"}}")) == 1
    };
    Some(Told {
        state: states.into_iter().find(is)?.to_owned(),
        overflow: number("canspan_bus_overflow_total{bus=\"vcan0\"}"),
        links: vec![Link {
            peer: String::new(),
            up: number("canspan_link_up{bus=\"vcan0\",link=\"0\"}") == 1,
            behind: number("canspan_link_behind_frames{bus=\"vcan0\",link=\"0\"}"),
            from_peer: way("from_peer"),
            to_peer: way("to_peer"),
        }],
    })
}
