//! A stored file on its way out, for every surface: whole, in part, or not at all where the client has it.

use actix_web::http::StatusCode;
use actix_web::http::header::{
    self, ByteRangeSpec, ContentDisposition, DispositionParam, DispositionType, ETag, EntityTag,
    Header, IfNoneMatch, IfRange, Range,
};
use actix_web::{HttpRequest, HttpResponse};
use aws_sdk_s3::primitives::ByteStream;
use bytes::Bytes;
use futures_util::{Stream, stream};
use rollcall_model::ObjectKey;
use rollcall_telemetry::{Direction, DirectionLabels};

use crate::App;
use crate::error::ApiError;

/// A file that is asked for.
pub struct Download<'a> {
    pub key: ObjectKey,
    pub filename: &'a str,
    /// In bytes.
    pub length: u64,
    /// Lower-case hexadecimal; the file's ETag.
    pub sha256: &'a str,
    /// Its session no longer holds it: it may be swept at any moment.
    pub is_retired: bool,
}

impl Download<'_> {
    /// The bytes, or the range of them that is asked for. The type is always `application/octet-stream`: what a stranger
    /// stored is not to run in anybody's browser.
    pub async fn answer(&self, app: &App, req: &HttpRequest) -> Result<HttpResponse, ApiError> {
        let tag = EntityTag::new_strong(self.sha256.to_owned());
        let mut response = HttpResponse::Ok();
        response
            .insert_header(ETag(tag.clone()))
            .insert_header((header::ACCEPT_RANGES, "bytes"))
            .insert_header((header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
            .insert_header((
                header::CONTENT_SECURITY_POLICY,
                "sandbox; default-src 'none'",
            ))
            .insert_header((header::CACHE_CONTROL, "private, no-cache"))
            .insert_header((header::CONTENT_TYPE, "application/octet-stream"))
            .insert_header(disposition(self.filename));
        if has(req, &tag) {
            return Ok(response.status(StatusCode::NOT_MODIFIED).finish());
        }
        let range = match wanted(req, &tag, self.length) {
            Wanted::All => None,
            Wanted::Part(first, last) => {
                let range = format!("bytes {first}-{last}/{}", self.length);
                response
                    .status(StatusCode::PARTIAL_CONTENT)
                    .insert_header((header::CONTENT_RANGE, range));
                Some((first, last))
            }
            Wanted::Nothing => {
                let range = format!("bytes */{}", self.length);
                response.insert_header((header::CONTENT_RANGE, range));
                return Ok(response.status(StatusCode::RANGE_NOT_SATISFIABLE).finish());
            }
        };
        let length = range.map_or(self.length, |(first, last)| last - first + 1);
        let object = app.objects.get(&self.key, range).await?;
        let object = object.ok_or_else(|| self.gone())?;
        let direction = DirectionLabels {
            direction: Direction::Out,
        };
        app.metrics
            .attachment_bytes_total
            .get_or_create(&direction)
            .inc_by(length);
        Ok(response
            .no_chunking(length)
            .streaming(bytes_of(object.body)))
    }

    fn gone(&self) -> ApiError {
        if self.is_retired {
            return ApiError::not_found(
                "attachment_not_found",
                "there is no such attachment in this key's reach",
            );
        }
        let key = &self.key;
        ApiError::Internal(anyhow::anyhow!(
            "the object {key} has a row but is not in the bucket"
        ))
    }
}

/// How a file is named where it is kept.
pub fn disposition(filename: &str) -> ContentDisposition {
    let name = DispositionParam::Filename(filename.to_owned());
    let mut disposition = ContentDisposition {
        disposition: DispositionType::Attachment,
        parameters: vec![name],
    };
    if !filename.is_ascii() {
        disposition.parameters = vec![DispositionParam::FilenameExt(header::ExtendedValue {
            charset: header::Charset::Ext("UTF-8".into()),
            language_tag: None,
            value: filename.as_bytes().to_vec(),
        })];
    }
    disposition
}

/// Whether the client says that it has these bytes.
fn has(req: &HttpRequest, tag: &EntityTag) -> bool {
    match IfNoneMatch::parse(req) {
        Ok(IfNoneMatch::Any) => true,
        Ok(IfNoneMatch::Items(items)) => items.iter().any(|item| item.weak_eq(tag)),
        Err(_) => false,
    }
}

#[derive(Debug, PartialEq)]
enum Wanted {
    All,
    /// First and last byte.
    Part(u64, u64),
    /// A range that begins behind the end.
    Nothing,
}

/// What to send. Several ranges, a range that makes no sense, and one of bytes that have changed are answered whole
/// (RFC 9110 §14.2).
fn wanted(req: &HttpRequest, tag: &EntityTag, length: u64) -> Wanted {
    if !req.headers().contains_key(header::RANGE) {
        return Wanted::All;
    }
    if req.headers().contains_key(header::IF_RANGE) {
        let same =
            matches!(IfRange::parse(req), Ok(IfRange::EntityTag(held)) if held.strong_eq(tag));
        if !same {
            return Wanted::All;
        }
    }
    let Ok(Range::Bytes(ranges)) = Range::parse(req) else {
        return Wanted::All;
    };
    match *ranges.as_slice() {
        [ByteRangeSpec::FromTo(first, last)] if first > last => Wanted::All,
        [ref range] => match range.to_satisfiable_range(length) {
            Some((first, last)) => Wanted::Part(first, last),
            None => Wanted::Nothing,
        },
        _ => Wanted::All,
    }
}

fn bytes_of(body: ByteStream) -> impl Stream<Item = Result<Bytes, std::io::Error>> {
    stream::try_unfold(body, async |mut body| match body.next().await {
        Some(Ok(bytes)) => Ok(Some((bytes, body))),
        Some(Err(error)) => {
            // The client sees the connection end early.
            tracing::warn!(%error, "a download broke off");
            Err(std::io::Error::other(error))
        }
        None => Ok(None),
    })
}
