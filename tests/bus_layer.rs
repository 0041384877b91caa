//! The bus layer against a kernel that has CAN. Needs root in a network namespace of its own (or a
//! whole kernel), and one thread: `--test-threads=1`, as the watch hears of every interface.

use core::error::Error;
use core::time::Duration;
use std::io::{BufRead, BufReader};
use std::os::fd::AsFd;
use std::process::{Command, Stdio};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use canspan::bus::{
    CanInterface, CreateError, DeleteError, Link, LinkWatch, OpenError, Received, SendStop,
    create_vcan, delete, is_down, is_gone,
};
use canspan::protocol::frame::{Frame, Id};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use socketcan::nl;

type Result = core::result::Result<(), Box<dyn Error>>;

/// FDF: the kernel sets it in every FD frame it is given (`CANFD_FDF` in `linux/can.h`).
const FDF: u8 = 0x04;

/// A virtual bus that goes away with the test, however that ends.
struct Vcan(&'static str);

impl Vcan {
    fn new(name: &'static str) -> core::result::Result<Self, CreateError> {
        create_vcan(name)?;
        Ok(Self(name))
    }

    fn open(&self) -> core::result::Result<CanInterface, OpenError> {
        CanInterface::open(self.0)
    }

    fn link(&self) -> socketcan::Result<nl::CanInterface> {
        nl::CanInterface::open(self.0)
    }
}

impl Drop for Vcan {
    fn drop(&mut self) {
        let _ = delete(self.0);
    }
}

fn run(program: &str, arguments: &[&str]) -> Result {
    let status = Command::new(program).args(arguments).status()?;
    if status.success() { Ok(()) } else { Err(format!("{program}: {status}").into()) }
}

fn read_all(bus: &mut CanInterface) -> std::io::Result<Vec<Received>> {
    let mut all = Vec::new();
    loop {
        match bus.receive()? {
            0 => return Ok(all),
            count => all.extend((0..count).map(|i| bus.received(i).expect("a valid frame"))),
        }
    }
}

fn frames(received: &[Received]) -> Vec<Frame> {
    received.iter().map(|one| one.frame).collect()
}

fn ready(source: &impl AsFd, wait: Duration) -> std::io::Result<bool> {
    let wait = Timespec::try_from(wait).map_err(std::io::Error::other)?;
    let mut events = [PollFd::new(source, PollFlags::IN)];
    Ok(poll(&mut events, Some(&wait))? > 0)
}

fn numbered(count: u32) -> Vec<Frame> {
    let frame = |n: u32| Frame::data_frame(Id::Extended(n), &n.to_ne_bytes());
    (0..count).map(|n| frame(n).expect("a valid frame")).collect()
}

/// Every kind of frame, with the kernel's bytes after `can_id`, written by hand from `linux/can.h`.
fn every_kind() -> Vec<(Frame, u32, Vec<u8>)> {
    let eight = [1, 2, 3, 4, 5, 6, 7, 8];
    let with = |head: [u8; 4], data: &[u8]| [&head[..], data].concat();
    let data64: Vec<u8> = (0..64).collect();
    let (short, long) = (Id::Standard(0x123), Id::Extended(0x123));
    let error = [0, 4, 0x80, 0x19, 0, 0, 96, 12];
    let list = [
        (Frame::data_frame(short, &[]), 0x123, with([0; 4], &[])),
        (Frame::data_frame(short, &eight), 0x123, with([8, 0, 0, 0], &eight)),
        (Frame::data_frame(Id::Standard(0x7FF), &[9]), 0x7FF, with([1, 0, 0, 0], &[9])),
        (Frame::data_frame(long, &[7, 8]), 0x8000_0123, with([2, 0, 0, 0], &[7, 8])),
        (Frame::data_frame(Id::Extended(0x1FFF_FFFF), &[]), 0x9FFF_FFFF, with([0; 4], &[])),
        (Frame::long_dlc(short, 9, &eight), 0x123, with([8, 0, 0, 9], &eight)),
        (Frame::long_dlc(long, 15, &eight), 0x8000_0123, with([8, 0, 0, 15], &eight)),
        (Frame::remote(short, 0), 0x4000_0123, with([0; 4], &[])),
        (Frame::remote(long, 8), 0xC000_0123, with([8, 0, 0, 0], &[])),
        (Frame::remote(short, 13), 0x4000_0123, with([8, 0, 0, 13], &[])),
        (Frame::fd(short, FDF, &[]), 0x123, with([0, 4, 0, 0], &[])),
        (Frame::fd(short, FDF | Frame::BRS, &[5]), 0x123, with([1, 5, 0, 0], &[5])),
        (Frame::fd(long, FDF | Frame::ESI, &[1; 13]), 0x8000_0123, with([13, 6, 0, 0], &[1; 13])),
        (Frame::fd(short, FDF | 3, &data64), 0x123, with([64, 7, 0, 0], &data64)),
        (Frame::error(0x2C4, &error), 0x2000_02C4, with([8, 0, 0, 0], &error)),
    ];
    let fill = |frame: &Frame| if frame.is_fd() { 68 } else { 12 };
    list.into_iter()
        .map(|(frame, can_id, mut rest)| {
            let frame = frame.expect("a valid frame");
            rest.resize(fill(&frame), 0);
            (frame, can_id, rest)
        })
        .collect()
}

#[test]
fn every_kind_of_frame_is_carried_bit_exact() -> Result {
    let vcan = Vcan::new("kinds0")?;
    let (mut ours, plain) = (vcan.open()?, vcan.open()?);
    for (frame, can_id, rest) in every_kind() {
        let bytes = [&can_id.to_ne_bytes()[..], &rest].concat();
        // Ours to the kernel: the plain socket is read as bare bytes.
        let outcome = ours.send(&[frame]);
        assert!(matches!(outcome.stop, SendStop::All), "{frame:?} {outcome:?}");
        let mut buffer = [0xA5; 128];
        let size = rustix::io::read(plain.as_fd(), &mut buffer)?;
        assert_eq!(&buffer[..size], bytes, "{frame:?}");
        // The kernel to ours: the echo of that one, then the same bytes from the other socket.
        assert_eq!(rustix::io::write(plain.as_fd(), &bytes)?, bytes.len());
        let got: Vec<_> = read_all(&mut ours)?.iter().map(|one| (one.frame, one.own)).collect();
        assert_eq!(got, [(frame, true), (frame, false)]);
        rustix::io::read(plain.as_fd(), &mut buffer)?;
    }
    Ok(())
}

#[test]
fn cansend_and_candump_agree() -> Result {
    let vcan = Vcan::new("tools0")?;
    let mut ours = vcan.open()?;
    let texts = [
        ("123#", Frame::data_frame(Id::Standard(0x123), &[])),
        ("7FF#1122334455667788", {
            Frame::data_frame(Id::Standard(0x7FF), &0x1122_3344_5566_7788_u64.to_be_bytes())
        }),
        ("00000123#DEADBEEF", {
            Frame::data_frame(Id::Extended(0x123), &0xDEAD_BEEF_u32.to_be_bytes())
        }),
        ("123#R", Frame::remote(Id::Standard(0x123), 0)),
        ("1ABCDEF0#R5", Frame::remote(Id::Extended(0x1ABC_DEF0), 5)),
        ("123##511223344", Frame::fd(Id::Standard(0x123), FDF | 1, &[0x11, 0x22, 0x33, 0x44])),
        ("1F334455##6", Frame::fd(Id::Extended(0x1F33_4455), FDF | 2, &[])),
        ("20000088#0000800000000000", Frame::error(0x88, &[0, 0, 0x80, 0, 0, 0, 0, 0])),
    ];
    let expected: Vec<_> = texts.iter().map(|(_, frame)| frame.expect("a valid frame")).collect();
    for (text, _) in texts {
        run("cansend", &[vcan.0, text])?;
    }
    assert_eq!(frames(&read_all(&mut ours)?), expected);

    let count = texts.len().to_string();
    let filter = format!("{},0:0,#FFFFFFFF", vcan.0);
    let arguments = ["-L", "-T", "5000", "-n", &count, &filter];
    let mut candump = Command::new("candump").args(arguments).stdout(Stdio::piped()).spawn()?;
    // candump listens once the kernel lists two receivers of everything: ours and its own.
    let start = Instant::now();
    while listeners(vcan.0)? < 2 && start.elapsed() < Duration::from_secs(5) {
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(ours.send(&expected).taken, texts.len());
    let output = BufReader::new(candump.stdout.take().ok_or("no output of candump")?);
    let lines: Vec<_> = output.lines().collect::<std::io::Result<_>>()?;
    candump.wait()?;
    let shown: Vec<_> = lines.iter().filter_map(|line| line.split(' ').nth(2)).collect();
    assert_eq!(shown, texts.map(|(text, _)| text));
    Ok(())
}

/// How many sockets receive everything from an interface.
fn listeners(name: &str) -> std::io::Result<usize> {
    let list = std::fs::read_to_string("/proc/net/can/rcvlist_all")?;
    Ok(list.lines().filter(|line| line.split_whitespace().next() == Some(name)).count())
}

#[test]
fn own_frames_are_confirmed_in_bus_order() -> Result {
    let vcan = Vcan::new("own0")?;
    let (mut one, mut other) = (vcan.open()?, vcan.open()?);
    let all = numbered(100);
    for pair in all.chunks(2) {
        assert_eq!(one.send(&pair[..1]).taken, 1);
        assert_eq!(other.send(&pair[1..]).taken, 1);
    }
    let (seen_by_one, seen_by_other) = (read_all(&mut one)?, read_all(&mut other)?);
    assert_eq!(frames(&seen_by_one), all);
    assert_eq!(frames(&seen_by_other), all);
    assert!(seen_by_one.iter().enumerate().all(|(n, seen)| seen.own == (n % 2 == 0)));
    assert!(seen_by_other.iter().enumerate().all(|(n, seen)| seen.own == (n % 2 == 1)));
    Ok(())
}

#[test]
fn a_thousand_frames_keep_their_order_and_time() -> Result {
    let vcan = Vcan::new("order0")?;
    let (mut from, mut to) = (vcan.open()?, vcan.open()?);
    let before = SystemTime::now().duration_since(UNIX_EPOCH)?.as_micros();
    let all = numbered(1000);
    let outcome = from.send(&all);
    assert!(outcome.taken == 1000 && matches!(outcome.stop, SendStop::All), "{outcome:?}");
    assert_eq!(to.receive()?, 64, "a batch is as large as it may be");
    let mut seen: Vec<_> = (0..64).filter_map(|index| to.received(index)).collect();
    assert!(to.received(64).is_none());
    seen.extend(read_all(&mut to)?);
    let after = SystemTime::now().duration_since(UNIX_EPOCH)?.as_micros();
    assert_eq!(frames(&seen), all);
    assert!(seen.is_sorted_by_key(|one| one.stamp_us));
    assert!(seen.iter().all(|one| (before..=after).contains(&u128::from(one.stamp_us))));
    assert!(seen.iter().all(|one| !one.own));
    assert_eq!((to.receive()?, to.overflow()), (0, 0));
    assert_eq!(frames(&read_all(&mut from)?), all);
    Ok(())
}

#[test]
fn what_the_kernel_drops_is_counted_exactly() -> Result {
    let vcan = Vcan::new("drop0")?;
    let (mut from, mut to) = (vcan.open()?, vcan.open()?);
    let all = numbered(40_000);
    for part in all.chunks(500) {
        assert_eq!(from.send(part).taken, part.len());
        assert_eq!(read_all(&mut from)?.len(), part.len());
    }
    let dropped = to.settle_overflow();
    let kept = read_all(&mut to)?;
    assert_eq!(to.overflow(), dropped, "frames that came before tell nothing newer");
    assert_eq!(dropped, (all.len() - kept.len()) as u64);
    eprintln!("the receive buffer held {} frames", kept.len());
    assert!(kept.len() > 1000 && kept.len() < all.len());
    assert_eq!(frames(&kept), all[..kept.len()], "the oldest are kept, in order");
    assert_eq!(from.settle_overflow(), 0);
    Ok(())
}

#[test]
fn a_drop_is_told_with_the_next_frame() -> Result {
    let vcan = Vcan::new("told0")?;
    let (mut from, mut to) = (vcan.open()?, vcan.open()?);
    let all = numbered(20_000);
    for part in all.chunks(500) {
        assert_eq!(from.send(part).taken, part.len());
        read_all(&mut from)?;
    }
    let kept = read_all(&mut to)?;
    assert_eq!(to.overflow(), 0, "all that were read came before the first drop");
    assert_eq!(from.send(&all[..1]).taken, 1);
    assert_eq!(read_all(&mut to)?.len(), 1);
    assert_eq!(to.overflow(), (all.len() - kept.len()) as u64);
    assert_eq!(to.settle_overflow(), to.overflow());
    Ok(())
}

#[test]
fn an_interface_that_was_down_works_again() -> Result {
    let vcan = Vcan::new("down0")?;
    let (mut ours, mut other) = (vcan.open()?, vcan.open()?);
    let frame = numbered(1);
    assert!(ours.is_up());
    vcan.link()?.bring_down()?;
    assert!(!ours.is_up() && ours.is_present());
    assert!(ready(&ours, Duration::from_secs(1))?, "the loop is woken");
    let error = ours.receive().expect_err("the interface is down");
    assert!(is_down(&error) && !is_gone(&error), "{error}");
    assert!(ours.receive()? == 0 && !ready(&ours, Duration::ZERO)?, "told once");
    let outcome = ours.send(&frame);
    assert!(matches!(outcome.stop, SendStop::Down), "{outcome:?}");

    vcan.link()?.bring_up()?;
    assert!(ours.is_up());
    assert!(is_down(&other.receive().expect_err("still to be told")));
    assert_eq!(ours.send(&frame).taken, 1);
    assert_eq!(frames(&read_all(&mut ours)?), frame);
    assert_eq!(frames(&read_all(&mut other)?), frame);

    vcan.link()?.bring_down()?;
    let late = vcan.open()?;
    assert!(!late.is_up(), "an interface may be opened while it is down");
    Ok(())
}

#[test]
fn an_interface_that_went_is_opened_anew() -> Result {
    let vcan = Vcan::new("gone0")?;
    let mut ours = vcan.open()?;
    let (frame, index) = (numbered(1), ours.index());
    delete(vcan.0)?;
    let error = ours.receive().expect_err("the interface is gone");
    assert!(is_gone(&error) && !is_down(&error), "{error}");
    assert!(ours.receive()? == 0 && !ready(&ours, Duration::ZERO)?, "told once");
    assert!(matches!(ours.send(&frame).stop, SendStop::Gone));
    assert!(!ours.is_present() && !ours.is_up() && !ours.is_fd());
    assert!(matches!(vcan.open(), Err(OpenError::Absent { .. })));

    create_vcan(vcan.0)?;
    assert_eq!(ours.receive()?, 0, "the old socket hears nothing, for good");
    assert!(matches!(ours.send(&frame).stop, SendStop::Gone));
    assert!(!ours.is_present(), "it is another interface, though of the same name");
    let mut again = vcan.open()?;
    assert_ne!(again.index(), index);
    assert_eq!(again.send(&frame).taken, 1);
    assert_eq!(frames(&read_all(&mut again)?), frame);
    Ok(())
}

#[test]
fn a_send_that_meets_the_news_first_does_not_hide_it() -> Result {
    let vcan = Vcan::new("news0")?;
    let mut ours = vcan.open()?;
    delete(vcan.0)?;
    assert!(matches!(ours.send(&numbered(1)).stop, SendStop::Gone));
    assert!(is_gone(&ours.receive().expect_err("the interface is gone")));
    Ok(())
}

#[test]
fn fd_frames_do_not_fit_a_classic_interface() -> Result {
    let vcan = Vcan::new("classic0")?;
    vcan.link()?.bring_down()?;
    vcan.link()?.set_mtu(nl::Mtu::Standard)?;
    vcan.link()?.bring_up()?;
    let mut ours = vcan.open()?;
    assert!(!ours.is_fd() && ours.is_virtual());
    let classic = numbered(3);
    let fd = Frame::fd(Id::Standard(1), FDF, &[0; 12]).ok_or("a valid frame")?;
    let outcome = ours.send(&[classic[0], classic[1], fd, classic[2]]);
    assert!(outcome.taken == 2 && matches!(outcome.stop, SendStop::Unsupported), "{outcome:?}");
    assert_eq!(frames(&read_all(&mut ours)?), classic[..2]);

    // Made FD meanwhile: the same socket notices.
    vcan.link()?.bring_down()?;
    vcan.link()?.set_mtu(nl::Mtu::Fd)?;
    vcan.link()?.bring_up()?;
    assert!(is_down(&ours.receive().expect_err("it was down meanwhile")));
    assert!(ours.is_fd());
    assert_eq!(ours.send(&[fd]).taken, 1);
    Ok(())
}

#[test]
fn a_full_transmit_queue_takes_some_and_says_so() -> Result {
    let vcan = Vcan::new("full0")?;
    let mut ours = vcan.open()?;
    let slow = ["qdisc", "add", "dev", vcan.0, "root", "netem", "limit", "10", "delay", "60s"];
    run("tc", &slow)?;
    let all = numbered(100);
    let outcome = ours.send(&all);
    assert!(outcome.taken == 10 && matches!(outcome.stop, SendStop::Full), "{outcome:?}");
    run("tc", &["qdisc", "del", "dev", vcan.0, "root"])?;
    let outcome = ours.send(&all[10..]);
    assert_eq!(outcome.taken, 90);
    assert_eq!(frames(&read_all(&mut ours)?), all, "each is echoed once, in order");
    Ok(())
}

#[test]
fn the_watch_wakes_for_every_change() -> Result {
    let mut watch = LinkWatch::open()?;
    watch.drain()?;
    assert!(!ready(&watch, Duration::ZERO)? && !watch.drain()?);
    let vcan = Vcan::new("watch0")?;
    assert!(ready(&watch, Duration::from_secs(1))? && watch.drain()?);
    assert!(!watch.drain()?);
    vcan.link()?.bring_down()?;
    assert!(ready(&watch, Duration::from_secs(1))? && watch.drain()?);
    delete(vcan.0)?;
    assert!(ready(&watch, Duration::from_secs(1))? && watch.drain()?);
    // So many that some are lost: still one thing to tell, and then quiet.
    for _ in 0..200 {
        create_vcan(vcan.0)?;
        delete(vcan.0)?;
    }
    assert!(watch.drain()?);
    while watch.drain()? {}
    assert!(!ready(&watch, Duration::ZERO)?);
    Ok(())
}

#[test]
fn virtual_interfaces_are_made_and_deleted() -> Result {
    let vcan = Vcan::new("make0")?;
    let link = Link::by_name(vcan.0)?;
    assert!(link.is_can && link.is_up && link.mtu == 72 && link.kind == "vcan", "{link:?}");
    let ours = vcan.open()?;
    assert!(ours.is_virtual() && ours.is_fd() && ours.is_up());
    assert_eq!((ours.name(), ours.index()), (vcan.0, link.index));
    assert_eq!(ours.tx_queue_len(), link.tx_queue_len);
    eprintln!("{link:?}");

    let error = create_vcan(vcan.0).expect_err("it exists");
    assert!(matches!(error, CreateError::Exists { .. }), "{error}");
    let error = create_vcan("a/b").expect_err("no such name can be");
    assert!(matches!(error, CreateError::BadName { .. }), "{error}");
    delete(vcan.0)?;
    let error = delete(vcan.0).expect_err("it is gone");
    assert!(matches!(error, DeleteError::Absent { .. }), "{error}");
    let error = delete("lo").expect_err("not virtual");
    assert!(matches!(error, DeleteError::NotVirtual { .. }), "{error}");
    let error = CanInterface::open("lo").expect_err("not CAN");
    assert!(matches!(error, OpenError::NotCan { .. }), "{error}");

    run("ip", &["link", "add", "tun0", "type", "vxcan", "peer", "name", "tun1"])?;
    assert!(CanInterface::open("tun0")?.is_virtual());
    Ok(delete("tun0")?)
}

#[test]
fn a_missing_capability_is_named() -> Result {
    const AGAIN: &str = "CANSPAN_TEST_WITHOUT_NET_ADMIN";
    if std::env::var_os(AGAIN).is_none() {
        let vcan = Vcan::new("denied0")?;
        let program = std::env::current_exe()?;
        let status = Command::new("setpriv")
            .args(["--inh-caps=-net_admin", "--bounding-set=-net_admin"])
            .arg(program)
            .args(["--exact", "a_missing_capability_is_named"])
            .env(AGAIN, vcan.0)
            .status()?;
        assert!(status.success());
        return Ok(());
    }
    let error = create_vcan("denied1").expect_err("not allowed");
    assert!(matches!(error, CreateError::Denied { .. }), "{error}");
    let error = delete("denied0").expect_err("not allowed");
    assert!(matches!(error, DeleteError::Denied { .. }), "{error}");
    let mut bus = CanInterface::open("denied0")?;
    assert_eq!(bus.send(&numbered(1)).taken, 1, "frames need no capability");
    Ok(())
}
