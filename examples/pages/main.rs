//! Writes the man pages into `man/` and the completions for bash, zsh and fish into `completions/`:
//!
//!     cargo run --example pages
//!
//! They are made from what `--help` prints, from `docs/` and from the unit files, so they cannot
//! say anything else. They are in the repository because package builders that compile for another
//! machine cannot run this; `tests/pages.rs` fails when they are not current.

mod make;

use std::process::ExitCode;

fn main() -> ExitCode {
    match make::pages().and_then(|pages| pages.iter().try_for_each(write)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("pages: {problem}");
            ExitCode::FAILURE
        }
    }
}

fn write(page: &make::Page) -> Result<(), String> {
    let path = make::root().join(page.path);
    let folder = path.parent().unwrap_or(&path);
    std::fs::create_dir_all(folder)
        .and_then(|()| std::fs::write(&path, &page.text))
        .map_err(|error| format!("{} cannot be written: {error}", path.display()))
}
