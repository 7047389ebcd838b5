//! Commands as they are listed.

use serde_json::{Value, json};
use sqlx::PgPool;
use uuid::Uuid;

use super::{came, desk, done, id_of, paged};

#[sqlx::test(migrations = "../migrations")]
async fn commands_are_found_by_what_they_are_about(pool: PgPool) {
    let (app, relay, guest) = desk(pool).await;
    let other = Uuid::new_v4();
    came(&relay, 2, other).await;
    let elsewhere = relay.event(("bar", 1), "created", Uuid::new_v4(), &json!({}));
    relay.verdicts(&[elsewhere]).await;
    let create = json!({ "data": { "type": "sessions", "attributes": { "number": 13 } } });
    let one = paged(&app.admin, guest, "").await;
    let two = paged(&app.admin, other, "").await;
    let three = id_of(
        &app.admin
            .post("/v1/services/bar/sessions", &create)
            .await
            .json()["data"],
    );
    relay.report(&[done(&two)]).await;
    let list = async |query: &str| {
        let answer = app.reader.get(&format!("/v1/commands?{query}")).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        let document = answer.json();
        let ids = document["data"]
            .as_array()
            .expect("commands")
            .iter()
            .map(id_of);
        (ids.collect::<Vec<_>>(), document["links"].clone())
    };
    let session = app
        .reader
        .get(&format!("/v1/sessions/{guest}"))
        .await
        .json();
    let session = id_of(&session["data"]);
    for (query, expected) in [
        ("", vec![&three, &two, &one]),
        ("filter[service]=desk", vec![&two, &one]),
        ("filter[service]=bar", vec![&three]),
        ("filter[service]=a%00", vec![]),
        ("filter[status]=done", vec![&two]),
        ("filter[status]=queued&filter[service]=desk", vec![&one]),
        (&format!("filter[session]={session}"), vec![&one]),
        (
            &format!("filter[project]={}", app.project),
            vec![&three, &two, &one],
        ),
    ] {
        let expected: Vec<String> = expected.into_iter().cloned().collect();
        assert_eq!(list(query).await.0, expected, "{query}");
    }
    let mut seen = Vec::new();
    let mut query = "page[size]=1".to_owned();
    loop {
        let (ids, links) = list(&query).await;
        seen.extend(ids);
        let Value::String(next) = &links["next"] else {
            break;
        };
        let next: reqwest::Url = next.parse().expect("a URL");
        query = next.query().unwrap_or_default().to_owned();
    }
    assert_eq!(seen, [three, two, one]);
    for wrong in ["filter[session]=x", "filter[project]=0"] {
        let answer = app.reader.get(&format!("/v1/commands?{wrong}")).await;
        assert_eq!(answer.error(), (400, "filter_invalid".into()), "{wrong}");
    }
    for wrong in ["x", "0197d8a4-6f0e-7c65-9d1c-5d2b8f6f0a11"] {
        let answer = app.reader.get(&format!("/v1/commands/{wrong}")).await;
        assert_eq!(answer.error(), (404, "command_not_found".into()));
    }
}
