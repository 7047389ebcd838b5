//! Messages as bytes: coap-lite's codec behind a strict validator (RFC 7252, section 3).
//!
//! Invariant: what [`decode`] lets through is well-formed; what an endpoint must ignore or reject never gets further.

use bytes::Bytes;
use coap_lite::{CoapOption, MessageClass, MessageType, Packet};

use crate::code::{Code, Kind};
use crate::option;

/// Longest message that is made, in bytes: 1,024 of payload and what goes before them (RFC 7252, section 4.6).
pub const MAX_MESSAGE: usize = 1_152;

/// What relates a response to its request: up to 8 bytes (RFC 7252, section 5.3.1).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Token {
    length: u8,
    bytes: [u8; 8],
}

impl Token {
    /// The token of these bytes; none where they are more than 8.
    pub fn new(bytes: &[u8]) -> Option<Self> {
        let mut token = Self {
            length: u8::try_from(bytes.len()).ok()?,
            bytes: [0; 8],
        };
        token.bytes.get_mut(..bytes.len())?.copy_from_slice(bytes);
        Some(token)
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length)]
    }
}

/// A message's options, in the order of their numbers; a repeatable one's values in the order sent.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Options(Vec<(u16, Bytes)>);

impl Options {
    pub fn iter(&self) -> impl Iterator<Item = (u16, &Bytes)> {
        self.0.iter().map(|(number, value)| (*number, value))
    }

    /// All values of one option.
    pub fn all(&self, number: u16) -> impl Iterator<Item = &Bytes> {
        let of_number = self.0.iter().filter(move |(held, _)| *held == number);
        of_number.map(|(_, value)| value)
    }

    /// An option's first value.
    pub fn first(&self, number: u16) -> Option<&Bytes> {
        self.all(number).next()
    }

    /// An option's first value as an unsigned integer (RFC 7252, section 3.2).
    pub fn uint(&self, number: u16) -> Option<u32> {
        self.first(number).and_then(|value| option::to_uint(value))
    }

    /// Adds a value behind those of the same option.
    pub fn push(&mut self, number: u16, value: impl Into<Bytes>) {
        let at = self.0.partition_point(|(held, _)| *held <= number);
        self.0.insert(at, (number, value.into()));
    }

    pub fn push_uint(&mut self, number: u16, value: u32) {
        self.push(number, option::from_uint(value));
    }

    /// Leaves the options that `keep` wants.
    pub fn retain(&mut self, mut keep: impl FnMut(u16, &Bytes) -> bool) {
        self.0.retain(|(number, value)| keep(*number, value));
    }
}

/// A well-formed message.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Message {
    pub kind: Kind,
    pub code: Code,
    pub id: u16,
    pub token: Token,
    pub options: Options,
    pub payload: Bytes,
}

/// Why a datagram is no message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Malformed {
    /// Not to be answered at all: too short, or of another version (section 3).
    Ignore,
    /// A confirmable message with an error in its format: answered with a Reset (section 4.2).
    Reject { id: u16 },
}

impl Message {
    /// A message without token, options and payload: an acknowledgement or a Reset.
    pub fn empty(kind: Kind, id: u16) -> Self {
        Self {
            kind,
            code: Code::EMPTY,
            id,
            token: Token::default(),
            options: Options::default(),
            payload: Bytes::new(),
        }
    }

    /// The bytes to send. What is longer than [`MAX_MESSAGE`] is sent all the same: whoever makes a message cuts its
    /// payload into blocks.
    pub fn encode(&self) -> Bytes {
        let mut packet = Packet::new();
        packet.header.set_version(1);
        packet.header.set_type(match self.kind {
            Kind::Confirmable => MessageType::Confirmable,
            Kind::NonConfirmable => MessageType::NonConfirmable,
            Kind::Acknowledgement => MessageType::Acknowledgement,
            Kind::Reset => MessageType::Reset,
        });
        packet.header.code = MessageClass::from(self.code.0);
        packet.header.message_id = self.id;
        packet.set_token(self.token.as_bytes().to_vec());
        for (number, value) in self.options.iter() {
            packet.add_option(CoapOption::from(number), value.to_vec());
        }
        packet.payload = self.payload.to_vec();
        let bytes = packet.to_bytes_unlimited();
        Bytes::from(bytes.expect("a message without a limit can always be written"))
    }
}

/// Reads a datagram.
pub fn decode(datagram: &[u8]) -> Result<Message, Malformed> {
    let [first, code, high, low, ..] = *datagram else {
        return Err(Malformed::Ignore);
    };
    if first >> 6 != 1 {
        return Err(Malformed::Ignore);
    }
    let id = u16::from_be_bytes([high, low]);
    let kind = match first >> 4 & 3 {
        0 => Kind::Confirmable,
        1 => Kind::NonConfirmable,
        2 => Kind::Acknowledgement,
        _ => Kind::Reset,
    };
    let malformed = match kind {
        Kind::Confirmable => Malformed::Reject { id },
        _ => Malformed::Ignore,
    };
    let code = Code(code);
    let is_allowed = match kind {
        Kind::Confirmable => true,
        Kind::NonConfirmable => code != Code::EMPTY,
        Kind::Acknowledgement => !code.is_request(),
        Kind::Reset => code == Code::EMPTY,
    };
    let is_known = code == Code::EMPTY || code.is_request() || code.is_response();
    if !is_allowed || !is_known || (code == Code::EMPTY && datagram.len() > 4) {
        return Err(malformed);
    }
    let packet = Packet::from_bytes(datagram).map_err(|_| malformed)?;
    if has_empty_payload(datagram, &packet) {
        return Err(malformed);
    }
    let token = Token::new(packet.get_token()).ok_or(malformed)?;
    let mut options = Vec::with_capacity(packet.options().len());
    for (number, values) in packet.options() {
        let values = values.iter().map(|value| Bytes::copy_from_slice(value));
        options.extend(values.map(|value| (*number, value)));
    }
    Ok(Message {
        kind,
        code,
        id,
        token,
        options: Options(options),
        payload: Bytes::from(packet.payload),
    })
}

/// Whether a payload marker is followed by nothing, which is a format error that the codec lets pass (section 3).
fn has_empty_payload(datagram: &[u8], packet: &Packet) -> bool {
    if !packet.payload.is_empty() || datagram.last() != Some(&0xFF) {
        return false;
    }
    let mut before = 0;
    let mut options = 0;
    for (number, values) in packet.options() {
        for value in values {
            options += 1 + extended(usize::from(number - before)) + extended(value.len());
            options += value.len();
            before = *number;
        }
    }
    4 + packet.get_token().len() + options < datagram.len()
}

/// Bytes that a delta or a length takes beyond its nibble.
fn extended(value: usize) -> usize {
    match value {
        0..13 => 0,
        13..269 => 1,
        _ => 2,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_must_be_ignored_is() {
        for datagram in [
            &[][..],
            &[0x40, 1, 0],
            // Versions 0, 2 and 3.
            &[0x00, 1, 0, 1],
            &[0x80, 1, 0, 1],
            &[0xC0, 1, 0, 1],
            // Empty, but not confirmable; an acknowledgement that asks; a Reset that says something.
            &[0x50, 0, 0, 1],
            &[0x60, 1, 0, 1],
            &[0x70, 0x45, 0, 1],
            // A token longer than the datagram.
            &[0x58, 1, 0, 1, 1],
        ] {
            assert_eq!(decode(datagram), Err(Malformed::Ignore), "{datagram:02x?}");
        }
    }

    #[test]
    fn format_errors_of_confirmable_messages_are_rejected() {
        for datagram in [
            // Token lengths 9 and 15.
            &[0x49, 1, 0, 7, 1, 2, 3, 4, 5, 6, 7, 8, 9][..],
            &[0x4F, 1, 0, 7],
            // Empty with a token; with more bytes.
            &[0x41, 0, 0, 7, 1],
            &[0x40, 0, 0, 7, 0xFF],
            // A payload marker without payload, with and without an option before it.
            &[0x40, 1, 0, 7, 0xFF],
            &[0x40, 1, 0, 7, 0xB1, b'a', 0xFF],
            // An option that is cut short; a reserved delta; a reserved length.
            &[0x40, 1, 0, 7, 0xB3, b'a'],
            &[0x40, 1, 0, 7, 0xF1, b'a'],
            &[0x40, 1, 0, 7, 0xBF, b'a'],
            // Reserved classes.
            &[0x40, 0x21, 0, 7],
            &[0x40, 0xC1, 0, 7],
            &[0x40, 0xE1, 0, 7],
        ] {
            assert_eq!(
                decode(datagram),
                Err(Malformed::Reject { id: 7 }),
                "{datagram:02x?}"
            );
        }
    }

    #[test]
    fn an_option_may_end_in_the_byte_of_the_marker() {
        let message = decode(&[0x40, 1, 0, 7, 0xB2, b'a', 0xFF]).expect("well-formed");
        assert_eq!(
            message.options.first(option::URI_PATH).map(|v| &v[..]),
            Some(&b"a\xFF"[..])
        );
    }

    proptest! {
        #[test]
        fn rubbish_never_panics(datagram in proptest::collection::vec(any::<u8>(), 0..1500)) {
            let _ = decode(&datagram);
        }

        #[test]
        fn what_is_written_is_read_again(
            id: u16,
            token in proptest::collection::vec(any::<u8>(), 0..=8),
            options in proptest::collection::vec((1u16..2000, proptest::collection::vec(any::<u8>(), 0..300)), 0..5),
            payload in proptest::collection::vec(any::<u8>(), 0..1100),
        ) {
            let mut message = Message {
                token: Token::new(&token).expect("short enough"),
                code: Code::POST,
                payload: payload.into(),
                ..Message::empty(Kind::Confirmable, id)
            };
            for (number, value) in options {
                message.options.push(number, value);
            }
            prop_assert_eq!(decode(&message.encode()), Ok(message));
        }
    }
}
