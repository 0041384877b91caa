//! The man pages.

use super::help::{Command, Entry, Help};
use super::roff::{Page, escape};
use super::{markdown, read};

/// canspan(1), from what `--help` prints.
pub(crate) fn program(help: &Help, date: &str) -> String {
    let mut page = Page::new("canspan", 1, "User Commands", date);
    page.section("NAME");
    page.text(&format!("canspan \\- {}", escape(&help.program.purpose())));
    page.section("SYNOPSIS");
    page.line(".nf");
    for line in help.program.synopsis() {
        page.text(&escape(line));
    }
    page.line(".fi");
    page.section("DESCRIPTION");
    page.text("There are these commands:");
    for command in &help.commands {
        page.entry(&escape(&command.name), &escape(&command.summary));
    }
    for command in &help.commands {
        describe(&mut page, command);
    }
    page.section("OPTIONS OF EVERY COMMAND");
    list(&mut page, &help.everywhere);
    page.section("EXAMPLES");
    page.verbatim(help.program.section("EXAMPLES").iter().map(String::as_str));
    page.section("EXIT STATUS");
    page.text(&escape(&help.program.section("EXIT STATUS").join(" ")));
    page.section("SEE ALSO");
    page.text("\\fBcanspan@\\fR(8), \\fBcanspan\\-protocol\\fR(7), \\fBcandump\\fR(1), \\fBcansend\\fR(1)");
    page.finish()
}

fn describe(page: &mut Page, command: &Command) {
    page.section(&format!("CANSPAN {}", command.name.to_uppercase()));
    page.line(".nf");
    for line in command.text.synopsis() {
        page.text(&escape(line));
    }
    page.line(".fi");
    prose(page, command.text.description());
    if !command.options.is_empty() {
        page.subsection("Options");
        list(page, &command.options);
    }
    page.subsection("Examples");
    page.verbatim(command.text.section("EXAMPLES").iter().map(String::as_str));
}

fn list(page: &mut Page, entries: &[Entry]) {
    for entry in entries {
        page.entry(&escape(&entry.term), &escape(&entry.meaning));
    }
}

/// Paragraphs, with what stands further in kept as it is.
fn prose(page: &mut Page, lines: &[String]) {
    for block in lines.chunk_by(|a, b| !a.is_empty() && !b.is_empty() && inside(a) == inside(b)) {
        if inside(&block[0]) {
            page.verbatim(block.iter().map(|line| line.strip_prefix("    ").unwrap_or(line)));
        } else if !block[0].is_empty() {
            page.paragraph(&escape(&block.join(" ")));
        }
    }
}

fn inside(line: &str) -> bool {
    line.starts_with(' ')
}

/// canspan@(8), from the page on systemd, the units, and the examples of their settings.
pub(crate) fn service(date: &str) -> Result<String, String> {
    let mut page = Page::new("canspan@", 8, "System Administration", date);
    page.section("NAME");
    page.text("canspan@, canspan\\-connect@ \\- the gateway as a service, one for each bus");
    page.section("SYNOPSIS");
    page.text("systemctl enable \\-\\-now canspan@\\fIBUS\\fR");
    page.line(".br");
    page.text("systemctl enable \\-\\-now canspan\\-connect@\\fIPEER\\fR");
    markdown::render(&read("docs/systemd.md")?, &mut page)?;
    let units = ["canspan@", "canspan-connect@"];
    for (unit, place) in units.iter().zip(["BUS.conf", "connect-PEER.conf"]) {
        page.section(&format!("SETTINGS OF {unit}"));
        page.text(&format!("/etc/canspan/{place}, as in this example:"));
        let example = format!("systemd/{}.conf.example", unit.trim_end_matches('@'));
        page.verbatim(read(&example)?.lines());
    }
    for unit in units {
        page.section(&format!("THE UNIT {unit}"));
        let text = read(&format!("systemd/{unit}.service"))?;
        page.verbatim(text.lines().skip_while(|line| line.starts_with('#') || line.is_empty()));
    }
    page.section("SEE ALSO");
    page.text(
        "\\fBcanspan\\fR(1), \\fBsystemctl\\fR(1), \\fBsystemd.service\\fR(5), \\fBsystemd.network\\fR(5)",
    );
    Ok(page.finish())
}

/// canspan-protocol(7), from the page on the protocol.
pub(crate) fn protocol(date: &str) -> Result<String, String> {
    let mut page = Page::new("canspan-protocol", 7, "Miscellaneous Information", date);
    page.section("NAME");
    page.text("canspan\\-protocol \\- how canspan carries a CAN bus over TCP");
    markdown::render(&read("docs/protocol.md")?, &mut page)?;
    page.section("SEE ALSO");
    page.text("\\fBcanspan\\fR(1)");
    Ok(page.finish())
}
