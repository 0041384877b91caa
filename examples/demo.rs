//! A bus crosses TCP, with no CAN hardware.
fn main() {}
