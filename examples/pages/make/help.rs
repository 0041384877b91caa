//! What `--help` prints, taken apart: the one source of the options for everything else.

use canspan::cli::{Request, parse};

/// The help of the program and of all its commands.
pub(crate) struct Help {
    pub(crate) program: Text,
    pub(crate) commands: Vec<Command>,
    /// What holds for every command.
    pub(crate) everywhere: Vec<Entry>,
}

/// The help of one command.
pub(crate) struct Command {
    pub(crate) name: String,
    pub(crate) summary: String,
    /// What it takes besides options, as in `HOST[:PORT]`.
    pub(crate) operands: Vec<String>,
    pub(crate) options: Vec<Entry>,
    pub(crate) text: Text,
}

/// A term with what it means; for an option the term is as in `-v, --verbose` or `--listen ADDR`.
pub(crate) struct Entry {
    pub(crate) term: String,
    pub(crate) meaning: String,
}

/// A help text as its sections: title and lines, these without their common indentation.
pub(crate) struct Text(Vec<(String, Vec<String>)>);

impl Help {
    pub(crate) fn read() -> Result<Self, String> {
        let program = Text::of(&["--help"])?;
        let everywhere = entries(program.section("EVERYWHERE"));
        let commands = program.section("COMMANDS").iter();
        let commands = commands
            .take_while(|line| !line.is_empty())
            .filter_map(|line| line.split_once(' '))
            .map(|(name, summary)| Command::read(name, summary.trim()))
            .collect::<Result<Vec<_>, _>>()?;
        if commands.is_empty() || everywhere.is_empty() {
            return Err("`canspan --help` has no COMMANDS or no EVERYWHERE".to_owned());
        }
        Ok(Self { program, commands, everywhere })
    }
}

impl Command {
    fn read(name: &str, summary: &str) -> Result<Self, String> {
        let text = Text::of(&[name, "--help"])?;
        let options = entries(text.section("OPTIONS"));
        let operands = text.synopsis().first().map_or_else(Vec::new, |usage| {
            let words = usage.split_whitespace().skip(2);
            words.take_while(|word| !word.contains("--")).map(str::to_owned).collect()
        });
        Ok(Self { name: name.to_owned(), summary: summary.to_owned(), operands, options, text })
    }

    /// The arguments that may follow an option several times, by the `...` of the synopsis.
    pub(crate) fn may_repeat(&self, option: &str) -> bool {
        let synopsis = self.text.synopsis().join(" ");
        let open = format!("[{option} ");
        let Some((_, rest)) = synopsis.split_once(&open) else { return false };
        let mut depth = 1;
        let end = rest.find(|letter| {
            depth += i32::from(letter == '[') - i32::from(letter == ']');
            depth == 0
        });
        end.is_some_and(|end| rest[end..].starts_with("]..."))
    }
}

impl Text {
    fn of(arguments: &[&str]) -> Result<Self, String> {
        let Ok(Request::Print(text)) = parse(arguments.iter().map(Into::into)) else {
            return Err(format!("`canspan {}` prints no help", arguments.join(" ")));
        };
        let mut sections: Vec<(String, Vec<String>)> = Vec::new();
        for line in text.lines() {
            match sections.last_mut() {
                Some((_, lines)) if line.is_empty() || line.starts_with(' ') => {
                    lines.push(line.strip_prefix("    ").unwrap_or(line).to_owned());
                }
                _ if line.is_empty() => {}
                _ => sections.push((line.to_owned(), Vec::new())),
            }
        }
        for (_, lines) in &mut sections {
            while lines.pop_if(|line| line.is_empty()).is_some() {}
        }
        Ok(Self(sections))
    }

    /// The lines of a section; none when there is no such section.
    pub(crate) fn section(&self, title: &str) -> &[String] {
        self.0.iter().find(|(other, _)| other == title).map_or(&[], |(_, lines)| lines)
    }

    /// What is said of the name.
    pub(crate) fn purpose(&self) -> String {
        let name = self.section("NAME").join(" ");
        let words: Vec<_> = name.split_whitespace().collect();
        words
            .join(" ")
            .split_once(" - ")
            .map_or_else(String::new, |(_, purpose)| purpose.to_owned())
    }

    /// How the command is called.
    pub(crate) fn synopsis(&self) -> &[String] {
        let lines = self.section("SYNOPSIS");
        &lines[..lines.iter().position(String::is_empty).unwrap_or(lines.len())]
    }

    /// What is said between the synopsis and the next section.
    pub(crate) fn description(&self) -> &[String] {
        let lines = self.section("SYNOPSIS");
        lines.get(self.synopsis().len() + 1..).unwrap_or_default()
    }
}

impl Entry {
    /// The names of an option, as in `-v` and `--verbose`.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        // Where one is only told of: "print the version and stop (-V)".
        let also = self.meaning.strip_suffix(')').and_then(|text| text.rsplit_once('('));
        let also = also.map(|(_, name)| name).filter(|name| name.len() == 2);
        let words = self.term.split([' ', ',']).chain(also);
        words.filter(|word| word.starts_with('-') && word.len() > 1 && *word != "--")
    }

    /// The placeholder of an option's value, as in `ADDR[:PORT]`.
    pub(crate) fn value(&self) -> Option<&str> {
        let word = self.term.rsplit(' ').next()?;
        (!word.starts_with('-')).then_some(word)
    }

    /// The meaning in a few words: its first clause, as a list of completions has room for.
    pub(crate) fn brief(&self) -> String {
        let end = [". ", "; ", " (", ": "].iter().filter_map(|stop| self.meaning.find(stop)).min();
        let brief = self.meaning[..end.unwrap_or(self.meaning.len())].trim_end_matches('.');
        let mut letters = brief.chars();
        letters.next().into_iter().flat_map(char::to_lowercase).chain(letters).collect()
    }

    /// What the value may be, as far as it can be known here.
    pub(crate) fn suggestions(&self) -> Vec<&str> {
        match self.value() {
            // The rates people use; CiA 301 and CiA 601 name them.
            Some("RATE") if self.term.contains("--dbitrate") => vec!["1M", "2M", "4M", "5M", "8M"],
            Some("RATE") => vec!["125k", "250k", "500k", "1M"],
            // What is written small stands for itself, as in `TIME|none`.
            Some(value) => value
                .split('|')
                .filter(|word| word.bytes().all(|byte| byte.is_ascii_lowercase()))
                .collect(),
            None => Vec::new(),
        }
    }
}

/// Terms at the margin with their meaning after two spaces or on the lines below, further in.
fn entries(lines: &[String]) -> Vec<Entry> {
    let mut entries: Vec<Entry> = Vec::new();
    for line in lines {
        if line.starts_with(' ') || line.is_empty() {
            if let Some(entry) = entries.last_mut() {
                if !entry.meaning.is_empty() {
                    entry.meaning.push(' ');
                }
                entry.meaning.push_str(line.trim());
            }
        } else {
            let (term, meaning) = line.split_once("  ").unwrap_or((line, ""));
            entries.push(Entry { term: term.to_owned(), meaning: meaning.trim().to_owned() });
        }
    }
    entries
}
