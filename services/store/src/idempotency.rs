//! Answers already given under an `Idempotency-Key`.

use crate::TenantConn;

/// What a key stands for now.
#[derive(Debug)]
pub enum Claim {
    /// The key is this transaction's; call [`complete`] before it commits.
    New,
    /// The same request was answered so before.
    Answered { status: u16, body: Vec<u8> },
    /// The key was used for another request.
    Reused,
}

/// Takes `key` for the request that `fingerprint` describes. Waits where another transaction holds it, so that of equal
/// requests at once one does the work and the rest get its answer. Keys are forgotten after 24 hours.
pub async fn claim(
    tx: &mut TenantConn,
    key_id: &str,
    key: &str,
    fingerprint: &[u8],
) -> sqlx::Result<Claim> {
    let taken = sqlx::query_scalar!(
        r#"insert into idempotency_keys as held (org_id, key_id, key, fingerprint) values ($1, $2, $3, $4)
           on conflict (org_id, key_id, key) do update
           set fingerprint = excluded.fingerprint, status = null, body = null, created_at = now()
           where held.created_at < now() - interval '24 hours'
           returning true as "taken!""#,
        tx.org().0,
        key_id,
        key,
        fingerprint
    )
    .fetch_optional(tx.conn())
    .await?;
    if taken.is_some() {
        return Ok(Claim::New);
    }
    let held = sqlx::query!(
        r#"select fingerprint, status as "status!", body as "body!" from idempotency_keys
           where org_id = $1 and key_id = $2 and key = $3"#,
        tx.org().0,
        key_id,
        key
    )
    .fetch_one(tx.conn())
    .await?;
    if held.fingerprint != fingerprint {
        return Ok(Claim::Reused);
    }
    Ok(Claim::Answered {
        status: u16::try_from(held.status).unwrap_or(200),
        body: held.body,
    })
}

/// Keeps the answer with the key, in the transaction that did the work.
pub async fn complete(
    tx: &mut TenantConn,
    key_id: &str,
    key: &str,
    status: u16,
    body: &[u8],
) -> sqlx::Result<()> {
    sqlx::query!(
        "update idempotency_keys set status = $4, body = $5 where org_id = $1 and key_id = $2 and key = $3",
        tx.org().0,
        key_id,
        key,
        i16::try_from(status).expect("an HTTP status has three digits"),
        body
    )
    .execute(tx.conn())
    .await
    .map(|_| ())
}

/// Forgets keys older than 24 hours, at most `limit` of them; answers how many.
pub async fn expire(tx: &mut TenantConn, limit: i64) -> sqlx::Result<u64> {
    sqlx::query!(
        "delete from idempotency_keys where org_id = $1 and (key_id, key) in (
             select key_id, key from idempotency_keys
             where org_id = $1 and created_at < now() - interval '24 hours' limit $2)",
        tx.org().0,
        limit
    )
    .execute(tx.conn())
    .await
    .map(|done| done.rows_affected())
}
