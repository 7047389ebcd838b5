//! JSON:API documents: their envelope, and how they leave.

use actix_web::HttpResponse;
use actix_web::http::header::{CACHE_CONTROL, ETag, EntityTag, VARY};
use aws_lc_rs::digest::{SHA256, digest};
use data_encoding::HEXLOWER;
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::asked::Asked;
use crate::error::ApiError;

/// A document of one resource.
#[derive(Serialize, ToSchema)]
pub struct Document<T> {
    pub links: SelfLink,
    pub data: T,
    /// Resources asked for with `include`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<Object>>)]
    pub included: Option<Vec<Value>>,
}

/// A document of many resources.
#[derive(Serialize, ToSchema)]
pub struct Collection<T> {
    pub links: PageLinks,
    pub data: Vec<T>,
    /// Resources asked for with `include`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<Object>>)]
    pub included: Option<Vec<Value>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub meta: Option<PageMeta>,
}

/// Where something is.
#[derive(Serialize, ToSchema)]
pub struct SelfLink {
    #[serde(rename = "self")]
    #[schema(example = "http://localhost:8080/v1/sessions/0d9c1f60-3f4e-8a51-9b7c-2f6f1d9b11aa")]
    pub own: String,
}

/// Where a collection's pages are. A link that leads nowhere is absent.
#[derive(Serialize, ToSchema, Default)]
pub struct PageLinks {
    #[serde(rename = "self")]
    #[schema(example = "http://localhost:8080/v1/sessions/")]
    pub own: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prev: Option<String>,
    /// Absent on the last page; a feed always has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
    /// Present where pages are asked for by number, and the end is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last: Option<String>,
}

/// What is known of the whole collection, where pages are asked for by number.
#[derive(Serialize, ToSchema)]
pub struct PageMeta {
    /// Resources in all pages, exact to 10,000.
    #[schema(example = 3)]
    pub total: u32,
    /// There are more than `total`; so many were not counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub has_more_than_total: Option<bool>,
}

/// The name of a resource.
#[derive(Clone, Serialize, ToSchema)]
pub struct Identifier {
    #[schema(example = "forms-1")]
    pub id: String,
    #[serde(rename = "type")]
    #[schema(example = "services")]
    pub kind: &'static str,
}

/// Resources that belong to another. A session's one service is such a list too (seed 002).
#[derive(Serialize, ToSchema)]
pub struct Relationship {
    pub links: RelationshipLinks,
    /// Absent where only the link leads to them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data: Option<Vec<Identifier>>,
}

/// The one resource that another belongs to.
#[derive(Serialize, ToSchema)]
pub struct ToOne {
    pub links: RelationshipLinks,
    pub data: Identifier,
}

/// Where a relationship is.
#[derive(Serialize, ToSchema)]
pub struct RelationshipLinks {
    /// The relationship itself: a document of names.
    #[serde(rename = "self", skip_serializing_if = "Option::is_none")]
    pub own: Option<String>,
    /// The resources.
    pub related: String,
}

impl<T> Document<T> {
    pub fn of(asked: &Asked, data: T) -> Self {
        Self {
            links: SelfLink {
                own: asked.link(&[]),
            },
            data,
            included: None,
        }
    }
}

impl<T> Collection<T> {
    /// One that has no pages.
    pub fn whole(asked: &Asked, data: Vec<T>) -> Self {
        let links = PageLinks {
            own: asked.link(&[]),
            ..PageLinks::default()
        };
        Self {
            links,
            data,
            included: None,
            meta: None,
        }
    }
}

/// The answer: in the form asked for, with the members asked for; or 304, where the client holds these very bytes.
pub fn answer(asked: &Asked, document: &impl Serialize) -> Result<HttpResponse, ApiError> {
    let style = asked.style()?;
    let bytes = written(asked, document)?;
    let hash = digest(&SHA256, &bytes);
    let tag = EntityTag::new_strong(HEXLOWER.encode(&hash.as_ref()[..16]));
    let mut response = HttpResponse::Ok();
    response
        .insert_header(ETag(tag.clone()))
        .insert_header((VARY, "Accept, Prefer"))
        .insert_header((CACHE_CONTROL, "private, no-cache"));
    if asked.is_strict {
        response.insert_header(("preference-applied", "handling=strict"));
    }
    if asked.holds(&tag)? {
        return Ok(response
            .status(actix_web::http::StatusCode::NOT_MODIFIED)
            .finish());
    }
    Ok(response.content_type(style.media_type).body(bytes))
}

/// A document in the form asked for, with the members asked for.
pub fn written(asked: &Asked, document: &impl Serialize) -> Result<Vec<u8>, ApiError> {
    let style = asked.style()?;
    let bytes = if asked.fields.is_empty() {
        style.json(document)
    } else {
        serde_json::to_value(document).and_then(|mut value| {
            prune_document(&mut value, asked);
            style.json(&value)
        })
    };
    Ok(bytes.map_err(|error| anyhow::Error::new(error).context("write a document"))?)
}

/// Leaves what `fields[type]` names of every resource of a document.
fn prune_document(document: &mut Value, asked: &Asked) {
    for member in ["data", "included"] {
        match document.get_mut(member) {
            Some(Value::Array(resources)) => {
                resources
                    .iter_mut()
                    .for_each(|resource| prune(resource, asked));
            }
            Some(resource @ Value::Object(_)) => prune(resource, asked),
            _ => {}
        }
    }
}

/// Leaves what `fields[type]` names of a resource: paths into its attributes and its relationships (proxy contract §1.4).
pub fn prune(resource: &mut Value, asked: &Asked) {
    let kind = resource["type"].as_str().unwrap_or_default();
    let Some(paths) = asked.fields.get(kind) else {
        return;
    };
    let Some(resource) = resource.as_object_mut() else {
        return;
    };
    for member in ["attributes", "relationships"] {
        let Some(Value::Object(held)) = resource.remove(member) else {
            continue;
        };
        let mut kept = Map::new();
        for path in paths {
            let steps: Vec<&str> = path.split('/').collect();
            keep(&held, &steps, &mut kept);
        }
        if !kept.is_empty() {
            resource.insert(member.to_owned(), Value::Object(kept));
        }
    }
}

/// Copies what a path leads to. Paths end at arrays.
fn keep(from: &Map<String, Value>, path: &[&str], to: &mut Map<String, Value>) {
    let Some((first, rest)) = path.split_first() else {
        return;
    };
    match from.get(*first) {
        Some(value) if rest.is_empty() => {
            to.insert((*first).to_owned(), value.clone());
        }
        Some(Value::Object(inner)) => {
            let mut kept = match to.remove(*first) {
                Some(Value::Object(kept)) => kept,
                _ => Map::new(),
            };
            keep(inner, rest, &mut kept);
            if !kept.is_empty() {
                to.insert((*first).to_owned(), Value::Object(kept));
            }
        }
        _ => {}
    }
}
