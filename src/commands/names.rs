//! The names of a peer's list of buses, which nobody but the peer has checked.

use crate::cli::{BusFilter, Endpoint, filtered_stranger, parse_name};
use crate::gateway::BUSES_MAX;

/// The names that may be used; of the others it is said why not. An error: there is none.
pub(super) fn usable(endpoint: &Endpoint, names: &[String]) -> Result<Vec<String>, String> {
    if names.is_empty() {
        return Err(format!("{endpoint} has no buses"));
    }
    let mut usable: Vec<String> = Vec::new();
    for name in names {
        let problem = match parse_name(name) {
            Ok(name) if usable.contains(&name) => format!("`{name}` is named twice"),
            Ok(name) if usable.len() == BUSES_MAX => {
                format!("`{name}` is more than the {BUSES_MAX} buses one process has room for")
            }
            Ok(name) => {
                usable.push(name);
                continue;
            }
            Err(error) => error.to_string(),
        };
        log::warn!("{endpoint}: in its list of buses {problem}; left out");
    }
    if usable.is_empty() {
        return Err(format!("{endpoint} has no bus with a name that can be used"));
    }
    Ok(usable)
}

/// What to say where a filter is for a bus that the peer does not have; `names` are those it has.
pub(super) fn filtered_nothing(
    endpoint: &Endpoint,
    filters: &[BusFilter],
    names: &[String],
) -> Option<String> {
    let bus = filtered_stranger(filters, names)?;
    Some(format!("--filter: `{bus}` is no bus of {endpoint}, which has {}", names.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usable_of(names: &[&str]) -> Result<Vec<String>, String> {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        usable(&"board".parse().unwrap(), &names)
    }

    #[test]
    fn only_names_that_can_be_buses_are_used() {
        let long = "a".repeat(40);
        let names = ["can0", "\u{1b}[31mred", "../etc", "a b", "-x", "can0", &long, "sim", "can1"];
        assert_eq!(usable_of(&names), Ok(vec!["can0".to_owned(), "can1".to_owned()]));
    }

    #[test]
    fn a_peer_may_list_no_more_than_there_is_room_for() {
        let many: Vec<String> = (0..BUSES_MAX + 24).map(|number| format!("can{number}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert_eq!(usable_of(&many).unwrap().len(), BUSES_MAX);
    }

    #[test]
    fn nothing_to_use_is_said() {
        assert_eq!(usable_of(&[]), Err("board:22677 has no buses".to_owned()));
        assert!(usable_of(&["a/b", ""]).unwrap_err().contains("no bus with a name"));
    }

    #[test]
    fn a_filter_for_a_bus_the_peer_has_not_is_found() {
        let endpoint = "board".parse().unwrap();
        let filters = ["hub,1:1".parse().unwrap()];
        let said = filtered_nothing(&endpoint, &filters, &["can0".to_owned(), "can1".to_owned()]);
        let sentence = "--filter: `hub` is no bus of board:22677, which has can0, can1";
        assert_eq!(said.as_deref(), Some(sentence));
        assert_eq!(filtered_nothing(&endpoint, &filters, &["hub".to_owned()]), None);
        assert_eq!(filtered_nothing(&endpoint, &["1:1".parse().unwrap()], &[]), None);
    }
}
