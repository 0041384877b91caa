//! A man page as it is written: the few requests of roff's `man` macros that are used here.

/// Text in which nothing is a request or an escape.
pub(crate) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '\\' => out.push_str("\\e"),
            '-' => out.push_str("\\-"),
            '\'' => out.push_str("\\(aq"),
            '`' => out.push_str("\\(ga"),
            '^' => out.push_str("\\(ha"),
            '~' => out.push_str("\\(ti"),
            letter if letter.is_ascii() => out.push(letter),
            letter => out.push_str(&format!("\\[u{:04X}]", u32::from(letter))),
        }
    }
    out
}

/// A page that grows line by line.
pub(crate) struct Page(String);

impl Page {
    /// `section` is the number of the manual's part, `part` its title.
    pub(crate) fn new(name: &str, section: u8, part: &str, date: &str) -> Self {
        let version = concat!("canspan ", env!("CARGO_PKG_VERSION"));
        let mut page = Self(
            "'\\\" t\n.\\\" Made by `cargo run --example pages`; what is changed here is lost.\n"
                .to_owned(),
        );
        let name = escape(&name.to_uppercase());
        page.line(&format!(".TH {name} {section} \"{date}\" \"{version}\" \"{part}\""));
        // No hyphens in options, and no wide gaps between words in a narrow terminal.
        page.line(".nh");
        page.line(".ad l");
        page
    }

    /// A line that is roff already.
    pub(crate) fn line(&mut self, line: &str) {
        self.0.push_str(line);
        self.0.push('\n');
    }

    pub(crate) fn section(&mut self, title: &str) {
        self.line(&format!(".SH {}", quoted(&escape(title))));
    }

    pub(crate) fn subsection(&mut self, title: &str) {
        self.line(&format!(".SS {}", quoted(&escape(title))));
    }

    /// A line of running text; markup is roff already.
    pub(crate) fn text(&mut self, text: &str) {
        // A dot or a quote at the start would be a request.
        let guard = if text.starts_with(['.', '\'']) { "\\&" } else { "" };
        self.line(&format!("{guard}{text}"));
    }

    /// Begins a paragraph; below a heading there is one already.
    pub(crate) fn gap(&mut self) {
        let last = self.0.lines().last().unwrap_or_default();
        if !last.starts_with(".S") {
            self.line(".PP");
        }
    }

    pub(crate) fn paragraph(&mut self, text: &str) {
        self.gap();
        self.text(text);
    }

    /// A term, printed bold, and what it means; both roff already.
    pub(crate) fn entry(&mut self, term: &str, meaning: &str) {
        self.line(".TP");
        self.line(&format!("\\fB{term}\\fR"));
        self.text(meaning);
    }

    /// Lines as they are, further in.
    pub(crate) fn verbatim<'a>(&mut self, lines: impl IntoIterator<Item = &'a str>) {
        self.gap();
        self.line(".RS 4");
        self.line(".nf");
        for line in lines {
            self.text(&escape(line));
        }
        self.line(".fi");
        self.line(".RE");
    }

    pub(crate) fn finish(self) -> String {
        self.0
    }
}

fn quoted(argument: &str) -> String {
    format!("\"{}\"", argument.replace('"', "\\(dq"))
}
