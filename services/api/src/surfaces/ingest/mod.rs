//! The ingest surface: relays forward what happened at the services that they watch.
//!
//! Invariant: an answer leaves after the commit, and an event that it calls `stored` or `repeated` is in the store.

pub mod batch;
mod body;
pub mod commands;
pub mod wire;

use std::collections::{BTreeMap, HashMap, HashSet};

use actix_web::{HttpRequest, HttpResponse, post, web};
use rollcall_model::command::CommandReport;
use rollcall_model::ingest::{Verdict, VerdictStatus, Verdicts};
use rollcall_model::{Kind, Op, ProjectId, Rejection, ServiceKind, SessionChange};
use rollcall_store::changes::{self, Outcome};
use rollcall_store::commands::{self as store_commands, Command};
use rollcall_store::relays::{self, Relay};
use rollcall_store::services::Standing;
use rollcall_store::{TenantConn, gaps, services};
use rollcall_telemetry::SessionChangeLabels;
use serde_json::json;
use time::OffsetDateTime;
use uuid::Uuid;

use self::batch::{ReadBatch, ReadEvent, Refusal, What};
use crate::App;
use crate::auth::{Allow, Principal, perm};
use crate::error::{ApiError, JsonApiErrors, Problem, Style};
use crate::surfaces::resources::Common;
use crate::surfaces::resources::asked::Asked;

/// Forward a batch of events
///
/// For relays, with the key that `rollcall-api admin relay create` printed. Every event gets a verdict of its own, in order:
/// `stored`, `repeated` (it was there already) or `refused` (it will not be taken, however often it is sent). Whatever the
/// answer was, or where none came, a batch may be sent again: an event is known by its id.
#[utoipa::path(
    tag = "ingest",
    params(
        Common,
        ("Content-Encoding" = Option<String>, Header, description = "`gzip` or `zstd`; without one the body is plain JSON."),
    ),
    request_body(content = wire::Batch),
    security(("basic" = []), ("bearer" = [])),
    responses(
        (status = 200, description = "Everything that the verdicts call stored is.", body = wire::Verdicts),
        (status = 413, description = "More than 5,000 events, or more bytes than 1 MiB packed or 16 MiB unpacked.", body = JsonApiErrors),
        (status = 415, description = "Not `application/json`, or packed otherwise than by gzip or zstd.", body = JsonApiErrors),
    ),
)]
#[post("/ingest")]
pub async fn forward_events(
    allow: Allow<perm::Ingest>,
    asked: Asked,
    req: HttpRequest,
    payload: web::Payload,
    app: web::Data<App>,
) -> Result<HttpResponse, ApiError> {
    let who = allow.who;
    let style = Style {
        media_type: Style::PLAIN.media_type,
        ..asked.style()?
    };
    // Before the body: a stranger's is not read.
    let relay = find_relay(&app, &who).await?;
    let body = body::read(&app, &req, payload).await?;
    let batch = batch::read(&body.bytes)?;
    drop(body.bytes);
    let verdicts = app
        .db
        .tenant(who.org, async |tx| {
            let writer = Writer::new(&who, &relay)?;
            writer.store(tx, &app, batch).await
        })
        .await?;
    drop(body.lease);
    let verdicts = Verdicts { verdicts };
    log_refusals(&relay, &verdicts);
    let bytes = style
        .json(&verdicts)
        .map_err(|error| anyhow::Error::new(error).context("write the verdicts"))?;
    Ok(HttpResponse::Ok()
        .content_type(style.media_type)
        .body(bytes))
}

/// The relay whose key it is.
async fn find_relay(app: &App, who: &Principal) -> Result<Relay, ApiError> {
    let find = async |tx: &mut TenantConn| relays::find_by_key(tx, &who.key_id).await;
    app.db.tenant(who.org, find).await?.ok_or_else(|| {
        ApiError::Forbidden(Problem::new(
            "not_a_relay",
            "this key is no relay's; make a relay with `rollcall-api admin relay create`, and use the key that it prints",
        ))
    })
}

/// A relay that sets events aside needs someone to look.
fn log_refusals(relay: &Relay, verdicts: &Verdicts) {
    let mut refused = verdicts
        .verdicts
        .iter()
        .filter(|verdict| verdict.status == VerdictStatus::Refused);
    if let Some(first) = refused.next() {
        let code = first.code.as_deref().unwrap_or_default();
        tracing::warn!(
            relay = %relay.id,
            events = refused.count() + 1,
            code,
            "events of a relay were refused"
        );
    }
}

/// Writes what one relay says.
struct Writer<'a> {
    who: &'a Principal,
    relay: &'a Relay,
    project: ProjectId,
    now: OffsetDateTime,
}

impl<'a> Writer<'a> {
    fn new(who: &'a Principal, relay: &'a Relay) -> anyhow::Result<Self> {
        let now = OffsetDateTime::now_utc();
        Ok(Self {
            who,
            relay,
            project: ProjectId::new(relay.project_id)
                .ok_or_else(|| anyhow::anyhow!("a relay's project is not positive"))?,
            // Postgres keeps microseconds; an answer shows what is kept.
            now: now
                .replace_nanosecond(now.microsecond() * 1_000)
                .expect("below a second"),
        })
    }

    /// Stores a batch, and answers its events in order.
    async fn store(
        &self,
        tx: &mut TenantConn,
        app: &App,
        batch: ReadBatch,
    ) -> Result<Vec<Verdict>, ApiError> {
        let own = self.own_services(tx, &batch).await?;
        // Before the sessions: locks are taken in this order.
        let finished = self.finished(tx, batch.reports).await?;
        let mut verdicts: Vec<Verdict> = Vec::with_capacity(batch.events.len());
        let (mut changes, mut changed) = (Vec::new(), Vec::new());
        let (mut new_gaps, mut gaps_at) = (Vec::new(), Vec::new());
        for (at, ReadEvent { id, what }) in batch.events.into_iter().enumerate() {
            let what = what.and_then(|what| own_alone(&own, what));
            // Said of those that are written once they are.
            verdicts.push(verdict(id, VerdictStatus::Stored));
            match what {
                Err(refusal) => verdicts[at] = refused(id, refusal),
                Ok(What::Gap(gap)) => {
                    new_gaps.push(gap);
                    gaps_at.push(at);
                }
                Ok(What::Report {
                    service,
                    source_id,
                    report,
                }) => {
                    changes.push(self.change(service, source_id, report));
                    changed.push(at);
                }
            }
        }
        let notes = finished.iter().filter_map(|(command, report)| {
            command.reported_note(self.who.org, report, (&self.who.key_id, self.now))
        });
        changes.extend(notes);
        let outcomes = changes::apply(tx, &changes).await?;
        let mut outcomes = outcomes.into_iter();
        let mut kinds = changes.iter().map(|change| change.kind);
        for (at, outcome) in changed.into_iter().zip(outcomes.by_ref()) {
            let kind = kinds.next().expect("an outcome is of a change");
            verdicts[at] = settle(app, kind, outcome, verdicts[at].id)?;
        }
        for (outcome, kind) in outcomes.zip(kinds) {
            settle(app, kind, outcome, Uuid::nil())?;
        }
        store_commands::finish(tx, &finished).await?;
        let mut stored: HashSet<_> = gaps::insert(tx, &new_gaps).await?.into_iter().collect();
        for (at, gap) in gaps_at.into_iter().zip(new_gaps) {
            if !stored.remove(&(gap.service, gap.id)) {
                verdicts[at].status = VerdictStatus::Repeated;
            }
        }
        let standings: Vec<Standing<'_>> = batch
            .services
            .iter()
            .filter(|service| own.contains_key(&service.name))
            .map(|service| Standing {
                name: &service.name,
                at: service.at,
                statistics: service.statistics.map(|statistics| json!(statistics)),
                watch: service.watch.as_ref(),
            })
            .collect();
        services::note_standing(tx, &standings).await?;
        relays::note_report(tx, self.relay.id, &batch.relay).await?;
        Ok(verdicts)
    }

    /// The relay's commands that end by these reports, locked; of several reports of one the first.
    async fn finished(
        &self,
        tx: &mut TenantConn,
        reports: Vec<CommandReport>,
    ) -> Result<Vec<(Command, CommandReport)>, ApiError> {
        let mut first: HashMap<Uuid, CommandReport> = HashMap::new();
        for report in reports {
            first.entry(report.command).or_insert(report.kept(self.now));
        }
        let ids: Vec<Uuid> = first.keys().copied().collect();
        let held = store_commands::lock_unreported(tx, self.relay.id, &ids).await?;
        let pair = |command: Command| {
            let report = first.remove(&command.id)?;
            Some((command, report))
        };
        Ok(held.into_iter().filter_map(pair).collect())
    }

    /// The services of the batch that are the relay's, made where they are new.
    async fn own_services(
        &self,
        tx: &mut TenantConn,
        batch: &ReadBatch,
    ) -> Result<HashMap<String, String>, ApiError> {
        let mut named: BTreeMap<&str, Option<ServiceKind>> = BTreeMap::new();
        for service in &batch.services {
            if batch::check_service(&service.name).is_ok() {
                named.insert(&service.name, ServiceKind::of_relay(&service.kind));
            }
        }
        for event in &batch.events {
            match &event.what {
                Ok(What::Report {
                    service, report, ..
                }) => {
                    let kind = named.entry(service).or_default();
                    *kind = kind.or(Some(report.about.kind.service()));
                }
                Ok(What::Gap(gap)) => {
                    named.entry(&gap.service).or_default();
                }
                Err(_) => {}
            }
        }
        Ok(services::ensure(tx, (self.relay.id, self.project), &named).await?)
    }

    fn change(
        &self,
        service: String,
        source_id: String,
        report: rollcall_model::Report,
    ) -> SessionChange {
        let context = json!({
            "at": wire::rfc3339(report.at),
            "sequence": report.place().sequence,
        });
        SessionChange {
            org: self.who.org,
            project: self.project,
            service,
            kind: report.about.kind,
            source_id,
            from: self.who.key_id.clone(),
            at: self.now,
            op: Op::Report(report),
            context: Some(context),
        }
    }
}

/// What an event says, where it is of a service of the relay's and of its kind; `own` has the kinds.
fn own_alone(own: &HashMap<String, String>, what: What) -> Result<What, Refusal> {
    let (service, kind) = match &what {
        What::Report {
            service, report, ..
        } => (service, Some(report.about.kind.service().as_str())),
        What::Gap(gap) => (&gap.service, None),
    };
    let is_own = own
        .get(service)
        .is_some_and(|own| kind.is_none_or(|kind| kind == own));
    match is_own {
        true => Ok(what),
        false => Err(batch::taken(service)),
    }
}

/// Says what became of an event, and counts it.
fn settle(app: &App, kind: Kind, outcome: Outcome, id: Uuid) -> Result<Verdict, ApiError> {
    let mut verdict = verdict(id, VerdictStatus::Stored);
    let label = match outcome {
        Outcome::Applied { event, .. } => event.as_str(),
        Outcome::Repeat { .. } => {
            verdict.status = VerdictStatus::Repeated;
            "repeat"
        }
        Outcome::Rejected(Rejection::EventTaken) => {
            let detail = "an event of another session has this id; an event's id follows from its spool, service and \
                          sequence";
            verdict = refused(
                verdict.id,
                Refusal {
                    code: "event_taken",
                    detail: detail.to_owned(),
                },
            );
            "rejected"
        }
        Outcome::Rejected(Rejection::BatchTooLarge) => {
            return Err(ApiError::too_large(
                "batch_too_large",
                "the batch asks for too much at once; send fewer events",
            ));
        }
        Outcome::Rejected(rejection) => {
            return Err(anyhow::anyhow!("a report was rejected: {rejection:?}").into());
        }
    };
    let labels = SessionChangeLabels {
        kind: kind.as_str(),
        outcome: label,
    };
    app.metrics
        .session_changes_total
        .get_or_create(&labels)
        .inc();
    Ok(verdict)
}

fn verdict(id: Uuid, status: VerdictStatus) -> Verdict {
    Verdict {
        id,
        status,
        code: None,
        detail: None,
    }
}

fn refused(id: Uuid, refusal: Refusal) -> Verdict {
    Verdict {
        code: Some(refusal.code.to_owned()),
        detail: Some(refusal.detail),
        ..verdict(id, VerdictStatus::Refused)
    }
}
