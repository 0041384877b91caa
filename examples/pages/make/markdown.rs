//! The Markdown of `docs/` as roff: headings, paragraphs, lists, tables, code, and the marks within
//! a line. What it does not know is refused, so that nothing is mangled unseen.

use super::roff::{Page, escape};

/// Renders a page without its title, which becomes the description's beginning.
pub(crate) fn render(source: &str, page: &mut Page) -> Result<(), String> {
    page.section("DESCRIPTION");
    let mut lines = source.lines().peekable();
    let mut in_list = false;
    while let Some(line) = lines.next() {
        let indent = line.len() - line.trim_start().len();
        if line.is_empty() || line.starts_with("# ") || line.starts_with("<!--") {
            continue;
        }
        if indent == 0 && item(line).is_none() {
            in_list = false;
        }
        if let Some(title) = line.strip_prefix("## ") {
            page.section(&plain(title).to_uppercase());
        } else if let Some(title) = line.strip_prefix("### ") {
            page.subsection(&plain(title));
        } else if line.starts_with('#') {
            return Err(format!("Markdown: a heading of this depth is not known: {line}"));
        } else if line.trim_start().starts_with("```") {
            page.verbatim(lines.by_ref().take_while(|line| !line.trim_start().starts_with("```")));
        } else if indent >= if in_list { 6 } else { 4 } {
            // Below an item code stands as much further in as the item's text.
            let mut block = vec![&line[indent..]];
            let inside = &line[..indent];
            while let Some(more) = lines.next_if(|more| more.is_empty() || more.starts_with(inside))
            {
                block.push(more.get(indent..).unwrap_or_default());
            }
            while block.pop_if(|line| line.is_empty()).is_some() {}
            page.verbatim(block);
        } else if line.starts_with('|') {
            let mut rows = vec![line];
            while let Some(row) = lines.next_if(|row| row.starts_with('|')) {
                rows.push(row);
            }
            table(&rows, page);
        } else {
            let (mark, first) = item(line.trim_start()).unwrap_or_else(|| ("", line.trim_start()));
            let mut text = first.to_owned();
            while let Some(more) = lines.next_if(|more| continues(more)) {
                text.push(' ');
                text.push_str(more.trim());
            }
            in_list |= !mark.is_empty();
            match mark {
                "" if in_list && indent > 0 => page.line(&format!(".IP \"\" {indent}")),
                "" => page.gap(),
                // What is below an item stands as far in again.
                "-" => page.line(&format!(".IP \\(bu {}", indent + 2)),
                number => page.line(&format!(".IP {number} {}", indent + 4)),
            }
            page.text(&inline(&text));
        }
    }
    Ok(())
}

/// Whether a line goes on with the paragraph above it.
fn continues(line: &str) -> bool {
    let text = line.trim_start();
    !text.is_empty()
        && !text.starts_with(['#', '|', '<'])
        && !text.starts_with("```")
        && item(text).is_none()
}

/// The mark and the text of a list's item.
fn item(line: &str) -> Option<(&str, &str)> {
    let (mark, text) = line.split_once(' ')?;
    let is_number = mark.strip_suffix('.').is_some_and(|number| number.parse::<u8>().is_ok());
    (is_number || mark == "-").then(|| (mark, text.trim_start()))
}

/// A table, or a list of its rows where the longest words alone are too wide for one.
fn table(rows: &[&str], page: &mut Page) {
    let rows: Vec<Vec<String>> = rows.iter().map(|row| cells(row)).collect();
    let is_rule = |row: &[String]| row.iter().all(|cell| cell.bytes().all(|byte| byte == b'-'));
    let rows: Vec<_> = rows.into_iter().filter(|row| !is_rule(row)).collect();
    let columns = rows.iter().map(Vec::len).max().unwrap_or_default();
    let longest = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.flat_map(|cell| cell.split(' ')).map(str::len).max().unwrap_or_default()
    };
    // A terminal has 80 columns: less the margin, and the lines between the cells.
    if (0..columns).map(longest).sum::<usize>() + 3 * columns < 70 {
        ruled(&rows, columns, page);
    } else {
        for row in rows.iter().skip(1) {
            let cells: Vec<String> = row.iter().map(|cell| inline(cell)).collect();
            page.entry(&cells[0], &cells[1..].join(": "));
        }
    }
}

/// A table for tbl: the first line of a page tells `man` to run it.
fn ruled(rows: &[Vec<String>], columns: usize, page: &mut Page) {
    page.gap();
    page.line(".TS");
    page.line("allbox;");
    // The last column takes what the others leave.
    let format = |style: &str| {
        let mut columns = vec![format!("l{style}"); columns];
        if let Some(last) = columns.last_mut() {
            last.push('x');
        }
        columns.join(" ")
    };
    page.line(&format("b"));
    page.line(&format!("{}.", format("")));
    for row in rows {
        let cells: Vec<String> =
            row.iter().map(|cell| format!("T{{\n{}\nT}}", guarded(&inline(cell)))).collect();
        page.line(&cells.join("\t"));
    }
    page.line(".TE");
}

fn guarded(text: &str) -> String {
    if text.starts_with(['.', '\'']) || text.is_empty() {
        format!("\\&{text}")
    } else {
        text.to_owned()
    }
}

/// The cells of a row; a bar within code or behind a backslash is part of its cell.
fn cells(row: &str) -> Vec<String> {
    let mut cells = vec![String::new()];
    let (mut in_code, mut before) = (false, ' ');
    for letter in row.trim().trim_matches('|').chars() {
        in_code ^= letter == '`';
        let cell = cells.last_mut().expect("there is one always");
        match letter {
            '|' if before == '\\' => {
                cell.pop();
                cell.push('|');
            }
            '|' if !in_code => cells.push(String::new()),
            _ => cell.push(letter),
        }
        before = letter;
    }
    cells.iter().map(|cell| cell.trim().to_owned()).collect()
}

/// The marks within a line: code and strong words bold, emphasis and links' targets as they are read.
fn inline(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(['`', '*', '[']) {
        out.push_str(&escape(&rest[..at]));
        rest = &rest[at..];
        let (shown, used) = marked(rest).unwrap_or_else(|| (escape(&rest[..1]), 1));
        out.push_str(&shown);
        rest = &rest[used..];
    }
    out + &escape(rest)
}

/// What is marked at the start of `text`, as roff, and how long it is in Markdown.
fn marked(text: &str) -> Option<(String, usize)> {
    for (mark, font) in [("`", 'B'), ("**", 'B'), ("*", 'I')] {
        if let Some(inner) = text.strip_prefix(mark) {
            let end = inner.find(mark).filter(|end| *end > 0)?;
            return Some((format!("\\f{font}{}\\fR", escape(&inner[..end])), end + 2 * mark.len()));
        }
    }
    let (label, rest) = text.strip_prefix('[')?.split_once("](")?;
    let (target, _) = rest.split_once(')')?;
    let used = label.len() + target.len() + 4;
    let label = escape(&plain(label));
    let shown =
        if target.contains("://") { format!("{label} <{}>", escape(target)) } else { label };
    Some((shown, used))
}

/// Text without its marks.
fn plain(text: &str) -> String {
    text.replace(['`', '*'], "")
}
