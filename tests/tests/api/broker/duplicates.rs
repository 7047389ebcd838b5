//! One client's id on several brokers or virtual hosts: one row, the connected one first, then the latest (decision 19).

use rollcall_tests::TestApp;
use serde_json::{Value, json};
use sqlx::PgPool;

use super::{clients, connect, document};

#[sqlx::test(migrations = "../migrations")]
async fn the_connected_session_is_shown_and_else_the_latest(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let relay = app.relay("edge").await;
    let at = |hour: u32, user: &str| json!({ "connected_at": format!("2026-11-21T{hour:02}:00:00Z"), "user": user, "inflight": hour });
    connect(&relay, "early", &["both", "alone"], &at(7, "early")).await;
    connect(&relay, "late", &["both"], &at(9, "late")).await;
    // A virtual host of the same broker.
    let mut on_host = at(8, "host");
    on_host["source_id"] = json!("v/both");
    on_host["vhost"] = json!("v");
    let event = relay.connection(("early", 10), "connected", "both", &on_host);
    assert_eq!(relay.verdicts(&[event]).await, ["stored"]);
    let shown = async || {
        let list = document(&app.reader, "/api/v1/sessions?prefix=both").await;
        let rows = list["sessions"].as_array().expect("rows").clone();
        assert_eq!(rows.len(), 1, "{list}");
        let detail = document(&app.reader, "/api/v1/sessions/both").await;
        assert_eq!(detail, rows[0]);
        (
            rows[0]["connected"].clone(),
            rows[0]["inflight_count"].clone(),
        )
    };
    let leave = async |place: (&str, u64), facts: &Value| {
        let mut facts = facts.clone();
        facts["presence"] = json!("disconnected");
        let event = relay.connection(place, "disconnected", "both", &facts);
        assert_eq!(relay.verdicts(&[event]).await, ["stored"]);
    };
    assert_eq!(shown().await, (json!(true), json!(9)));
    leave(("late", 20), &at(9, "late")).await;
    assert_eq!(shown().await, (json!(true), json!(8)));
    // Who is connected somewhere is not disconnected; of one broker alone it is.
    let disconnected = "/api/v1/sessions?state=disconnected";
    assert_eq!(clients(&app.reader, disconnected).await, [""; 0]);
    let of_late = format!("{disconnected}&service=late");
    assert_eq!(clients(&app.reader, &of_late).await, ["both"]);
    leave(("early", 21), &on_host).await;
    assert_eq!(shown().await, (json!(true), json!(7)));
    leave(("early", 22), &at(7, "early")).await;
    assert_eq!(shown().await, (json!(false), json!(9)));
    assert_eq!(clients(&app.reader, disconnected).await, ["both"]);
    assert_eq!(
        clients(&app.reader, "/api/v1/sessions?limit=1").await,
        ["alone"]
    );
    let early = document(&app.reader, "/api/v1/sessions/both?service=early").await;
    assert_eq!(early["inflight_count"], 8);
    let overview = document(&app.reader, "/api/v1/overview").await;
    assert_eq!(overview["sessions"], json!({ "connected": 1, "total": 2 }));
}
