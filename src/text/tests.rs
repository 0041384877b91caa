use proptest::prelude::*;

use super::*;

fn text(frame: &Frame) -> String {
    AsText(frame).to_string()
}

/// Typed, and as candump prints it; checked against can-utils on a kernel with CAN.
#[test]
fn reads_what_cansend_reads_and_prints_what_candump_prints() {
    for (typed, printed) in [
        ("123#DEADBEEF", "123#DEADBEEF"),
        ("5AA#", "5AA#"),
        ("123#R", "123#R"),
        ("123#R0", "123#R"),
        ("123#r5", "123#R5"),
        ("123#R8", "123#R8"),
        ("123#R8_B", "123#R8_B"),
        ("00000123#R3", "00000123#R3"),
        ("1F334455#1122334455667788_B", "1F334455#1122334455667788_B"),
        ("123#1122334455667788_f", "123#1122334455667788_F"),
        ("00000123#01", "00000123#01"),
        ("7ff#aBcD", "7FF#ABCD"),
        ("5A1#11.2233.44556677.88", "5A1#1122334455667788"),
        ("123#.11", "123#11"),
        ("123#11.", "123#11"),
        ("123##1DEADBEEF", "123##5DEADBEEF"),
        ("213##311", "213##711"),
        ("123##1", "123##5"),
        ("123##0.01.02", "123##40102"),
        ("123##F0102030405060708", "123##F0102030405060708"),
        ("123##0010203040506070809", "123##4010203040506070809000000"),
        ("20000004#0004000000000000", "20000004#0004000000000000"),
        ("32345678#112233", "32345678#112233"),
    ] {
        let frame = parse_frame(typed).unwrap_or_else(|error| panic!("{typed}: {error}"));
        assert_eq!(text(&frame), printed, "{typed}");
    }
}

#[test]
fn every_fd_length_is_rounded_up_to_one_on_the_wire() {
    for (len, on_wire) in
        [(0, 0), (8, 8), (9, 12), (12, 12), (13, 16), (25, 32), (33, 48), (49, 64), (64, 64)]
    {
        let frame = parse_frame(&format!("123##0{}", "AB".repeat(len))).unwrap();
        assert_eq!(frame.data().len(), on_wire);
        assert!(frame.data().iter().take(len).all(|byte| *byte == 0xAB));
        assert!(frame.data().iter().skip(len).all(|byte| *byte == 0));
    }
}

#[test]
fn width_of_the_identifier_is_what_was_typed() {
    assert_eq!(parse_frame("123#").unwrap().id(), Id::Standard(0x123));
    assert_eq!(parse_frame("00000123#").unwrap().id(), Id::Extended(0x123));
    assert!(parse_frame("20000123#").unwrap().is_error());
}

#[test]
fn what_is_wrong_is_named() {
    use ParseFrameError as E;
    for (typed, error) in [
        ("", E::NoSeparator),
        ("123", E::NoSeparator),
        ("#", E::IdWidth(0)),
        ("12#11", E::IdWidth(2)),
        ("123456789#", E::IdWidth(9)),
        ("12345#00:11:22334455#66", E::Xl),
        ("0x1#11", E::IdDigit('x')),
        ("+12#11", E::IdDigit('+')),
        ("12é#11", E::IdDigit('é')),
        (" 123#11", E::IdDigit(' ')),
        ("800#11", E::StandardTooHigh(0x800)),
        ("40000001#11", E::ExtendedTooHigh(0x4000_0001)),
        ("FFFFFFFF#11", E::ExtendedTooHigh(0xFFFF_FFFF)),
        ("A0000123#11", E::ExtendedTooHigh(0xA000_0123)),
        ("123#1", E::HalfByte),
        ("123#1.2", E::HalfByte),
        ("123#11..22", E::DataDigit('.')),
        ("123#1g", E::DataDigit('g')),
        ("123#11 22", E::DataDigit(' ')),
        ("123#112233445566778899", E::TooLong(8)),
        ("123#R9", E::RemoteLength),
        ("123#R5xx", E::RemoteLength),
        ("123#Rx", E::RemoteLength),
        ("123#R5_B", E::RawDlcWithoutEight),
        ("123#R8_8", E::RawDlc),
        ("123#R8_BB", E::RawDlc),
        ("123#1122334455667788_", E::RawDlc),
        ("123#11223344556677_B", E::RawDlcWithoutEight),
        ("123#1122334455667788B", E::HalfByte),
        ("123##", E::Flags),
        ("123##x", E::Flags),
        ("123##01_9", E::DataDigit('_')),
        ("20000004#R", E::ErrorWithoutData),
        ("20000004##0", E::ErrorWithoutData),
        ("20000004#1122334455667788_9", E::DataDigit('_')),
    ] {
        let found = match parse_frame(typed) {
            Err(found) => found,
            Ok(frame) => panic!("{typed} was read as {frame:?}"),
        };
        assert_eq!(found, error, "{typed}");
        assert!(found.to_string().contains('#'), "{found} shows no example");
    }
    assert_eq!(parse_frame(&format!("123##0{}", "AB".repeat(65))), Err(E::TooLong(64)));
}

fn log_line(line: &str) -> Option<LogLine<'_>> {
    parse_log_line(line).unwrap_or_else(|error| panic!("{line}: {error}"))
}

#[test]
fn a_log_line_is_what_candump_prints() {
    let frame = parse_frame("044#2A366C2BBA").unwrap();
    let mut line = String::new();
    write_log_line(&mut line, 1_436_509_052_249_713, "can0", &frame).unwrap();
    assert_eq!(line, "(1436509052.249713) can0 044#2A366C2BBA");
    line.clear();
    write_log_line(&mut line, 7, "can0", &frame).unwrap();
    assert_eq!(line, "(0000000000.000007) can0 044#2A366C2BBA");
}

#[test]
fn a_log_line_may_have_a_direction_padding_and_any_line_break() {
    for line in [
        "(1436509052.249713) can0 044#2A",
        "(1436509052.249713) can0 044#2A\n",
        "(1436509052.249713) can0 044#2A\r\n",
        "(1436509052.249713)  can0 044#2A R",
        "(1436509052.249713)\tcan0 044#2A T\r\n",
        "(1436509052.249713999) can0 044#2A",
    ] {
        let read = log_line(line).unwrap();
        assert_eq!((read.stamp_us, read.bus), (1_436_509_052_249_713, "can0"), "{line}");
        assert_eq!(text(&read.frame), "044#2A");
    }
    assert_eq!(log_line("(1.5) c 1FF#").unwrap().stamp_us, 1_500_000);
    assert_eq!(log_line("(12) c 1FF#").unwrap().stamp_us, 12_000_000);
}

#[test]
fn lines_without_a_frame_are_passed_over() {
    for line in ["", "\n", "  \r\n", "# made by hand", "; so", "DROPCOUNT: dropped 1 CAN frame"] {
        assert_eq!(parse_log_line(line), Ok(None), "{line:?}");
    }
}

#[test]
fn what_is_wrong_with_a_line_is_named() {
    use ParseLogError as E;
    for (line, error) in [
        ("can0 123#11", E::Stamp),
        ("() can0 123#11", E::Stamp),
        ("(-1.5) can0 123#11", E::Stamp),
        ("(1.) can0 123#11", E::Stamp),
        ("(1.5 can0 123#11", E::Stamp),
        ("(99999999999999999999.0) can0 123#11", E::Stamp),
        ("(18446744073709.999999) can0 123#11", E::Stamp),
        ("(1.5)", E::Incomplete),
        ("(1.5) can0", E::Incomplete),
        ("(1.5) can0 hello", E::Frame(ParseFrameError::NoSeparator)),
        ("(1.5) can0 123#11 X", E::Trailing),
        ("(1.5) can0 123#11 R R", E::Trailing),
    ] {
        assert_eq!(parse_log_line(line), Err(error), "{line}");
        assert!(error.to_string().contains('#'), "{error} shows no example");
    }
}

#[test]
fn a_log_keeps_fd_lengths_between_the_steps() {
    assert_eq!(log_line("(1.0) vcan0 123##4010203040506070809").unwrap().frame.data().len(), 9);
}

fn any_id() -> impl Strategy<Value = Id> {
    prop_oneof![
        (0..=Id::STANDARD_MAX).prop_map(Id::Standard),
        (0..=Id::EXTENDED_MAX).prop_map(Id::Extended)
    ]
}

fn any_frame() -> impl Strategy<Value = Frame> {
    let bytes = |max| proptest::collection::vec(any::<u8>(), 0..=max);
    prop_oneof![
        (any_id(), bytes(8)).prop_map(|(id, data)| Frame::data_frame(id, &data)),
        (any_id(), 9..=15_u8, any::<[u8; 8]>())
            .prop_map(|(id, dlc, d)| Frame::long_dlc(id, dlc, &d)),
        (any_id(), 0..=15_u8).prop_map(|(id, raw_dlc)| Frame::remote(id, raw_dlc)),
        (any_id(), 4..=7_u8, bytes(64)).prop_map(|(id, flags, data)| Frame::fd(id, flags, &data)),
        (0..=Id::EXTENDED_MAX, bytes(8)).prop_map(|(class, data)| Frame::error(class, &data)),
    ]
    .prop_map(|frame| frame.expect("the strategy makes valid parts"))
}

const ALMOST_A_FRAME: &str = concat!(
    "[0-7][0-9A-F]{2}([0-9a-f]{5})?#",
    "((#[0-9a-f])?[0-9a-fA-F.]{0,20}|[Rr][0-9]?|[0-9a-f]{16})(_[0-9a-f])?"
);

proptest! {
    #[test]
    fn every_frame_survives_a_log(frame in any_frame(), stamp_us in 0..=9_999_999_999_999_999_u64) {
        let mut line = String::new();
        write_log_line(&mut line, stamp_us, "vcan0", &frame).unwrap();
        prop_assert_eq!(parse_log_line(&line), Ok(Some(LogLine { stamp_us, bus: "vcan0", frame })));
    }

    #[test]
    fn what_was_read_reads_the_same_again(typed in ALMOST_A_FRAME) {
        if let Ok(frame) = parse_frame(&typed) {
            prop_assert_eq!(parse_frame(&text(&frame)), Ok(frame));
        }
    }

    #[test]
    fn nothing_panics(any in "\\PC{0,40}", line in "\\(?[0-9.]{0,25}\\)? ?\\PC{0,30}") {
        let _ = parse_frame(&any);
        let _ = parse_log_line(&any);
        let _ = parse_log_line(&line);
    }
}
