//! The man pages and completions that ship are those the sources make.
#![cfg(feature = "std")]

#[path = "../examples/pages/make/mod.rs"]
mod make;

#[test]
fn the_pages_that_ship_are_current() {
    for page in make::pages().unwrap_or_else(|problem| panic!("{problem}")) {
        let shipped = std::fs::read_to_string(make::root().join(page.path)).unwrap_or_default();
        assert!(
            shipped == page.text,
            "{} is not what its sources make of it; `cargo run --example pages` writes it anew",
            page.path
        );
    }
}
