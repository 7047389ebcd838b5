//! Gaps: events that a service will never have. Reading them is [`crate::services`]'s.

use rollcall_model::ingest::Gap;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::TenantConn;

/// A gap as a relay tells of it.
#[derive(Clone, Debug)]
pub struct NewGap {
    pub service: String,
    /// The id of the event that tells of it.
    pub id: Uuid,
    pub at: OffsetDateTime,
    pub gap: Gap,
}

/// Stores gaps; answers the services and ids of those that were not there yet.
pub async fn insert(tx: &mut TenantConn, gaps: &[NewGap]) -> sqlx::Result<Vec<(String, Uuid)>> {
    if gaps.is_empty() {
        return Ok(Vec::new());
    }
    let service: Vec<String> = gaps.iter().map(|gap| gap.service.clone()).collect();
    let id: Vec<Uuid> = gaps.iter().map(|gap| gap.id).collect();
    let at: Vec<OffsetDateTime> = gaps.iter().map(|gap| gap.at).collect();
    let events: Vec<Option<i64>> = gaps
        .iter()
        .map(|gap| gap.gap.events.and_then(|events| events.try_into().ok()))
        .collect();
    let since: Vec<Option<OffsetDateTime>> = gaps.iter().map(|gap| gap.gap.since).collect();
    let until: Vec<Option<OffsetDateTime>> = gaps.iter().map(|gap| gap.gap.until).collect();
    let reason: Vec<String> = gaps.iter().map(|gap| gap.gap.reason.clone()).collect();
    // In one order, so that two batches at once wait for each other.
    let rows = sqlx::query!(
        "insert into gaps (org_id, service, id, at, events, since, until, reason)
         select $1, n.* from unnest($2::text[], $3::uuid[], $4::timestamptz[], $5::bigint[], $6::timestamptz[],
                                    $7::timestamptz[], $8::text[])
                            n(service, id, at, events, since, until, reason)
         order by n.service, n.id
         on conflict (org_id, service, id) do nothing
         returning service, id",
        tx.org().0,
        &service,
        &id,
        &at,
        &events as _,
        &since as _,
        &until as _,
        &reason
    )
    .fetch_all(tx.conn())
    .await?;
    Ok(rows.into_iter().map(|row| (row.service, row.id)).collect())
}
