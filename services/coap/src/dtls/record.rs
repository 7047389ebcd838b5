//! As much of DTLS's records (RFC 6347, section 4) as is needed to know which connection a datagram is for.

use crate::dtls::cookie::Cookie;

const HANDSHAKE: u8 = 22;
const ALERT: u8 = 21;
const RECORD_HEADER: usize = 13;
const HANDSHAKE_HEADER: usize = 12;
const CLIENT_HELLO: u8 = 1;
pub const SERVER_HELLO: u8 = 2;
const HELLO_VERIFY_REQUEST: u8 = 3;
/// DTLS 1.0, which a HelloVerifyRequest names whatever is spoken later; and 1.2.
const VERSION_1_0: [u8; 2] = [0xFE, 0xFF];
const VERSION_1_2: [u8; 2] = [0xFE, 0xFD];

/// What a datagram begins with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum First {
    ClientHello,
    /// Another message of a handshake, in the clear.
    Plain,
    /// An alert in the clear: anybody may have written it.
    PlainAlert,
    Protected,
}

/// The kind of a datagram; none of what is no DTLS.
pub fn first(datagram: &[u8]) -> Option<First> {
    let header = datagram.get(..RECORD_HEADER)?;
    let is_known = (20..=23).contains(&header[0])
        && (header[1..3] == VERSION_1_0 || header[1..3] == VERSION_1_2);
    if !is_known {
        return None;
    }
    match (header[3..5] == [0, 0], header[0]) {
        (false, _) => Some(First::Protected),
        (true, HANDSHAKE) if datagram.get(RECORD_HEADER) == Some(&CLIENT_HELLO) => {
            Some(First::ClientHello)
        }
        (true, ALERT) => Some(First::PlainAlert),
        (true, _) => Some(First::Plain),
    }
}

/// The type of the handshake message that a datagram begins with.
pub fn handshake_type(datagram: &[u8]) -> Option<u8> {
    let is_handshake = datagram.first() == Some(&HANDSHAKE);
    datagram
        .get(RECORD_HEADER)
        .copied()
        .filter(|_| is_handshake)
}

/// A ClientHello in one piece.
pub struct ClientHello<'a> {
    record: &'a [u8],
    pub random: [u8; 32],
    pub cookie: &'a [u8],
    /// Where the cookie's length stands.
    cookie_at: usize,
}

impl<'a> ClientHello<'a> {
    /// Reads the first record of a datagram.
    pub fn read(datagram: &'a [u8]) -> Option<Self> {
        let length = u16::from_be_bytes([*datagram.get(11)?, *datagram.get(12)?]);
        let record = datagram.get(..RECORD_HEADER + usize::from(length))?;
        let message = &record[RECORD_HEADER..];
        let header = message.get(..HANDSHAKE_HEADER)?;
        let body = &message[HANDSHAKE_HEADER..];
        let whole = u24(body.len())?;
        if header[1..4] != whole || header[6..9] != [0; 3] || header[9..12] != whole {
            return None;
        }
        let random = body.get(2..34)?.try_into().ok()?;
        let session = usize::from(*body.get(34)?);
        let cookie_at = 35 + session;
        let length = usize::from(*body.get(cookie_at)?);
        Some(Self {
            record,
            random,
            cookie: body.get(cookie_at + 1..cookie_at + 1 + length)?,
            cookie_at: RECORD_HEADER + HANDSHAKE_HEADER + cookie_at,
        })
    }

    pub fn record(&self) -> &'a [u8] {
        self.record
    }

    /// The ClientHello that must have come before this one: without a cookie, and the first of all messages.
    pub fn without_cookie(&self) -> Option<Vec<u8>> {
        let mut record = self.record[..self.cookie_at].to_vec();
        record.push(0);
        record.extend_from_slice(&self.record[self.cookie_at + 1 + self.cookie.len()..]);
        let length = u16::try_from(record.len() - RECORD_HEADER).ok()?;
        let body = u24(record.len() - RECORD_HEADER - HANDSHAKE_HEADER)?;
        record[5..11].fill(0);
        record[11..13].copy_from_slice(&length.to_be_bytes());
        record[14..17].copy_from_slice(&body);
        record[17..19].fill(0);
        record[22..25].copy_from_slice(&body);
        Some(record)
    }

    /// The answer that asks to send this cookie back; it is shorter than any ClientHello.
    pub fn ask_for(&self, cookie: &Cookie) -> Vec<u8> {
        let mut answer = Vec::with_capacity(60);
        answer.push(HANDSHAKE);
        answer.extend_from_slice(&VERSION_1_0);
        answer.extend_from_slice(&[0, 0]);
        // The number of the record is that of the ClientHello's (section 4.2.1).
        answer.extend_from_slice(&self.record[5..11]);
        answer.extend_from_slice(&[0, 47]);
        answer.extend_from_slice(&[HELLO_VERIFY_REQUEST, 0, 0, 35, 0, 0, 0, 0, 0, 0, 0, 35]);
        answer.extend_from_slice(&VERSION_1_0);
        answer.push(32);
        answer.extend_from_slice(cookie);
        answer
    }
}

/// A fatal `handshake_failure`, in the clear. Its number is far beyond those of the handshake's records.
pub fn handshake_failure() -> Vec<u8> {
    let mut alert = vec![ALERT];
    alert.extend_from_slice(&VERSION_1_2);
    alert.extend_from_slice(&[0, 0, 0, 0, 0, 0, 0x80, 0, 0, 2, 2, 40]);
    alert
}

fn u24(length: usize) -> Option<[u8; 3]> {
    let [0, a, b, c] = u32::try_from(length).ok()?.to_be_bytes() else {
        return None;
    };
    Some([a, b, c])
}
