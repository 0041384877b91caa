use std::path::{Path, PathBuf};

use super::*;
use crate::text::AsText;

/// A file that goes away with the test.
struct TempFile(PathBuf);

impl TempFile {
    fn new(name: &str, content: impl AsRef<[u8]>) -> Self {
        let path = std::env::temp_dir().join(format!("canspan-{}-{name}", std::process::id()));
        std::fs::write(&path, content).unwrap();
        Self(path)
    }

    fn source(&self) -> Result<Source, SimError> {
        Source::open(&SimSource::Trace(self.0.clone()))
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Runs a source from `now_us` for `count` frames and returns each with the time it came.
fn run(source: &mut Source, mut now_us: u64, count: usize) -> Vec<(u64, String)> {
    let mut frames = Vec::new();
    while frames.len() < count {
        match source.poll(now_us) {
            Some(frame) => frames.push((now_us, AsText(&frame).to_string())),
            None => now_us = source.next_due().expect("more frames"),
        }
    }
    frames
}

#[test]
fn silence_is_silent() {
    let mut source = Source::open(&SimSource::Silent).unwrap();
    assert_eq!(source.next_due(), None);
    assert_eq!(source.poll(u64::MAX), None);
}

#[test]
fn a_rate_is_even_counts_and_does_not_drift() {
    let mut source = Source::open(&SimSource::Rate(3)).unwrap();
    assert_eq!(source.next_due(), Some(0));
    let times: Vec<u64> = run(&mut source, 5_000, 8).iter().map(|(at, _)| *at - 5_000).collect();
    assert_eq!(times, [0, 333_333, 666_666, 1_000_000, 1_333_333, 1_666_666, 2_000_000, 2_333_333]);
    let mut source = Source::open(&SimSource::Rate(1000)).unwrap();
    let frames = run(&mut source, 0, 5000);
    assert_eq!(frames.first().unwrap().1, "0C9#0000000000000000");
    assert_eq!(frames.get(1).unwrap().1, "18FEF100#0000000000000001");
    assert_eq!(*frames.last().unwrap(), (4_999_000, "0CF00400#0000000000001387".into()));
}

#[test]
fn a_rate_is_bounded() {
    assert!(matches!(Source::open(&SimSource::Rate(0)), Err(SimError::RateZero)));
    let mut source = Source::open(&SimSource::Rate(u32::MAX)).unwrap();
    assert_eq!(run(&mut source, 0, 3).last().unwrap().0, 2);
}

#[test]
fn a_late_source_catches_up_a_little_and_never_bursts() {
    let mut source = Source::open(&SimSource::Rate(1000)).unwrap();
    assert!(source.poll(0).is_some());
    let mut at = |now_us| {
        let count = core::iter::from_fn(|| source.poll(now_us)).count();
        (count, source.skipped_us())
    };
    assert_eq!(at(50_000), (50, 0));
    // Three seconds stopped: the frame of 51 ms comes now, and the time between is left out.
    assert_eq!(at(3_050_000), (1, 2_999_000));
    assert_eq!(at(3_050_500), (0, 2_999_000));
    assert_eq!(at(3_051_000), (1, 2_999_000));
    assert_eq!(at(u64::MAX / 2).0, 1);
    // A counter without gaps: what was left out is time.
    assert_eq!(source.poll(u64::MAX / 2 + 1000).unwrap().data(), 54_u64.to_be_bytes());
}

#[test]
fn a_first_poll_long_after_boot_is_not_late() {
    let mut source = Source::open(&SimSource::Rate(10)).unwrap();
    assert!(source.poll(1_000_000_000).is_some());
    assert_eq!((source.skipped_us(), source.next_due()), (0, Some(1_000_100_000)));
}

#[test]
fn a_trace_loops_at_its_own_pace() {
    let log = "# a comment\r\n(100.000000) can0 001#\r\n\n(100.250000) can1 002#R\n\
               (101.000000) can0 00000003##4AA T";
    let file = TempFile::new("pace", log);
    let mut source = file.source().unwrap();
    let frames = run(&mut source, 7_000, 7);
    let expected = [
        (0, "001#"),
        (250_000, "002#R"),
        (1_000_000, "00000003##4AA"),
        (1_500_000, "001#"),
        (1_750_000, "002#R"),
        (2_500_000, "00000003##4AA"),
        (3_000_000, "001#"),
    ];
    let frames: Vec<_> = frames.iter().map(|(at, text)| (at - 7_000, text.as_str())).collect();
    assert_eq!(frames, expected);
    assert_eq!(source.skipped_us(), 0);
}

#[test]
fn a_stopped_trace_goes_on_where_it_was() {
    let file = TempFile::new("stopped", "(0.0) c 001#\n(0.5) c 002#\n(0.6) c 003#\n");
    let mut source = file.source().unwrap();
    assert!(source.poll(0).is_some());
    assert_eq!(source.poll(3_600_500_000).unwrap().id(), Id::Standard(2));
    assert_eq!(source.poll(3_600_500_000), None);
    assert_eq!(source.skipped_us(), 3_600_000_000);
    assert_eq!(source.next_due(), Some(3_600_600_000));
}

#[test]
fn a_clock_set_back_while_recording_is_no_pause() {
    let file = TempFile::new("back", "(9.0) c 001#\n(1.0) c 002#\n(1.5) c 003#\n");
    let times: Vec<u64> = run(&mut file.source().unwrap(), 0, 4).iter().map(|it| it.0).collect();
    assert_eq!(times, [0, 0, 500_000, 750_000]);
}

#[test]
fn a_trace_that_takes_no_time_does_not_spin() {
    for log in ["(5.0) c 001#", "(5.0) c 001#\n(5.0) c 001#\n"] {
        let file = TempFile::new("no-time", log);
        let mut source = file.source().unwrap();
        let count = core::iter::from_fn(|| source.poll(10)).count();
        assert_eq!(count, log.lines().count());
        assert_eq!(source.next_due(), Some(1_000_010));
    }
}

#[test]
fn mistakes_in_a_trace_are_told_at_the_start_with_their_line() {
    let long = format!("# fine\n#{}\n", "x".repeat(600));
    for (log, sentence) in [
        ("", "has no frame"),
        ("# nothing\n\n", "has no frame"),
        ("(1.0) can0 123#11\n\nhello\n", "line 3 of the trace"),
        ("(1.0) can0 123#11\n(1.1) can0 123#1", "line 2 of the trace"),
        ("(1.0) can0 123#11\n(1.1) can0 123#1", "two digits"),
        (long.as_str(), "line 2 of the trace"),
    ] {
        let file = TempFile::new("wrong", log);
        let sentence_found = file.source().unwrap_err().to_string();
        assert!(sentence_found.contains(sentence), "{log:?}: {sentence_found}");
    }
    let file = TempFile::new("binary", [0xFF, 0xFE, 0x00, b'\n']);
    assert!(file.source().unwrap_err().to_string().contains("line 1"));
}

#[test]
fn a_trace_that_cannot_be_read_in_a_loop_is_refused() {
    let open = |path: &Path| Source::open(&SimSource::Trace(path.to_owned())).unwrap_err();
    assert!(matches!(open(Path::new("no/such/file.log")), SimError::Unreadable(..)));
    assert!(matches!(open(&std::env::temp_dir()), SimError::NotAFile(_)));
}

#[test]
fn a_trace_spoiled_while_it_runs_ends_with_a_reason() {
    let file = TempFile::new("spoiled", "(0.0) c 001#\n");
    let mut source = file.source().unwrap();
    std::fs::write(&file.0, "gone\n").unwrap();
    assert!(source.poll(0).is_some());
    assert!(matches!(source.take_failure(), Some(SimError::Line(_, 1, _))));
    assert!(source.take_failure().is_none());
    assert_eq!((source.next_due(), source.poll(9_000_000)), (None, None));
}
