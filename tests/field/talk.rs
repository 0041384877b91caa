//! What a peer without our code says: messages as bytes.

use canspan::protocol::wire::{From, Hello, LENGTH_MAX, MESSAGE_MAX, Message};

/// A greeting anybody accepts.
pub(crate) fn hello() -> Hello<'static> {
    Hello {
        features: 0,
        bus: "can0",
        history: 77,
        bus_id: 78,
        window: 100,
        max_age_us: 0,
        heartbeat_ms: 1_000,
        receipts_us: 25_000,
        clock_us: 5_000_000,
        seen: None,
        from: From::Oldest,
    }
}

/// A message as a record.
pub(crate) fn record(message: &Message<'_>) -> Vec<u8> {
    let mut content = [0; MESSAGE_MAX];
    let content = postcard::to_slice(message, &mut content).unwrap();
    let mut length = [0; LENGTH_MAX];
    let length = postcard::to_slice(&(content.len() as u16), &mut length).unwrap();
    [length, content].concat()
}
