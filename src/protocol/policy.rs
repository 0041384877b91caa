//! What holds for a bus and its interface.

use core::time::Duration;

/// What the echo of a frame proves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Echo {
    /// The frame was on the bus: the driver gives it back when the controller has sent it (`IFF_ECHO`
    /// in `linux/if.h`), or there is no more to it than a virtual bus.
    #[default]
    Bus,
    /// The kernel took the frame; whether it reached the bus nobody can tell.
    Kernel,
}

/// Whose bus it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Role {
    /// This side's: what is sent to it is where it was to go.
    Owner,
    /// Somebody else's, to which this side passes frames on, now or later.
    Relay,
    /// A copy of a peer's, or nobody's.
    #[default]
    Copy,
}

/// What a bus' owner allows, and how its interface is.
#[derive(Clone, Copy, Debug)]
pub struct Policy {
    /// Frames older than this are not sent to the bus.
    pub max_age: Option<Duration>,
    /// Whether peers may send to the bus at all.
    pub read_only: bool,
    /// Whether the interface takes CAN FD frames.
    pub is_fd: bool,
    /// Whether there is no real bus behind it, so that it confirms at once.
    pub is_virtual: bool,
    /// Most frames in the kernel's hands at once.
    pub handed_max: usize,
    /// Frames from one peer that may be under way to this bus at once.
    pub window: u32,
    /// Whose bus it is.
    pub role: Role,
    /// What an echo proves.
    pub echo: Echo,
    /// Whether the controller gives a frame up after one attempt (`CAN_CTRLMODE_ONE_SHOT` in
    /// `linux/can/netlink.h`): then many an echo never comes.
    pub one_shot: bool,
    /// Whether what has waited is put on the bus at a pace that its readers keep up with.
    pub paced: bool,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            max_age: None,
            read_only: false,
            is_fd: true,
            is_virtual: true,
            handed_max: super::queue::HANDED_MAX,
            window: 128,
            role: Role::Copy,
            echo: Echo::Bus,
            one_shot: false,
            paced: false,
        }
    }
}
