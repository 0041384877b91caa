//! What `--help` prints. Written by hand, because it is read by people; a test holds it against
//! the options there are.

use core::fmt;

use super::error::CliError;

/// The commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommandName {
    /// `serve`
    Serve,
    /// `connect`
    Connect,
    /// `dump`
    Dump,
    /// `send`
    Send,
    /// `status`
    Status,
}

impl CommandName {
    pub(super) const ALL: [Self; 5] =
        [Self::Serve, Self::Connect, Self::Dump, Self::Send, Self::Status];

    pub(super) fn find(word: &str) -> Result<Self, CliError> {
        Self::ALL.into_iter().find(|name| name.as_str() == word).ok_or_else(|| {
            CliError::usage(format!(
                "there is no command `{word}`; there are serve, connect, dump, send and status"
            ))
        })
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Serve => "serve",
            Self::Connect => "connect",
            Self::Dump => "dump",
            Self::Send => "send",
            Self::Status => "status",
        }
    }
}

impl fmt::Display for CommandName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

pub(super) fn text(command: Option<CommandName>) -> String {
    let text = match command {
        None => CANSPAN,
        Some(CommandName::Serve) => SERVE,
        Some(CommandName::Connect) => CONNECT,
        Some(CommandName::Dump) => DUMP,
        Some(CommandName::Send) => SEND,
        Some(CommandName::Status) => STATUS,
    };
    format!("{text}{COMMON}")
}

const CANSPAN: &str = "\
NAME
    canspan - carries a CAN bus over TCP: nothing lost, doubled, reordered or
    stale in silence

SYNOPSIS
    canspan serve BUS... [OPTION]...
    canspan connect HOST[:PORT] [REMOTE[:LOCAL]]... [OPTION]...
    canspan connect --listen ADDR[:PORT] REMOTE[:LOCAL]... [OPTION]...
    canspan dump HOST[:PORT] [BUS]... [OPTION]...
    canspan send HOST[:PORT] BUS [FRAME]...
    canspan status [HOST[:PORT]] [OPTION]...

COMMANDS
    serve      own buses and let peers join them
    connect    join a peer's buses to local interfaces
    dump       print the frames of a peer's buses, as candump -L does
    send       send frames to a peer's bus, as cansend does
    status     ask a running canspan about its buses and links

    `canspan COMMAND --help` tells more about each.

EXAMPLES
    On the board, and through ssh from the PC:
        canspan serve can0
        ssh -N -L 22677:localhost:22677 board &
        canspan connect localhost can0 --create
";

const SERVE: &str = "\
NAME
    canspan serve - own buses and let peers join them

SYNOPSIS
    canspan serve BUS... [--listen ADDR[:PORT]]... [--insecure] [--read-only]
                  [--dial HOST[:PORT]]...
                  [--create | --bitrate RATE [--dbitrate RATE]
                  [--sample-point PART] [--dsample-point PART]
                  [--restart-ms MS] [--listen-only]]
                  [--history SIZE] [--max-age TIME|none] [--heartbeat TIME]
                  [--hold TIME]
                  [--filter [BUS,]FILTER]... [--tx-filter [BUS,]FILTER]...
                  [--metrics ADDR:PORT]...

    BUS is one of
        can0                 a SocketCAN interface; it need not be there yet
        sim:NAME             a bus inside this process, a hub for its peers
        sim:NAME?trace=FILE  the same, with the frames of a candump log in turn,
                             over and over, at their own pace
        sim:NAME?rate=N      the same, with N frames per second
    Peers call it can0 or NAME.

OPTIONS
    --listen ADDR[:PORT]
        Address to accept peers on; may be given several times. ADDR is a name,
        an IPv4 address or an IPv6 address ([::1]:22677); without ADDR it is
        loopback. Default: 127.0.0.1:22677.
    --insecure
        Listen beyond this machine although there are no keys: anyone who
        reaches the port can read the bus and send to it.
    --dial HOST[:PORT]
        Also dial this peer, for ever, and join each bus to the one it calls the
        same: for a board that cannot be reached from outside. The peer runs
        `canspan connect --listen`, or is a relay that runs
        `canspan serve sim:can0`. May be given several times.
    --read-only
        Let nothing from peers reach the buses.
    --create
        Make vcan interfaces that are missing, and remove them at the end. Needs
        CAP_NET_ADMIN.
    --bitrate RATE
        Set every interface to this many bits per second (500k, 1M) and switch
        it on, now and whenever it comes back. Needs CAP_NET_ADMIN, unless it
        is on and set so already. Default: leave interfaces as they are.
    --dbitrate RATE
        Use CAN FD, with this rate in the data phase. Default: classic CAN.
    --sample-point PART, --dsample-point PART
        Sample point within the bit, as in 0.875; the second in the data phase.
        Default: what CiA recommends.
    --restart-ms MS
        Let the controller come back by itself so many milliseconds after
        bus-off; 0: never. Default: leave it as it is.
    --listen-only
        Send nothing at all, no acknowledgements either; frames from peers are
        refused, as with --read-only.
    --filter [BUS,]FILTER
        Let only these frames leave BUS, or every bus without one of its own.
        FILTER is as for candump: 123:7FF (frames whose id, masked by 7FF, is
        123), 123~7FF (all others), #1FF (error frames of these classes), and
        several with commas, of which one must hold, or with j all. An id of 8
        digits is a 29-bit one. Error frames pass only by #.
    --tx-filter [BUS,]FILTER
        Let only these frames of peers reach the bus; others are refused, and
        their sender is told.
    --history SIZE
        Memory for the history of each bus, in bytes, or with k, M or G; what it
        holds can be resumed after a cut. At least 64k. Default: 4M, which is
        20 s or more of a full 1 Mbit/s bus.
    --max-age TIME|none
        Frames from peers that are older are dropped and counted, not sent to
        the bus. Default: 500ms toward an interface, a vcan as well; none toward
        a sim: bus, through which frames keep their age.
    --heartbeat TIME
        Silence after which a sign of life is sent, 50ms to 5m; a peer is given
        up after three of them. Default: 900ms.
    --hold TIME
        Hold a frame this long at most, up to 1s, so that others join it in one
        packet: for metered links and very small boards. It costs as much delay;
        frames that fill a packet leave at once. Each end holds what it sends,
        so give it to both. At most a quarter of the receiver's age limit
        counts. Default: 0, every frame leaves at once.
    --metrics ADDR:PORT
        Serve metrics for Prometheus, the numbers of `canspan status`, at
        http://ADDR:PORT/metrics; may be given several times. Without ADDR it
        is loopback.

EXAMPLES
    canspan serve can0 can1
    canspan serve can0 --listen 0.0.0.0 --insecure --read-only
    canspan serve can0 --bitrate 500k --dbitrate 2M --restart-ms 100
    canspan serve can0 --dial lab.example.org
    canspan serve can0 can1 --tx-filter can0,7E0:7F8 --filter can1,#FF,0:0
    canspan serve 'sim:demo?rate=1000' --metrics :9177
";

const CONNECT: &str = "\
NAME
    canspan connect - join a peer's buses to local interfaces

SYNOPSIS
    canspan connect HOST[:PORT] [REMOTE[:LOCAL]]... [--create]
                    [--netns PID|NAME|PATH]
                    [--history SIZE] [--max-age TIME|none] [--heartbeat TIME]
                    [--hold TIME]
                    [--filter [REMOTE,]FILTER]... [--metrics ADDR:PORT]...
                    [--status ADDR[:PORT]]... [--insecure]
    canspan connect --listen ADDR[:PORT]... REMOTE[:LOCAL]... [OPTION]...

    HOST is a name, an IPv4 address or an IPv6 address ([::1]:22677). REMOTE is
    what the peer calls its bus; LOCAL is the interface it is joined to, of the
    same name when left out, or sim:NAME for a bus inside this process. Without
    a REMOTE all buses of the peer are joined. The default port is 22677.

    With --listen the peer is the one that dials, by `canspan serve --dial`: a
    board that cannot be reached from outside.

    Goes on for ever: the peer and the interfaces may come and go.

OPTIONS
    --listen ADDR[:PORT]
        Wait here for peers that dial, and dial none; may be given several
        times. ADDR is as for `canspan serve`.
    --create
        Make local vcan interfaces that are missing, and remove them at the end.
        Needs CAP_NET_ADMIN.
    --netns PID|NAME|PATH
        The local interfaces are in this network namespace, a container's as a
        rule; the peer is still reached from where canspan runs. It is the one
        of a process, one that `ip netns` shows, or a file that stands for one.
        A process that ends is the end of canspan, too; a name or a path may go
        and come. Needs CAP_SYS_ADMIN.
    --filter [REMOTE,]FILTER
        Ask only for these frames of REMOTE, or of every bus without one of its
        own; others do not travel.
        FILTER is as for candump: 123:7FF (frames whose id, masked by 7FF, is
        123), 123~7FF (all others), #1FF (error frames of these classes), and
        several with commas, of which one must hold, or with j all. An id of 8
        digits is a 29-bit one. Error frames pass only by #.
    --history SIZE
        Memory for the history of each bus, in bytes, or with k, M or G; what it
        holds can be resumed after a cut. At least 64k. Default: 4M.
    --max-age TIME|none
        Frames from the peer that are older are dropped and counted, not sent to
        the local bus. Default: none toward a virtual bus, so that what was
        missed is caught up on; 500ms toward a real one.
    --heartbeat TIME
        Silence after which a sign of life is sent, 50ms to 5m; a peer is given
        up after three of them. Default: 900ms.
    --hold TIME
        Hold a frame this long at most, up to 1s, so that others join it in one
        packet: for metered links and very small boards. It costs as much delay;
        frames that fill a packet leave at once. Each end holds what it sends,
        so give it to both. At most a quarter of the receiver's age limit
        counts. Default: 0, every frame leaves at once.
    --metrics ADDR:PORT
        Serve metrics for Prometheus, the numbers of `canspan status`, at
        http://ADDR:PORT/metrics; may be given several times. Without ADDR it
        is loopback.
    --status ADDR[:PORT]
        Answer `canspan status` here; may be given several times. Without ADDR
        it is loopback. (With --listen it is answered there.)
    --insecure
        Allow an ADDR others can reach although there are no keys: with --listen
        anyone who reaches the port can read the bus and send to it.

EXAMPLES
    canspan connect board can0
    canspan connect 192.168.1.20 can0:vcan0 can1:vcan1 --create
    canspan connect '[fe80::1%eth0]:22677' can0:sim:hub
    canspan connect board can0 --create --netns lab
    canspan connect --listen 0.0.0.0 --insecure can0:vcan0 --create
";

const DUMP: &str = "\
NAME
    canspan dump - print the frames of a peer's buses, as candump -L does

SYNOPSIS
    canspan dump HOST[:PORT] [BUS]... [--last TIME] [--filter [BUS,]FILTER]...

    Needs no CAN in the kernel and no privileges. BUS is what the peer calls it;
    without one all are printed. The times are the peer's. The default port is
    22677.

OPTIONS
    --last TIME
        Begin with what the peer still has of the last TIME (500ms, 30s, 2m).
        Default: begin with the next frame.
    --filter [BUS,]FILTER
        Ask only for these frames of BUS, or of every bus without one of its
        own; others do not travel.
        FILTER is as for candump: 123:7FF (frames whose id, masked by 7FF, is
        123), 123~7FF (all others), #1FF (error frames of these classes), and
        several with commas, of which one must hold, or with j all. An id of 8
        digits is a 29-bit one. Error frames pass only by #.

EXAMPLES
    canspan dump board can0 --last 30s
    canspan dump board --filter 123:7FF,18DAF110:1FFFFFFF
    canspan dump board | canplayer vcan0=can0
";

const SEND: &str = "\
NAME
    canspan send - send frames to a peer's bus, as cansend does

SYNOPSIS
    canspan send HOST[:PORT] BUS [FRAME]...

    Succeeds when the bus has really taken every frame, else says which it has
    not and why. Where only a relay or an interface without confirmation has
    taken them, nobody knows about the bus: that is said, and the exit status is
    3. Without a FRAME, or with -, frames come from standard input, one a line.
    The default port is 22677.

    FRAME is one of, all in hexadecimal, with 3 digits of identifier for 11 bits
    and 8 for 29, and with or without dots between the bytes
        123#DEADBEEF            data
        123#1122334455667788_B  eight bytes with a raw DLC of 9 to F
        123#R5                  a remote request with its length
        123##1DEADBEEF          CAN FD, after ## a digit of flags (1 = bit rate
                                switch, 2 = error state; 4, which marks FD
                                itself, is added)

EXAMPLES
    canspan send board can0 123#DEADBEEF 1F334455#11.22.33
    canspan send board can0 < frames.txt
";

const STATUS: &str = "\
NAME
    canspan status - ask a running canspan about its buses and links

SYNOPSIS
    canspan status [HOST[:PORT]] [--json] [--watch] [--check]

    Shows each bus with its state, error counters, load and frames, and each
    link with its peer, round trip time, frames it is behind, and what was not
    delivered, by cause. The default is 127.0.0.1:22677.

OPTIONS
    --json
        One JSON object on one line.
    --watch
        Ask again every second, until interrupted.
    --check
        Succeed only if the host answers, every bus takes frames, every peer
        that is dialled there is linked, and every bus of `connect --listen` has
        a peer. Other peers that dial may come and go.

EXAMPLES
    canspan status
    canspan status board --json
    canspan status board:22677 --check
";

const COMMON: &str = "
EVERYWHERE
    -h, --help     print this and stop
    --version      print the version and stop (-V)
    -v, --verbose  log more; the variable RUST_LOG (error, warn, info, debug)
                   takes precedence
    --             what follows is no option

EXIT STATUS
    0 success, 1 failure, 2 usage error; 3 of send: the frames were taken by
    something that cannot tell whether they reached the bus
";
