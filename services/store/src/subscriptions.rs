//! Who wants what of brokers' messages: a row for every subscription of a session that a broker has.

use rollcall_model::ingest::{Presence, Subscription};
use rollcall_model::{ServiceKind, Session};
use uuid::Uuid;

use crate::TenantConn;

/// Makes the rows what the changed sessions say; each comes with what it was before.
pub(crate) async fn write<'a>(
    tx: &mut TenantConn,
    changed: impl Iterator<Item = (Option<&'a Session>, &'a Session)>,
) -> sqlx::Result<()> {
    let changed = changed.filter(|(before, now)| listed(*before) != listed(Some(now)));
    let (mut stale, mut orgs) = (Vec::new(), Vec::new());
    let mut rows = Rows::default();
    for (before, now) in changed {
        if before.is_some() {
            orgs.push(now.org.0);
            stale.push(now.id.0);
        }
        rows.push(now);
    }
    if !stale.is_empty() {
        sqlx::query!(
            "delete from subscriptions s using unnest($1::uuid[], $2::uuid[]) c(org_id, id)
             where s.org_id = c.org_id and s.session_id = c.id",
            &orgs,
            &stale
        )
        .execute(tx.conn())
        .await?;
    }
    rows.insert(tx).await
}

/// What rows a session has: nothing where no broker has it.
fn listed(session: Option<&Session>) -> Option<(bool, &str, &[Subscription])> {
    let session = session?;
    let facts = &session.connection.as_ref()?.facts;
    let subscriptions = facts.subscriptions.as_deref()?;
    let client_id = facts.client_id.as_deref()?;
    let is_of_broker = session.kind.service() == ServiceKind::Broker;
    let is_there = is_of_broker && facts.presence != Presence::Gone && !subscriptions.is_empty();
    is_there.then_some((
        facts.presence == Presence::Connected,
        client_id,
        subscriptions,
    ))
}

/// Rows as arrays.
#[derive(Default)]
struct Rows<'a> {
    org: Vec<Uuid>,
    session: Vec<Uuid>,
    project: Vec<i64>,
    service: Vec<&'a str>,
    filter: Vec<&'a str>,
    client: Vec<&'a str>,
    qos: Vec<i16>,
    connected: Vec<bool>,
}

impl<'a> Rows<'a> {
    fn push(&mut self, session: &'a Session) {
        let Some((connected, client_id, subscriptions)) = listed(Some(session)) else {
            return;
        };
        for subscription in subscriptions {
            self.org.push(session.org.0);
            self.session.push(session.id.0);
            self.project.push(session.project.get());
            self.service.push(&session.service);
            self.filter.push(&subscription.filter);
            self.client.push(client_id);
            self.qos.push(subscription.qos.into());
            self.connected.push(connected);
        }
    }

    async fn insert(&self, tx: &mut TenantConn) -> sqlx::Result<()> {
        if self.org.is_empty() {
            return Ok(());
        }
        // A source that lists a filter twice means the higher of both.
        sqlx::query!(
            "insert into subscriptions (org_id, session_id, filter, project_id, service, client_id, qos, connected)
             select org_id, session_id, filter, min(project_id), min(service), min(client_id), max(qos), bool_or(connected)
             from unnest($1::uuid[], $2::uuid[], $3::text[], $4::bigint[], $5::text[], $6::text[], $7::smallint[],
                         $8::bool[]) n(org_id, session_id, filter, project_id, service, client_id, qos, connected)
             group by org_id, session_id, filter",
            &self.org,
            &self.session,
            &self.filter as _,
            &self.project,
            &self.service as _,
            &self.client as _,
            &self.qos,
            &self.connected
        )
        .execute(tx.conn())
        .await
        .map(|_| ())
    }
}
