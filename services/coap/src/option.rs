//! Options by number, and which values of them are valid (RFC 7252, section 5.10; 7641; 7959; 9175).

use bytes::Bytes;

use crate::message::Options;

pub const IF_MATCH: u16 = 1;
pub const URI_HOST: u16 = 3;
pub const ETAG: u16 = 4;
pub const IF_NONE_MATCH: u16 = 5;
pub const OBSERVE: u16 = 6;
pub const URI_PORT: u16 = 7;
pub const LOCATION_PATH: u16 = 8;
pub const URI_PATH: u16 = 11;
pub const CONTENT_FORMAT: u16 = 12;
pub const MAX_AGE: u16 = 14;
pub const URI_QUERY: u16 = 15;
pub const ACCEPT: u16 = 17;
pub const LOCATION_QUERY: u16 = 20;
pub const BLOCK2: u16 = 23;
pub const BLOCK1: u16 = 27;
pub const SIZE2: u16 = 28;
pub const PROXY_URI: u16 = 35;
pub const PROXY_SCHEME: u16 = 39;
pub const SIZE1: u16 = 60;
pub const ECHO: u16 = 252;
pub const NO_RESPONSE: u16 = 258;
pub const REQUEST_TAG: u16 = 292;

/// An option that an endpoint understands: the least and the most bytes of a value, and whether it may stand twice.
struct Known {
    least: usize,
    most: usize,
    is_repeatable: bool,
}

fn known(number: u16) -> Option<Known> {
    let (least, most, is_repeatable) = match number {
        IF_MATCH => (0, 8, true),
        URI_HOST => (1, 255, false),
        ETAG => (1, 8, true),
        IF_NONE_MATCH => (0, 0, false),
        OBSERVE => (0, 3, false),
        URI_PORT => (0, 2, false),
        LOCATION_PATH | LOCATION_QUERY | URI_PATH | URI_QUERY => (0, 255, true),
        CONTENT_FORMAT | ACCEPT => (0, 2, false),
        MAX_AGE | SIZE1 | SIZE2 => (0, 4, false),
        BLOCK1 | BLOCK2 => (0, 3, false),
        PROXY_URI => (1, 1034, false),
        PROXY_SCHEME => (1, 255, false),
        ECHO => (1, 40, false),
        NO_RESPONSE => (0, 1, false),
        REQUEST_TAG => (0, 8, true),
        _ => return None,
    };
    Some(Known {
        least,
        most,
        is_repeatable,
    })
}

/// Whether an endpoint that does not understand the option must refuse the message (section 5.4.1).
pub fn is_critical(number: u16) -> bool {
    number & 1 == 1
}

/// Whether the option is no part of a cache key (section 5.4.2).
pub fn is_no_cache_key(number: u16) -> bool {
    number & 0x1E == 0x1C
}

/// Drops elective options that are not understood, have a value of a wrong length, or stand once too often; a critical one
/// of these is answered (sections 5.4.1, 5.4.3, 5.4.5).
pub fn check(options: &mut Options) -> Result<(), u16> {
    let (mut before, mut bad) = (None, None);
    options.retain(|number, value| {
        let is_second = before == Some(number);
        before = Some(number);
        let is_fine = known(number).is_some_and(|known| {
            (known.least..=known.most).contains(&value.len()) && (known.is_repeatable || !is_second)
        });
        if !is_fine && is_critical(number) {
            bad.get_or_insert(number);
        }
        is_fine
    });
    bad.map_or(Ok(()), Err)
}

/// An unsigned integer of up to four bytes, leading zeros allowed (section 3.2).
pub fn to_uint(value: &[u8]) -> Option<u32> {
    if value.len() > 4 {
        return None;
    }
    Some(
        value
            .iter()
            .fold(0, |sum, byte| sum << 8 | u32::from(*byte)),
    )
}

/// An unsigned integer in as few bytes as it needs.
pub fn from_uint(value: u32) -> Bytes {
    let bytes = value.to_be_bytes();
    let zeros = (value.leading_zeros() / 8) as usize;
    Bytes::copy_from_slice(&bytes[zeros..])
}

/// A `Block1` or `Block2` option (RFC 7959, section 2.2).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Block {
    /// Which block, counted from 0: 20 bits.
    pub number: u32,
    /// Whether more blocks follow.
    pub more: bool,
    /// The size exponent, 0 to 6: a block has 2 to the power of this plus 4 bytes.
    pub size_exponent: u8,
}

impl Block {
    /// The largest number that a block can have.
    pub const MAX_NUMBER: u32 = (1 << 20) - 1;

    /// The option's value; none where the size is the reserved one.
    pub fn from_value(value: &[u8]) -> Option<Self> {
        let uint = to_uint(value).filter(|_| value.len() <= 3)?;
        let size_exponent = (uint & 7) as u8;
        (size_exponent < 7).then_some(Self {
            number: uint >> 4,
            more: uint & 8 != 0,
            size_exponent,
        })
    }

    pub fn to_value(self) -> Bytes {
        from_uint(self.number << 4 | u32::from(self.more) << 3 | u32::from(self.size_exponent))
    }

    /// Bytes of a whole block.
    pub fn size(self) -> usize {
        16 << self.size_exponent
    }

    /// Where the block begins in the whole, in bytes.
    pub fn offset(self) -> usize {
        self.number as usize * self.size()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_take_as_few_bytes_as_they_need() {
        for (value, bytes) in [
            (0, &[][..]),
            (1, &[1]),
            (256, &[1, 0]),
            (u32::MAX, &[255; 4]),
        ] {
            assert_eq!(&from_uint(value)[..], bytes);
            assert_eq!(to_uint(bytes), Some(value));
        }
        assert_eq!(to_uint(&[0, 0, 7]), Some(7));
    }

    #[test]
    fn blocks_have_numbers_of_20_bits() {
        let last = Block {
            number: Block::MAX_NUMBER,
            more: true,
            size_exponent: 6,
        };
        assert_eq!(Block::from_value(&last.to_value()), Some(last));
        assert_eq!(Block::from_value(&[7]), None);
        assert_eq!(Block::from_value(&[0, 0, 0, 1]), None);
    }

    #[test]
    fn bad_options_count_as_unknown() {
        let mut options = Options::default();
        options.push(URI_PATH, "a");
        options.push(MAX_AGE, vec![1; 5]);
        options.push(2000, "elective");
        assert_eq!(check(&mut options), Ok(()));
        assert_eq!(options.iter().count(), 1);
        for (number, value) in [(9, &b"oscore"[..]), (ACCEPT, b"abc"), (URI_HOST, b"")] {
            let mut options = Options::default();
            options.push(number, value.to_vec());
            assert_eq!(check(&mut options), Err(number));
        }
        let mut options = Options::default();
        options.push_uint(ACCEPT, 50);
        options.push_uint(ACCEPT, 50);
        assert_eq!(check(&mut options), Err(ACCEPT));
    }
}
