//! A network namespace other than the process' own: a container's, as a rule.
//!
//! A socket belongs for good to the namespace its thread was in when it was opened. So only the
//! opening is done [inside](Namespace::inside), and what is not about interfaces (TCP, names,
//! signals) never notices. Whatever is open keeps a namespace alive, with its interfaces, after the
//! last process has left it; therefore its owner asks [`Namespace::renew`] every now and then and
//! lets go of everything when that says so.

use core::cell::RefCell;
use core::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::PathBuf;

use crate::sys::enter_network_namespace;

/// Where the kernel shows the namespace a thread is in (`namespaces(7)`). The thread's, as its
/// sockets are.
const OWN: &str = "/proc/thread-self/ns/net";
/// Where `ip netns` keeps the names (`ip-netns(8)`).
const NAMES: &str = "/run/netns";

/// Which network namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NamespaceSpec {
    /// The one of this process.
    Process(u32),
    /// A name, as `ip netns` gives it.
    Name(String),
    /// A file that stands for it.
    Path(PathBuf),
}

/// As it is typed.
impl fmt::Display for NamespaceSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Process(id) => write!(f, "{id}"),
            Self::Name(name) => f.write_str(name),
            Self::Path(path) => write!(f, "{}", path.display()),
        }
    }
}

/// A network namespace, there or not.
#[derive(Debug)]
pub struct Namespace {
    spec: NamespaceSpec,
    path: PathBuf,
    /// `/proc/PID`, open, so that another process of the same number is not taken for it.
    process: Option<File>,
    own: File,
    there: RefCell<Option<File>>,
}

/// Device and inode: no two namespaces that exist have the same.
fn identity(file: &File) -> Option<(u64, u64)> {
    file.metadata().ok().map(|metadata| (metadata.dev(), metadata.ino()))
}

/// Never waits, whatever the path turns out to be.
fn open(path: &PathBuf) -> io::Result<File> {
    OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)
}

impl Namespace {
    /// The namespace, which need not be there yet unless it is a process'.
    pub fn new(spec: NamespaceSpec) -> Result<Self, String> {
        let own = File::open(OWN).map_err(|error| format!("cannot open {OWN}: {error}"))?;
        let mut process = None;
        let path = match &spec {
            NamespaceSpec::Process(id) => {
                let opened = File::open(format!("/proc/{id}"));
                let opened = opened.map_err(|_| format!("there is no process {id}"))?;
                let number = process.insert(opened).as_raw_fd();
                PathBuf::from(format!("/proc/self/fd/{number}/ns/net"))
            }
            NamespaceSpec::Name(name) => PathBuf::from(NAMES).join(name),
            NamespaceSpec::Path(path) => path.clone(),
        };
        let namespace = Self { spec, path, process, own, there: RefCell::default() };
        namespace.renew()?;
        // Now, while somebody looks, and not in the log of a gateway that waits for ever.
        if namespace.is_there() {
            namespace.inside(|| ())?;
        } else if namespace.path.exists() {
            return Err(namespace.is_none());
        }
        Ok(namespace)
    }

    /// Whether a file is a namespace: those are all on one device. Any other file is none yet, or none any more: names
    /// are plain files before a namespace is mounted on them and after it was taken off.
    fn is_one(&self, file: &File) -> bool {
        let device = |file: &File| identity(file).map(|(device, _)| device);
        device(file) == device(&self.own)
    }

    /// Whether there is one.
    #[must_use]
    pub fn is_there(&self) -> bool {
        self.there.borrow().is_some()
    }

    /// Looks for it again: whether it has come, gone, or is another one now. A process that has
    /// ended never comes back, which is the error.
    pub fn renew(&self) -> Result<bool, String> {
        let now = match open(&self.path) {
            Ok(file) => Some(file).filter(|file| self.is_one(file)),
            Err(error) if error.kind() == ErrorKind::PermissionDenied => return Err(self.denied()),
            Err(_) if self.process.is_some() => {
                let spec = &self.spec;
                return Err(format!(
                    "the process {spec} has ended, and its network namespace with it; start again \
                     with the process id of what took its place"
                ));
            }
            Err(_) => None,
        };
        let mut there = self.there.borrow_mut();
        let is_other = there.as_ref().and_then(identity) != now.as_ref().and_then(identity);
        *there = now;
        Ok(is_other)
    }

    /// Does this in the namespace, on this thread. It may not be called within itself.
    pub fn inside<T>(&self, work: impl FnOnce() -> T) -> Result<T, String> {
        let there = self.there.borrow();
        let there = there.as_ref().ok_or_else(|| {
            format!("waiting for the network namespace {} ({})", self.spec, self.path.display())
        })?;
        enter_network_namespace(there.as_fd()).map_err(|error| match error.raw_os_error() {
            Some(libc::EPERM) => self.denied(),
            Some(libc::EINVAL | libc::EBADF) => self.is_none(),
            _ => format!("cannot enter the network namespace {}: {error}", self.spec),
        })?;
        let done = work();
        if let Err(error) = enter_network_namespace(self.own.as_fd()) {
            // Whoever was allowed to go is allowed to return; to go on dialling and listening from
            // in there would be wrong without a word.
            log::error!("cannot return from the network namespace {}: {error}", self.spec);
            std::process::exit(1);
        }
        Ok(done)
    }

    fn is_none(&self) -> String {
        format!("{} is no network namespace", self.path.display())
    }

    fn denied(&self) -> String {
        format!(
            "not allowed to enter the network namespace {}: that needs CAP_SYS_ADMIN, and \
             CAP_SYS_PTRACE for a process of somebody else; run as root on the container's host",
            self.spec
        )
    }
}

/// Does this in the namespace given, or where the thread is.
pub fn inside<T>(namespace: Option<&Namespace>, work: impl FnOnce() -> T) -> Result<T, String> {
    match namespace {
        Some(namespace) => namespace.inside(work),
        None => Ok(work()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_there_is_waited_for() {
        let path = NamespaceSpec::Path("/nonexistent/net".into());
        let namespace = Namespace::new(path).unwrap();
        assert!(!namespace.is_there());
        assert_eq!(namespace.renew(), Ok(false));
        let problem = namespace.inside(|| ()).unwrap_err();
        assert!(problem.contains("waiting for the network namespace /nonexistent"), "{problem}");
    }

    #[test]
    fn a_name_on_which_nothing_is_mounted_is_waited_for_unless_it_is_so_from_the_first() {
        let path = std::env::temp_dir().join(format!("canspan-name-{}", std::process::id()));
        let spec = NamespaceSpec::Path(path.clone());
        let namespace = Namespace::new(spec.clone()).unwrap();
        File::create(&path).unwrap();
        let (renewed, is_there) = (namespace.renew(), namespace.is_there());
        let problem = Namespace::new(spec).unwrap_err();
        std::fs::remove_file(&path).unwrap();
        assert_eq!((renewed, is_there), (Ok(false), false));
        assert!(problem.contains("is no network namespace"), "{problem}");
    }

    #[test]
    fn a_process_that_is_not_there_is_told_at_once() {
        // Above the kernel's PID_MAX_LIMIT.
        let problem = Namespace::new(NamespaceSpec::Process(1 << 30)).unwrap_err();
        assert!(problem.contains("no process 1073741824"), "{problem}");
    }

    #[test]
    fn a_process_that_has_ended_is_told_though_its_number_may_be_used_again() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let namespace = Namespace::new(NamespaceSpec::Process(child.id()));
        child.kill().and_then(|()| child.wait()).unwrap();
        match namespace {
            Ok(namespace) => assert!(namespace.renew().unwrap_err().contains("has ended")),
            // Not root: entering is refused, with the reason.
            Err(problem) => assert!(problem.contains("CAP_SYS_ADMIN"), "{problem}"),
        }
    }
}
