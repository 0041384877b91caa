//! What of an interface's controller and driver matters to those who send to its bus.

use core::fmt;

use crate::bus::Link;

/// Ways of an interface in which sending is not what one expects.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mode {
    /// The controller sends nothing: its bus is read-only.
    pub listen_only: bool,
    /// The controller gives a frame up after one attempt: then it is unconfirmed.
    pub one_shot: bool,
    /// The driver does not tell when a frame was sent: it is only known to be taken.
    pub no_echo: bool,
}

impl Mode {
    pub(super) fn of(link: &Link, is_virtual: bool) -> Self {
        let controller = link.controller.unwrap_or_default();
        Self {
            listen_only: controller.is_listen_only(),
            one_shot: controller.is_one_shot(),
            no_echo: !is_virtual && !link.has_echo,
        }
    }

    fn words(self) -> impl Iterator<Item = &'static str> {
        let words = [
            (self.listen_only, "listen-only"),
            (self.one_shot, "one-shot"),
            (self.no_echo, "no-echo"),
        ];
        words.into_iter().filter_map(|(is_so, word)| is_so.then_some(word))
    }

    /// What to tell the operator of an interface that was `before` and is so now.
    pub(super) fn news(self, before: Self, name: &str) -> Vec<String> {
        let mut news = Vec::new();
        let mut changed = |is: bool, was: bool, on: &str, off: &str| {
            if is != was {
                news.push(if is { on.to_owned() } else { off.to_owned() });
            }
        };
        let set_off = |mode| {
            format!(
                "`ip link set {name} down` and `ip link set {name} up type can {mode} off` change that"
            )
        };
        changed(
            self.listen_only,
            before.listen_only,
            &format!(
                "the controller is listen-only: frames from peers are refused; {}",
                set_off("listen-only")
            ),
            "the controller is not listen-only any more: frames from peers are sent",
        );
        changed(
            self.one_shot,
            before.one_shot,
            &format!(
                "the controller is one-shot: a frame that fails is not repeated and counts as \
                 unconfirmed; {}",
                set_off("one-shot")
            ),
            "the controller is not one-shot any more: frames that fail are repeated",
        );
        changed(
            self.no_echo,
            before.no_echo,
            "the driver does not tell when a frame was sent (`ip link` shows no ECHO): frames to \
             this bus count as taken, not as sent",
            "the driver tells when a frame was sent: frames to this bus count as sent",
        );
        news
    }
}

/// As words of a status table: `listen-only,no-echo`; nothing for an ordinary interface.
impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, word) in self.words().enumerate() {
            write!(f, "{}{word}", if number == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Mode = Mode { listen_only: true, one_shot: true, no_echo: true };

    #[test]
    fn mode_is_shown_as_words() {
        assert_eq!(ALL.to_string(), "listen-only,one-shot,no-echo");
        assert_eq!(Mode { one_shot: true, ..Mode::default() }.to_string(), "one-shot");
        assert_eq!(Mode::default().to_string(), "");
    }

    #[test]
    fn change_of_mode_is_told_once() {
        let plain = Mode::default();
        assert_eq!(ALL.news(ALL, "can0").len() + plain.news(plain, "can0").len(), 0);
        let news = ALL.news(plain, "can0");
        assert!(news.len() == 3 && news[0].contains("type can listen-only off"), "{news:?}");
        let back = plain.news(Mode { listen_only: true, ..plain }, "can0");
        assert!(back.len() == 1 && back[0].contains("not listen-only any more"), "{back:?}");
    }
}
