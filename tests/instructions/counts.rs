//! The hot functions, each for classic and FD frames, one and 32 at once. What is before and after them is not counted;
//! afterwards it is checked that they have done their work.

#![allow(clippy::boxed_local, reason = "what is handed over costs one pointer, whatever its size")]

use std::hint::black_box;

use canspan::protocol::{Frame, entry};
use canspan_instructions::Kind::{Classic, Fd};
use canspan_instructions::{
    Bytes, GAP_US, Kind, Pair, Past, encoded, frames, plain, stamp_us, to_append, to_read,
};
use gungraun::Callgrind;
use gungraun::prelude::*;

#[library_benchmark(setup = plain, teardown = check_encoded)]
#[bench::classic_1(Classic, 1)]
#[bench::classic_32(Classic, 32)]
#[bench::fd_1(Fd, 1)]
#[bench::fd_32(Fd, 32)]
fn encode(mut all: Box<Bytes>) -> Box<Bytes> {
    for frame in &all.frames {
        let room = &mut all.bytes[all.used..];
        all.used += entry::encode(frame, GAP_US, room).unwrap_or(0);
    }
    all
}

fn check_encoded(all: Box<Bytes>) {
    let known = encoded(kind_of(&all.frames), all.frames.len() as u32);
    assert!(all.used > 0 && all.bytes == known.bytes);
}

#[library_benchmark(setup = encoded, teardown = check_decoded)]
#[bench::classic_1(Classic, 1)]
#[bench::classic_32(Classic, 32)]
#[bench::fd_1(Fd, 1)]
#[bench::fd_32(Fd, 32)]
fn decode(mut all: Box<Bytes>) -> Box<Bytes> {
    let mut rest = &all.bytes[..all.used];
    for place in &mut all.frames {
        if let Some((frame, _, after)) = entry::decode(rest) {
            *place = frame;
            rest = after;
        }
    }
    all
}

fn check_decoded(all: Box<Bytes>) {
    assert_eq!(all.frames, frames(kind_of(&all.frames), all.frames.len() as u32));
}

#[library_benchmark(setup = to_append, teardown = check_appended)]
#[bench::classic_1(Classic, 1)]
#[bench::classic_32(Classic, 32)]
#[bench::fd_1(Fd, 1)]
#[bench::fd_32(Fd, 32)]
fn history_append(mut past: Box<Past>) -> Box<Past> {
    past.append();
    past
}

fn check_appended(past: Box<Past>) {
    let mut cursor = past.cursor;
    for (number, frame) in past.frames.iter().enumerate() {
        let entry = past.history.next(&mut cursor).expect("a frame in the history");
        assert_eq!((entry.frame, entry.stamp_us), (*frame, stamp_us(number)));
    }
}

#[library_benchmark(setup = to_read, teardown = check_read)]
#[bench::classic_1(Classic, 1)]
#[bench::classic_32(Classic, 32)]
#[bench::fd_1(Fd, 1)]
#[bench::fd_32(Fd, 32)]
fn history_next(mut past: Box<Past>) -> Box<Past> {
    while let Some(entry) = past.history.next(&mut past.cursor) {
        black_box(&entry);
    }
    past
}

fn check_read(past: Box<Past>) {
    assert_eq!(past.cursor, past.history.head());
    assert_eq!(past.cursor.position, 4 + past.frames.len() as u64);
}

#[library_benchmark(setup = Pair::live, teardown = check_seen)]
#[bench::classic_1(Classic, 1)]
#[bench::classic_32(Classic, 32)]
#[bench::fd_1(Fd, 1)]
#[bench::fd_32(Fd, 32)]
fn hub_seen(mut pair: Box<Pair>) -> Box<Pair> {
    Pair::show(&mut pair.board, &pair.frames, pair.now, false);
    pair
}

fn check_seen(pair: Box<Pair>) {
    assert_eq!(pair.shown(), pair.frames.len() as u64);
}

#[library_benchmark(setup = Pair::to_transmit, teardown = check_transmitted)]
#[bench::classic_1(Classic, 1)]
#[bench::classic_32(Classic, 32)]
#[bench::fd_1(Fd, 1)]
#[bench::fd_32(Fd, 32)]
fn link_transmit(mut pair: Box<Pair>) -> Box<Pair> {
    pair.used = Pair::transmit(&mut pair.board, pair.now, &mut pair.wire);
    pair
}

fn check_transmitted(mut pair: Box<Pair>) {
    let bytes = &pair.wire[..pair.used];
    pair.pc.link.handle_input(pair.now, bytes, &mut pair.pc.hubs);
    pair.offered = pair.pc.hubs[0].offer(pair.now, &mut pair.offer);
    check_offered(pair);
}

#[library_benchmark(setup = Pair::to_receive, teardown = check_received)]
#[bench::classic_1(Classic, 1)]
#[bench::classic_32(Classic, 32)]
#[bench::fd_1(Fd, 1)]
#[bench::fd_32(Fd, 32)]
fn link_receive(mut pair: Box<Pair>) -> Box<Pair> {
    pair.receive();
    pair
}

fn check_received(mut pair: Box<Pair>) {
    pair.offer();
    check_offered(pair);
}

#[library_benchmark(setup = Pair::to_offer, teardown = check_offered)]
#[bench::classic_1(Classic, 1)]
#[bench::classic_32(Classic, 32)]
#[bench::fd_1(Fd, 1)]
#[bench::fd_32(Fd, 32)]
fn queue_offer(mut pair: Box<Pair>) -> Box<Pair> {
    pair.offer();
    pair
}

fn check_offered(pair: Box<Pair>) {
    assert_eq!(pair.offer[..pair.offered], pair.frames);
}

#[library_benchmark(setup = Pair::to_confirm, teardown = check_confirmed)]
#[bench::classic_1(Classic, 1)]
#[bench::classic_32(Classic, 32)]
#[bench::fd_1(Fd, 1)]
#[bench::fd_32(Fd, 32)]
fn queue_confirm(mut pair: Box<Pair>) -> Box<Pair> {
    pair.confirm();
    pair
}

fn check_confirmed(pair: Box<Pair>) {
    assert_eq!(pair.confirmed(), (pair.frames.len() as u64, 0));
}

#[library_benchmark(setup = Pair::to_receipt, teardown = check_receipt)]
#[bench::classic_1(Classic, 1)]
#[bench::classic_32(Classic, 32)]
#[bench::fd_1(Fd, 1)]
#[bench::fd_32(Fd, 32)]
fn link_receipt(mut pair: Box<Pair>) -> Box<Pair> {
    pair.used = Pair::transmit(&mut pair.board, pair.now, &mut pair.wire);
    pair
}

fn check_receipt(mut pair: Box<Pair>) {
    let bytes = &pair.wire[..pair.used];
    pair.pc.link.handle_input(pair.now, bytes, &mut pair.pc.hubs);
    let count = pair.frames.len() as u64;
    assert_eq!(pair.confirmed(), (count, count));
}

fn kind_of(frames: &[Frame]) -> Kind {
    if frames[0].is_fd() { Fd } else { Classic }
}

library_benchmark_group!(
    name = counts,
    benchmarks = [
        encode,
        decode,
        history_append,
        history_next,
        hub_seen,
        link_transmit,
        link_receive,
        queue_offer,
        queue_confirm,
        link_receipt
    ]
);

main!(
    config = LibraryBenchmarkConfig::default().tool(Callgrind::with_args(["--cache-sim=no"])),
    library_benchmark_groups = counts
);
