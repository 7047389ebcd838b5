//! The rows of the files that sessions came to hold, or let go.

use std::collections::BTreeMap;

use rollcall_model::{Attachment, Session};
use uuid::Uuid;

use super::Plan;
use crate::TenantConn;

/// Gives every attachment that a session came to hold its row, and retires the rows of those that it let go.
pub async fn write(tx: &mut TenantConn, plans: &[Plan]) -> sqlx::Result<()> {
    let mut taken: Vec<(&Session, &str, &Attachment)> = Vec::new();
    let (mut retired_orgs, mut retired): (Vec<Uuid>, Vec<Uuid>) = (Vec::new(), Vec::new());
    for plan in plans {
        let mut before = files(plan.base.as_ref());
        for step in &plan.steps {
            let after = files(Some(&step.session));
            let new = after.iter().filter(|(id, _)| !before.contains_key(id));
            taken.extend(new.map(|(_, (point, file))| (&step.session, *point, *file)));
            for id in before.keys().filter(|id| !after.contains_key(id)) {
                retired_orgs.push(step.session.org.0);
                retired.push(*id);
            }
            before = after;
        }
    }
    if !retired.is_empty() {
        sqlx::query!(
            "update attachments a set retired_at = now()
             from unnest($1::uuid[], $2::uuid[]) r(org_id, id)
             where a.org_id = r.org_id and a.id = r.id",
            &retired_orgs,
            &retired
        )
        .execute(tx.conn())
        .await?;
    }
    if taken.is_empty() {
        return Ok(());
    }
    insert(tx, &taken, &retired).await
}

async fn insert(
    tx: &mut TenantConn,
    taken: &[(&Session, &str, &Attachment)],
    retired: &[Uuid],
) -> sqlx::Result<()> {
    let org: Vec<Uuid> = taken.iter().map(|(session, ..)| session.org.0).collect();
    let id: Vec<Uuid> = taken.iter().map(|(.., file)| file.id.0).collect();
    let project: Vec<i64> = taken
        .iter()
        .map(|(session, ..)| session.project.get())
        .collect();
    let session: Vec<Uuid> = taken.iter().map(|(session, ..)| session.id.0).collect();
    let point: Vec<String> = taken
        .iter()
        .map(|(_, point, _)| (*point).to_owned())
        .collect();
    let filename: Vec<String> = taken
        .iter()
        .map(|(.., file)| file.filename.clone())
        .collect();
    let content_type: Vec<String> = taken
        .iter()
        .map(|(.., file)| file.content_type.clone())
        .collect();
    let length: Vec<i64> = taken
        .iter()
        .map(|(.., file)| i64::try_from(file.length).unwrap_or(i64::MAX))
        .collect();
    let md5: Vec<String> = taken.iter().map(|(.., file)| file.md5.clone()).collect();
    let sha256: Vec<String> = taken.iter().map(|(.., file)| file.sha256.clone()).collect();
    sqlx::query!(
        "insert into attachments (org_id, id, project_id, session_id, point, filename, content_type, length, md5,
                                  sha256, retired_at)
         select n.*, case when n.id = any($11) then now() end
         from unnest($1::uuid[], $2::uuid[], $3::bigint[], $4::uuid[], $5::text[], $6::text[], $7::text[],
                     $8::bigint[], $9::text[], $10::text[])
              n(org_id, id, project_id, session_id, point, filename, content_type, length, md5, sha256)",
        &org,
        &id,
        &project,
        &session,
        &point,
        &filename,
        &content_type,
        &length,
        &md5,
        &sha256,
        retired
    )
    .execute(tx.conn())
    .await
    .map(|_| ())
}

/// The files that a session holds, by id.
fn files(session: Option<&Session>) -> BTreeMap<Uuid, (&str, &Attachment)> {
    let points = session.into_iter().flat_map(|session| &session.points);
    points
        .filter_map(|(name, point)| Some((name.as_str(), point.attachment()?)))
        .map(|(name, file)| (file.id.0, (name, file)))
        .collect()
}
