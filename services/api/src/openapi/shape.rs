//! What utoipa does not say, or says too often, mended in the document's JSON.

use serde_json::{Value, json};
use utoipa::openapi::OpenApi;

/// What the attributes of each kind of session hold beyond those of every kind.
const KINDS: [(&str, &str); 5] = [
    ("form", "FormAttributes"),
    ("pager", "PagerAttributes"),
    ("mqtt", "BrokerSessionAttributes"),
    ("amqp", "BrokerSessionAttributes"),
    ("proxy", "ProxySessionAttributes"),
];

/// The document as it is served.
pub(super) fn shaped(document: &OpenApi) -> Value {
    let mut json = serde_json::to_value(document).expect("a document is JSON");
    forget_null(&mut json);
    share_schemas(&mut json);
    tell_kinds(&mut json);
    json
}

/// Says which schema the attributes of a session meet by its kind. Not by inheritance: a generated client has one type for
/// all kinds, and takes a kind that it does not know yet. One rule is the other's `else`: with `allOf` generators would see
/// inheritance again.
fn tell_kinds(json: &mut Value) {
    let chain = |rest: Option<Value>, (kind, schema): &(&str, &str)| {
        let mut rule = json!({
            "if": { "required": ["kind"], "properties": { "kind": { "const": kind } } },
            "then": { "$ref": format!("#/components/schemas/{schema}") },
        });
        if let Some(rest) = rest {
            rule["else"] = rest;
        }
        Some(rule)
    };
    let rules = KINDS.iter().rev().fold(None, chain);
    let attributes = json.pointer_mut("/components/schemas/SessionAttributes");
    let attributes = attributes
        .and_then(Value::as_object_mut)
        .expect("sessions have attributes");
    let rules = rules.as_ref().and_then(Value::as_object);
    attributes.extend(rules.cloned().into_iter().flatten());
}

/// Refers to a schema by its name wherever it stands again: utoipa writes out what a generic type holds, and a client
/// generated from that would have the same type under several names.
fn share_schemas(json: &mut Value) {
    let named: Vec<(String, Value)> = json["components"]["schemas"]
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(_, schema)| schema.get("properties").is_some())
        .map(|(name, schema)| (name.clone(), schema.clone()))
        .collect();
    let schemas = json
        .pointer_mut("/components/schemas")
        .and_then(Value::as_object_mut);
    for schema in schemas.into_iter().flat_map(|schemas| schemas.values_mut()) {
        share_inside(schema, &named);
    }
    share_inside(&mut json["paths"], &named);
}

/// What is optional is left out, never null: neither answers nor parameters have it.
fn forget_null(value: &mut Value) {
    let is_null = |schema: &Value| schema["type"] == "null";
    if let Value::Object(schema) = value {
        if let Some(Value::Array(types)) = schema.get("type")
            && let [one, null] = types.as_slice()
            && null == "null"
        {
            let one = one.clone();
            schema.insert("type".to_owned(), one);
        }
        if let Some(Value::Array(choices)) = schema.get("oneOf")
            && choices.len() == 2
            && choices.iter().any(is_null)
            && let Some(one) = choices.iter().find(|choice| !is_null(choice))
        {
            let one = one.clone();
            schema.remove("oneOf");
            schema.extend(one.as_object().cloned().into_iter().flatten());
        }
    }
    match value {
        Value::Object(members) => members.values_mut().for_each(forget_null),
        Value::Array(items) => items.iter_mut().for_each(forget_null),
        _ => {}
    }
}

fn share_inside(value: &mut Value, named: &[(String, Value)]) {
    let inner: Vec<&mut Value> = match value {
        Value::Object(members) => members.values_mut().collect(),
        Value::Array(items) => items.iter_mut().collect(),
        _ => return,
    };
    for value in inner {
        match named.iter().find(|(_, schema)| schema == value) {
            Some((name, _)) => {
                *value = serde_json::json!({ "$ref": format!("#/components/schemas/{name}") });
            }
            None => share_inside(value, named),
        }
    }
}
