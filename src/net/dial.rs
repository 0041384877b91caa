//! Dialling a name that may have several addresses (RFC 8305, "Happy Eyeballs"): one that is dead, or
//! that there is no route to, costs a quarter of a second and not the whole attempt.

use core::future::{Future, poll_fn};
use core::net::SocketAddr;
use core::pin::Pin;
use core::task::Poll;
use core::time::Duration;
use std::collections::HashMap;
use std::io;
use std::net::{TcpStream, ToSocketAddrs};
use std::rc::Rc;
use std::time::Instant;

use smol::channel::{self, Receiver};
use smol::lock::Mutex;
use smol::{Async, Timer, future};

use super::unreachable;
use crate::cli::Endpoint;
use crate::gateway::runtime::{Inbox, Input};

/// How long an attempt to reach one address may take. Chosen: a SYN that is not answered for three
/// round trips of a bad link will not be.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// How long after an attempt the next address is tried beside it ("Connection Attempt Delay", RFC 8305,
/// section 5).
const NEXT_AFTER: Duration = Duration::from_millis(250);
/// How long an address gets to answer where another one has refused. Chosen: a SYN that was lost is sent again after
/// a second (RFC 6298, section 2.1).
const SLOW_ANSWER: Duration = Duration::from_millis(1_300);
/// How long a name may take to resolve: one retry of the C library's resolver (`resolv.conf(5)`).
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(10);

/// In which order to try the addresses of a name.
#[derive(Clone, Copy, Debug, Default)]
pub struct Order {
    /// The one that was good last.
    pub first: Option<SocketAddr>,
    /// One where something else answers.
    pub last: Option<SocketAddr>,
}

impl Order {
    /// The families alternate, beginning with the resolver's favourite (RFC 8305, section 4).
    fn sort(self, addresses: &[SocketAddr]) -> Vec<SocketAddr> {
        let is_v6 = addresses.first().is_some_and(SocketAddr::is_ipv6);
        let (mut favoured, mut other): (Vec<_>, Vec<_>) =
            addresses.iter().copied().partition(|address| address.is_ipv6() == is_v6);
        favoured.reverse();
        other.reverse();
        let mut sorted = Vec::with_capacity(addresses.len());
        while !favoured.is_empty() || !other.is_empty() {
            sorted.extend(favoured.pop());
            sorted.extend(other.pop());
        }
        // A stable sort: the others stay in order.
        sorted.sort_by_key(|address| (Some(*address) != self.first, Some(*address) == self.last));
        sorted
    }
}

/// Addresses, or why there are none.
type Found = Result<Vec<SocketAddr>, String>;

/// What is known of one name: the look-up under way, and when the last one ended, and how.
#[derive(Default)]
struct Name {
    running: Option<Receiver<Found>>,
    last: Option<(Instant, Found)>,
}

/// Looks names up, each in one thread at a time: the C library's resolver cannot be interrupted, and
/// one that hangs must not leave a thread behind at every attempt.
#[derive(Clone)]
pub struct Resolver {
    names: Rc<core::cell::RefCell<HashMap<String, Rc<Mutex<Name>>>>>,
    look_up: fn(&str) -> Found,
}

impl Default for Resolver {
    fn default() -> Self {
        Self { names: Rc::default(), look_up }
    }
}

fn look_up(host: &str) -> Found {
    let addresses = (host, 0).to_socket_addrs();
    addresses.map(Iterator::collect).map_err(|error| error.to_string())
}

/// Starts a look-up in a thread of its own. Not in the `blocking` pool: where the machine gives it no
/// thread that tries again for ever, on this one.
fn start(look_up: fn(&str) -> Found, host: &str) -> Result<Receiver<Found>, String> {
    let (sender, receiver) = channel::bounded(1);
    let host = host.to_owned();
    let answer = move || {
        // Whoever asked may have given up.
        let _ = sender.try_send(look_up(&host));
    };
    std::thread::Builder::new()
        .name("look-up".to_owned())
        .spawn(answer)
        .map_err(|error| format!("no thread for the look-up: {error}"))?;
    Ok(receiver)
}

impl Resolver {
    async fn resolve(&self, endpoint: &Endpoint) -> Found {
        let with_port = |mut address: SocketAddr| {
            address.set_port(endpoint.port);
            address
        };
        // Numbers need no resolver, and so no thread.
        if let Ok(address) = endpoint.host.parse() {
            return Ok(vec![SocketAddr::new(address, endpoint.port)]);
        }
        let found = future::or(self.find(&endpoint.host), async {
            Timer::after(RESOLVE_TIMEOUT).await;
            Err("the name server does not answer".to_owned())
        });
        let found = found.await.map_err(|error| format!("cannot find {}: {error}", endpoint.host));
        found.map(|addresses| addresses.into_iter().map(with_port).collect())
    }

    /// Waits for the look-up of a name that is under way, or starts one.
    async fn find(&self, host: &str) -> Found {
        let asked = Instant::now();
        let name = Rc::clone(self.names.borrow_mut().entry(host.to_owned()).or_default());
        let mut name = name.lock().await;
        // Another dialler waited for the same name.
        if let Some((_, found)) = name.last.as_ref().filter(|(at, _)| *at >= asked) {
            return found.clone();
        }
        let running = match &name.running {
            Some(running) => running.clone(),
            None => name.running.insert(start(self.look_up, host)?).clone(),
        };
        let found =
            running.recv().await.unwrap_or_else(|_| Err("the look-up broke off".to_owned()));
        name.running = None;
        name.last = Some((Instant::now(), found.clone()));
        found
    }
}

/// Dials once, resolving the name anew, and says what became of it.
pub async fn dial(
    number: usize,
    endpoint: Endpoint,
    order: Order,
    resolver: Resolver,
    inbox: Inbox,
) {
    let result = reach(&endpoint, order, &resolver).await;
    inbox.put(Input::Dialled(number, result));
}

async fn reach(
    endpoint: &Endpoint,
    order: Order,
    resolver: &Resolver,
) -> Result<(TcpStream, SocketAddr), String> {
    let addresses = order.sort(&resolver.resolve(endpoint).await?);
    match race(&addresses, order.first).await {
        Ok(reached) => Ok(reached),
        Err(Some((address, error))) => Err(unreachable(endpoint, address, &error)),
        Err(None) => Err(format!("cannot find {endpoint}: the name has no address")),
    }
}

type Attempt = Pin<Box<dyn Future<Output = (SocketAddr, io::Result<TcpStream>)>>>;

async fn attempt(address: SocketAddr) -> (SocketAddr, io::Result<TcpStream>) {
    let connecting = future::or(Async::<TcpStream>::connect(address), async {
        Timer::after(CONNECT_TIMEOUT).await;
        Err(io::ErrorKind::TimedOut.into())
    });
    (address, connecting.await.and_then(Async::into_inner))
}

/// The first attempt that ends.
async fn first(attempts: &mut Vec<Attempt>) -> (SocketAddr, io::Result<TcpStream>) {
    poll_fn(|context| {
        for number in 0..attempts.len() {
            let Some(attempt) = attempts.get_mut(number) else { break };
            if let Poll::Ready(outcome) = attempt.as_mut().poll(context) {
                drop(attempts.swap_remove(number));
                return Poll::Ready(outcome);
            }
        }
        Poll::Pending
    })
    .await
}

/// Connects to the first of several addresses that answers. Each is tried [`NEXT_AFTER`] after the one
/// before, or when that has failed. The error is the last one.
async fn race(
    addresses: &[SocketAddr],
    good: Option<SocketAddr>,
) -> Result<(TcpStream, SocketAddr), Option<(SocketAddr, io::Error)>> {
    let mut rest = addresses.iter();
    let mut attempts: Vec<Attempt> = Vec::new();
    let mut failure = None;
    let mut give_up_at = None;
    loop {
        if let Some(address) = rest.next() {
            attempts.push(Box::pin(attempt(*address)));
        } else if attempts.is_empty() {
            return Err(failure);
        }
        let next_at = (rest.len() > 0).then(|| Instant::now() + NEXT_AFTER);
        let ended = future::or(async { Some(first(&mut attempts).await) }, async {
            match next_at.or(give_up_at) {
                Some(at) => Timer::at(at).await,
                None => future::pending().await,
            };
            None
        });
        match ended.await {
            Some((address, Ok(stream))) => return Ok((stream, address)),
            Some((address, Err(error))) => {
                // The peer is there and not ready: to try again soon is better than to wait for an
                // address that may be dead. Unless that is the only one that ever answers.
                if error.kind() == io::ErrorKind::ConnectionRefused {
                    let patience = if Some(address) == good { NEXT_AFTER } else { SLOW_ANSWER };
                    give_up_at = give_up_at.or_else(|| Some(Instant::now() + patience));
                }
                failure = Some((address, error));
            }
            None if next_at.is_none() => return Err(failure),
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use core::sync::atomic::{AtomicUsize, Ordering};
    use std::net::TcpListener;
    use std::sync::Barrier;

    use super::*;

    /// An address that does not answer: its queue of connections is full, so a SYN is dropped. It stays so
    /// while what is returned lives.
    fn dead() -> (SocketAddr, Vec<std::os::fd::OwnedFd>) {
        use rustix::net::{AddressFamily, SocketFlags, SocketType, connect, listen, socket_with};
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let new =
            |flags| socket_with(AddressFamily::INET, SocketType::STREAM, flags, None).unwrap();
        let listener = new(SocketFlags::empty());
        rustix::net::bind(&listener, &any).unwrap();
        listen(&listener, 0).unwrap();
        let address = SocketAddr::try_from(rustix::net::getsockname(&listener).unwrap()).unwrap();
        let mut held = vec![listener];
        for _ in 0..4 {
            let socket = new(SocketFlags::NONBLOCK);
            let _ = connect(&socket, &address);
            held.push(socket);
        }
        (address, held)
    }

    #[test]
    fn dead_first_address_costs_a_quarter_second() {
        let (dead, _held) = dead();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let live = listener.local_addr().unwrap();
        let start = Instant::now();
        let (_, reached) = smol::block_on(race(&[dead, live], None)).unwrap();
        assert_eq!(reached, live);
        let took = start.elapsed();
        assert!(took >= NEXT_AFTER && took < Duration::from_secs(2), "{took:?}");
        // From now on it is the first.
        let order = Order { first: Some(live), last: None };
        assert_eq!(order.sort(&[dead, live]), [live, dead]);
    }

    #[test]
    fn dead_address_alone_is_given_up() {
        let (dead, _held) = dead();
        let start = Instant::now();
        let (address, error) = smol::block_on(race(&[dead], None)).unwrap_err().unwrap();
        assert_eq!((address, error.kind()), (dead, io::ErrorKind::TimedOut));
        assert!(start.elapsed() >= CONNECT_TIMEOUT);
        assert!(smol::block_on(race(&[], None)).unwrap_err().is_none());
    }

    #[test]
    fn refused_address_costs_no_time() {
        let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let live = listener.local_addr().unwrap();
        let start = Instant::now();
        let (_, reached) = smol::block_on(race(&[closed, closed, live], None)).unwrap();
        assert!(reached == live && start.elapsed() < NEXT_AFTER);
    }

    /// The peer is being started again, and its other address is dead.
    #[test]
    fn refused_address_is_not_held_up_by_dead_one() {
        let (dead, _held) = dead();
        let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        for (good, most) in [(Some(closed), 1_000), (None, 2_000)] {
            let start = Instant::now();
            let outcome = smol::block_on(race(&[closed, dead], good));
            let (address, error) = outcome.unwrap_err().unwrap();
            assert_eq!((address, error.kind()), (closed, io::ErrorKind::ConnectionRefused));
            assert!(start.elapsed() < Duration::from_millis(most), "{:?}", start.elapsed());
        }
    }

    /// The SYN is sent again after a second, and then answered.
    #[test]
    fn slow_address_is_reached_though_another_refuses() {
        let (slow, mut held) = dead();
        let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let listener = TcpListener::from(held.remove(0));
        listener.set_nonblocking(true).unwrap();
        let emptied = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(400));
            let end = Instant::now() + Duration::from_secs(2);
            let mut accepted = Vec::new();
            while Instant::now() < end {
                accepted.extend(listener.accept());
                std::thread::sleep(Duration::from_millis(5));
            }
        });
        let reached = smol::block_on(race(&[closed, slow], None));
        assert!(reached.is_ok_and(|(_, address)| address == slow));
        emptied.join().unwrap();
    }

    #[test]
    fn families_alternate_and_what_answers_wrongly_is_last() {
        let list = |text: &str| -> Vec<SocketAddr> {
            text.split(' ').map(|address| address.parse().unwrap()).collect()
        };
        let found = list("[::1]:1 [::2]:1 1.0.0.1:1 1.0.0.2:1 1.0.0.3:1");
        let sorted = list("[::1]:1 1.0.0.1:1 [::2]:1 1.0.0.2:1 1.0.0.3:1");
        assert_eq!(Order::default().sort(&found), sorted);
        let order = Order { first: found.last().copied(), last: found.first().copied() };
        let sorted = list("1.0.0.3:1 1.0.0.1:1 [::2]:1 1.0.0.2:1 [::1]:1");
        assert_eq!(order.sort(&found), sorted);
    }

    #[test]
    fn look_up_that_hangs_is_not_started_again() {
        static STARTED: AtomicUsize = AtomicUsize::new(0);
        static ANSWER: Barrier = Barrier::new(2);
        fn hangs(_: &str) -> Found {
            STARTED.fetch_add(1, Ordering::SeqCst);
            ANSWER.wait();
            Ok(vec![SocketAddr::from(([127, 0, 0, 1], 0))])
        }
        let resolver = Resolver { names: Rc::default(), look_up: hangs };
        let impatient = |resolver: Resolver| async move {
            future::or(resolver.find("board"), async {
                Timer::after(Duration::from_millis(50)).await;
                Err("too late".to_owned())
            })
            .await
        };
        smol::block_on(async {
            for _ in 0..3 {
                assert!(impatient(resolver.clone()).await.is_err());
            }
            let waiting = future::zip(resolver.find("board"), resolver.find("board"));
            let answer = smol::unblock(|| ANSWER.wait());
            let ((first, second), _) = future::zip(waiting, answer).await;
            assert_eq!((first.unwrap().len(), second.unwrap().len()), (1, 1));
        });
        assert_eq!(STARTED.load(Ordering::SeqCst), 1);
    }
}
