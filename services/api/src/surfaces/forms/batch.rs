//! Many changes at once, over projects; each item is answered by itself (contract §2.4 batch, M14, M15).

use std::collections::BTreeMap;

use actix_web::{HttpRequest, HttpResponse, post, web};
use rollcall_model::{Op, ProjectId, SessionChange};
use rollcall_store::changes;
use serde::de::{Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::input::SessionInput;
use super::update::{SessionToWrite, check_count};
use super::wire::{Success, settled};
use super::{ProjectPath, body, change, existing, in_reach, json, no_project};
use crate::App;
use crate::auth::{Allow, Principal, perm};
use crate::error::{ApiError, Dialect};
use crate::idempotency::{self, Reply};

/// Longest `source`, in bytes.
const SOURCE_BYTES: usize = 255;

/// Changes by project number.
#[derive(ToSchema)]
#[expect(dead_code, reason = "the shape of `Batch` for the document")]
#[schema(example = json!({
    "sessionsToUpdate": {
        "1": [{ "uuid": "7f1d8a52-5d0c-4a33-9d0e-2f7f6f1d9b11", "data": { "jobnumber": "3" }, "is_deleted": false }]
    },
    "sessionsToAdd": { "1": [{ "unit_id": "mydevice", "data": { "jobnumber": "4" } }] },
    "sessionsToDelete": { "1": [{ "uuid": "0b0f8f4e-36b5-4e4e-8a53-5ac8a4a7c9d2" }] },
    "source": "import",
    "recalc": false
}))]
#[schema(rename_all = "camelCase")]
pub struct BatchToApply {
    /// Carried out first. Each item names its `uuid`.
    sessions_to_delete: Option<BTreeMap<String, Vec<SessionToWrite>>>,
    /// Carried out second. Each item names its `uuid`; `is_deleted: false` restores.
    sessions_to_update: Option<BTreeMap<String, Vec<SessionToWrite>>>,
    /// Carried out last. Each item names its `unit_id`.
    sessions_to_add: Option<BTreeMap<String, Vec<SessionToWrite>>>,
    /// Where the batch comes from; kept with the events.
    source: Option<String>,
    /// Kept with the events; has no other effect.
    recalc: Option<bool>,
}

/// What became of each item, grouped as they were sent.
#[derive(Default, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(example = json!({
    "sessionsToDelete": { "1": [{ "uuid": "0b0f8f4e-36b5-4e4e-8a53-5ac8a4a7c9d2", "status": "success", "message": "success" }] },
    "sessionsToUpdate": { "2": [{
        "uuid": "7f1d8a52-5d0c-4a33-9d0e-2f7f6f1d9b11",
        "status": "not_found",
        "message": "there is no such project in this key's reach"
    }] },
    "sessionsToAdd": {}
}))]
pub struct BatchResult {
    #[schema(value_type = BTreeMap<String, Vec<Verdict>>)]
    sessions_to_delete: Verdicts,
    #[schema(value_type = BTreeMap<String, Vec<Verdict>>)]
    sessions_to_update: Verdicts,
    #[schema(value_type = BTreeMap<String, Vec<Verdict>>)]
    sessions_to_add: Verdicts,
}

type Verdicts = BTreeMap<String, Vec<Verdict>>;

/// What became of one item.
#[derive(Serialize, ToSchema)]
pub struct Verdict {
    /// The session's uuid; absent where the item named none and none was made.
    #[serde(skip_serializing_if = "Option::is_none")]
    uuid: Option<String>,
    /// `success`, `bad_request` or `not_found`.
    status: String,
    message: String,
}

/// Items by project; a project that stands twice is refused, or its first items would be lost.
#[derive(Default)]
struct Items<'a>(BTreeMap<String, Vec<&'a RawValue>>);

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Batch<'a> {
    #[serde(borrow, default)]
    sessions_to_delete: Items<'a>,
    #[serde(borrow, default)]
    sessions_to_update: Items<'a>,
    #[serde(borrow, default)]
    sessions_to_add: Items<'a>,
    source: Option<String>,
    recalc: Option<bool>,
}

#[derive(Clone, Copy)]
enum Group {
    Delete,
    Update,
    Add,
}

/// Apply a batch of changes
///
/// Across projects: items are grouped by project number. Deletions are carried out first, then updates, then additions.
/// Each item is answered by itself, so that one that fails does not keep the others from happening.
#[utoipa::path(
    tag = "forms",
    params(
        ("project_id" = i64, Path, description = "A project in the key's reach; the items name their own.", example = 1),
        ("Idempotency-Key" = Option<String>, Header, description = "Repeats of the request under this key get its answer again, for 24 hours."),
    ),
    request_body = BatchToApply,
    security(("basic" = []), ("bearer" = [])),
    responses(
        (status = 200, description = "What became of each item.", body = Success<BatchResult>),
        (status = 413, description = "The body is over its limit.", body = crate::error::FormsError),
        (status = 415, description = "The content type is not JSON.", body = crate::error::FormsError),
    ),
)]
#[post("/projects/{project_id}/sessions/batch")]
pub async fn apply_batch(
    allow: Allow<perm::SessionsWrite>,
    path: web::Path<ProjectPath>,
    req: HttpRequest,
    payload: web::Payload,
    app: web::Data<App>,
) -> Result<HttpResponse, ApiError> {
    let who = allow.who;
    in_reach(&who, path.project_id)?;
    let body = body::read_json_body(&app, &req, payload).await?;
    existing(&app, &who, path.project_id).await?;
    let batch: Batch<'_> = json::parse(&body.bytes, &app.limits).map_err(ApiError::Invalid)?;
    let groups = [
        (Group::Delete, &batch.sessions_to_delete),
        (Group::Update, &batch.sessions_to_update),
        (Group::Add, &batch.sessions_to_add),
    ];
    check_count(
        groups
            .iter()
            .flat_map(|(_, items)| items.0.values())
            .map(Vec::len)
            .sum(),
        app.limits.items,
    )?;
    let context = context(batch.source.as_deref(), batch.recalc)?;
    let mut plan = Plan::default();
    for (group, items) in groups {
        for (project, items) in &items.0 {
            for item in items {
                plan.add(&app, &who, group, project, item, context.as_ref());
            }
        }
    }
    let fingerprint = body::fingerprint(&body.bytes);
    let request = idempotency::Request {
        app: &app,
        who: &who,
        http: &req,
        fingerprint,
        dialect: Dialect::Forms,
    };
    let reply = request
        .run(async |tx| {
            let outcomes = changes::apply(tx, &plan.changes).await?;
            let settled: Vec<Result<(), ApiError>> = outcomes
                .into_iter()
                .map(|outcome| settled(&app, outcome).map(|_| ()))
                .collect();
            Reply::ok(&Success::of(plan.into_result(settled)))
        })
        .await?;
    Ok(reply.into_response())
}

/// What the batch said of itself, for its events. Each of them keeps it, so that it must be short.
fn context(source: Option<&str>, recalc: Option<bool>) -> Result<Option<Value>, ApiError> {
    if source.is_some_and(|text| text.len() > SOURCE_BYTES || text.contains(char::is_control)) {
        return Err(ApiError::invalid(
            "source_invalid",
            format!(
                "a batch's source may have at most {SOURCE_BYTES} bytes and no control characters"
            ),
        ));
    }
    let is_told = source.is_some() || recalc.is_some();
    Ok(is_told.then(|| json!({ "source": source, "recalc": recalc })))
}

impl<'de: 'a, 'a> Deserialize<'de> for Items<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ItemsVisitor;

        impl<'de> Visitor<'de> for ItemsVisitor {
            type Value = Items<'de>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object of arrays of sessions, by project number")
            }

            // Null is as good as nothing.
            fn visit_unit<E: serde::de::Error>(self) -> Result<Items<'de>, E> {
                Ok(Items::default())
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Items<'de>, A::Error> {
                let mut items = BTreeMap::new();
                while let Some(project) = map.next_key::<String>()? {
                    if items.contains_key(&project) {
                        let project = project.escape_debug();
                        return Err(A::Error::custom(format!(
                            "the project {project} stands twice; put its sessions into one array"
                        )));
                    }
                    items.insert(project, map.next_value()?);
                }
                Ok(Items(items))
            }
        }

        deserializer.deserialize_any(ItemsVisitor)
    }
}

/// The items in order, those that can be tried with their change.
#[derive(Default)]
struct Plan {
    items: Vec<Item>,
    changes: Vec<SessionChange>,
}

struct Item {
    group: Group,
    project: String,
    uuid: Option<String>,
    refused: Option<ApiError>,
}

impl Plan {
    fn add(
        &mut self,
        app: &App,
        who: &Principal,
        group: Group,
        project: &str,
        item: &RawValue,
        context: Option<&Value>,
    ) {
        let mut uuid = None;
        let change = read_item(app, who, group, project, item, &mut uuid);
        let refused = match change {
            Ok(change) => {
                self.changes.push(SessionChange {
                    context: context.cloned(),
                    ..change
                });
                None
            }
            Err(error) => Some(error),
        };
        self.items.push(Item {
            group,
            project: project.to_owned(),
            uuid,
            refused,
        });
    }

    fn into_result(self, settled: Vec<Result<(), ApiError>>) -> BatchResult {
        let mut settled = settled.into_iter();
        let mut result = BatchResult::default();
        for item in self.items {
            let outcome = match item.refused {
                Some(error) => Err(error),
                None => settled.next().expect("every tried item is answered"),
            };
            let verdicts = match item.group {
                Group::Delete => &mut result.sessions_to_delete,
                Group::Update => &mut result.sessions_to_update,
                Group::Add => &mut result.sessions_to_add,
            };
            verdicts
                .entry(item.project)
                .or_default()
                .push(Verdict::of(item.uuid, &outcome));
        }
        result
    }
}

impl Verdict {
    fn of(uuid: Option<String>, outcome: &Result<(), ApiError>) -> Self {
        let (status, message) = match outcome {
            Ok(()) => ("success".to_owned(), "success".to_owned()),
            Err(error) => (error.word(), error.problem().message),
        };
        Self {
            uuid,
            status,
            message,
        }
    }
}

/// The change that an item asks for; `uuid` is filled in as soon as it is known.
fn read_item(
    app: &App,
    who: &Principal,
    group: Group,
    project: &str,
    item: &RawValue,
    uuid: &mut Option<String>,
) -> Result<SessionChange, ApiError> {
    let project: ProjectId = project
        .parse()
        .map_err(|error: rollcall_model::InvalidId| {
            ApiError::invalid(
                "project_id_invalid",
                format!("the group's key is not a project: {error}"),
            )
        })?;
    if !who.reaches(project) {
        return Err(no_project());
    }
    let input: SessionInput =
        json::parse(item.get().as_bytes(), &app.limits).map_err(ApiError::Invalid)?;
    let input = input.check(&app.limits).map_err(ApiError::Invalid)?;
    *uuid = input.uuid.clone().map(|name| name.0);
    if let Group::Add = group {
        let put = input.into_put()?;
        let uuid = uuid.get_or_insert_with(|| uuid::Uuid::new_v4().to_string());
        return Ok(change(who, project, uuid, Op::Put(put)));
    }
    let Some(uuid) = uuid.as_deref() else {
        return Err(ApiError::invalid(
            "uuid_missing",
            "the item has no uuid; name the session",
        ));
    };
    let op = match group {
        Group::Update => Op::Merge(input.into_merge(&app.limits)),
        Group::Delete | Group::Add => Op::Delete,
    };
    Ok(change(who, project, uuid, op))
}
