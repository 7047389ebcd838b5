//! Attachments' bytes in S3: streamed in, hashed on the way, streamed out by range, deleted.
//!
//! Invariant: no more than one part of a file is in memory, covered by the lease that the caller brings.

use std::sync::Arc;
use std::time::{Duration, Instant};

use actix_web::rt::spawn;
use aws_lc_rs::digest::{Context, SHA256};
use aws_sdk_s3::Client;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{RequestChecksumCalculation, ResponseChecksumValidation};
use aws_sdk_s3::error::{DisplayErrorContext, SdkError};
use aws_sdk_s3::operation::get_object::{GetObjectError, GetObjectOutput};
use aws_sdk_s3::presigning::PresigningConfig;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart, Delete, ObjectIdentifier};
use bytes::{Bytes, BytesMut};
use data_encoding::{BASE64, HEXLOWER};
use futures_util::{Stream, TryStreamExt};
use md5::{Digest, Md5};
use rollcall_model::ObjectKey;
use rollcall_telemetry::{Direction, DirectionLabels, Metrics, S3OperationLabels, S3RequestLabels};

use crate::config::S3Args;
use crate::error::{ApiError, Problem};
use crate::memory::Lease;

/// S3 takes at most 10,000 parts of at least 5 MiB; at this size that is 78 GiB.
const PART_BYTES: usize = 8 << 20;
/// What a file's buffer begins with.
const FIRST_BYTES: usize = 64 << 10;

/// The bucket.
#[derive(Clone)]
pub struct Objects {
    client: Client,
    bucket: String,
    metrics: Arc<Metrics>,
    /// For links that clients follow, and how long they hold.
    public: Option<(Client, Duration)>,
}

/// What was stored.
#[derive(Clone, Debug)]
pub struct Stored {
    pub length: u64,
    /// Lower-case hexadecimal.
    pub md5: String,
    /// Lower-case hexadecimal.
    pub sha256: String,
}

/// An object in the bucket, as a listing shows it.
#[derive(Clone, Debug)]
pub struct Listed {
    pub key: String,
    /// Seconds since 1970.
    pub modified: i64,
}

impl Objects {
    /// A client with AWS's usual credential chain.
    pub async fn from_environment(args: &S3Args, metrics: Arc<Metrics>) -> Self {
        let shared = aws_config::defaults(aws_config::BehaviorVersion::latest())
            .load()
            .await;
        Self::new(aws_sdk_s3::config::Builder::from(&shared), args, metrics)
    }

    /// A client from a configuration that already has credentials and a region.
    pub fn new(config: aws_sdk_s3::config::Builder, args: &S3Args, metrics: Arc<Metrics>) -> Self {
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(Duration::from_secs(3))
            .read_timeout(Duration::from_secs(30))
            .operation_attempt_timeout(Duration::from_secs(120))
            .build();
        let mut config = config
            .timeout_config(timeouts)
            .force_path_style(args.s3_path_style)
            // Checksums in trailers are refused by some servers; each object's SHA-256 goes in a header instead.
            .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
            .response_checksum_validation(ResponseChecksumValidation::WhenRequired);
        if let Some(endpoint) = &args.s3_endpoint {
            config = config.endpoint_url(endpoint);
        }
        let client = Client::from_conf(config.build());
        let public = args.s3_public_endpoint.as_ref().map(|endpoint| {
            let config = client.config().to_builder().endpoint_url(endpoint);
            let life = Duration::from_secs(args.s3_link_seconds);
            (Client::from_conf(config.build()), life)
        });
        Self {
            client,
            bucket: args.s3_bucket.clone(),
            metrics,
            public,
        }
    }

    /// Whether the bucket is there and answers.
    pub async fn ping(&self) -> Result<(), ApiError> {
        self.timed(
            "head_bucket",
            self.client.head_bucket().bucket(&self.bucket).send(),
        )
        .await
        .map(|_| ())
    }

    /// Stores a file of at most `limit` bytes; on any error nothing of it is left, or the sweep finds it.
    pub async fn put(
        &self,
        key: &ObjectKey,
        limit: u64,
        lease: &mut Lease,
        mut chunks: impl Stream<Item = Result<Bytes, ApiError>> + Unpin,
    ) -> Result<Stored, ApiError> {
        let key = key.to_string();
        let mut sums = Sums::new();
        let mut part = BytesMut::new();
        let mut upload: Option<Multipart> = None;
        while let Some(mut chunk) = chunks.try_next().await? {
            sums.add(&chunk);
            if sums.length > limit {
                return Err(ApiError::too_large(
                    "file_too_large",
                    format!(
                        "a file may have at most {limit} bytes (limit: file); send a smaller one"
                    ),
                ));
            }
            let needed = (part.len() + chunk.len()).min(PART_BYTES);
            if needed > part.capacity() {
                // Doubled, as it would grow by itself; but never beyond what is covered.
                let capacity = needed.next_power_of_two().clamp(FIRST_BYTES, PART_BYTES);
                lease.cover(capacity).await?;
                part.reserve(capacity - part.len());
            }
            while part.len() + chunk.len() >= PART_BYTES {
                part.extend_from_slice(&chunk.split_to(PART_BYTES - part.len()));
                let multipart = match &mut upload {
                    Some(multipart) => multipart,
                    None => upload.insert(self.begin(&key).await?),
                };
                part = multipart.send(part).await?;
            }
            part.extend_from_slice(&chunk);
        }
        let stored = sums.finish();
        match upload {
            Some(mut multipart) => {
                if !part.is_empty() {
                    multipart.send(part).await?;
                }
                multipart.complete().await?;
            }
            None => self.put_whole(&key, part.freeze(), &stored.sha256).await?,
        }
        let direction = DirectionLabels {
            direction: Direction::In,
        };
        self.metrics
            .attachment_bytes_total
            .get_or_create(&direction)
            .inc_by(stored.length);
        Ok(stored)
    }

    async fn put_whole(&self, key: &str, bytes: Bytes, sha256: &str) -> Result<(), ApiError> {
        let sha256 = HEXLOWER
            .decode(sha256.as_bytes())
            .expect("our own hexadecimal");
        let request = self
            .client
            .put_object()
            .bucket(&self.bucket)
            .key(key)
            .checksum_sha256(BASE64.encode(&sha256))
            .content_type("application/octet-stream")
            .body(ByteStream::from(bytes));
        self.timed("put_object", request.send()).await.map(|_| ())
    }

    async fn begin(&self, key: &str) -> Result<Multipart, ApiError> {
        let request = self
            .client
            .create_multipart_upload()
            .bucket(&self.bucket)
            .key(key)
            .content_type("application/octet-stream");
        let created = self
            .timed("create_multipart_upload", request.send())
            .await?;
        let id = created
            .upload_id()
            .ok_or_else(|| anyhow::anyhow!("S3 gave a multipart upload no id"))?;
        Ok(Multipart {
            objects: self.clone(),
            key: key.to_owned(),
            id: id.to_owned(),
            parts: Vec::new(),
            is_complete: false,
        })
    }

    /// An object's bytes from `first` to `last`, both included.
    pub async fn get(
        &self,
        key: &ObjectKey,
        range: Option<(u64, u64)>,
    ) -> Result<Option<GetObjectOutput>, ApiError> {
        let range = range.map(|(first, last)| format!("bytes={first}-{last}"));
        let request = self
            .client
            .get_object()
            .bucket(&self.bucket)
            .key(key.to_string())
            .set_range(range);
        let started = Instant::now();
        let answer = request.send().await;
        self.note("get_object", answer.is_ok(), started);
        match answer {
            Ok(object) => Ok(Some(object)),
            Err(error) => match error.as_service_error() {
                Some(GetObjectError::NoSuchKey(_)) => Ok(None),
                _ => Err(away(&error)),
            },
        }
    }

    /// A link that whoever has it may read the object by, for some minutes; none where clients cannot reach S3.
    pub async fn presigned(
        &self,
        key: &ObjectKey,
        disposition: String,
    ) -> Result<Option<String>, ApiError> {
        let Some((client, life)) = &self.public else {
            return Ok(None);
        };
        let presigning = PresigningConfig::expires_in(*life)
            .map_err(|error| anyhow::Error::new(error).context("bound a link's life"))?;
        let request = client
            .get_object()
            .bucket(&self.bucket)
            .key(key.to_string())
            .response_content_type("application/octet-stream")
            .response_content_disposition(disposition)
            .presigned(presigning);
        let request = request.await.map_err(|error| away(&error))?;
        Ok(Some(request.uri().to_owned()))
    }

    /// Copies an object and deletes the first: for a file that came before its session's name was known.
    pub async fn rename(&self, from: &ObjectKey, to: &ObjectKey) -> Result<(), ApiError> {
        let source = format!("{}/{from}", self.bucket);
        let request = self
            .client
            .copy_object()
            .bucket(&self.bucket)
            .copy_source(source)
            .key(to.to_string());
        self.timed("copy_object", request.send()).await?;
        self.delete(&[from.to_string()]).await
    }

    /// Deletes objects, at most 1,000; one that is not there is deleted already.
    pub async fn delete(&self, keys: &[String]) -> Result<(), ApiError> {
        if keys.is_empty() {
            return Ok(());
        }
        let objects: Result<Vec<_>, _> = keys
            .iter()
            .map(|key| ObjectIdentifier::builder().key(key).build())
            .collect();
        let list = objects.and_then(|objects| {
            Delete::builder()
                .set_objects(Some(objects))
                .quiet(true)
                .build()
        });
        let list = list.map_err(|error| anyhow::Error::new(error).context("build a deletion"))?;
        let request = self
            .client
            .delete_objects()
            .bucket(&self.bucket)
            .delete(list);
        let done = self.timed("delete_objects", request.send()).await?;
        match done.errors().first() {
            None => Ok(()),
            Some(error) => Err(ApiError::Internal(anyhow::anyhow!(
                "S3 did not delete {}: {}",
                error.key().unwrap_or("an object"),
                error.message().unwrap_or("no reason given")
            ))),
        }
    }

    /// Up to 1,000 objects whose keys begin with `prefix`, after `after`, in the order of their keys.
    pub async fn list(&self, prefix: &str, after: Option<String>) -> Result<Vec<Listed>, ApiError> {
        let request = self
            .client
            .list_objects_v2()
            .bucket(&self.bucket)
            .prefix(prefix)
            .set_start_after(after);
        let page = self.timed("list_objects", request.send()).await?;
        let listed = |object: &aws_sdk_s3::types::Object| {
            Some(Listed {
                key: object.key()?.to_owned(),
                modified: object
                    .last_modified()
                    .map_or(i64::MAX, aws_sdk_s3::primitives::DateTime::secs),
            })
        };
        Ok(page.contents().iter().filter_map(listed).collect())
    }

    async fn timed<T, E, R>(
        &self,
        operation: &'static str,
        request: impl Future<Output = Result<T, SdkError<E, R>>>,
    ) -> Result<T, ApiError>
    where
        E: std::error::Error + 'static,
        R: std::fmt::Debug,
    {
        let started = Instant::now();
        let answer = request.await;
        self.note(operation, answer.is_ok(), started);
        answer.map_err(|error| away(&error))
    }
}

impl Objects {
    fn note(&self, operation: &'static str, is_ok: bool, started: Instant) {
        let outcome = if is_ok { "ok" } else { "error" };
        self.metrics
            .s3_requests_total
            .get_or_create(&S3RequestLabels { operation, outcome })
            .inc();
        let duration = self
            .metrics
            .s3_request_duration_seconds
            .get_or_create(&S3OperationLabels { operation });
        duration.observe(started.elapsed().as_secs_f64());
    }
}

/// Whatever S3 fails at, the client's part was right and may be repeated.
fn away<E, R>(error: &SdkError<E, R>) -> ApiError
where
    E: std::error::Error + 'static,
    R: std::fmt::Debug,
{
    tracing::warn!(error = %DisplayErrorContext(error), "s3 did not do its part");
    ApiError::Unavailable(Problem::new(
        "storage_unavailable",
        "the storage for files is not available right now; repeat the request in a moment",
    ))
}

/// A multipart upload to S3; given up when dropped before [`Self::complete`].
struct Multipart {
    objects: Objects,
    key: String,
    id: String,
    parts: Vec<CompletedPart>,
    is_complete: bool,
}

impl Multipart {
    /// Sends one part and gives an empty buffer for the next.
    async fn send(&mut self, part: BytesMut) -> Result<BytesMut, ApiError> {
        let number = i32::try_from(self.parts.len() + 1).unwrap_or(i32::MAX);
        let request = self
            .objects
            .client
            .upload_part()
            .bucket(&self.objects.bucket)
            .key(&self.key)
            .upload_id(&self.id)
            .part_number(number)
            .body(ByteStream::from(part.freeze()));
        let sent = self.objects.timed("upload_part", request.send()).await?;
        let part = CompletedPart::builder()
            .part_number(number)
            .set_e_tag(sent.e_tag);
        self.parts.push(part.build());
        Ok(BytesMut::with_capacity(PART_BYTES))
    }

    async fn complete(mut self) -> Result<(), ApiError> {
        let parts = std::mem::take(&mut self.parts);
        let request = self
            .objects
            .client
            .complete_multipart_upload()
            .bucket(&self.objects.bucket)
            .key(&self.key)
            .upload_id(&self.id)
            .multipart_upload(
                CompletedMultipartUpload::builder()
                    .set_parts(Some(parts))
                    .build(),
            );
        self.objects
            .timed("complete_multipart_upload", request.send())
            .await?;
        self.is_complete = true;
        Ok(())
    }
}

impl Drop for Multipart {
    fn drop(&mut self) {
        if self.is_complete {
            return;
        }
        let abort = self
            .objects
            .client
            .abort_multipart_upload()
            .bucket(&self.objects.bucket)
            .key(&self.key)
            .upload_id(&self.id)
            .send();
        // What this misses (the process is killed) is the bucket's lifecycle rule's to abort.
        spawn(async move {
            if let Err(error) = abort.await {
                tracing::debug!(error = %DisplayErrorContext(&error), "a multipart upload was not aborted");
            }
        });
    }
}

/// Length and hashes of a stream.
struct Sums {
    length: u64,
    md5: Md5,
    sha256: Context,
}

impl Sums {
    fn new() -> Self {
        Self {
            length: 0,
            md5: Md5::new(),
            sha256: Context::new(&SHA256),
        }
    }

    fn add(&mut self, chunk: &[u8]) {
        self.length += chunk.len() as u64;
        self.md5.update(chunk);
        self.sha256.update(chunk);
    }

    fn finish(self) -> Stored {
        Stored {
            length: self.length,
            md5: HEXLOWER.encode(&self.md5.finalize()),
            sha256: HEXLOWER.encode(self.sha256.finish().as_ref()),
        }
    }
}
