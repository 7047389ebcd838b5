//! Cursors: where a page begins, as opaque text. A cursor is bound to the organization, the listing, its filters and its
//! sort; whoever else presents it, or changes a letter, has no cursor.

use aws_lc_rs::digest::{Context, SHA256};
use data_encoding::BASE64URL_NOPAD;
use rollcall_model::OrgId;
use rollcall_store::listing::{Column, ColumnKind, Value};
use time::OffsetDateTime;
use uuid::Uuid;

const SEAL_BYTES: usize = 8;

/// What cursors are bound to.
#[derive(Clone)]
pub struct Seal(Context);

impl Seal {
    /// A seal for a listing of an organization.
    pub fn new(org: OrgId, listing: &str) -> Self {
        let mut hash = Context::new(&SHA256);
        hash.update(org.0.as_bytes());
        Self(hash).and(listing)
    }

    /// Bound to one more text.
    pub fn and(mut self, text: &str) -> Self {
        self.0.update(&(text.len() as u64).to_be_bytes());
        self.0.update(text.as_bytes());
        self
    }

    fn of(&self, place: &[u8]) -> [u8; SEAL_BYTES] {
        let mut hash = self.0.clone();
        hash.update(place);
        let digest = hash.finish();
        let (head, _) = digest
            .as_ref()
            .split_first_chunk()
            .expect("a SHA-256 digest has 32 bytes");
        *head
    }

    /// A place as a cursor.
    pub fn write(&self, place: &[Value]) -> String {
        let mut bytes = vec![0; SEAL_BYTES];
        for value in place {
            write(value, &mut bytes);
        }
        let seal = self.of(&bytes[SEAL_BYTES..]);
        bytes[..SEAL_BYTES].copy_from_slice(&seal);
        BASE64URL_NOPAD.encode(&bytes)
    }

    /// The place of a cursor that this seal wrote, with a value for each column.
    pub fn read(&self, cursor: &str, columns: &[Column]) -> Option<Vec<Value>> {
        let bytes = BASE64URL_NOPAD.decode(cursor.as_bytes()).ok()?;
        let (seal, mut place) = bytes.split_first_chunk::<SEAL_BYTES>()?;
        if self.of(place) != *seal {
            return None;
        }
        let values: Option<Vec<Value>> = columns
            .iter()
            .map(|column| read(column.kind, &mut place))
            .collect();
        values.filter(|_| place.is_empty())
    }
}

fn write(value: &Value, bytes: &mut Vec<u8>) {
    match value {
        Value::Text(text) => {
            let length = u32::try_from(text.len()).unwrap_or(u32::MAX);
            bytes.extend(length.to_be_bytes());
            bytes.extend(text.as_bytes());
        }
        Value::Number(number) => bytes.extend(number.to_be_bytes()),
        Value::Flag(flag) => bytes.push((*flag).into()),
        // Postgres keeps microseconds.
        Value::Time(time) => {
            let micros = i64::try_from(time.unix_timestamp_nanos() / 1_000).unwrap_or(i64::MAX);
            bytes.extend(micros.to_be_bytes());
        }
        Value::Id(id) => bytes.extend(id.as_bytes()),
        Value::Transaction(number) => bytes.extend(number.to_be_bytes()),
    }
}

fn read(kind: ColumnKind, bytes: &mut &[u8]) -> Option<Value> {
    Some(match kind {
        ColumnKind::Text => {
            let length = u32::from_be_bytes(take(bytes)?) as usize;
            let (text, rest) = bytes.split_at_checked(length)?;
            *bytes = rest;
            Value::Text(String::from_utf8(text.to_vec()).ok()?)
        }
        ColumnKind::Number => Value::Number(i64::from_be_bytes(take(bytes)?)),
        ColumnKind::Flag => Value::Flag(take::<1>(bytes)? == [1]),
        ColumnKind::Time => {
            let micros = i128::from(i64::from_be_bytes(take(bytes)?));
            Value::Time(OffsetDateTime::from_unix_timestamp_nanos(micros * 1_000).ok()?)
        }
        ColumnKind::Id => Value::Id(Uuid::from_bytes(take(bytes)?)),
        ColumnKind::Transaction => Value::Transaction(u64::from_be_bytes(take(bytes)?)),
    })
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (head, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(*head)
}

#[cfg(test)]
mod tests {
    use rollcall_store::sessions::columns::{ID, SOURCE_ID, STARTED};
    use time::macros::datetime;

    use super::*;

    #[test]
    fn a_cursor_reads_back_in_its_own_listing_alone() {
        let (one, two) = (OrgId::generate(), OrgId::generate());
        let seal = Seal::new(one, "sessions").and("filter[kind]=form");
        let place = vec![
            Value::Time(datetime!(2026-11-21 09:00:00.000001 UTC)),
            Value::Text("é/1".into()),
            Value::Id(Uuid::from_u128(7)),
        ];
        let columns = [STARTED, SOURCE_ID, ID];
        let cursor = seal.write(&place);
        assert_eq!(seal.read(&cursor, &columns), Some(place));
        assert_eq!(seal.read(&cursor, &columns[..2]), None);
        for other in [
            Seal::new(two, "sessions").and("filter[kind]=form"),
            Seal::new(one, "sessions"),
            Seal::new(one, "services").and("filter[kind]=form"),
        ] {
            assert_eq!(other.read(&cursor, &columns), None);
        }
        for wrong in [
            "",
            "x",
            "é",
            &cursor[1..],
            &format!("{cursor}A"),
            &"A".repeat(64),
        ] {
            assert_eq!(seal.read(wrong, &columns), None, "{wrong}");
        }
    }
}
