//! The canspan binary.
fn main() {}
