//! Network namespaces.

use super::error::ValueError;
use crate::bus::NamespaceSpec;

/// Reads a process id, a name as for `ip netns`, or a path; only that has a slash in it.
pub(super) fn parse_namespace(text: &str) -> Result<NamespaceSpec, ValueError> {
    if text.contains('/') {
        return Ok(NamespaceSpec::Path(text.into()));
    }
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return match text.parse() {
            Ok(id @ 1..) => Ok(NamespaceSpec::Process(id)),
            _ => Err(ValueError::new(format!("there is no process {text}"))),
        };
    }
    if matches!(text, "" | "." | "..") {
        return Err(ValueError::new(format!(
            "`{text}` is no network namespace; one is a process id, a name as `ip netns` shows \
             them, or a path"
        )));
    }
    Ok(NamespaceSpec::Name(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_is_a_process_a_name_or_a_path() {
        let read = |text| parse_namespace(text).ok();
        assert_eq!(read("4711"), Some(NamespaceSpec::Process(4711)));
        assert_eq!(read("lab"), Some(NamespaceSpec::Name("lab".to_owned())));
        assert_eq!(read("cni-1"), Some(NamespaceSpec::Name("cni-1".to_owned())));
        assert_eq!(read("./7"), Some(NamespaceSpec::Path("./7".into())));
        for odd in ["", "0", "..", "99999999999"] {
            assert_eq!(read(odd), None, "{odd}");
        }
    }
}
