//! `openapi/rollcall.json` and the code say the same, and say it whole.

use std::path::Path;

use serde_json::Value;

/// Every operation of the document: path, method, operation.
pub fn operations() -> Vec<(String, String, Value)> {
    let document = document();
    let mut all = Vec::new();
    for (path, item) in document["paths"].as_object().expect("paths") {
        for (method, operation) in item.as_object().expect("operations") {
            all.push((path.clone(), method.to_uppercase(), operation.clone()));
        }
    }
    all
}

/// Whether an operation needs no credential; the document says so expressly.
pub fn is_open(operation: &Value) -> bool {
    operation["security"]
        .as_array()
        .expect("every operation says what it needs")
        .is_empty()
}

fn document() -> Value {
    serde_json::from_str(&rollcall_api::openapi::json().expect("a document")).expect("JSON")
}

#[test]
fn the_committed_document_is_the_codes() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../openapi/rollcall.json");
    let committed = std::fs::read_to_string(path).expect("openapi/rollcall.json is committed");
    let code = rollcall_api::openapi::json().expect("a document");
    assert!(
        committed == code,
        "openapi/rollcall.json is not what the code says: run `make openapi` and commit it"
    );
}

#[test]
fn every_operation_is_described_whole() {
    assert_eq!(document()["openapi"], "3.1.0");
    let mut names = std::collections::BTreeSet::new();
    for (path, method, operation) in operations() {
        let at = format!("{method} {path}");
        let name = operation["operationId"].as_str().expect("an operationId");
        assert!(names.insert(name.to_owned()), "{at}: {name} stands twice");
        assert!(
            operation["summary"]
                .as_str()
                .is_some_and(|text| !text.is_empty()),
            "{at}: no summary"
        );
        assert_eq!(
            operation["tags"].as_array().map(Vec::len),
            Some(1),
            "{at}: one tag"
        );
        let responses = operation["responses"].as_object().expect("responses");
        if !is_open(&operation) {
            for status in ["400", "401", "403", "404", "408", "500", "503"] {
                assert!(
                    responses.contains_key(status),
                    "{at}: {status} is not described"
                );
            }
        }
        for (status, response) in responses {
            assert!(
                response["description"]
                    .as_str()
                    .is_some_and(|text| !text.is_empty()),
                "{at}: {status}"
            );
        }
        for parameter in operation["parameters"].as_array().into_iter().flatten() {
            assert!(
                parameter["description"].is_string(),
                "{at}: {} is not described",
                parameter["name"]
            );
        }
    }
}

#[test]
fn bodies_have_examples_that_are_valid() {
    let document = document();
    for (path, method, operation) in operations() {
        let at = format!("{method} {path}");
        let bodies = operation["requestBody"]["content"]
            .as_object()
            .into_iter()
            .flatten();
        let answers = operation["responses"]["200"]["content"]
            .as_object()
            .into_iter()
            .flatten();
        for (media, content) in bodies
            .chain(answers)
            .filter(|(media, _)| media.as_str() == "application/json")
        {
            let mut found = examples(&document, &content["schema"]);
            if let Some(example) = content.get("example") {
                found.push((content["schema"].clone(), example.clone()));
            }
            assert!(!found.is_empty(), "{at}: {media} has no example");
            for (schema, example) in found {
                check(&document, &schema, &example, &at);
            }
        }
    }
}

/// The examples in a schema and the schemas that it refers to.
fn examples(document: &Value, schema: &Value) -> Vec<(Value, Value)> {
    let schema = resolve(document, schema);
    let mut found = Vec::new();
    if let Some(example) = schema.get("example") {
        found.push((schema.clone(), example.clone()));
        return found;
    }
    let properties = schema["properties"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(_, schema)| schema);
    for inner in properties.chain(schema.get("items")) {
        found.extend(examples(document, inner));
    }
    found
}

/// As much of JSON Schema as the document uses: `$ref`, `type`, `required`, `properties`, `items`, `oneOf`.
fn check(document: &Value, schema: &Value, value: &Value, at: &str) {
    let schema = resolve(document, schema);
    if let Some(choices) = schema["oneOf"].as_array() {
        let null = |choice: &&Value| choice["type"] == "null";
        if !(value.is_null() && choices.iter().any(|choice| null(&choice))) {
            choices
                .iter()
                .filter(|choice| !null(choice))
                .for_each(|choice| check(document, choice, value, at));
        }
        return;
    }
    let is = |name: &str| match name {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        other => panic!("{at}: the type {other}"),
    };
    match &schema["type"] {
        Value::String(name) => assert!(is(name), "{at}: {value} is no {name}"),
        Value::Array(names) => {
            assert!(
                names.iter().filter_map(Value::as_str).any(is),
                "{at}: {value} is none of {names:?}"
            );
        }
        _ => {}
    }
    for name in schema["required"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
    {
        assert!(value.get(name).is_some(), "{at}: the example lacks {name}");
    }
    for (name, inner) in value.as_object().into_iter().flatten() {
        match (
            schema["properties"].get(name),
            schema.get("additionalProperties"),
        ) {
            (Some(known), _) => check(document, known, inner, at),
            (None, Some(any)) => check(document, any, inner, at),
            (None, None) => assert!(
                schema.get("properties").is_none(),
                "{at}: the example has an unknown {name}"
            ),
        }
    }
    for inner in value.as_array().into_iter().flatten() {
        check(document, &schema["items"], inner, at);
    }
}

fn resolve(document: &Value, schema: &Value) -> Value {
    match schema["$ref"].as_str() {
        Some(reference) => {
            let pointer = reference
                .strip_prefix('#')
                .expect("a reference inside the document");
            document
                .pointer(pointer)
                .unwrap_or_else(|| panic!("{reference} leads nowhere"))
                .clone()
        }
        None => schema.clone(),
    }
}
