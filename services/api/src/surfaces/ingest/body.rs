//! A batch's body: read whole within its limits, and unpacked piece by piece, so that what unfolds without end never fills
//! the memory.

use std::io::Read;

use actix_web::HttpRequest;
use actix_web::http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use actix_web::web::Payload;
use bytes::BytesMut;
use futures_util::TryStreamExt;

use crate::App;
use crate::error::{ApiError, Problem};
use crate::memory::Lease;
use crate::surfaces::forms::body::of_payload;

/// Bytes of a body that is packed.
const PACKED_BYTES: usize = 1 << 20;
/// Bytes of a body that is not, or of what a packed one holds.
const PLAIN_BYTES: usize = 16 << 20;
/// How much is unpacked at a time.
const PIECE_BYTES: usize = 256 << 10;
/// A decoder of zstd holds a window of two to this power (8 MiB: RFC 9659).
const ZSTD_WINDOW_LOG: u32 = 23;
/// What is made of a body takes this much of it.
const MEMORY_FACTOR: usize = 3;

/// A batch's JSON in memory.
pub struct Body {
    pub bytes: Vec<u8>,
    /// Held as long as what was received.
    pub lease: Lease,
}

#[derive(Clone, Copy)]
enum Coding {
    Identity,
    Gzip,
    Zstd,
}

/// Reads the body, which must be JSON, packed or not.
pub async fn read(app: &App, req: &HttpRequest, payload: Payload) -> Result<Body, ApiError> {
    check_media_type(req)?;
    let coding = coding(req)?;
    let (limit, what) = match coding {
        Coding::Identity => (PLAIN_BYTES, "a batch"),
        Coding::Gzip | Coding::Zstd => (PACKED_BYTES, "a packed batch"),
    };
    let mut lease = app.memory.lease();
    let packed = receive(payload, (limit, what), &mut lease).await?;
    let bytes = match coding {
        Coding::Identity => packed,
        Coding::Gzip => {
            let decoder = flate2::bufread::MultiGzDecoder::new(packed.as_slice());
            unpack(decoder, &mut lease).await?
        }
        Coding::Zstd => unpack(zstd(packed.as_slice())?, &mut lease).await?,
    };
    Ok(Body { bytes, lease })
}

fn check_media_type(req: &HttpRequest) -> Result<(), ApiError> {
    let value = req.headers().get(CONTENT_TYPE);
    let text = value
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let media = text.split(';').next().unwrap_or_default().trim();
    if media.eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    let problem = Problem::new(
        "content_type_unsupported",
        "send a batch as application/json",
    );
    Err(ApiError::UnsupportedMedia(
        problem.of_header("Content-Type"),
    ))
}

fn coding(req: &HttpRequest) -> Result<Coding, ApiError> {
    let mut values = req.headers().get_all(CONTENT_ENCODING);
    let (first, second) = (values.next(), values.next());
    let name = first.map_or(Some("identity".to_owned()), |value| {
        Some(value.to_str().ok()?.trim().to_ascii_lowercase())
    });
    match (name.as_deref(), second) {
        (Some("identity"), None) => Ok(Coding::Identity),
        (Some("gzip" | "x-gzip"), None) => Ok(Coding::Gzip),
        (Some("zstd"), None) => Ok(Coding::Zstd),
        _ => {
            let problem = Problem::new(
                "content_encoding_unsupported",
                "send a batch with Content-Encoding gzip or zstd, or without one",
            );
            Err(ApiError::UnsupportedMedia(
                problem.of_header("Content-Encoding"),
            ))
        }
    }
}

async fn receive(
    mut payload: Payload,
    (limit, what): (usize, &str),
    lease: &mut Lease,
) -> Result<Vec<u8>, ApiError> {
    let mut bytes = BytesMut::new();
    while let Some(chunk) = payload
        .try_next()
        .await
        .map_err(|error| of_payload(&error))?
    {
        let length = bytes.len() + chunk.len();
        if length > limit {
            return Err(too_large(what, limit));
        }
        lease.cover(length * MEMORY_FACTOR).await?;
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes.into())
}

fn zstd(packed: &[u8]) -> Result<impl Read, ApiError> {
    let mut decoder = zstd::stream::read::Decoder::with_buffer(packed)
        .map_err(|error| anyhow::Error::new(error).context("make a decoder of zstd"))?;
    decoder
        .window_log_max(ZSTD_WINDOW_LOG)
        .map_err(|error| anyhow::Error::new(error).context("bound a decoder of zstd"))?;
    Ok(decoder)
}

/// Everything that `packed` holds. The share of memory grows before the bytes do.
async fn unpack(mut packed: impl Read, lease: &mut Lease) -> Result<Vec<u8>, ApiError> {
    let mut bytes = Vec::new();
    loop {
        lease
            .cover(PACKED_BYTES + (bytes.len() + PIECE_BYTES) * MEMORY_FACTOR)
            .await?;
        let mut piece = packed.by_ref().take(PIECE_BYTES as u64);
        let read = piece.read_to_end(&mut bytes).map_err(|error| {
            let message = format!("the body cannot be unpacked ({error}); send it again, whole");
            ApiError::invalid("body_not_packed_right", message)
        })?;
        if bytes.len() > PLAIN_BYTES {
            return Err(too_large("an unpacked batch", PLAIN_BYTES));
        }
        if read < PIECE_BYTES {
            return Ok(bytes);
        }
        // Others are served between two pieces.
        tokio::task::yield_now().await;
    }
}

fn too_large(what: &str, limit: usize) -> ApiError {
    ApiError::too_large(
        "body_too_large",
        format!("{what} may have at most {limit} bytes; send fewer events at once"),
    )
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, Write};

    use super::*;
    use crate::memory::Budget;

    fn gzip(plain: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(plain).expect("written");
        encoder.finish().expect("packed")
    }

    async fn unpacked(packed: impl BufRead) -> Result<Vec<u8>, ApiError> {
        let mut lease = Budget::of_mib(64).lease();
        unpack(flate2::bufread::MultiGzDecoder::new(packed), &mut lease).await
    }

    #[tokio::test]
    async fn what_unfolds_without_end_is_given_up() {
        let bomb = gzip(&vec![b' '; PLAIN_BYTES + 1]);
        assert!(bomb.len() < PACKED_BYTES);
        assert!(matches!(
            unpacked(bomb.as_slice()).await,
            Err(ApiError::TooLarge(_))
        ));
        let full = gzip(&vec![b' '; PLAIN_BYTES]);
        assert_eq!(
            unpacked(full.as_slice()).await.expect("whole").len(),
            PLAIN_BYTES
        );
    }

    #[tokio::test]
    async fn what_is_cut_off_is_refused() {
        let whole = gzip(&b"the roll of every session".repeat(1_000));
        for end in [0, 1, 10, whole.len() / 2, whole.len() - 1] {
            assert!(
                matches!(unpacked(&whole[..end]).await, Err(ApiError::Invalid(_))),
                "{end}"
            );
        }
    }

    #[tokio::test]
    async fn a_window_that_is_too_large_is_refused() {
        let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).expect("an encoder");
        encoder.window_log(ZSTD_WINDOW_LOG + 1).expect("set");
        encoder.include_contentsize(false).expect("set");
        for _ in 0..20 {
            encoder.write_all(&vec![b' '; 1 << 20]).expect("written");
        }
        let packed = encoder.finish().expect("packed");
        let mut lease = Budget::of_mib(64).lease();
        let unpacked = unpack(zstd(&packed).expect("a decoder"), &mut lease).await;
        assert!(matches!(unpacked, Err(ApiError::Invalid(_))));
    }
}
