//! Asking how it all is: one question instead of a greeting, an answer in pieces, the end.
//!
//! ```text
//! asker: preamble, Ask       asked: preamble, Report, Report, ..., close
//! ```

use heapless::Vec;

use super::link::Ended;
use super::output::RECORD_MAX;
use super::record::{seal, split_record};
use super::stream::write;
use super::wire::{
    FILLER, Form, LENGTH_MAX, MAGIC, MODE_PLAIN, Message, PREAMBLE_SIZE, REPORT_TEXT_MAX, Refusal,
    Report, VERSION, preamble,
};

/// Writes as much of `text` as one record takes to `out`, which must have room for [`RECORD_MAX`]
/// bytes. Returns how long the record is, and how much of the text is in it.
#[must_use]
pub fn report(text: &str, is_up: bool, out: &mut [u8]) -> (usize, usize) {
    let most = REPORT_TEXT_MAX.min(text.len());
    let end = (0..=most).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    let piece = text.get(..end).unwrap_or("");
    let Some(content) = out.get_mut(LENGTH_MAX..RECORD_MAX) else { return (0, 0) };
    let report = Report { text: piece, more: piece.len() < text.len(), is_up };
    let length = write(&Message::Report(report), content);
    (seal(out, length), piece.len())
}

/// What an asker has heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard<'a> {
    /// A piece of the answer.
    Piece(Report<'a>),
    /// There is no answer to be had.
    Refused(Ended),
}

/// The asking side, from the question to the answer's last piece.
#[derive(Debug, Default)]
pub struct Asking {
    input: Vec<u8, RECORD_MAX>,
    used: usize,
    is_greeted: bool,
}

impl Asking {
    /// Bytes [`Asking::question`] needs.
    pub const QUESTION_MAX: usize = PREAMBLE_SIZE + 3;

    /// What to send: preamble and question.
    #[must_use]
    pub fn question(form: Form) -> ([u8; Self::QUESTION_MAX], usize) {
        let mut out = [0; Self::QUESTION_MAX];
        let mut record = [0; RECORD_MAX];
        let length =
            record.get_mut(LENGTH_MAX..).map_or(0, |room| write(&Message::Ask(form), room));
        let length = seal(&mut record, length);
        let bytes = preamble().into_iter().chain(record.into_iter().take(length));
        let used = out.iter_mut().zip(bytes).map(|(place, byte)| *place = byte).count();
        (out, used)
    }

    /// Takes bytes that arrived; returns how many there was room for. To be followed by
    /// [`Asking::poll`] until that returns `None`.
    pub fn take(&mut self, bytes: &[u8]) -> usize {
        self.input.copy_within(self.used.., 0);
        self.input.truncate(self.input.len() - self.used);
        self.used = 0;
        let taken = bytes.len().min(self.input.capacity() - self.input.len());
        let _ = self.input.extend_from_slice(bytes.get(..taken).unwrap_or(&[]));
        taken
    }

    /// What was heard next; `None` while it is incomplete.
    pub fn poll(&mut self) -> Option<Heard<'_>> {
        let broken = Heard::Refused(Ended::WeRefused(Refusal::PROTOCOL));
        if !self.is_greeted {
            if self.input.iter().zip(MAGIC).any(|(byte, expected)| *byte != expected) {
                return Some(Heard::Refused(Ended::NotCanspan));
            }
            match *self.input.get(MAGIC.len()..PREAMBLE_SIZE)? {
                [VERSION, MODE_PLAIN, 0] => {}
                [VERSION, mode, _] => return Some(Heard::Refused(Ended::Mode(mode))),
                [version, ..] => return Some(Heard::Refused(Ended::Version(version))),
                [] => return None,
            }
            self.is_greeted = true;
            self.used = PREAMBLE_SIZE;
        }
        while self.input.get(self.used) == Some(&FILLER) {
            self.used += 1;
        }
        let rest = self.input.get(self.used..)?;
        let (record, after) = match split_record(rest) {
            Ok(Some(split)) => split,
            Ok(None) => return None,
            Err(_) => return Some(broken),
        };
        self.used += rest.len() - after.len();
        match postcard::take_from_bytes(record) {
            Ok((Message::Report(report), [])) => Some(Heard::Piece(report)),
            Ok((Message::Refuse(refusal), [])) => Some(Heard::Refused(Ended::Refused(refusal))),
            _ => Some(broken),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What an asker makes of these bytes, arriving in pieces of `size`.
    fn heard(bytes: &[u8], size: usize) -> Result<String, Ended> {
        let mut asking = Asking::default();
        let mut text = String::new();
        for mut piece in bytes.chunks(size) {
            while !piece.is_empty() {
                piece = &piece[asking.take(piece)..];
                while let Some(heard) = asking.poll() {
                    match heard {
                        Heard::Piece(report) => text += report.text,
                        Heard::Refused(why) => return Err(why),
                    }
                }
            }
        }
        Ok(text)
    }

    fn told(text: &str) -> Vec<u8, 100_000> {
        let mut bytes = Vec::new();
        bytes.extend_from_slice(&preamble()).unwrap();
        let (mut at, mut out) = (0, [0; RECORD_MAX]);
        loop {
            let (length, used) = report(&text[at..], true, &mut out);
            assert!(length > 0 && length <= RECORD_MAX);
            bytes.extend_from_slice(&out[..length]).unwrap();
            at += used;
            if at == text.len() {
                return bytes;
            }
        }
    }

    #[test]
    fn a_long_answer_arrives_whole_however_it_is_cut() {
        let text: String = (0..4_000).map(|number| format!("{number} äöü\n")).collect();
        let bytes = told(&text);
        for size in [1, 7, 4_096, 100_000] {
            assert_eq!(heard(&bytes, size).as_deref(), Ok(text.as_str()));
        }
        assert_eq!(heard(&told(""), 1).as_deref(), Ok(""));
    }

    #[test]
    fn what_is_no_answer_is_told_by_its_cause() {
        let with = |byte: u8, at: usize| {
            let mut bytes = told("x");
            bytes[at] = byte;
            heard(&bytes, 5).unwrap_err()
        };
        assert_eq!(with(b'H', 0), Ended::NotCanspan);
        assert_eq!(with(9, 8), Ended::Version(9));
        assert_eq!(with(1, 9), Ended::Mode(1));
        let broken = Ended::WeRefused(Refusal::PROTOCOL);
        assert_eq!(with(8, PREAMBLE_SIZE + 1), broken);
        let refused = [&preamble()[..], &[2, 1, Refusal::FULL.0]].concat();
        assert_eq!(heard(&refused, 1), Err(Ended::Refused(Refusal::FULL)));
    }

    #[test]
    fn a_question_is_a_preamble_and_three_bytes() {
        let (bytes, used) = Asking::question(Form::Json);
        assert_eq!(&bytes[..used], [&preamble()[..], &[2, 11, 1]].concat());
    }
}
