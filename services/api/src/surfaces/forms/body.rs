//! Bodies of the forms surface: JSON, urlencoded and multipart, read within the limits.
//!
//! Files go to S3 as they arrive. Whatever goes wrong while reading, the files stored so far are removed again; what
//! even that misses (the process is killed) is swept.

use std::pin::Pin;

use actix_multipart::{Field, Multipart, MultipartError};
use actix_web::HttpRequest;
use actix_web::error::PayloadError;
use actix_web::http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE};
use actix_web::web::Payload;
use aws_lc_rs::digest::{Context, SHA256};
use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt, TryStreamExt, stream};
use rollcall_model::{
    Attachment, AttachmentId, Limits, ObjectKey, OrgId, Point, PointName, ProjectId, SessionId,
    forms_service,
};
use serde::Deserialize;

use super::fields::FieldPath;
use super::input::{Name, SessionInput, point_name};
use super::json;
use crate::App;
use crate::error::{ApiError, Problem};
use crate::idempotency::Reply;
use crate::memory::Lease;
use crate::objects::Objects;

/// Longest file name and media type, in bytes.
const FILE_TEXT_BYTES: usize = 255;

/// A session as received, its files stored.
#[derive(Debug)]
pub struct Received {
    pub input: SessionInput,
    pub uploads: Uploads,
    /// What the body said, for telling a repeated request from another under the same key.
    pub fingerprint: [u8; 32],
    /// Held as long as what was received.
    pub lease: Lease,
}

/// A body in memory.
#[derive(Debug)]
pub struct Body {
    pub bytes: Bytes,
    lease: Lease,
}

/// Objects that a request stored and no row knows yet.
#[derive(Debug, Default)]
pub struct Uploads(Vec<ObjectKey>);

/// Where a body's files belong.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    pub org: OrgId,
    pub project: ProjectId,
    /// The session, where the path names it.
    pub uuid: Option<&'a str>,
}

/// Reads a session in whichever of the three content types it comes.
pub async fn read_session(
    app: &App,
    req: &HttpRequest,
    payload: Payload,
    target: Target<'_>,
) -> Result<Received, ApiError> {
    match media_type(req)?.as_str() {
        "application/json" => {
            #[derive(Deserialize)]
            struct Envelope {
                session: SessionInput,
            }
            let body = read_json_body(app, req, payload).await?;
            let envelope: Envelope =
                json::parse(&body.bytes, &app.limits).map_err(ApiError::Invalid)?;
            received(body, envelope.session, &app.limits)
        }
        "application/x-www-form-urlencoded" => {
            let body = read_body(app, req, payload).await?;
            let input = parse_urlencoded(&body.bytes, &app.limits).map_err(ApiError::Invalid)?;
            received(body, input, &app.limits)
        }
        "multipart/form-data" => read_multipart(app, req, payload, target).await,
        _ => Err(unsupported()),
    }
}

/// Reads a body that must be JSON.
pub async fn read_json_body(
    app: &App,
    req: &HttpRequest,
    payload: Payload,
) -> Result<Body, ApiError> {
    if media_type(req)? != "application/json" {
        return Err(ApiError::UnsupportedMedia(Problem::new(
            "content_type_unsupported",
            "send this request as application/json",
        )));
    }
    read_body(app, req, payload).await
}

/// The hash of what a body says.
pub fn fingerprint(body: &[u8]) -> [u8; 32] {
    let mut hash = Context::new(&SHA256);
    hash.update(body);
    finish(hash)
}

fn received(body: Body, input: SessionInput, limits: &Limits) -> Result<Received, ApiError> {
    Ok(Received {
        input: input.check(limits).map_err(ApiError::Invalid)?,
        uploads: Uploads::default(),
        fingerprint: fingerprint(&body.bytes),
        lease: body.lease,
    })
}

fn finish(hash: Context) -> [u8; 32] {
    hash.finish()
        .as_ref()
        .try_into()
        .expect("SHA-256 has 32 bytes")
}

fn unsupported() -> ApiError {
    ApiError::UnsupportedMedia(Problem::new(
        "content_type_unsupported",
        "send application/json, application/x-www-form-urlencoded or multipart/form-data",
    ))
}

/// The media type without parameters, in lower case.
pub fn media_type(req: &HttpRequest) -> Result<String, ApiError> {
    if req
        .headers()
        .get(CONTENT_ENCODING)
        .is_some_and(|encoding| !encoding.as_bytes().eq_ignore_ascii_case(b"identity"))
    {
        return Err(ApiError::UnsupportedMedia(Problem::new(
            "content_encoding_unsupported",
            "send the body without Content-Encoding",
        )));
    }
    let Some(value) = req.headers().get(CONTENT_TYPE) else {
        return Err(ApiError::UnsupportedMedia(Problem::new(
            "content_type_missing",
            "the Content-Type header is missing; it says how to read the body",
        )));
    };
    let text = value.to_str().unwrap_or("");
    Ok(text
        .split(';')
        .next()
        .unwrap_or("")
        .trim()
        .to_ascii_lowercase())
}

/// Reads a body into memory, within the limits.
pub async fn read_body(
    app: &App,
    req: &HttpRequest,
    mut payload: Payload,
) -> Result<Body, ApiError> {
    let limit = app.limits.body_bytes;
    let announced = req
        .headers()
        .get(CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|length| length > limit as u64) {
        return Err(body_too_large(limit));
    }
    let mut lease = app.memory.lease();
    let mut bytes = BytesMut::new();
    while let Some(chunk) = payload
        .try_next()
        .await
        .map_err(|error| of_payload(&error))?
    {
        if bytes.len() + chunk.len() > limit {
            return Err(body_too_large(limit));
        }
        // As much again for what is parsed out of it.
        lease.cover((bytes.len() + chunk.len()) * 2).await?;
        bytes.extend_from_slice(&chunk);
    }
    Ok(Body {
        bytes: bytes.freeze(),
        lease,
    })
}

fn body_too_large(limit: usize) -> ApiError {
    ApiError::too_large(
        "body_too_large",
        format!("a body may have at most {limit} bytes without its files (limit: body)"),
    )
}

/// What a client did wrong when its body could not be read to the end.
pub fn of_payload(error: &PayloadError) -> ApiError {
    if let PayloadError::Io(error) = error
        && error.kind() == std::io::ErrorKind::TimedOut
    {
        return ApiError::TimedOut(Problem::new(
            "body_stalled",
            "the body stopped coming (limit: idle); send it again, whole",
        ));
    }
    ApiError::invalid(
        "body_truncated",
        format!("the body ended before its end ({error}); send it again, whole"),
    )
}

/// Parses `a=b&c=d`. Bytes that are no UTF-8 once decoded are refused, not replaced.
pub fn parse_urlencoded(body: &[u8], limits: &Limits) -> Result<SessionInput, Problem> {
    let mut input = SessionInput::default();
    for (at, pair) in body
        .split(|byte| *byte == b'&')
        .filter(|pair| !pair.is_empty())
        .enumerate()
    {
        if at >= max_fields(limits) {
            return Err(too_many_fields(limits));
        }
        let mut halves = pair.splitn(2, |byte| *byte == b'=');
        let name = decode(halves.next().unwrap_or_default())?;
        let value = decode(halves.next().unwrap_or_default())?;
        let path = FieldPath::parse(&name, limits).map_err(|error| of_field(&name, &error))?;
        input.set_field(&path, value, limits)?;
    }
    Ok(input)
}

/// A few fields more than points: those of the session itself, and some that mean nothing here.
fn max_fields(limits: &Limits) -> usize {
    limits.points + 32
}

fn too_many_fields(limits: &Limits) -> Problem {
    Problem::new(
        "too_many_fields",
        format!(
            "a form may have at most {} fields (limit: points)",
            max_fields(limits)
        ),
    )
}

fn decode(text: &[u8]) -> Result<String, Problem> {
    let spaced: Vec<u8> = text
        .iter()
        .map(|byte| if *byte == b'+' { b' ' } else { *byte })
        .collect();
    let bytes: Vec<u8> = percent_encoding::percent_decode(&spaced).collect();
    String::from_utf8(bytes).map_err(|error| {
        let name = String::from_utf8_lossy(text);
        let shown: String = name.chars().take(40).collect();
        Problem::new(
            "utf8_broken",
            format!(
                "`{shown}` is not UTF-8 from byte {} on, once decoded",
                error.utf8_error().valid_up_to()
            ),
        )
    })
}

fn of_field(name: &str, error: &super::fields::InvalidField) -> Problem {
    let shown: String = name.chars().take(80).collect();
    Problem::new(
        "field_invalid",
        format!("the field `{}`: {error}", shown.escape_debug()),
    )
}

async fn read_multipart(
    app: &App,
    req: &HttpRequest,
    payload: Payload,
    target: Target<'_>,
) -> Result<Received, ApiError> {
    let mut form = Form {
        app,
        target,
        // The session that files are stored under until the form names it.
        fallback: uuid::Uuid::new_v4().to_string(),
        input: SessionInput::default(),
        uploads: Uploads::default(),
        hash: Context::new(&SHA256),
        text_bytes: 0,
        lease: app.memory.lease(),
    };
    match form.read(Multipart::new(req.headers(), payload)).await {
        Ok(()) => form.into_received().await,
        Err(error) => {
            form.uploads.discard(&app.objects).await;
            Err(error)
        }
    }
}

/// A multipart form being read.
struct Form<'a> {
    app: &'a App,
    target: Target<'a>,
    fallback: String,
    input: SessionInput,
    uploads: Uploads,
    hash: Context,
    text_bytes: usize,
    /// Covers the texts; each file has its own while it is stored.
    lease: Lease,
}

impl Form<'_> {
    async fn read(&mut self, mut multipart: Multipart) -> Result<(), ApiError> {
        let limits = self.app.limits;
        let mut count = 0;
        while let Some(field) = multipart.try_next().await.map_err(of_multipart)? {
            count += 1;
            if count > max_fields(&limits) {
                return Err(ApiError::Invalid(too_many_fields(&limits)));
            }
            let name = field.name().unwrap_or_default().to_owned();
            let path = FieldPath::parse(&name, &limits)
                .map_err(|e| ApiError::Invalid(of_field(&name, &e)))?;
            self.note(name.as_bytes());
            match filename(&field) {
                Some(filename) => self.file(&path, &name, filename, field).await?,
                None => self.text(&path, &name, field).await?,
            }
        }
        Ok(())
    }

    async fn text(
        &mut self,
        path: &FieldPath<'_>,
        name: &str,
        mut field: Field,
    ) -> Result<(), ApiError> {
        let limits = self.app.limits;
        let mut value = BytesMut::new();
        while let Some(chunk) = field.try_next().await.map_err(of_multipart)? {
            self.text_bytes += chunk.len();
            if self.text_bytes > limits.body_bytes {
                return Err(body_too_large(limits.body_bytes));
            }
            self.lease.cover(self.text_bytes * 2).await?;
            value.extend_from_slice(&chunk);
        }
        self.note(&value);
        let text = String::from_utf8(value.to_vec()).map_err(|error| {
            let at = error.utf8_error().valid_up_to();
            ApiError::invalid(
                "utf8_broken",
                format!("the field `{name}` is not UTF-8 from byte {at} on"),
            )
        })?;
        self.input
            .set_field(path, text, &limits)
            .map_err(ApiError::Invalid)
    }

    async fn file(
        &mut self,
        path: &FieldPath<'_>,
        name: &str,
        filename: String,
        field: Field,
    ) -> Result<(), ApiError> {
        let limits = self.app.limits;
        let ("session", ["data", point]) = (path.root, path.keys.as_slice()) else {
            return Err(ApiError::invalid(
                "file_misplaced",
                format!(
                    "the field `{}` may not be a file; a file goes in session[data][<point>]",
                    name.escape_debug()
                ),
            ));
        };
        let point = point_name(point, &limits).map_err(ApiError::Invalid)?;
        let content_type = field.content_type().map(ToString::to_string);
        let chunks = field.map_err(of_multipart);
        let Some(chunks) = peeked(chunks).await? else {
            if filename.is_empty() {
                // What a browser sends where no file was chosen.
                return Ok(());
            }
            return Err(empty_file(point.as_str()));
        };
        let uuid = self.target.uuid.unwrap_or_else(|| {
            self.input
                .uuid
                .as_ref()
                .map_or(&self.fallback, |name| &name.0)
        });
        let key = object_key(&self.target, uuid);
        self.uploads.0.push(key);
        let attachment =
            store_file(self.app, key, &point, Some(&filename), content_type, chunks).await?;
        self.note(attachment.filename.as_bytes());
        self.note(attachment.content_type.as_bytes());
        self.note(attachment.sha256.as_bytes());
        self.input
            .set_point(point.as_str(), Point::Attachment(attachment), &limits)
            .map_err(ApiError::Invalid)
    }

    /// Adds to the fingerprint; lengths keep two fields from looking like one.
    fn note(&mut self, bytes: &[u8]) {
        self.hash.update(&(bytes.len() as u64).to_be_bytes());
        self.hash.update(bytes);
    }

    async fn into_received(mut self) -> Result<Received, ApiError> {
        if self.target.uuid.is_none() && !self.uploads.0.is_empty() {
            let uuid = self
                .input
                .uuid
                .get_or_insert_with(|| Name(self.fallback.clone()))
                .0
                .clone();
            if let Err(error) = self.settle_under(&uuid).await {
                self.uploads.discard(&self.app.objects).await;
                return Err(error);
            }
        }
        Ok(Received {
            input: self.input,
            uploads: self.uploads,
            fingerprint: finish(self.hash),
            lease: self.lease,
        })
    }

    /// Files that came before the session's name are moved to where it belongs: a key begins with its session.
    async fn settle_under(&mut self, uuid: &str) -> Result<(), ApiError> {
        let session = SessionId::of(self.target.org, &forms_service(self.target.project), uuid);
        for key in &mut self.uploads.0 {
            if key.session != session {
                let moved = ObjectKey { session, ..*key };
                self.app.objects.rename(key, &moved).await?;
                *key = moved;
            }
        }
        Ok(())
    }
}

fn object_key(target: &Target<'_>, uuid: &str) -> ObjectKey {
    ObjectKey {
        org: target.org,
        project: target.project,
        session: SessionId::of(target.org, &forms_service(target.project), uuid),
        attachment: AttachmentId::generate(),
    }
}

/// The key for a new file of a session.
pub fn new_object(org: OrgId, project: ProjectId, uuid: &str) -> ObjectKey {
    object_key(
        &Target {
            org,
            project,
            uuid: None,
        },
        uuid,
    )
}

/// The error for a file without bytes.
pub fn empty_file(point: &str) -> ApiError {
    ApiError::invalid(
        "file_empty",
        format!("the file for the point {point} has no bytes; send it again, whole"),
    )
}

/// Looks whether a stream has any bytes; gives it back whole where it has.
pub async fn peeked<S>(
    mut chunks: S,
) -> Result<Option<Pin<Box<dyn Stream<Item = Result<Bytes, ApiError>>>>>, ApiError>
where
    S: Stream<Item = Result<Bytes, ApiError>> + Unpin + 'static,
{
    while let Some(chunk) = chunks.try_next().await? {
        if !chunk.is_empty() {
            return Ok(Some(Box::pin(
                stream::once(async { Ok(chunk) }).chain(chunks),
            )));
        }
    }
    Ok(None)
}

/// Stores one file and describes it.
pub async fn store_file(
    app: &App,
    key: ObjectKey,
    point: &PointName,
    filename: Option<&str>,
    content_type: Option<String>,
    chunks: impl Stream<Item = Result<Bytes, ApiError>> + Unpin,
) -> Result<Attachment, ApiError> {
    let filename = clean_filename(filename.unwrap_or_default(), point)?;
    let content_type = content_type
        .filter(|media| media.len() <= FILE_TEXT_BYTES)
        .unwrap_or_else(|| "application/octet-stream".to_owned());
    let stored = app
        .objects
        .put(&key, app.limits.file_bytes, &mut app.memory.lease(), chunks)
        .await?;
    Ok(Attachment {
        filename,
        content_type,
        length: stored.length,
        md5: stored.md5,
        sha256: stored.sha256,
        id: key.attachment,
    })
}

/// The file's name as the part gives it; a part without one is a text.
pub fn filename(field: &Field) -> Option<String> {
    let disposition = field.content_disposition()?;
    let extended = disposition
        .get_filename_ext()
        .and_then(|extended| String::from_utf8(extended.value.clone()).ok());
    extended.or_else(|| disposition.get_filename().map(str::to_owned))
}

/// Without any folder (M20); the point's name where nothing is left.
fn clean_filename(given: &str, point: &PointName) -> Result<String, ApiError> {
    if given.chars().any(char::is_control) {
        return Err(ApiError::invalid(
            "filename_invalid",
            format!("the name of the file for the point {point} contains control characters"),
        ));
    }
    let name = given.rsplit(['/', '\\']).next().unwrap_or_default();
    if name.len() > FILE_TEXT_BYTES {
        return Err(ApiError::invalid(
            "filename_invalid",
            format!(
                "the name of the file for the point {point} has more than {FILE_TEXT_BYTES} bytes"
            ),
        ));
    }
    Ok(match name {
        "" | "." | ".." => point.as_str(),
        name => name,
    }
    .to_owned())
}

/// What a client did wrong when its multipart body could not be read.
pub fn of_multipart(error: MultipartError) -> ApiError {
    match error {
        MultipartError::BoundaryMissing => ApiError::invalid(
            "boundary_wrong",
            "the multipart body's boundary is missing: name it in the Content-Type header, and put it between parts",
        ),
        MultipartError::Incomplete => ApiError::invalid(
            "body_truncated",
            "the multipart body ended before its closing boundary; send it again, whole",
        ),
        MultipartError::Payload(error) => of_payload(&error),
        error => ApiError::invalid(
            "multipart_broken",
            format!("the multipart body is broken: {error}"),
        ),
    }
}

impl Uploads {
    /// The object of a request that stores one file.
    pub fn one(key: ObjectKey) -> Self {
        Self(vec![key])
    }

    /// Removes the objects that did not come to belong to a session. Where it is not known whether the write happened,
    /// all stay: those without a row are swept.
    pub async fn settle(&mut self, objects: &Objects, reply: &Result<Reply, ApiError>) {
        match reply {
            Ok(reply) => self.0.retain(|key| !reply.holds(key.attachment)),
            Err(error) if error.is_definite() => {}
            Err(_) => return,
        }
        self.discard(objects).await;
    }

    /// Removes every object; what cannot be removed now is swept later.
    pub async fn discard(&mut self, objects: &Objects) {
        let keys: Vec<String> = self.0.drain(..).map(|key| key.to_string()).collect();
        for keys in keys.chunks(1_000) {
            if let Err(error) = objects.delete(keys).await {
                tracing::warn!(%error, "files of a failed or repeated request are left to the sweep");
            }
        }
    }
}
